"""How old the records are that a copy would bring, as far as the target's configs mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replicator.cluster import Cluster
from replicator.errors import CopystreamError
from replicator.locate import last_batches
from replicator.reach import Reach

TopicPartition = tuple[str, int]


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
        starts = {place: start for topic in asked for place, start in topic.starts.items()}
        leaders = Reach(source)
        young = leaders.offsets(starts, cut)
        # Where no record is young enough, all there are count.
        ends = leaders.offsets([place for place, offset in young.items() if offset < 0], "latest")
        older: dict[str, tuple[TopicPartition, int]] = {}
        for place, offset in {**young, **ends}.items():
            if offset > starts[place]:
                older.setdefault(place[0], (place, starts[place]))
        times = _times(source, dict(older.values()))
        found.update({topic: min(times.get(topic, cut - 1), cut - 1) for topic in older})
    return found


def _times(source: Cluster, offsets: Mapping[TopicPartition, int]) -> dict[str, int]:
    """By topic, the time of the batch at an offset, where it can be told."""
    try:
        batches = last_batches(source, offsets)
    except CopystreamError:
        return {}
    return {
        place[0]: batch.max_timestamp
        for place, batch in batches.items()
        if batch is not None and batch.magic == 2 and batch.max_timestamp >= 0
    }
