"""The reader used by the comparison ends where it should, and reports when it cannot."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from kit.clusters.fixtures import ClusterFactory, Clusters
from replicator.lab import reading
from replicator.lab.errors import LabError
from replicator.lab.ledger import read_ledger
from replicator.lab.logs import Place, log_ranges
from replicator.lab.reading import ReadError, read_records
from replicator.lab.seed import Payload, Writer, create_topic, delete_records

RECORDS = 50


@pytest.fixture
def topic(clusters: Clusters, topic_name: Callable[[str], str]) -> str:
    """A partition of ``RECORDS`` records, of which the first ten are deleted, and an empty one."""
    topic = topic_name("read")
    create_topic(clusters.source.bootstrap, topic, 2)
    with Writer(clusters.source.bootstrap, batch_records=7) as writer:
        for _ in range(RECORDS):
            writer.send(topic, 0, Payload(None, b"v"))
    delete_records(clusters.source.bootstrap, topic, {0: 10})
    return topic


def offsets(bootstrap: str, ranges: dict[Place, tuple[int, int]]) -> list[tuple[int, int]]:
    return [(record.partition(), record.offset()) for record in read_records(bootstrap, ranges)]


def test_a_range_is_read_and_nothing_else(clusters: Clusters, topic: str) -> None:
    bootstrap = clusters.source.bootstrap
    ranges = log_ranges(bootstrap, [topic])
    assert ranges == {(topic, 0): (10, RECORDS), (topic, 1): (0, 0)}
    assert offsets(bootstrap, ranges) == [(0, offset) for offset in range(10, RECORDS)]
    assert offsets(bootstrap, {(topic, 0): (20, 30)}) == [(0, offset) for offset in range(20, 30)]


def test_a_hole_at_the_end_is_not_waited_for(
    clusters: Clusters, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "HOLE_SECONDS", 0.5)
    found = offsets(clusters.source.bootstrap, {(topic, 0): (45, RECORDS + 5)})
    assert found == [(0, offset) for offset in range(45, RECORDS)]


def test_what_is_not_in_the_log_any_more_is_missed(clusters: Clusters, topic: str) -> None:
    with pytest.raises(ReadError, match=f"{topic}/0"):
        offsets(clusters.source.bootstrap, {(topic, 0): (0, RECORDS)})


def test_a_broker_that_is_gone_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "STALL_SECONDS", 2.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ReadError, match="sends nothing for t/0"):
            offsets(address, {("t", 0): (0, 1)})


def test_a_broker_that_froze_for_a_while_is_read_to_its_end(
    own_cluster: ClusterFactory, topic_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "HOLE_SECONDS", 2.0)
    cluster, topic = own_cluster("frozen"), topic_name("frozen")
    create_topic(cluster.bootstrap, topic)
    with Writer(cluster.bootstrap) as writer:
        writer.send(topic, 0, Payload(None, b"v"))
    cluster.pause()
    thaw = threading.Timer(4.0, cluster.resume)
    thaw.start()
    try:
        assert offsets(cluster.bootstrap, {(topic, 0): (0, 1)}) == [(0, 0)]
    finally:
        thaw.join()


def test_a_ledger_that_is_not_there(clusters: Clusters, topic_name: Callable[[str], str]) -> None:
    with pytest.raises(LabError, match="none"):
        read_ledger(clusters.source.bootstrap, topic_name("none"), "run")
