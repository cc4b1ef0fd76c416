"""OffsetForLeaderEpoch: asked for the current epoch, a leader tells its log end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.fakebroker import wire
from kit.fakebroker.wire import Request

if TYPE_CHECKING:
    from kit.fakebroker.server import FakeBroker


def answer(broker: FakeBroker, request: Request) -> Any:
    schema = wire.schema(request.api_key, request.version, "response")

    def partition(topic: str, asked: Any) -> Any:
        key = (topic, asked.partition)
        error = broker.partition_error(key, asked.current_leader_epoch)
        return schema.EpochEndOffset(
            error_code=error,
            partition=asked.partition,
            leader_epoch=-1 if error else asked.leader_epoch,
            end_offset=-1 if error else broker.cluster.span(key, committed=False)[1],
        )

    return schema.OffsetForLeaderEpochResponse(
        throttle_time=broker.throttle,
        topics=tuple(
            schema.OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=tuple(partition(topic.topic, asked) for asked in topic.partitions),
            )
            for topic in request.body.topics
        ),
    )
