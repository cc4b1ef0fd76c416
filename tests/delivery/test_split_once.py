"""Split partitions under crashes: the states, the log and the checks together, against records
that are counted one by one. Lanes are simulated; what they really send is in ``tests/lane``.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from kit.brokers.scripted import IN_FLIGHT
from kit.fakes.state import FakeReader, FakeWriter, StateTopic
from kit.fakes.world import FakeCluster, make_task
from replicator.engine.gates import Gates
from replicator.engine.splits import ALL, SplitProgress
from replicator.engine.strategy import Located
from replicator.engine.task import PartitionTask, TaskState
from replicator.offsets.log_end import ForeignWriter, NotYet
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.split_end import counters, foreign_offset
from replicator.offsets.splits import Splits, fresh
from replicator.state.map_topic import MapTopic
from replicator.state.records import Point, SplitBinding, SplitState
from replicator.state.topics import ignored

TOPIC = "orders"
FIRST_PRODUCER = 100
Record = tuple[int, int]  # source offset, target partition


class Crash(Exception):
    pass


@dataclass
class Batch:
    """Some records of one pair, on their way in a lane."""

    stride: int
    counter: int
    records: list[Record]


@dataclass
class Sim:
    """Source partitions of known records, a target whose logs take sequences as Kafka does."""

    rng: random.Random
    targets: int
    sources: list[list[Record]]
    end: int
    cluster: FakeCluster = field(default_factory=lambda: FakeCluster("target"))
    state: StateTopic = field(default_factory=StateTopic)
    stored: dict[tuple[int, int], list[Record]] = field(default_factory=dict)  # by pair
    offsets: dict[tuple[int, int], list[int]] = field(default_factory=dict)  # of those
    latest: dict[tuple[int, int], deque[tuple[int, int]]] = field(default_factory=dict)  # batches
    late: list[tuple[int, int, Batch]] = field(default_factory=list)  # of dead sessions
    lives: int = 0
    compacting: bool = False
    failed: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.cluster.add(TOPIC, self.targets)

    def append(self, source: int, target: int, batch: Batch) -> bool:
        """Whether the target took a batch: its sequence has to follow, or it is one of the last."""
        pair = self.stored.setdefault((source, target), [])
        span = (batch.counter, batch.counter + len(batch.records))
        latest = self.latest.setdefault((source, target), deque(maxlen=IN_FLIGHT))
        if batch.counter != len(pair):
            return span in latest
        latest.append(span)
        log = self.cluster.log(TOPIC, target)
        places = range(log.end, log.end + len(batch.records))
        self.offsets.setdefault((source, target), []).extend(places)
        log.write(len(batch.records), batch.counter, FIRST_PRODUCER + source)
        pair.extend(batch.records)
        return True

    # --- one life ---------------------------------------------------------------------------------

    def live(self) -> None:
        self.lives += 1
        self.writer = FakeWriter(self.state)
        topic = MapTopic("f")
        self.splits = Splits(topic)
        if self.rng.random() < 0.3:
            self.state.compact()
        topic.read(FakeReader(self.state).read_to_end())
        topic.take_over({TOPIC: self.lives})
        states = {}
        for source in range(len(self.sources)):
            place = (TOPIC, source)
            binding = SplitBinding(
                "src", TOPIC, "dst", FIRST_PRODUCER + source, 0, "murmur2", (0,) * self.targets
            )
            states[place] = self.splits.state(place) or fresh(binding, 0)
        self.splits.restate(self.writer, states)
        topic.clean(self.writer)
        self.writer.hold = True
        self.gates = Gates(
            OffsetMaps(MapTopic("f")),
            self.splits,
            self.writer,
            lambda told: told(None),
        )
        try:
            for source in self.rng.sample(range(len(self.sources)), len(self.sources)):
                while source not in self.done | self.failed:
                    self.assignment(source)
        except Crash:
            arrived = self.rng.randrange(len(self.writer.held) + 1)
            for key, value, _ in self.writer.held[:arrived]:
                self.state.append(key, value)

    def task(self, source: int) -> PartitionTask:
        progress = SplitProgress(self.cluster, self.splits, self.writer, "murmur2")  # type: ignore[arg-type]
        return make_task(TOPIC, source, target_id="dst", end=self.end, progress=progress)

    def assignment(self, source: int) -> None:
        """One assignment: from reading the log to the end of the source, a loss, or a crash."""
        self.writer.deliver()
        task = self.task(source)
        progress = task.progress
        (answer,) = progress.locate([task]).values()
        assert isinstance(answer, Located), answer
        progress.take(task, answer)
        if self.rng.random() < 0.5:
            self.arrive_late()
        while progress.counts_only(task):
            at = progress.assignment(task)
            assert at.split is not None
            assert set(at.split.have) == {ALL}
            found = self.count(source, at.start, at.end, at.split.counters)
            if progress.take_count(task, found) is not None:
                self.failed.add(source)
                return
        at = progress.assignment(task)
        assert at.split is not None
        Lane(self, source, at.start, at.split.counters, at.split.have).run(at.end)

    def count(self, source: int, begin: int, end: int, start: list[int]) -> list[int]:
        found = list(start)
        for offset, target in self.sources[source]:
            found[target] += begin <= offset < end
        return found

    def arrive_late(self) -> None:
        while self.late and self.rng.random() < 0.8:
            self.append(*self.late.pop(0))

    def compact(self) -> None:
        """Some records are gone, at the place where the last life was cut off or anywhere."""
        for source in range(len(self.sources)):
            if self.rng.random() < 0.5:
                part = self.rng.uniform(0, 0.3)
                self.sources[source] = [
                    one for one in self.sources[source] if self.rng.random() > part
                ]


class Lane:
    """What a lane does with one partition: strides, gates, branches, answers that may be lost."""

    def __init__(
        self,
        sim: Sim,
        source: int,
        begin: int,
        counters_: list[int],
        have: list[int],
    ) -> None:
        self.sim, self.source = sim, source
        self.topic, self.partition = TOPIC, source
        self.position = self.acked = begin
        self.counters, self.have = list(counters_), have
        self.arrivals = [(-1, counter) for counter in counters_]
        self.queues: list[deque[Batch]] = [deque() for _ in have]
        self.left: list[int] = []  # batches of each stride
        self.ends: list[int] = []
        self.open: set[int] = set()
        self.gates: dict[int, int] = {}  # stride by its start
        self.lost = False
        self.epochs: list[tuple[int, int]] = []
        self.seen = -1

    # What Gates calls on a worker.

    def confirm(self, _part: object, start: int) -> None:
        self.open.add(self.gates[start])

    def lose(self, _part: object, _reason: str) -> None:
        self.lost = True

    def run(self, end: int) -> None:
        sim, rng = self.sim, self.sim.rng
        self.life = rng.choice([3, 10, 40, 400])
        while not self.lost:
            self.life -= 1
            if self.life == 0:
                self.crash()
            step = rng.random()
            if step < 0.35 and self.position < end:
                self.cut(min(end, self.position + rng.randrange(1, 12)))
            elif step < 0.6:
                sim.writer.deliver()
            elif step < 0.62:
                self.lost = True
            else:
                self.send(rng.randrange(len(self.queues)))
            if self.position == end and not any(self.left):
                self.acked = end
                task = sim.task(self.source)
                task.state = TaskState.DONE
                task.progress.note_end(task, self)  # type: ignore[arg-type]
                sim.writer.deliver()
                sim.done.add(self.source)
                return

    def crash(self) -> None:
        """What was sent but not answered may still arrive."""
        for target, queue in enumerate(self.queues):
            for batch in list(queue)[: self.sim.rng.randrange(3)]:
                if not self.sim.compacting and all(n in self.open for n in range(batch.stride + 1)):
                    self.sim.late.append((self.source, target, batch))
        raise Crash

    def cut(self, end: int) -> None:
        begin, number = self.position, len(self.left)
        self.position = end
        batches = 0
        for target in range(len(self.queues)):
            records = [
                one
                for one in self.sim.sources[self.source]
                if begin <= one[0] < end and one[1] == target
            ]
            skipped = min(max(self.have[target] - self.counters[target], 0), len(records))
            counter = self.counters[target] + skipped
            self.counters[target] += len(records)
            if records[skipped:]:
                self.queues[target].append(Batch(number, counter, records[skipped:]))
                batches += 1
        if batches:
            self.left.append(batches)
            self.ends.append(end)
            self.gates[begin] = number
            stride = SimpleNamespace(start=begin, end=end, counters=list(self.counters))
            self.sim.gates.write_stride(self, self, stride)  # type: ignore[arg-type]

    def send(self, target: int) -> None:
        queue = self.queues[target]
        # Earlier strides that are not durable keep the later ones back.
        if not queue or not all(number in self.open for number in range(queue[0].stride + 1)):
            return
        if not self.sim.append(self.source, target, queue[0]):
            self.lost = True  # out of sequence: ask the log
            return
        if self.sim.rng.random() < 0.1:
            self.lost = True  # the answer is lost
            return
        batch = queue.popleft()
        after = batch.counter + len(batch.records)
        last = self.sim.offsets[self.source, target][after - 1]
        self.arrivals[target] = (last + 1, after)
        self.left[batch.stride] -= 1
        for left, end in zip(self.left, self.ends, strict=True):
            if left:
                break
            self.acked = max(self.acked, end)


def simulate(seed: int, *, compacting: bool) -> Sim:
    rng = random.Random(seed)
    targets = rng.randrange(1, 5)
    end = rng.randrange(5, 120)
    sources = [
        [(offset, rng.randrange(targets)) for offset in range(end) if rng.random() < 0.9]
        for _ in range(rng.randrange(1, 4))
    ]
    sim = Sim(rng, targets, sources, end, compacting=compacting)
    for _ in range(500):
        if len(sim.done | sim.failed) == len(sources):
            return sim
        sim.live()
        if compacting and rng.random() < 0.5:
            sim.compact()
    raise AssertionError("it never ends")


@pytest.mark.parametrize("seed", range(300))
def test_every_record_arrives_once(seed: int) -> None:
    sim = simulate(seed, compacting=False)
    assert not sim.failed
    for source, records in enumerate(sim.sources):
        for target in range(sim.targets):
            wanted = [one for one in records if one[1] == target]
            assert sim.stored.get((source, target), []) == wanted
    states = sim.splits.of_topic(TOPIC)
    assert all(state.settled for state in states.values())
    assert foreign_offset(sim.cluster, TOPIC, states) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(300))
def test_a_source_that_loses_records_costs_none_of_the_others(seed: int) -> None:
    """Cleaned between two lives at any place: exact for what is still there, or stopped."""
    sim = simulate(seed, compacting=True)
    for source, records in enumerate(sim.sources):
        for target in range(sim.targets):
            found = sim.stored.get((source, target), [])
            assert found == sorted(set(found)), "once and in order"
            if source not in sim.failed:
                missing = {one for one in records if one[1] == target} - set(found)
                assert not missing


def test_both_ends_of_a_cleaned_source_are_seen() -> None:
    """The random runs are not all of one kind."""
    ended = [simulate(seed, compacting=True) for seed in range(60)]
    assert sum(bool(sim.failed) for sim in ended) > 5
    assert sum(not sim.failed for sim in ended) > 5


# --- what the log may hold ------------------------------------------------------------------------


def held(sources: int = 1, targets: int = 1) -> tuple[FakeCluster, dict[int, Any]]:
    cluster = FakeCluster("target")
    cluster.add(TOPIC, targets)
    states = {}
    for source in range(sources):
        binding = SplitBinding("s", TOPIC, "t", FIRST_PRODUCER + source, 0, "x", (0,) * targets)
        states[source] = fresh(binding, 0)
    return cluster, states


def strided(cut: int) -> Splits:
    splits = Splits(MapTopic("f"))
    splits.topic.take_over({TOPIC: 1})
    writer: Any = FakeWriter(StateTopic())
    _, states = held()
    splits.restate(writer, {(TOPIC, 0): states[0]})
    stride: Any = SimpleNamespace(start=0, end=50, counters=[cut])
    splits.send_stride(writer, (TOPIC, 0), stride, 0, [(-1, 0)], ignored)
    return splits


def test_a_strangers_batch_is_found() -> None:
    cluster, _ = held()
    cluster.log(TOPIC).write(3, 0, FIRST_PRODUCER)
    cluster.log(TOPIC).write(1, 0, 5)
    with pytest.raises(ForeignWriter) as found:
        counters(cluster, TOPIC, lambda: strided(9).of_topic(TOPIC))  # type: ignore[arg-type]
    assert found.value.offset == 3


def test_a_batch_that_is_missing_is_found() -> None:
    """The broker had no state of the producer and took a later batch for the first."""
    cluster, _ = held()
    cluster.log(TOPIC).write(3, 4, FIRST_PRODUCER)
    with pytest.raises(ForeignWriter) as found:
        counters(cluster, TOPIC, lambda: strided(9).of_topic(TOPIC))  # type: ignore[arg-type]
    assert found.value.offset == 0


def test_a_log_whose_beginning_is_gone_may_begin_anywhere() -> None:
    cluster, _ = held()
    cluster.log(TOPIC).write(4, 0, FIRST_PRODUCER)
    cluster.log(TOPIC).write(3, 4, FIRST_PRODUCER)
    cluster.log(TOPIC).batches.pop(0)
    cluster.log(TOPIC).start = 4
    found = counters(cluster, TOPIC, lambda: strided(9).of_topic(TOPIC))  # type: ignore[arg-type]
    assert found[0][1] == [7]


def test_more_than_was_ever_cut_is_not_ours() -> None:
    cluster, _ = held()
    cluster.log(TOPIC).write(10, 0, FIRST_PRODUCER)
    with pytest.raises(ForeignWriter):
        counters(cluster, TOPIC, lambda: strided(9).of_topic(TOPIC))  # type: ignore[arg-type]
    found = counters(cluster, TOPIC, lambda: strided(10).of_topic(TOPIC))  # type: ignore[arg-type]
    assert found[0][1] == [10]


def test_an_end_that_is_not_committed_waits() -> None:
    cluster, states = held()
    cluster.log(TOPIC).write(10, 0, FIRST_PRODUCER)
    cluster.log(TOPIC).high = 4
    with pytest.raises(NotYet):
        counters(cluster, TOPIC, lambda: states)  # type: ignore[arg-type]


def test_a_settled_topic_that_grew_is_noticed() -> None:
    cluster, states = held()
    assert foreign_offset(cluster, TOPIC, states) is None  # type: ignore[arg-type]
    cluster.log(TOPIC).write(2, 0, 9)
    assert foreign_offset(cluster, TOPIC, states) == 2  # type: ignore[arg-type]


def test_an_older_generation_counts_for_nothing() -> None:
    """Its records were still in flight when the session was taken over."""
    topic = StateTopic()
    writer: Any = FakeWriter(topic)
    _, states = held()
    for generation in (1, 2):
        splits = Splits(MapTopic("f"))
        splits.topic.take_over({TOPIC: generation})
        splits.restate(writer, {(TOPIC, 0): states[0]})
        if generation == 1:
            old = splits
    late: Any = SimpleNamespace(start=0, end=50, counters=[9])
    old.send_stride(writer, (TOPIC, 0), late, 0, [(-1, 0)], ignored)
    read = Splits(MapTopic("f"))
    read.topic.read(FakeReader(topic).read_to_end())
    assert read.state((TOPIC, 0)) == states[0]


def test_others_go_on_while_the_log_is_read() -> None:
    """A stride that another source partition cut meanwhile is not another client's."""
    cluster = FakeCluster("target")
    cluster.add(TOPIC)
    cluster.log(TOPIC).write(10, 0, producer=FIRST_PRODUCER)
    binding = SplitBinding("src", TOPIC, "dst", FIRST_PRODUCER, 0, "murmur2", (0,))
    before = fresh(binding, 0)
    after = SplitState(binding, (*before.points, Point(50, (10,))), before.arrivals)
    known = [before, after]
    found = counters(cluster, TOPIC, lambda: {0: known.pop(0) if len(known) > 1 else known[0]})  # type: ignore[arg-type]
    assert found == {0: (before, [10])}
    with pytest.raises(ForeignWriter):
        counters(cluster, TOPIC, lambda: {0: before})  # type: ignore[arg-type]
