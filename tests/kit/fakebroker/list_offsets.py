"""ListOffsets: where logs begin and end. Timestamps are not looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.fakebroker import wire
from kit.fakebroker.wire import Request

if TYPE_CHECKING:
    from kit.fakebroker.server import FakeBroker

LATEST = -1
READ_COMMITTED = 1


def answer(broker: FakeBroker, request: Request) -> Any:
    schema = wire.schema(request.api_key, request.version, "response")
    committed = request.body.isolation_level == READ_COMMITTED

    def partition(topic: str, asked: Any) -> Any:
        key = (topic, asked.partition_index)
        error = broker.partition_error(key, asked.current_leader_epoch)
        start, end = broker.cluster.span(key, committed=committed)
        return schema.ListOffsetsPartitionResponse(
            partition_index=asked.partition_index,
            error_code=error,
            offset=-1 if error else end if asked.timestamp == LATEST else start,
            leader_epoch=-1 if error else broker.cluster.epochs.get(key, 0),
        )

    return schema.ListOffsetsResponse(
        throttle_time=broker.throttle,
        topics=tuple(
            schema.ListOffsetsTopicResponse(
                name=topic.name,
                partitions=tuple(partition(topic.name, asked) for asked in topic.partitions),
            )
            for topic in request.body.topics
        ),
    )
