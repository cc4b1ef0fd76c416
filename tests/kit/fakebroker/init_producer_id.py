"""InitProducerId: one number after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kio.schema.errors import ErrorCode

from kit.fakebroker import wire
from kit.fakebroker.wire import Request

if TYPE_CHECKING:
    from kit.fakebroker.server import FakeBroker


def answer(broker: FakeBroker, request: Request) -> Any:
    schema = wire.schema(request.api_key, request.version, "response")
    broker.cluster.last_producer_id += 1
    return schema.InitProducerIdResponse(
        throttle_time=broker.throttle,
        error_code=ErrorCode.none,
        producer_id=broker.cluster.last_producer_id,
        producer_epoch=0,
    )
