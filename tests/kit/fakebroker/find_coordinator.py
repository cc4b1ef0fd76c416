"""FindCoordinator: this broker. librdkafka's consumer asks even where it is in no group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kio.schema.errors import ErrorCode

from kit.fakebroker import wire
from kit.fakebroker.wire import Request

if TYPE_CHECKING:
    from kit.fakebroker.server import FakeBroker


def answer(broker: FakeBroker, request: Request) -> Any:
    schema = wire.schema(request.api_key, request.version, "response")
    host, port = broker.cluster.advertised[broker.node]
    more = {"throttle_time": broker.throttle, "error_message": None} if request.version else {}
    return schema.FindCoordinatorResponse(
        **more, error_code=ErrorCode.none, node_id=broker.node, host=host, port=port
    )
