"""DescribeConfigs: the cluster's ``configs`` for every topic and broker alike, none of them set on
a topic itself; only state topics are compacted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kio.schema.errors import ErrorCode

from kit.fakebroker import wire
from kit.fakebroker.wire import Request

if TYPE_CHECKING:
    from kit.fakebroker.server import FakeBroker

DEFAULT_CONFIG = 5  # of org.apache.kafka.clients.admin.ConfigEntry.ConfigSource


def answer(broker: FakeBroker, request: Request) -> Any:
    schema = wire.schema(request.api_key, request.version, "response")

    def entries(resource: str) -> tuple[Any, ...]:
        own = {"cleanup.policy": "compact"} if resource.startswith("copystream-") else {}
        return tuple(
            schema.DescribeConfigsResourceResult(
                name=name,
                value=value,
                read_only=False,
                config_source=DEFAULT_CONFIG,
                is_sensitive=False,
                synonyms=(),
            )
            for name, value in {**broker.cluster.configs, **own}.items()
        )

    return schema.DescribeConfigsResponse(
        throttle_time=broker.throttle,
        results=tuple(
            schema.DescribeConfigsResult(
                error_code=ErrorCode.none,
                error_message=None,
                resource_type=asked.resource_type,
                resource_name=asked.resource_name,
                configs=entries(asked.resource_name),
            )
            for asked in request.body.resources
        ),
    )
