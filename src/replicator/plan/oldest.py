"""How old the records are that a copy would bring, where the target's retention depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replicator.cluster import Cluster
from replicator.errors import CopystreamError
from replicator.offsets.log_end import NotYet, read_batches
from replicator.plan.reach import Reach
from replicator.terms import TopicPartition


@dataclass(frozen=True, slots=True)
class Asked:
    """A topic of the source. ``limit`` is the age in ms from which on it matters, None is never;
    ``starts`` are the offsets from which on its partitions are to be copied.
    """

    topic: str
    limit: int | None
    starts: Mapping[TopicPartition, int]


def oldest(source: Cluster, topics: Sequence[Asked], now_ms: int) -> dict[str, int]:
    """By topic, the time (ms) of the oldest record found, of those that have one beyond the limit.

    The first offset that is young enough tells, in one question for all topics with one limit: in
    a partition the first record is the oldest but for those that a producer dates back.
    """
    limits: dict[int, list[Asked]] = {}
    for topic in topics:
        if topic.limit is not None:
            limits.setdefault(topic.limit, []).append(topic)
    found: dict[str, int] = {}
    for limit, asked in limits.items():
        cut = now_ms - limit
        if cut <= 0:
            continue
        starts = {tp: start for topic in asked for tp, start in topic.starts.items()}
        leaders = Reach(source)
        young = leaders.offsets(starts, cut)
        # Where no record is young enough, all there are count.
        ends = leaders.offsets([tp for tp, offset in young.items() if offset < 0], "latest")
        for tp, offset in {**young, **ends}.items():
            if offset > starts[tp] and tp[0] not in found:
                time = _time_before(source, tp, starts[tp], offset, cut)
                if time is not None:
                    found[tp[0]] = time
    return found


def _time_before(
    source: Cluster, tp: TopicPartition, start: int, young: int, cut: int
) -> int | None:
    """The time of a record before the first one that is young enough; None where none is shown.

    The offsets before it may be a hole that compaction left.
    """
    try:
        batch = next(read_batches(source, tp, start, young), None)
    except (NotYet, CopystreamError):
        return None
    if batch is None or batch.is_control:
        return None
    if batch.magic == 2 and 0 <= batch.max_timestamp < cut:
        return batch.max_timestamp
    # A record before it is older; a batch that goes on beyond it may have a hole instead.
    shown = batch.next_offset <= young or (batch.magic == 2 and batch.kind == "dense")
    return cut - 1 if shown else None
