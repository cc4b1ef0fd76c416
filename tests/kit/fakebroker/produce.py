"""Produce: into the cluster's logs, in order and by sequence, as ``StoredLog`` takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.brokers.scripted import ProduceRequest, taken
from kit.fakebroker.logs import StoredLog
from kit.fakebroker.wire import Request

if TYPE_CHECKING:
    from kit.fakebroker.server import FakeBroker

UNKNOWN_TOPIC_OR_PARTITION = 3


def answer(broker: FakeBroker, request: Request) -> dict[str, Any]:
    cluster = broker.cluster
    produced: ProduceRequest = request.body
    topics: dict[bytes, list[dict[str, Any]]] = {}
    with cluster.changed:
        for (name, partition), whole in produced.batches.items():
            log = cluster.log(name.decode(), partition)
            code, offset = UNKNOWN_TOPIC_OR_PARTITION, -1
            if isinstance(log, StoredLog):
                code, offset = log.append(whole)
            topics.setdefault(name, []).append(taken(partition, code, offset))
        cluster.changed.notify_all()
    return {"throttle_ms": 0, "topics": list(topics.items())}
