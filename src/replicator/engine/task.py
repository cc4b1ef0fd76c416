"""One partition of a copy job: where it comes from, where it goes, how far it is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, assert_never

from copycore.bucket import Bucket
from copycore.partition import PartitionCopy, Refusal, Unanswered
from copycore.segments import Segments
from replicator.engine.counts import Counts
from replicator.report.model import Fault, Gap, OpenTransaction, PartitionProgress, PartitionState
from replicator.state.records import Binding, Epochs, SplitBinding
from replicator.terms import Side, TopicPartition

if TYPE_CHECKING:
    from replicator.cluster.retry import Backoff
    from replicator.engine.lanes import LaneWorker, PipeKey
    from replicator.engine.strategy import Progress

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


class OpenPipe(NamedTuple):
    """Through which connections a task is copied."""

    worker: LaneWorker
    key: PipeKey


class Trouble(NamedTuple):
    """Why a partition does not go on just now."""

    side: Side
    reason: str  # names its side, and where it is known the cluster


def _left(part: PartitionCopy) -> int:
    """Offsets that can be read and are not copied."""
    return max(0, part.readable - part.acked)


@dataclass(eq=False, slots=True)
class PartitionTask:
    """Everything the job knows of one partition. Offsets are the source's unless said otherwise.

    ``part`` is the current assignment to a lane; several may follow each other, and the counts
    of the past ones are added up here.

    The driver's thread alone changes a task. ``counts``, ``lag`` and ``report`` may be asked by
    any thread: each field is read once, and is an older or a newer value.
    """

    topic: str
    target_topic: str
    partition: int
    binding: Binding | SplitBinding
    progress: Progress  # how partitions of its kind go on
    start: int  # where this run begins
    end: int  # exclusive; −1 follows without an end
    position: int  # everything before is on the target
    counter: int  # number of the next record
    mapped: int  # where the durable map had that record when the target's log was asked
    batch_limit: int  # bytes of a batch that the target takes
    lane: int
    slot: int  # which of a lane's connections to the same brokers

    ahead: Segments = field(default_factory=Segments)  # and its segments after that
    epochs: Epochs = field(default_factory=Epochs)  # of the source
    trusts_epochs: bool = True  # whether the source's leader still knows them
    # Source offset after the last batch that is known; between it and the position lie holes.
    seen: int = -1
    located: bool = False  # whether counter and position are known from the target's log
    part: PartitionCopy | None = None
    pipe: OpenPipe | None = None  # of ``part``
    state: TaskState = TaskState.WAITING  # set by ``move`` alone
    fault: Fault | None = None  # set by ``fail`` alone
    suspicion: Fault | None = None  # with what it fails unless its topic explains it
    left: int = 0  # offsets that could be read and were not copied, when the last assignment ended
    bucket: Bucket | None = None
    wants_sample: bool = False  # of a compressed batch, see ``sampler``
    sample: bytes | None = None
    apart_until: int = 0  # before it, no batch of ours has records of two of the source's
    single_until: int = 0  # before it, every record has a batch of its own
    unpack: bool = False  # compressed batches are taken apart
    unanswered: list[Unanswered] = field(default_factory=list)  # until the log is asked
    gaps: list[Gap] = field(default_factory=list)
    held: list[OpenTransaction] = field(default_factory=list)  # one at the most, as last told
    trouble: Trouble | None = None  # why the last assignment ended
    backoff: Backoff | None = None  # since the first loss after it last went well
    not_before: float = 0.0  # monotonic seconds
    past: Counts = field(default_factory=Counts)  # of ended assignments

    @property
    def tp(self) -> TopicPartition:
        return self.topic, self.partition

    @property
    def target_tp(self) -> TopicPartition:
        return self.target_topic, self.partition

    @property
    def begin(self) -> int:
        """Where the next assignment begins to read."""
        return self.progress.begin(self)

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
        return self.left if part is None else _left(part)

    def take_result(self, part: PartitionCopy) -> bool:
        """Take over what an ended assignment did; True when it moved forward."""
        self.past += Counts.of(part)
        self.sample = self.sample or part.sample
        moved = part.acked > self.position
        if moved and part.seen >= 0:
            self.seen = min(part.acked, part.seen)
        self.position = max(self.position, part.acked)
        self.counter = max(self.counter, part.acked_counter)
        self.left = _left(part)
        self.unanswered += part.unanswered
        self.epochs = self.epochs.merged(part.epochs)
        if part.held_at < part.position:
            self.held = []
        self.part = self.pipe = None
        return moved

    def leave_out(self, start: int) -> Gap:
        """Go on at ``start``: the source offsets before it are gone."""
        gap = Gap(topic=self.topic, partition=self.partition, start=self.position, end=start)
        self.gaps.append(gap)
        self.position = start
        return gap

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
                return "waiting" if self.backoff is None else "recovering"
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

    def report(self) -> PartitionProgress:
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
