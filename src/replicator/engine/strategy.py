"""How partitions of a kind go on: where the next assignment begins, and what the target has.

A partition is kept (its records have the same partition on the target: ``kept``) or split (a
partitioner decides for each record: ``splits``). Everything else in the engine treats both alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, Protocol

from copycore.segments import Segments
from copycore.split import Split
from replicator.state.records import Epochs, SplitState

if TYPE_CHECKING:
    from copycore.partition import PartitionCopy
    from replicator.engine.task import PartitionTask


class Located(NamedTuple):
    """How far a partition is by the target's log. Offsets are the source's."""

    begin: int  # where the next assignment begins
    seen: int  # after the last batch that is known before it; −1 for unknown
    counters: Mapping[int, int]  # by target partition, the number of the next record
    state: SplitState | None = None  # of a split one, as it was when the log was read


class Assignment(NamedTuple):
    """What is different for a lane from kind to kind; as the arguments of ``PartitionCopy``."""

    start: int
    end: int
    mapped: int
    base: int  # target offset of record number 0
    known: Segments
    stored_epochs: Epochs
    split: Split | None = None


class Progress(Protocol):
    """One for all partitions of a kind. Called in the driver's thread, except for ``locate``: that
    one asks brokers, changes nothing, and runs in any thread.
    """

    def begin(self, task: PartitionTask) -> int:
        """Where the next assignment begins to read."""

    def writes_to(self, task: PartitionTask) -> Sequence[int]:
        """The target partitions that get its records."""

    def counts_only(self, task: PartitionTask) -> bool:
        """Whether the next assignment reads records again to count them, and sends none."""

    def prepare(self, task: PartitionTask) -> bool:
        """Make sure that a reader of the state would find what this copy knows, before the log is
        asked. False where that takes a while.
        """

    def locate(self, tasks: Sequence[PartitionTask]) -> dict[PartitionTask, Located | Exception]:
        """How far tasks are by the target's log; ``NotYet`` or ``ForeignWriter`` for those of which
        that cannot be told. Raises what the cluster raises when it cannot be asked at all.
        """

    def take(self, task: PartitionTask, found: Located) -> None:
        """Have the next assignment go on from there."""

    def assignment(self, task: PartitionTask) -> Assignment: ...

    def take_count(self, task: PartitionTask, counters: Sequence[int]) -> int | None:
        """Compare what an assignment that only counts has found. Where the source no longer holds
        the records it held, the source offset from which on that is so; else None.
        """

    def skip_to(self, task: PartitionTask, start: int) -> bool:
        """Leave out the offsets before ``start``, which are gone. False where it cannot be known
        which of them the target has.
        """

    def note_end(self, task: PartitionTask, part: PartitionCopy) -> None:
        """Make durable how far an assignment came that was the last one of the run."""

    def note_idle(self, task: PartitionTask) -> None:
        """Make durable how far a placed task is, where nothing of it is on its way."""

    def arrivals(self, tasks: Sequence[PartitionTask]) -> dict[PartitionTask, Located | Exception]:
        """As ``locate``, at the end of a run, where that is a small question; else nothing."""

    def foreign_ends(self, tasks: Sequence[PartitionTask]) -> dict[str, int]:
        """By topic, at the end of a run: an end of the target's log that another client moved."""


def by_progress(
    tasks: Iterable[PartitionTask],
) -> list[tuple[Progress, list[PartitionTask]]]:
    """The tasks of each kind."""
    ordered = sorted(tasks, key=lambda task: id(task.progress))
    return [(kind, list(group)) for kind, group in groupby(ordered, lambda task: task.progress)]
