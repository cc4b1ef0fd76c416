"""Metadata: brokers, topics and who leads what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kio.schema.errors import ErrorCode

from kit.fakebroker import wire
from kit.fakebroker.wire import Request

if TYPE_CHECKING:
    from kit.fakebroker.server import FakeBroker


def answer(broker: FakeBroker, request: Request) -> Any:
    schema = wire.schema(request.api_key, request.version, "response")
    cluster = broker.cluster
    asked = request.body.topics
    names = list(cluster.topics) if asked is None else [topic.name for topic in asked]
    return schema.MetadataResponse(
        throttle_time=broker.throttle,
        brokers=tuple(
            schema.MetadataResponseBroker(node_id=node, host=host, port=port)
            for node, (host, port) in cluster.advertised.items()
        ),
        cluster_id=cluster.cluster_id,
        controller_id=0,
        topics=tuple(_topic(broker, name, schema) for name in names),
    )


def _topic(broker: FakeBroker, name: str, schema: Any) -> Any:
    cluster = broker.cluster
    count = cluster.topics.get(name)
    return schema.MetadataResponseTopic(
        error_code=ErrorCode.unknown_topic_or_partition if count is None else ErrorCode.none,
        name=name,
        topic_id=None if count is None else cluster.topic_id(name),
        partitions=tuple(
            schema.MetadataResponsePartition(
                error_code=ErrorCode.none,
                partition_index=index,
                leader_id=cluster.leaders.get((name, index), 0),
                leader_epoch=cluster.epochs.get((name, index), 0),
                replica_nodes=tuple(cluster.advertised),
                isr_nodes=tuple(cluster.advertised),
            )
            for index in range(count or 0)
        ),
    )
