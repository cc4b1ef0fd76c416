"""CreateTopics: at once, whatever their configs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kio.schema.errors import ErrorCode

from kit.fakebroker import wire
from kit.fakebroker.wire import Request

if TYPE_CHECKING:
    from kit.fakebroker.server import FakeBroker


def answer(broker: FakeBroker, request: Request) -> Any:
    schema = wire.schema(request.api_key, request.version, "response")

    def create(topic: Any) -> Any:
        known = topic.name in broker.cluster.topics
        if not request.body.validate_only:
            broker.cluster.topics.setdefault(topic.name, topic.num_partitions)
        error = ErrorCode.topic_already_exists if known else ErrorCode.none
        return schema.CreatableTopicResult(name=topic.name, error_code=error, error_message=None)

    return schema.CreateTopicsResponse(
        throttle_time=broker.throttle, topics=tuple(map(create, request.body.topics))
    )
