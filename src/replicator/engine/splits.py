"""Partitions that are split: a partitioner decides for each record to which target partition it
goes, and each pair of the two has numbers of its own.

Called in the driver's thread; ``locate`` runs beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from copycore.partition import PartitionCopy
from copycore.segments import Segments
from copycore.split import Split
from replicator.cluster import Cluster
from replicator.engine.partitioners import Partitioner
from replicator.engine.strategy import Assignment, Located
from replicator.engine.task import PartitionTask
from replicator.errors import CopystreamError
from replicator.offsets import split_end
from replicator.offsets.log_end import ForeignWriter, NotYet
from replicator.offsets.splits import Splits
from replicator.state.records import Epochs, Point, SplitState
from replicator.state.topics import StateWriter
from replicator.terms import TopicPartition

ALL = 1 << 62  # records that the target has, when they are only to be counted


@dataclass(slots=True)
class SplitPosition:
    """Where one split partition goes on.

    ``have`` are the numbers of the next records to send. Before anything is sent, the source is
    split again up to each of ``to_recount``, and has to reach the counters that were durable there:
    if records have gone since, it cannot be told which of them the target has.
    """

    start: Point
    have: tuple[int, ...]
    to_recount: list[Point] = field(default_factory=list)
    recounted: Point | None = None  # up to where they hold

    @property
    def begin(self) -> Point:
        """Where the next assignment begins."""
        if self.to_recount and self.recounted is not None:
            return self.recounted
        return self.start

    def resume(self, state: SplitState, have: Sequence[int]) -> None:
        """Go on where ``state`` was settled, with what the target's log says it has."""
        self.start, self.have = state.points[0], tuple(have)
        self.to_recount, self.recounted = [], None
        before = self.start
        for point in state.points[1:]:
            if any(map(_reaches_into, before.counters, self.have, point.counters)):
                self.to_recount.append(point)
            before = point

    def skip_to(self, start: int) -> bool:
        """Begin at a later source offset; False while strides before it may not have arrived."""
        if self.to_recount or self.have != self.start.counters:
            return False
        self.start = Point(start, self.have)
        return True

    def take_count(self, found: Sequence[int]) -> bool:
        """Compare the counters that the source reached with the first of those to recount."""
        before_all, point = self.begin.counters, self.to_recount.pop(0)
        holds = all(
            now == known
            for before, have, known, now in zip(
                before_all, self.have, point.counters, found, strict=True
            )
            if _reaches_into(before, have, known)
        )
        self.recounted = Point(point.source, tuple(found))
        return holds


def _reaches_into(before: int, have: int, after: int) -> bool:
    """Whether the target has records of a stride with these counters, and none after it."""
    return before < have <= after


class SplitProgress:
    """Called in the driver's thread, see ``strategy.Progress``. Has the position of each partition
    by its name.
    """

    def __init__(
        self, target: Cluster, splits: Splits, writer: StateWriter, partitioner: Partitioner
    ) -> None:
        self._target = target
        self._splits = splits
        self._writer = writer
        self._partitioner = partitioner
        self._positions: dict[TopicPartition, SplitPosition] = {}

    def position(self, task: PartitionTask) -> SplitPosition:
        """Where the task goes on; at first, where its durable state begins."""
        if task.tp not in self._positions:
            state = self._splits.state(task.tp)
            if state is None:
                raise ValueError(f"{task.topic}-{task.partition} has no state")
            self._positions[task.tp] = SplitPosition(state.points[0], state.points[0].counters)
        return self._positions[task.tp]

    def begin(self, task: PartitionTask) -> int:
        return self.position(task).begin.source

    def writes_to(self, task: PartitionTask) -> Sequence[int]:
        return range(len(self.position(task).have))

    def counts_only(self, task: PartitionTask) -> bool:
        return bool(self.position(task).to_recount)

    def prepare(self, _task: PartitionTask) -> bool:
        return True  # ``locate`` looks whether a state is on its way

    def locate(self, tasks: Sequence[PartitionTask]) -> dict[PartitionTask, Located | Exception]:
        found: dict[PartitionTask, Located | Exception] = {}
        topics: dict[str, list[PartitionTask]] = {}
        for task in tasks:
            if self._splits.quiet(task.tp):
                topics.setdefault(task.topic, []).append(task)
            else:
                found[task] = NotYet(0)
        for topic, members in topics.items():
            latest = partial(self._splits.into, topic, members[0].binding.target_id)
            try:
                numbers = split_end.counters(self._target, members[0].target_topic, latest)
            except (NotYet, ForeignWriter) as error:
                found |= dict.fromkeys(members, error)
                continue
            for task in members:
                state, have = numbers[task.partition]
                found[task] = Located(
                    state.points[0].source, state.settled_seen, dict(enumerate(have)), state
                )
        return found

    def take(self, task: PartitionTask, found: Located) -> None:
        if found.state is None:
            raise ValueError("a split partition is located with its state")
        task.seen = found.seen
        self.position(task).resume(found.state, list(found.counters.values()))

    def assignment(self, task: PartitionTask) -> Assignment:
        at = self.position(task)
        begin = at.begin.counters
        if at.to_recount:
            end = at.to_recount[0].source
            split = Split(self._partitioner, begin, [ALL] * len(begin))
        else:
            end = task.end
            have = [max(pair) for pair in zip(begin, at.have, strict=True)]
            split = Split(self._partitioner, begin, have)
        start = at.begin.source
        return Assignment(
            start=start,
            end=end,
            mapped=start,
            base=0,  # every target partition has one of its own
            known=Segments(),
            stored_epochs=Epochs(),
            split=split,
        )

    def take_count(self, task: PartitionTask, counters: Sequence[int]) -> int | None:
        at = self.position(task)
        return None if at.take_count(counters) else at.start.source

    def skip_to(self, task: PartitionTask, start: int) -> bool:
        at = self.position(task)
        if not at.skip_to(start):
            return False
        nothing = [(-1, -1)] * len(at.have)  # has arrived since
        self._splits.settle(self._writer, task.tp, start, at.start.counters, nothing)
        return True

    def note_end(self, task: PartitionTask, part: PartitionCopy) -> None:
        if task.done:
            self._settle(task.tp, part)

    def note_idle(self, task: PartitionTask) -> None:
        part, pipe, state = task.part, task.pipe, self._splits.state(task.tp)
        if part is None or pipe is None or state is None or state.settled:
            return
        if self.counts_only(task):
            return

        def settle() -> None:
            # In the lane's thread, so that nothing moves meanwhile.
            if part.ending is None and part.acked == part.position:
                self._settle(task.tp, part)

        pipe.worker.order(settle)

    def arrivals(self, _tasks: Sequence[PartitionTask]) -> dict[PartitionTask, Located | Exception]:
        return {}  # logs would have to be read

    def foreign_ends(self, tasks: Sequence[PartitionTask]) -> dict[str, int]:
        """For topics whose copies have all ended: a log end that is not where they brought it."""
        found: dict[str, int] = {}
        topics = {task.topic: task.binding for task in tasks}
        for topic, binding in topics.items():
            states = self._splits.into(topic, binding.target_id)
            if all(state.settled for state in states.values()):
                try:
                    offset = split_end.foreign_offset(self._target, binding.target_topic, states)
                except (NotYet, CopystreamError):
                    continue  # the next run looks at what is there before it writes
                if offset is not None:
                    found[topic] = offset
        return found

    def _settle(self, tp: TopicPartition, part: PartitionCopy) -> None:
        """Everything that was cut has arrived (INV-19). In the driver's thread or the lane's."""
        self._splits.settle(
            self._writer, tp, part.position, part.counters, part.arrivals, part.epochs, part.seen
        )
