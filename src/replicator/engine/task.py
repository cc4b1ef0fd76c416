"""One partition of a copy job: where it comes from, where it goes, how far it is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from copycore.bucket import Bucket
from copycore.partition import PartitionCopy, Refusal, Unanswered
from copycore.segments import Segments
from replicator.engine.counts import Counts
from replicator.engine.partitioners import Partitioner
from replicator.report.model import Fault, Gap, OpenTransaction, PartitionProgress, PartitionState
from replicator.state.records import Binding, Epochs, Point, SplitState
from replicator.terms import TopicPartition

_log = logging.getLogger(__name__)


class TaskState(Enum):
    """Where a partition is on its way; DESIGN.md has the diagram."""

    WAITING = "waiting"  # until it is due
    ASKING = "asking"  # brokers are asked about it
    PLACED = "placed"  # a lane copies it
    CHECKING = "checking"  # a lane reads it again to count, and sends nothing
    STOPPED = "stopped"  # the run ended before it was done
    DONE = "done"
    FAILED = "failed"  # there is a fault; a lane may still have to let go of it


_ENDS = {TaskState.STOPPED, TaskState.FAILED}
_MOVES = {
    TaskState.WAITING: {TaskState.ASKING, *_ENDS},
    TaskState.ASKING: {
        TaskState.WAITING, TaskState.PLACED, TaskState.CHECKING, TaskState.DONE, *_ENDS,
    },
    TaskState.PLACED: {TaskState.WAITING, TaskState.ASKING, TaskState.DONE, *_ENDS},
    TaskState.CHECKING: {TaskState.WAITING, TaskState.ASKING, *_ENDS},
    # What is seen of the topics when everything has ended.
    TaskState.STOPPED: {TaskState.FAILED},
    TaskState.DONE: {TaskState.FAILED},
    TaskState.FAILED: set[TaskState](),
}  # fmt: skip


@dataclass(slots=True)
class SplitTask:
    """What a ``PartitionTask`` knows more when it is split up.

    ``have`` are the numbers of the next records to send. Before anything is sent, the source is
    split again up to each of ``checks``, and has to come to the counters that were durable there:
    if records have gone since, nobody can tell which of them the target has.
    """

    partitioner: Partitioner
    start: Point
    have: tuple[int, ...]
    checks: list[Point] = field(default_factory=list)
    checked: Point | None = None  # up to where they hold

    @property
    def begin(self) -> Point:
        """Where the next assignment begins."""
        return self.checked if self.checks and self.checked is not None else self.start

    def resume(self, state: SplitState, have: Sequence[int]) -> None:
        """Go on where ``state`` was settled, with what the target's log says it has."""
        self.start, self.have = state.points[0], tuple(have)
        self.checks, self.checked = [], None
        before = self.start
        for point in state.points[1:]:
            if any(map(_reaches_into, before.counters, self.have, point.counters)):
                self.checks.append(point)
            before = point

    def skip_to(self, start: int) -> bool:
        """Begin at a later source offset; False while strides before it may not have arrived."""
        if self.checks or self.have != self.start.counters:
            return False
        self.start = Point(start, self.have)
        return True

    def check(self, counters: Sequence[int]) -> bool:
        """Whether the first of the checks holds, the source having come to ``counters`` there."""
        before_all, point = self.begin.counters, self.checks.pop(0)
        holds = all(
            found == known
            for before, have, known, found in zip(
                before_all, self.have, point.counters, counters, strict=True
            )
            if _reaches_into(before, have, known)
        )
        self.checked = Point(point.source, tuple(counters))
        return holds


def _reaches_into(before: int, have: int, after: int) -> bool:
    """Whether the target has records of a stride with these counters, and none behind it."""
    return before < have <= after


def _left(part: PartitionCopy) -> int:
    """Offsets that can be read and are not copied."""
    return max(0, part.readable - part.acked)


@dataclass(eq=False, slots=True)
class PartitionTask:
    """Everything the job knows of one partition. Offsets are the source's unless said otherwise.

    ``part`` is the current assignment to a lane; several may follow each other, and the counts
    of the past ones are added up here.

    The driver's thread alone changes a task. ``counts``, ``lag`` and ``progress`` may be asked by
    any thread: each field is read once, and is an older or a newer value.
    """

    topic: str
    target_topic: str
    partition: int
    binding: Binding  # its ``base`` says nothing of one that is split up
    start: int  # where this run begins
    end: int  # exclusive; −1 follows for ever
    position: int  # everything before is on the target
    counter: int  # number of the next record
    mapped: int  # where the durable map had that record when the target's log was asked
    batch_limit: int  # bytes of a batch that the target takes
    lane: int
    slot: int  # which of a lane's connections to the same brokers

    ahead: Segments = field(default_factory=Segments)  # and its segments behind that
    epochs: Epochs = field(default_factory=Epochs)  # of the source
    trusts_epochs: bool = True  # whether the source's leader still knows them
    # Source offset after the last batch that is known; between it and the position lie holes.
    seen: int = -1
    split: SplitTask | None = None  # where it does not keep its place
    located: bool = False  # whether counter and position are known from the target's log
    part: PartitionCopy | None = None
    state: TaskState = TaskState.WAITING  # set by ``move`` alone
    fault: Fault | None = None  # set by ``fail`` alone
    behind: int = 0  # offsets the source had more, when the last assignment ended
    bucket: Bucket | None = None
    wants_sample: bool = False  # of a compressed batch, see ``sampler``
    sample: bytes | None = None
    apart_until: int = 0  # before it, no batch of ours has records of two of the source's
    single_until: int = 0  # before it, every record has a batch of its own
    unpack: bool = False  # compressed batches are taken apart
    unanswered: list[Unanswered] = field(default_factory=list)  # until the log is asked
    gaps: list[Gap] = field(default_factory=list)
    held: list[OpenTransaction] = field(default_factory=list)  # one at the most, as last told
    trouble: str = ""  # why the last assignment ended
    attempts: int = 0  # since it last went well
    not_before: float = 0.0  # monotonic seconds
    lost_at: float | None = None  # the first loss since it last went well; monotonic seconds
    past: Counts = field(default_factory=Counts)  # of ended assignments

    @property
    def place(self) -> TopicPartition:
        return self.topic, self.partition

    @property
    def target_place(self) -> TopicPartition:
        return self.target_topic, self.partition

    @property
    def begin(self) -> int:
        """Where the next assignment begins to read."""
        return self.position if self.split is None else self.split.begin.source

    @property
    def fetched_epoch(self) -> int:
        """Leader epoch of the batch that ends where the next assignment begins; −1 unknown."""
        known = self.trusts_epochs and self.seen == self.begin
        return self.epochs.at(self.begin) if known else -1

    @property
    def done(self) -> bool:
        return self.state is TaskState.DONE

    @property
    def stopped(self) -> bool:
        return self.state is TaskState.STOPPED

    @property
    def finished(self) -> bool:
        return self.state in (TaskState.DONE, TaskState.STOPPED, TaskState.FAILED)

    def move(self, state: TaskState) -> bool:
        """Go on to another state. A move that makes no sense is logged and refused: False."""
        if state is self.state:
            return True
        if state not in _MOVES[self.state]:
            _log.error(
                "%s-%d is %s and cannot become %s",
                self.topic, self.partition, self.state.value, state.value,
            )  # fmt: skip
            return False
        self.state = state
        return True

    def fail(self, fault: Fault) -> None:
        """End with a fault; the first one stays."""
        if self.fault is None and self.move(TaskState.FAILED):
            _log.info("%s", fault.message)
            self.fault = fault

    @property
    def counts(self) -> Counts:
        """Of this run."""
        part = self.part  # the driver may take it away while another thread asks
        return self.past if part is None else self.past + Counts.of(part)

    @property
    def lag(self) -> int:
        """Offsets the source had more when it was last asked."""
        part = self.part
        return self.behind if part is None else _left(part)

    def take_result(self, part: PartitionCopy) -> bool:
        """Take over what an ended assignment did; True when it moved forward."""
        self.past += Counts.of(part)
        self.sample = self.sample or part.sample
        moved = part.acked > self.position
        if moved and part.seen >= 0:
            self.seen = min(part.acked, part.seen)
        self.position = max(self.position, part.acked)
        self.counter = max(self.counter, part.acked_counter)
        self.behind = _left(part)
        self.unanswered += part.unanswered
        self.epochs = self.epochs.merged(part.epochs)
        if part.held_at < part.position:
            self.held = []
        self.part = None
        return moved

    def place_at(self, counter: int, source: int, after: int) -> tuple[int, int]:
        """Where to go on, and ``seen`` there, if ``counter`` is the number of the next record by
        the target's log, ``source`` where the map has it, and ``after`` the source offset after
        the record before it: holes there may have been passed already.
        """
        if counter == self.counter and self.position > source:
            return self.position, max(self.seen, after)
        return source, after

    def skip_to(self, start: int) -> bool:
        """Leave out the source offsets before ``start``, which are gone. False for a partition
        that is split up where it cannot be known which of them the target has.
        """
        if self.split is not None and not self.split.skip_to(start):
            return False
        self.gaps.append(
            Gap(topic=self.topic, partition=self.partition, start=self.position, end=start)
        )
        self.position = start
        return True

    def count_stored(self, counters: Mapping[int, int]) -> None:
        """Add the batches without an answer that the target's log shows.

        ``counters``: for target partitions the number of the next record, by their log.
        """
        for batch in self.unanswered:
            if batch.behind <= counters.get(batch.partition, 0):
                self.past += Counts(
                    records=batch.records,
                    bytes=batch.size,
                    plain_bytes=0 if batch.compressed else batch.size,
                    batches=1,
                )
        self.unanswered = []

    def take_apart(self, refusal: Refusal, *, too_large: bool) -> None:
        """Send smaller batches after the target has refused one of several records.

        What is too large for the target (it may compress batches anew) is so for the whole
        partition; any other cause lies in one record, which is found by sending each alone.
        """
        if too_large and refusal.compressed and not self.unpack:
            self.unpack = True
        elif too_large:
            # The size of a compressed batch does not tell how large it is for the target.
            size = self.batch_limit if refusal.compressed else refusal.size
            self.batch_limit = min(self.batch_limit, size) // 2
        elif refusal.joined:
            self.apart_until = max(self.apart_until, refusal.source_next)
        else:
            self.single_until = max(self.single_until, refusal.source_next)

    def _reported(self) -> PartitionState:
        match self.state:
            case TaskState.WAITING | TaskState.ASKING:
                return "recovering" if self.attempts else "waiting"
            case TaskState.PLACED | TaskState.CHECKING:
                return "copying"
            case TaskState.STOPPED:
                return "stopped"
            case TaskState.DONE:
                return "done"
            case TaskState.FAILED:
                return "failed"
            case _:
                assert_never(self.state)

    def progress(self) -> PartitionProgress:
        part, counts = self.part, self.counts
        position = self.position if part is None else max(self.position, part.acked)
        end = self.end
        if end < 0:
            end = position if part is None else max(position, part.high_watermark)
        return PartitionProgress(
            topic=self.topic,
            partition=self.partition,
            state=self._reported(),
            start=self.start,
            position=position,
            end=end,
            records=counts.records,
            bytes=counts.bytes,
        )
