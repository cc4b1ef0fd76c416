"""What has to be asked before partitions are assigned to a pair of brokers: where the target's log
ends, whether the source's still holds what was copied, and whether connections can be had.

``ask`` runs beside the driver, in a thread that may hang on one of the two brokers; it reads of
tasks what does not change meanwhile, and changes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from replicator.cluster import TopicMeta
from replicator.cluster.errors import Unreachable
from replicator.engine.clusters import Clusters
from replicator.engine.lanes import LaneWorker
from replicator.engine.strategy import Located, by_progress
from replicator.engine.task import OpenPipe, PartitionTask
from replicator.errors import CopystreamError
from replicator.offsets.source_log import Finding, Position, check
from replicator.terms import TopicPartition

Brokers = tuple[int, tuple[int, ...]]  # of the source, and those of the target


@dataclass(slots=True)
class Asked:
    """What was found out before ``error``, if there was one."""

    located: dict[PartitionTask, Located | Exception] = field(default_factory=dict)
    findings: dict[TopicPartition, Finding] = field(default_factory=dict)
    pipes: dict[PartitionTask, OpenPipe | CopystreamError] = field(default_factory=dict)
    error: CopystreamError | None = None


def ask(
    clusters: Clusters,
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
        for progress, members in by_progress(lost):
            asked.located |= progress.locate(members)
        # Where a copy begins was asked for the plan a moment ago.
        positions = {
            task.tp: _position(task, found)
            for task, found in asked.located.items()
            if isinstance(found, Located)
        }
        asked.findings = check(clusters.source, positions, sources)
        pipes: dict[tuple[int, int], OpenPipe | CopystreamError] = {}
        for task in tasks:
            slot = (task.lane, task.slot)
            if slot not in pipes:
                pipes[slot] = _pipe(clusters, workers, brokers, *slot)
            asked.pipes[task] = pipes[slot]
    except CopystreamError as error:
        asked.error = error
    return asked


def _position(task: PartitionTask, found: Located) -> Position:
    """Where the task will go on."""
    epoch = task.epochs.at(found.seen) if task.trusts_epochs else -1
    return Position(found.begin, found.seen, epoch)


def _pipe(
    clusters: Clusters, workers: Sequence[LaneWorker], brokers: Brokers, lane: int, slot: int
) -> OpenPipe | CopystreamError:
    """An open pipe between these brokers, by preference that of this lane and slot."""
    worker, key = workers[lane], (*brokers, slot)
    try:
        worker.connect(clusters.source, clusters.target, key)
    except Unreachable as error:
        # A broker may limit connections, and then fewer have to do.
        for other in (worker, *workers):
            for there in other.open_pipes():
                if there[:2] == brokers:
                    return OpenPipe(other, there)
        return error
    except CopystreamError as error:
        return error
    return OpenPipe(worker, key)
