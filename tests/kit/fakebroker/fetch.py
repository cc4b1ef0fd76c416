"""Fetch: from the cluster's logs, waiting for records as a long poll does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.brokers.scripted import FetchRequest, Place, SourceLog, serve_fetch
from kit.fakebroker.wire import Request

if TYPE_CHECKING:
    from kit.fakebroker.server import FakeBroker

TOPIC_IDS_FROM = 13


def answer(broker: FakeBroker, request: Request) -> dict[str, Any]:
    cluster = broker.cluster
    asked: FetchRequest = request.body

    def find(key: Place) -> SourceLog | None:
        if asked.version < TOPIC_IDS_FROM:
            return cluster.log(key[0].decode(), key[1])
        for name in cluster.topics:
            if cluster.topic_id(name).bytes == key[0]:
                return cluster.log(name, key[1])
        return None

    def honest() -> dict[str, Any]:
        return serve_fetch(asked, find, broker.fetch_limit)

    with cluster.changed:
        served = honest()
        if _is_empty(served):
            cluster.changed.wait_for(
                lambda: broker.stopped or not _is_empty(honest()), asked.max_wait_ms / 1000
            )
            served = honest()
    return served


def _is_empty(body: dict[str, Any]) -> bool:
    entries = [entry for _, partitions in body["topics"] for entry in partitions]
    return not any(entry["records"] or entry["error"] for entry in entries)
