"""What other clients write to a target, computed from a fake cluster's answers."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

import pytest

from replicator.cluster import errors as broker_errors
from replicator.cluster.questions import OffsetResult, PartitionMeta, TopicMeta
from replicator.errors import ClusterError
from replicator.pace.neighbours import FRESH, INTERVAL, LISTED_EVERY, PARTITIONS, Neighbours

Place = tuple[str, int]


@dataclass
class FakeCluster:
    ends: dict[Place, int] = field(default_factory=dict)
    hides: bool = False  # topics this user may not see
    asked: list[list[Place]] = field(default_factory=list)
    listed: int = 0

    def metadata(self, topics: list[str] | None = None, *, timeout: float) -> dict[str, TopicMeta]:
        assert timeout > 0
        if topics is not None:
            code = (
                broker_errors.TOPIC_AUTHORIZATION_FAILED
                if self.hides
                else broker_errors.UNKNOWN_TOPIC_OR_PARTITION
            )
            return {name: TopicMeta(name, uuid.uuid4(), {}, code) for name in topics}
        self.listed += 1
        found: dict[str, TopicMeta] = {}
        for name, number in self.ends:
            meta = found.setdefault(name, TopicMeta(name, uuid.uuid4(), {}, 0))
            meta.partitions[number] = PartitionMeta(1, 0, (1,), (1,), 0)
        return found

    def list_offsets(
        self, partitions: list[Place], at: str, *, timeout: float
    ) -> dict[Place, OffsetResult]:
        assert at == "latest" and timeout > 0
        self.asked.append(list(partitions))
        gone = OffsetResult(-1, -1, broker_errors.UNKNOWN_TOPIC_OR_PARTITION)
        return {
            place: OffsetResult(self.ends[place], 0, 0) if place in self.ends else gone
            for place in partitions
        }


class Rig:
    def __init__(self, *places: Place, hides: bool = False) -> None:
        self.cluster = FakeCluster(dict.fromkeys(places, 1000), hides)
        self.now = 50.0
        self.others = Neighbours(self.cluster, ["ours"], lambda: self.now)  # type: ignore[arg-type]

    def look(self) -> float | None:
        self.others.look()
        rate = self.others.rate
        self.now += INTERVAL
        return rate

    def write(self, topic: str, partition: int, records: int) -> None:
        self.cluster.ends[topic, partition] += records


def test_records_of_others_count_and_nothing_else() -> None:
    rig = Rig(
        ("a", 0), ("a", 1), ("ours", 0), ("__consumer_offsets", 3), ("copystream-x.internal", 0)
    )
    assert rig.look() is None
    for topic, partition in list(rig.cluster.ends):
        rig.write(topic, partition, 100)
    assert rig.look() == pytest.approx(200 / INTERVAL)
    rig.write("a", 1, 50)
    rig.write("ours", 0, 5000)
    assert rig.look() == pytest.approx(50 / INTERVAL)
    assert rig.look() == 0.0
    assert {place for asked in rig.cluster.asked for place in asked} == {("a", 0), ("a", 1)}


def test_an_empty_cluster_has_no_others() -> None:
    assert Rig().look() == 0.0
    assert Rig(("ours", 0)).look() == 0.0


def test_without_describe_on_every_topic_other_writers_are_never_ruled_out() -> None:
    rig = Rig(("a", 0), hides=True)
    assert [rig.look(), rig.look()] == [None, None]
    rig.write("a", 0, 10)
    assert rig.look() == pytest.approx(10 / INTERVAL)
    assert rig.look() is None


def test_of_many_partitions_the_busy_ones_are_asked_every_time_and_all_by_turns() -> None:
    places = [("a", number) for number in range(3 * PARTITIONS)]
    rig = Rig(*places)
    for _ in range(4):
        rig.write("a", 7, 100)
        rig.look()
    assert all(len(asked) <= PARTITIONS for asked in rig.cluster.asked)
    assert {place for asked in rig.cluster.asked for place in asked} == set(places)
    rig.write("a", 7, 100)
    # A quiet partition is asked only now and then; its new records are spread over that time.
    assert rig.look() == pytest.approx(100 / INTERVAL)
    for _ in range(5):
        rig.write("a", 7, 30)
        assert rig.look() == pytest.approx(30 / INTERVAL)
        assert ("a", 7) in rig.cluster.asked[-1]


def test_topics_come_and_go() -> None:
    rig = Rig(("a", 0))
    rig.look()
    rig.cluster.ends["b", 0] = 1000
    rig.write("a", 0, 10)
    assert rig.look() == pytest.approx(10 / INTERVAL)
    rig.now += LISTED_EVERY
    rig.look()
    assert rig.cluster.listed == 2
    rig.write("b", 0, 20)
    assert rig.look() == pytest.approx(20 / INTERVAL)
    del rig.cluster.ends["b", 0]
    assert rig.look() == 0.0
    assert ("b", 0) not in (rig.look(), rig.cluster.asked[-1])[1]


def test_a_log_that_became_shorter_is_no_writer() -> None:
    rig = Rig(("a", 0))
    rig.look()
    rig.cluster.ends["a", 0] = 5
    assert rig.look() == 0.0
    rig.write("a", 0, 5)
    assert rig.look() == pytest.approx(5 / INTERVAL)


def test_a_rate_is_unknown_once_it_is_too_old() -> None:
    rig = Rig()
    assert rig.look() == 0.0
    rig.now += FRESH
    assert rig.others.rate is None


def test_a_cluster_that_does_not_answer_is_asked_again() -> None:
    rig = Rig()
    right, tries = rig.cluster.metadata, []

    def metadata(topics: list[str] | None = None, *, timeout: float) -> dict[str, TopicMeta]:
        tries.append(topics)
        if len(tries) == 1:
            raise ClusterError("target", "no answer")
        return right(topics, timeout=timeout)

    rig.cluster.metadata = metadata  # type: ignore[method-assign]
    rig.others.begin()
    rig.others.begin()
    while len(rig.cluster.asked) < 1:  # the test's own timeout ends it
        assert rig.others._thread is not None and rig.others._thread.is_alive()
    rig.others.end()
    assert rig.others.rate == 0.0
