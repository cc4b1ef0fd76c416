"""What surrounds a driver: lanes whose assignments a test scripts, on a clock that never waits."""

from __future__ import annotations

import queue
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from copycore.partition import Refusal, Unanswered
from kit.fakes.state import FakeClock, FakeReader, FakeWriter, StateTopic
from kit.fakes.world import FakeCluster, make_task
from replicator.engine.aside import Then
from replicator.engine.clusters import Clusters
from replicator.engine.driver import Driver
from replicator.engine.gates import Gates
from replicator.engine.kept import KeptProgress
from replicator.engine.lanes import PipeKey
from replicator.engine.limits import RunLimits
from replicator.engine.splits import SplitProgress
from replicator.engine.task import PartitionTask
from replicator.errors import CopystreamError
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.splits import Splits
from replicator.process import StopSignal
from replicator.report.model import Fault
from replicator.state.map_topic import MapTopic
from replicator.state.pulse import Told
from replicator.state.records import Binding

END = 100  # of a topic's source log, unless told otherwise


def no_limits(began: float) -> RunLimits:
    return RunLimits(size=None, records=None, milliseconds=None, began=began)


class FakePart:
    """An assignment that a test ends as it likes."""

    def __init__(
        self, topic: str, partition: int, *, start: int, end: int, counter: int, **rest: Any
    ) -> None:
        assert 0 <= rest["mapped"] <= start, "the map cannot be ahead of the copy"
        self.topic, self.partition = topic, partition
        self.start = self.position = self.acked = self.readable = start
        self.end = end
        self.counter = self.acked_counter = counter
        self.rest = rest
        self.records = self.bytes = self.plain_bytes = self.batches = self.skipped = 0
        self.passed = self.rebatched = 0
        self.heard = False
        self.wants_sample = False
        self.sample: bytes | None = None
        self.ending: str | None = None
        self.end_side: str | None = None
        self.end_code = 0
        self.end_offset = start
        self.end_message: str | None = None
        self.refused: Refusal | None = None
        self.unanswered: list[Unanswered] = []
        self.epochs: list[tuple[int, int]] = []
        self.seen = -1
        self.counters: list[int] = []  # where it is split, of each target partition
        self.arrivals: list[tuple[int, int]] = []
        self.held_at = self.held_since = -1
        self.high_watermark = start


class FakeInbox:
    """Waiting costs fake time only. ``ticks`` happen whenever the driver finds nothing."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.reports: deque[Any] = deque()
        self.ticks: list[Callable[[], None]] = []
        self.patience = 5000

    def get(self, timeout: float) -> Any:
        if self.reports:
            return self.reports.popleft()
        self._clock.now += timeout
        if timeout:
            self.patience -= 1
            assert self.patience, "the driver does not end"
            for tick in list(self.ticks):
                tick()
        raise queue.Empty

    def put(self, report: Any) -> None:
        self.reports.append(report)


class FakeAside:
    """Asks at once, and reports as the real one does."""

    def __init__(self, inbox: FakeInbox) -> None:
        self._inbox = inbox

    def run(self, work: Callable[[], Then]) -> None:
        self._inbox.put(work())


class FakeWorker:
    """A lane: each assignment is handed to the world's script."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.running: list[FakePart] = []
        self.confirmed: list[tuple[FakePart, int]] = []
        self.dropped: list[PipeKey] = []
        self.failure: BaseException | None = None

    def connect(self, _source: object, _target: object, key: PipeKey) -> None:
        self._world.connected.append(key)
        self._world.on_connect()
        if self._world.refusal is not None:
            raise self._world.refusal

    def assign(self, key: PipeKey, part: FakePart, _outlets: object) -> None:
        self._world.assigned.append(key)
        self.running.append(part)
        self._world.parts.append(part)
        self._world.script(part)
        if part.ending is not None and part in self.running:
            self.report(part)

    def report(self, part: FakePart) -> None:
        self.running.remove(part)
        self._world.inbox.put((self, ("ended", part)))

    def stop(self, part: FakePart) -> None:
        if part in self.running:
            part.ending, part.end_side = "stopped", "target"
            self.report(part)

    def lose(self, part: FakePart, reason: str) -> None:
        if part in self.running:
            part.ending, part.end_side, part.end_message = "lost", "target", reason
            self.report(part)

    def stop_all(self) -> None:
        for part in list(self.running):
            self.stop(part)

    def confirm(self, part: FakePart, counter: int) -> None:
        self.confirmed.append((part, counter))

    @staticmethod
    def order(action: Callable[[], None]) -> None:
        action()

    def open_pipes(self) -> list[PipeKey]:
        return self._world.open_pipes

    def silence(self) -> int:
        return 0

    def drop_silent(self, key: PipeKey, _silence: int, _reason: str) -> None:
        self.dropped.append(key)

    def abandon(self, _reason: str) -> None:
        for part in list(self.running):
            self.report(part)


class World:
    """Topics of one partition on both clusters, a driver, and the script of its assignments."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.source, self.target = FakeCluster("source"), FakeCluster("target")
        self.state = StateTopic()
        self.writer = FakeWriter(self.state)
        self.map_topic = MapTopic("f")
        self.maps = OffsetMaps(self.map_topic)
        self.splits = Splits(self.map_topic)
        self.inbox = FakeInbox(clock)
        self.tasks: list[PartitionTask] = []
        self.parts: list[FakePart] = []
        self.connected: list[PipeKey] = []
        self.open_pipes: list[PipeKey] = []
        self.assigned: list[PipeKey] = []
        self.refusal: CopystreamError | None = None
        self.on_connect: Callable[[], None] = lambda: None
        self.script: Callable[[FakePart], None] = self.finish
        self.claimed = self.held = True
        self.waiting: list[Told] = []  # for a sign of life
        self.aside = FakeAside(self.inbox)
        self.look: Callable[[], None] = lambda: None
        self.kept = KeptProgress(self.target, self.maps, self.writer)  # type: ignore[arg-type]
        self.gates = Gates(self.maps, self.splits, self.writer, self.when_found)
        self.jitter = random.Random(1).random
        self.stop = StopSignal()
        self.limits = no_limits(clock())
        self.accept_gap = False
        self.workers = [FakeWorker(self)]
        self.driver: Driver | None = None

    def add(
        self, topic: str = "orders", *, base: int = 0, start: int = 0, end: int = END
    ) -> PartitionTask:
        reading, writing = self.source.add(topic), self.target.add(topic)
        self.source.log(topic).end = max(end, 0)
        self.target.log(topic).start = self.target.log(topic).end = base
        self.map_topic.take_over(dict.fromkeys(self.source.topics, 1))
        task = make_task(
            topic, source_id=reading.topic_id, target_id=writing.topic_id, base=base, start=start,
            end=end, located=True, progress=self.kept,
        )  # fmt: skip
        assert isinstance(task.binding, Binding)
        self.maps.write_bindings(self.writer, [(task.tp, task.binding, start)])
        self.tasks.append(task)
        return task

    def run(self) -> Driver:
        clusters = Clusters(self.source, self.target)  # type: ignore[arg-type]
        self.driver = Driver(
            clusters,
            self.workers,  # type: ignore[arg-type]
            self.inbox,  # type: ignore[arg-type]
            self.aside,  # type: ignore[arg-type]
            look=self.look,
            standing=lambda: self.claimed,
            limits=self.limits,
            accept_gap=self.accept_gap,
            clock=self.clock,
            lane_clock=lambda: int(self.clock() * 1000),
            jitter=self.jitter,
            make_part=FakePart,  # type: ignore[arg-type]
        )
        self.driver.add(self.tasks)
        self.driver.run(self.stop)
        return self.driver

    def split_by(self, partitioner: str) -> SplitProgress:
        """For tasks whose records go to other partitions, as ``splits`` has it."""
        return SplitProgress(self.target, self.splits, self.writer, partitioner)  # type: ignore[arg-type]

    def when_found(self, told: Told) -> None:
        if self.held:
            told(None)
        else:
            self.waiting.append(told)

    # --- how assignments go ---------------------------------------------------------------------

    def write(self, part: FakePart, count: int, *, acked: int | None = None) -> None:
        """The target gets ``count`` records; the lane hears of ``acked`` of them."""
        log = self.target.log(part.topic)
        if count:
            log.write(count, part.acked_counter)
        heard = count if acked is None else acked
        part.acked += heard
        part.acked_counter += heard
        part.records += heard
        part.position += count

    @staticmethod
    def end_as(part: FakePart, ending: str, side: str = "source", code: int = 0) -> None:
        part.ending, part.end_side, part.end_code = ending, side, code
        part.end_offset = part.acked
        part.end_message = None if code else "told by the test"

    def finish(self, part: FakePart) -> None:
        self.write(part, part.end - part.start)
        self.end_as(part, "done")

    def lose(self, part: FakePart) -> None:
        self.end_as(part, "lost", "target")

    def fault(self, number: int = 0) -> Fault:
        found = self.tasks[number].fault
        assert found is not None
        return found

    def stored_map(self) -> OffsetMaps:
        """What a later run would read."""
        maps = OffsetMaps(MapTopic("f"))
        maps.topic.read(FakeReader(self.state).read_to_end())
        return maps
