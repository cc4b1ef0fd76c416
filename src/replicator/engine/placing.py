"""What has to be asked before partitions are assigned to a pair of brokers: where the target's log
stands, whether the source's still holds what was copied, and whether connections can be had.

``ask`` runs beside the driver, in a thread that may hang on one of the two brokers; it reads of
tasks what never changes, and changes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from replicator.cluster import Cluster, TopicMeta
from replicator.cluster.errors import Unreachable
from replicator.engine.lanes import LaneWorker, PipeKey
from replicator.engine.splits import SplitDriver, SplitFound
from replicator.engine.task import PartitionTask
from replicator.errors import CopystreamError
from replicator.offsets.log_end import counters
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.source_log import Finding, Position, check
from replicator.terms import TopicPartition

Brokers = tuple[int, tuple[int, ...]]  # of the source, and those of the target


@dataclass(slots=True)
class Asked:
    """What was found out before ``error``, if there was one."""

    counters: dict[PartitionTask, int | Exception] = field(default_factory=dict)
    splits: dict[PartitionTask, SplitFound | Exception] = field(default_factory=dict)
    findings: dict[TopicPartition, Finding] = field(default_factory=dict)
    pipes: dict[PartitionTask, tuple[LaneWorker, PipeKey] | CopystreamError] = field(
        default_factory=dict
    )
    error: CopystreamError | None = None


def ask(
    source: Cluster,
    target: Cluster,
    maps: OffsetMaps,
    splitting: SplitDriver,
    workers: Sequence[LaneWorker],
    brokers: Brokers,
    tasks: Sequence[PartitionTask],
    lost: Sequence[PartitionTask],
    sources: Mapping[str, TopicMeta],
) -> Asked:
    """Of ``tasks``, ``lost`` are those whose target log has to be asked; ``sources`` are their
    topics at the source.
    """
    asked = Asked()
    try:
        plain = [task for task in lost if task.split is None]
        if plain:
            ends = counters(target, {task.target_place: task.binding for task in plain})
            asked.counters = {task: ends[task.target_place] for task in plain}
        asked.splits = splitting.ask([task for task in lost if task.split is not None])
        # Where a copy begins was asked for the plan a moment ago.
        positions = {task.place: _position(task, asked, maps) for task in lost}
        known = {place: one for place, one in positions.items() if one is not None}
        asked.findings = check(source, known, sources)
        pipes: dict[tuple[int, int], tuple[LaneWorker, PipeKey] | CopystreamError] = {}
        for task in tasks:
            slot = (task.lane, task.slot)
            if slot not in pipes:
                pipes[slot] = _pipe(source, target, workers, brokers, *slot)
            asked.pipes[task] = pipes[slot]
    except CopystreamError as error:
        asked.error = error
    return asked


def _position(task: PartitionTask, asked: Asked, maps: OffsetMaps) -> Position | None:
    """Where the task will go on; None where that was not found out."""
    found = asked.counters.get(task, asked.splits.get(task))
    if isinstance(found, Exception):
        return None
    begin, seen = task.begin, task.seen
    if isinstance(found, SplitFound):
        begin, seen = found.state.points[0].source, found.state.settled_seen
    elif found is not None:
        begin, seen = task.place_at(found, *maps.around(task.place, found))
    return Position(begin, seen, task.epochs.at(seen) if task.trusts_epochs else -1)


def _pipe(
    source: Cluster,
    target: Cluster,
    workers: Sequence[LaneWorker],
    brokers: Brokers,
    lane: int,
    slot: int,
) -> tuple[LaneWorker, PipeKey] | CopystreamError:
    """An open pipe between these brokers, by preference that of this lane and slot."""
    worker, key = workers[lane], (*brokers, slot)
    try:
        worker.connect(source, target, key)
    except Unreachable as error:
        # A broker may limit connections, and then fewer have to do.
        for other in (worker, *workers):
            for there in other.open_pipes():
                if there[:2] == brokers:
                    return other, there
        return error
    except CopystreamError as error:
        return error
    return worker, key
