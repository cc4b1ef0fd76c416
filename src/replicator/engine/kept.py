"""Partitions whose records keep their partition: the offset map has a number for each record.

Called in the driver's thread; ``locate`` runs beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from copycore.partition import PartitionCopy
from copycore.segments import Segments
from replicator.cluster import Cluster
from replicator.engine.strategy import Assignment, Located
from replicator.engine.task import PartitionTask
from replicator.offsets.log_end import counters
from replicator.offsets.maps import OffsetMaps
from replicator.state.records import Binding
from replicator.state.topics import StateWriter, ignored

_log = logging.getLogger(__name__)


class KeptProgress:
    """Called in the driver's thread, see ``strategy.Progress``.

    ``position``, ``counter``, ``mapped`` and ``ahead`` of a task say where it goes on.
    """

    def __init__(self, target: Cluster, maps: OffsetMaps, writer: StateWriter) -> None:
        self._target = target
        self._maps = maps
        self._writer = writer

    def begin(self, task: PartitionTask) -> int:
        return task.position

    def writes_to(self, task: PartitionTask) -> Sequence[int]:
        return (task.partition,)

    def counts_only(self, _task: PartitionTask) -> bool:
        return False

    def prepare(self, task: PartitionTask) -> bool:
        if self._maps.settled(task.tp):
            return True
        self._maps.write_again(self._writer, task.tp)
        return False

    def locate(self, tasks: Sequence[PartitionTask]) -> dict[PartitionTask, Located | Exception]:
        ends = counters(self._target, {task.target_tp: self._binding(task) for task in tasks})
        return {task: self._located(task, ends[task.target_tp]) for task in tasks}

    def _located(self, task: PartitionTask, answer: int | Exception) -> Located | Exception:
        if isinstance(answer, Exception):
            return answer
        begin, seen = _resume_at(task, answer, *self._maps.around(task.tp, answer))
        return Located(begin, seen, {task.partition: answer})

    def take(self, task: PartitionTask, found: Located) -> None:
        counter = found.counters[task.partition]  # the log's, whatever is stored (INV-6)
        # Fewer than were acknowledged: the target lost its log's end (an unclean election);
        # copying goes on from there, which fills it up again.
        if counter < task.counter:
            _log.warning(
                "%s-%d: the target lost %d acknowledged records: copying them again",
                task.target_topic,
                task.partition,
                task.counter - counter,
            )
        at, after = self._maps.around(task.tp, counter)
        task.position, task.seen = _resume_at(task, counter, at, after)
        # Read once: a segment still on its way may join the map at any moment (INV-10).
        task.mapped = at
        task.ahead = self._maps.ahead(task.tp, counter)
        task.counter = counter

    def assignment(self, task: PartitionTask) -> Assignment:
        return Assignment(
            start=task.position,
            end=task.end,
            mapped=task.mapped,
            base=self._binding(task).base,
            known=task.ahead,
            stored_epochs=self._maps.epochs(task.tp),
        )

    def take_count(self, task: PartitionTask, _counters: Sequence[int]) -> int | None:
        raise ValueError(f"{task.topic}-{task.partition} is not counted: it is not split")

    def skip_to(self, _task: PartitionTask, _start: int) -> bool:
        return True

    def note_end(self, task: PartitionTask, part: PartitionCopy) -> None:
        """Remember holes at the end (control batches), so that a rerun starts after them."""
        try:
            known = self._maps.source_of(task.tp, task.counter)
        except LookupError:
            return
        if task.position > known and not self._maps.ahead(task.tp, task.counter):
            hole = Segments([task.position], [task.counter])
            self._maps.send_segments(self._writer, task.tp, hole, ignored, part.epochs)

    def note_idle(self, task: PartitionTask) -> None:
        """Nothing to do: the log's end tells it."""

    def arrivals(self, tasks: Sequence[PartitionTask]) -> dict[PartitionTask, Located | Exception]:
        return self.locate(tasks)

    def foreign_ends(self, _tasks: Sequence[PartitionTask]) -> dict[str, int]:
        return {}  # each acknowledgement tells of another client

    def _binding(self, task: PartitionTask) -> Binding:
        binding = self._maps.binding(task.tp)
        if binding is None:
            raise ValueError(f"{task.topic}-{task.partition} has no binding")
        return binding


def _resume_at(task: PartitionTask, counter: int, source: int, after: int) -> tuple[int, int]:
    """Where to go on, and ``seen`` there, if ``counter`` is the number of the next record by the
    target's log, ``source`` where the map has it, and ``after`` the source offset after the record
    before it: holes there may have been passed already.
    """
    if counter == task.counter and task.position > source:
        return task.position, max(task.seen, after)
    return source, after
