"""What has to be asked before partitions are assigned to a pair of brokers: where the target's log
stands, where the source's begins, and whether connections can be had.

``ask`` runs beside the driver, in a thread that may hang on one of the two brokers; it reads of
tasks what never changes, and changes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from replicator.cluster import Cluster, OffsetResult
from replicator.cluster.failures import Unreachable
from replicator.errors import CopystreamError
from replicator.locate import ASK_TIMEOUT, counters
from replicator.split_driver import SplitDriver, SplitFound
from replicator.task import PartitionTask
from replicator.worker import LaneWorker, PipeKey

Brokers = tuple[int, tuple[int, ...]]  # of the source, and those of the target


@dataclass(slots=True)
class Asked:
    """What was found out before ``error``, if there was one."""

    counters: dict[PartitionTask, int | Exception] = field(default_factory=dict)
    splits: dict[PartitionTask, SplitFound | Exception] = field(default_factory=dict)
    starts: dict[tuple[str, int], OffsetResult] = field(default_factory=dict)
    pipes: dict[PartitionTask, tuple[LaneWorker, PipeKey] | CopystreamError] = field(
        default_factory=dict
    )
    error: CopystreamError | None = None


def ask(
    source: Cluster,
    target: Cluster,
    splitting: SplitDriver,
    workers: Sequence[LaneWorker],
    brokers: Brokers,
    tasks: Sequence[PartitionTask],
    lost: Sequence[PartitionTask],
) -> Asked:
    """Of ``tasks``, ``lost`` are those whose target log has to be asked."""
    asked = Asked()
    try:
        plain = [task for task in lost if task.split is None]
        if plain:
            asked.counters = counters(target, plain)
        asked.splits = splitting.ask([task for task in lost if task.split is not None])
        asked.starts = source.list_offsets(
            [task.place for task in tasks], "earliest", timeout=ASK_TIMEOUT
        )
        pipes: dict[tuple[int, int], tuple[LaneWorker, PipeKey] | CopystreamError] = {}
        for task in tasks:
            slot = (task.lane, task.slot)
            if slot not in pipes:
                pipes[slot] = _pipe(source, target, workers, brokers, *slot)
            asked.pipes[task] = pipes[slot]
    except CopystreamError as error:
        asked.error = error
    return asked


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
