"""Questions to the source's leaders about partitions that cannot simply go on.

An empty answer, a position outside the log, or a leader epoch that ends too early can mean that
records are gone, that others took their place, or only that the broker has nothing to give now.
Everything here asks the source, changes no task, and runs in any thread. It raises what the
cluster raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from replicator import faults
from replicator.cluster import Cluster, TopicMeta, TopicPartition, Unsupported
from replicator.report import Fault
from replicator.task import PartitionTask

ASK_TIMEOUT = 5.0  # seconds; the driver asks again


@dataclass(frozen=True, slots=True)
class Finding:
    """What is the matter with a position: a fault, or a reason to try again.

    ``gap`` is the start of the log where it lies after the position.
    """

    fault: Fault | None = None
    again: str = ""
    gap: int | None = None


def check(
    source: Cluster, begins: Mapping[PartitionTask, tuple[int, int]], metas: Mapping[str, TopicMeta]
) -> dict[PartitionTask, Finding]:
    """For tasks that are to go on at a source offset, given along with the one after the last batch
    known before it (−1 for unknown): whether the log still holds what was copied and what comes
    next. Those that can go on are missing.
    """
    found: dict[PartitionTask, Finding] = {}
    starts = source.list_offsets([task.place for task in begins], "earliest", timeout=ASK_TIMEOUT)
    for task, (begin, _) in begins.items():
        start = starts[task.place]
        if start.error:
            found[task] = Finding(again=f"source: no log start (error {start.error})")
        elif start.offset > begin:
            fault = _data_loss(task, source.name, begin, start.offset)
            found[task] = Finding(fault=fault, gap=start.offset)
    left = {task: begin for task, begin in begins.items() if task not in found}
    return found | _check_epochs(source, left, metas)


def _check_epochs(
    source: Cluster, begins: Mapping[PartitionTask, tuple[int, int]], metas: Mapping[str, TopicMeta]
) -> dict[PartitionTask, Finding]:
    """Compare the last batch with the end of its leader epoch (KIP-320), or the position with the
    leader's log end where that epoch is not known. Holes may lie between the two.
    """
    found: dict[PartitionTask, Finding] = {}
    current = {
        task.place: metas[task.topic].partitions[task.partition].leader_epoch for task in begins
    }
    wanted: dict[TopicPartition, int] = {}
    least: dict[TopicPartition, int] = {}
    for task, (begin, seen) in begins.items():
        epoch = task.epochs.at(seen) if task.trusts_epochs else -1
        wanted[task.place] = epoch if epoch >= 0 else current[task.place]
        least[task.place] = seen if epoch >= 0 else begin
    try:
        ends = source.epoch_end_offsets(wanted, timeout=ASK_TIMEOUT)
    except Unsupported:
        return found
    for task in begins:
        end, epoch, begin = ends[task.place], wanted[task.place], least[task.place]
        if end.error:
            found[task] = Finding(again=f"source: no end of epoch {epoch} (error {end.error})")
        elif 0 <= end.offset < begin or (end.offset < 0 and current[task.place] < epoch):
            found[task] = Finding(_truncated(task, source.name, begin, end.offset, epoch))
    return found


def judge_empty(source: Cluster, task: PartitionTask) -> str:
    """For a partition with nothing but empty answers before its end: why it may be that something
    is there all the same. Empty where there is nothing: the last records before the end are gone.

    The part of a log that is only in remote storage (KIP-405) may answer empty for any time.
    """
    try:
        local = source.list_offsets([task.place], "earliest_local", timeout=ASK_TIMEOUT)
    except Unsupported:
        return ""  # before Kafka 3.6: no remote storage
    start = local[task.place]
    if start.error:
        return f"source: no local log start (error {start.error})"
    if task.position < start.offset:
        return (
            f"source: remote storage gives nothing at offset {task.position}, although the log "
            f"goes on to {task.end}"
        )
    return ""


def _data_loss(task: PartitionTask, cluster: str, begin: int, start: int) -> Fault:
    text = (
        f"the source's log now starts at {start}: offsets {begin} to {start - 1} were deleted "
        "before they were copied"
    )
    return faults.fault(task, "data-loss", "source", cluster, text, offset=begin)


def _truncated(task: PartitionTask, cluster: str, begin: int, end: int, epoch: int) -> Fault:
    if end >= 0:
        rest = f"of that it holds only what is before {end} (leader epoch {epoch} ends there)"
    else:
        rest = f"leader epoch {epoch}, which was copied, is not known there"
    what = f"the source's log was cut off or restored: it was copied up to offset {begin}"
    text = f"{what}, and {rest}"
    return faults.fault(task, "source-truncated", "source", cluster, text, offset=max(end, 0))
