"""What the driver does otherwise for partitions that are split up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from copycore.partition import PartitionCopy
from copycore.split import Split, Stride
from replicator.cluster import Cluster
from replicator.engine.lanes import LaneWorker, WhenFound, gate_opener
from replicator.engine.task import PartitionTask, SplitTask
from replicator.errors import CopystreamError
from replicator.offsets.log_end import ForeignWriter, NotYet
from replicator.offsets.split_end import counters, foreign_offset
from replicator.offsets.splits import Splits
from replicator.state.records import SplitState
from replicator.state.topics import StateWriter


class SplitFound(NamedTuple):
    """Where a split partition stands by the target's log."""

    state: SplitState
    counters: list[int]  # of the next record for each target partition


ALL = 1 << 62  # records that the target has, when they are only to be counted


class SplitDriver:
    """Keeps the states of split partitions. ``when_found`` as for the ``Driver``."""

    def __init__(
        self,
        target: Cluster,
        splits: Splits,
        writer: StateWriter,
        when_found: WhenFound,
    ) -> None:
        self._target = target
        self._splits = splits
        self._writer = writer
        self._when_found = when_found

    def write_stride(self, worker: LaneWorker, part: PartitionCopy, stride: Stride) -> None:
        """Make a stride durable, then open the gate behind it; called in the lane's thread."""
        place = (part.topic, part.partition)
        opener = gate_opener(worker, part, stride.start, self._when_found)
        self._splits.send_stride(
            self._writer, place, stride, part.acked, part.arrivals, opener, part.epochs, part.seen
        )

    def ask(self, tasks: Sequence[PartitionTask]) -> dict[PartitionTask, SplitFound | Exception]:
        """Find out where tasks stand, for ``resume``; the exceptions of ``split_end.counters`` for
        those of which it cannot be found out. Changes no task; from any thread.
        """
        found: dict[PartitionTask, SplitFound | Exception] = {}
        topics: dict[str, list[PartitionTask]] = {}
        for task in tasks:
            if self._splits.quiet(task.place):
                topics.setdefault(task.topic, []).append(task)
            else:
                found[task] = NotYet(0)
        for topic, members in topics.items():
            latest = partial(self._splits.into, topic, members[0].binding.target_id)
            try:
                numbers = counters(self._target, members[0].target_topic, latest)
            except (NotYet, ForeignWriter) as error:
                found |= dict.fromkeys(members, error)
                continue
            for task in members:
                found[task] = SplitFound(*numbers[task.partition])
        return found

    @staticmethod
    def resume(task: PartitionTask, found: SplitFound) -> None:
        """Have the next assignment go on there."""
        _split(task).resume(found.state, found.counters)

    def split(self, task: PartitionTask) -> tuple[Split, int]:
        """How the next assignment splits, and the source offset at which it ends."""
        split = _split(task)
        begin = split.begin.counters
        if split.checks:
            return Split(split.partitioner, begin, [ALL] * len(begin)), split.checks[0].source
        have = [max(pair) for pair in zip(begin, split.have, strict=True)]
        return Split(split.partitioner, begin, have), task.end

    def settle(self, task: PartitionTask, part: PartitionCopy) -> None:
        """Everything that was cut has arrived."""
        self._splits.settle(
            self._writer,
            task.place,
            part.position,
            part.counters,
            part.arrivals,
            part.epochs,
            part.seen,
        )

    def skip(self, task: PartitionTask) -> None:
        """The task begins later: what comes before that is gone from the source."""
        start = _split(task).start
        nothing = [(-1, -1)] * len(start.counters)  # has arrived since
        self._splits.settle(self._writer, task.place, start.source, start.counters, nothing)

    def settle_idle(self, worker: LaneWorker, task: PartitionTask) -> None:
        """The same for one that goes on, if there is nothing on its way just now."""
        part = task.part
        state = self._splits.state(task.place)
        if part is None or state is None or state.settled or _split(task).checks:
            return

        def settle() -> None:
            # In the lane's thread, so that nothing moves meanwhile.
            if part.ending is None and part.acked == part.position:
                self.settle(task, part)

        worker.order(settle)

    def foreign_offsets(self, tasks: Sequence[PartitionTask]) -> dict[str, int]:
        """By topic, for those whose copies have all come to rest: a log end of the target that is
        not where they brought it.
        """
        found: dict[str, int] = {}
        topics = {task.topic: task.binding for task in tasks}
        for topic, binding in topics.items():
            states = self._splits.into(topic, binding.target_id)
            if all(state.settled for state in states.values()):
                try:
                    offset = foreign_offset(self._target, binding.target_topic, states)
                except (NotYet, CopystreamError):
                    continue  # the next run looks at what is there before it writes
                if offset is not None:
                    found[topic] = offset
        return found


def _split(task: PartitionTask) -> SplitTask:
    if task.split is None:
        raise ValueError(f"{task.topic}-{task.partition} is not split up")
    return task.split
