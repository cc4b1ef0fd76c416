"""Segments as the records that hold them: chunks of the offset map, each with a key of its own."""

from __future__ import annotations

import threading

from copycore.segments import Segments
from replicator.state.map_topic import MapTopic
from replicator.state.records import NO_END, ChunkKey, Record, encode_value
from replicator.terms import TopicPartition

LARGEST_CHUNK = 50_000  # segments; about 100 kB, and below a broker's limit of 1 MB for any holes


class Chunks:
    """Makes the chunks that this session writes. Any thread may call."""

    def __init__(self, topic: MapTopic) -> None:
        self._topic = topic
        self._lock = threading.Lock()
        # Of chunks without an end: the largest first counter, and how many did not begin after it.
        self._written: dict[TopicPartition, tuple[int, int]] = {}

    def records(self, tp: TopicPartition, segments: Segments, end: int = -1) -> list[Record]:
        """Segments as records; with ``end`` they say nothing of the counters from there on.

        Raises ``ValueError`` for segments that are none.
        """
        sources, counters = segments.sources, segments.counters
        records: list[Record] = []
        for at in range(0, len(segments), LARGEST_CHUNK):
            cut = slice(at, at + LARGEST_CHUNK)
            part = Segments(sources[cut], counters[cut])
            after = at + LARGEST_CHUNK
            limit = counters[after] if after < len(segments) else end
            rest = (part.first, limit if end >= 0 else self._no_end(tp, part.first))
            records.append((self._topic.key(ChunkKey, tp, *rest), encode_value(part)))
        return records

    def restated(self, tp: TopicPartition, tail: Segments) -> list[Record]:
        """The end of a map in pieces, of which any number from the first one on may be written."""
        cut = (len(tail) - 1) // LARGEST_CHUNK * LARGEST_CHUNK
        last = Segments(tail.sources[cut:], tail.counters[cut:])
        if not cut:
            return self.records(tp, last)
        before = Segments(tail.sources[:cut], tail.counters[:cut])
        return [*self.records(tp, before, last.first), *self.records(tp, last)]

    def _no_end(self, tp: TopicPartition, first: int) -> int:
        """The end in the key of a chunk that has none, see ``ChunkKey``."""
        with self._lock:
            largest, again = self._written.get(tp, (-1, 0))
            if first > largest:
                self._written[tp] = (first, again)
                return -1
            self._written[tp] = (largest, again + 1)
            return NO_END + again
