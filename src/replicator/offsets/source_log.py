"""Questions to the source's leaders about partitions that cannot simply go on.

An empty answer, a position outside the log, or a leader epoch that ends too early can mean that
records are gone, that other records have their offsets, or only that the broker has nothing to give
now. Everything here asks the source, keeps no state, and may be called in any thread. It raises
what the cluster raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from replicator.cluster import Cluster, TopicMeta, Unsupported
from replicator.offsets.log_end import ASK_TIMEOUT
from replicator.report import faults
from replicator.report.model import Fault, FaultKind, Gap
from replicator.terms import TopicPartition


@dataclass(frozen=True, slots=True)
class Position:
    """Where a copy is to go on: the source offset, the one after the last batch that is known
    before it (holes may lie between the two), and that batch's leader epoch; −1 for unknown.
    """

    begin: int
    seen: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a position: a fault, or a reason to try again.

    ``gap`` is the start of the log where it lies after the position.
    """

    fault: Fault | None = None
    again: str = ""
    gap: int | None = None


def check(
    source: Cluster, positions: Mapping[TopicPartition, Position], metas: Mapping[str, TopicMeta]
) -> dict[TopicPartition, Finding]:
    """Whether the logs still hold what was copied and what comes next; partitions that can simply
    go on are missing.
    """
    found: dict[TopicPartition, Finding] = {}
    starts = source.list_offsets(positions, "earliest", timeout=ASK_TIMEOUT, apart=True)
    for tp, position in positions.items():
        start = starts[tp]
        if start.error:
            found[tp] = Finding(again=f"source: no log start (error {start.error})")
        elif start.offset > position.begin:
            text = (
                f"the source's log now starts at {start.offset}: offsets {position.begin} to "
                f"{start.offset - 1} were deleted before they were copied"
            )
            fault = _at_source("data-loss", tp, source.name, text, position.begin)
            found[tp] = Finding(fault=fault, gap=start.offset)
    left = {tp: position for tp, position in positions.items() if tp not in found}
    return found | _check_epochs(source, left, metas)


def _check_epochs(
    source: Cluster, positions: Mapping[TopicPartition, Position], metas: Mapping[str, TopicMeta]
) -> dict[TopicPartition, Finding]:
    """Compare the last batch with the end of its leader epoch (KIP-320), or the position with the
    leader's log end where that epoch is not known.
    """
    found: dict[TopicPartition, Finding] = {}
    current = {
        (topic, partition): metas[topic].partitions[partition].leader_epoch
        for topic, partition in positions
    }
    wanted = {p: one.epoch if one.epoch >= 0 else current[p] for p, one in positions.items()}
    try:
        ends = source.epoch_end_offsets(wanted, timeout=ASK_TIMEOUT)
    except Unsupported:
        return found
    for tp, position in positions.items():
        end, epoch = ends[tp], wanted[tp]
        least = position.seen if position.epoch >= 0 else position.begin
        if end.error:
            found[tp] = Finding(again=f"source: no end of epoch {epoch} (error {end.error})")
        elif 0 <= end.offset < least or (end.offset < 0 and current[tp] < epoch):
            found[tp] = Finding(_truncated(tp, source.name, least, end.offset, epoch))
    return found


def judge_empty(source: Cluster, tp: TopicPartition, position: int, end: int) -> str:
    """For a partition with nothing but empty answers from a position to its end: why it may be
    that something is there all the same. Empty where there is nothing: the records were removed.

    The part of a log that is only in remote storage (KIP-405) may answer empty for any time.
    """
    try:
        local = source.list_offsets([tp], "earliest_local", timeout=ASK_TIMEOUT)
    except Unsupported:
        return ""  # before Kafka 3.6: no remote storage
    start = local[tp]
    if start.error:
        return f"source: no local log start (error {start.error})"
    if position < start.offset:
        return (
            f"source: remote storage gives nothing at offset {position}, although the log goes on "
            f"to {end}"
        )
    return ""


def _truncated(tp: TopicPartition, cluster: str, begin: int, end: int, epoch: int) -> Fault:
    if end >= 0:
        rest = f"of that it holds only what is before {end} (leader epoch {epoch} ends there)"
    else:
        rest = f"leader epoch {epoch}, which was copied, is not known there"
    what = f"the source's log was cut off or restored: it was copied up to offset {begin}"
    text = f"{what}, and {rest}"
    return _at_source("source-truncated", tp, cluster, text, max(end, 0))


def _at_source(kind: FaultKind, tp: TopicPartition, cluster: str, text: str, offset: int) -> Fault:
    return faults.fault(kind, "source", cluster, *tp, text, offset=offset)


def gap_text(gap: Gap) -> str:
    """For people."""
    return (
        f"{gap.topic}-{gap.partition}: offsets {gap.start} to {gap.end - 1} were deleted before "
        f"they were copied; the copy goes on at {gap.end} (--accept-gap)"
    )
