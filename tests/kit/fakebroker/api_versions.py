"""ApiVersions: what the broker says it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kio.schema.errors import ErrorCode

from kit.fakebroker import wire
from kit.fakebroker.wire import Request

if TYPE_CHECKING:
    from kit.fakebroker.server import FakeBroker

# Versions as Kafka 4.1 advertises them.
MODERN: Mapping[int, tuple[int, int]] = {
    wire.PRODUCE: (0, 13),
    wire.FETCH: (4, 18),
    wire.LIST_OFFSETS: (1, 10),
    wire.METADATA: (0, 13),
    wire.API_VERSIONS: (0, 4),
    wire.INIT_PRODUCER_ID: (0, 5),
    wire.OFFSET_FOR_LEADER_EPOCH: (2, 4),
    wire.DESCRIBE_LOG_DIRS: (1, 4),
}

# The versions that are answered here, for clients such as librdkafka that pick the newest one.
SPOKEN: Mapping[int, tuple[int, int]] = {
    wire.PRODUCE: (3, 9),
    wire.FETCH: (4, 13),
    wire.LIST_OFFSETS: (4, 7),
    wire.METADATA: (4, 12),
    wire.FIND_COORDINATOR: (0, 2),
    wire.API_VERSIONS: (0, 3),
    wire.CREATE_TOPICS: (2, 4),
    wire.INIT_PRODUCER_ID: (0, 4),
    wire.OFFSET_FOR_LEADER_EPOCH: (2, 4),
    wire.DESCRIBE_CONFIGS: (1, 1),
    wire.DESCRIBE_LOG_DIRS: (1, 4),
}


def answer(broker: FakeBroker, request: Request) -> Any:
    schema = wire.schema(request.api_key, request.version, "response")
    keys = tuple(
        schema.ApiVersion(api_key=key, min_version=low, max_version=high)
        for key, (low, high) in broker.versions.items()
    )
    fields: dict[str, Any] = {"error_code": ErrorCode.none, "api_keys": keys}
    if request.version > 0:
        fields["throttle_time"] = timedelta()
    return schema.ApiVersionsResponse(**fields)
