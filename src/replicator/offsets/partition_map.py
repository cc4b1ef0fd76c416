"""The offset map of one partition: which record number came from which source offset.

Segments as two sorted arrays: from ``counters[i]`` on, numbers and source offsets advance
together, starting at ``sources[i]``, until segment i + 1 begins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from copycore.segments import Segments

Offsets = NDArray[np.int64]


class PartitionMap:
    """Segments of one partition, growing at the end. Not thread-safe."""

    def __init__(self) -> None:
        self._sources: Offsets = np.empty(4, np.int64)
        self._counters: Offsets = np.empty(4, np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def sources(self) -> Offsets:
        return self._sources[: self._size]

    @property
    def counters(self) -> Offsets:
        return self._counters[: self._size]

    def add(self, segments: Segments) -> None:
        """Append a chunk; segments from its first counter on, left by an earlier try, are void.

        A try that was cut short may have written segments ahead of data that never came. What it
        saw may have changed since (compaction), so the later chunk is right.
        """
        keep = int(np.searchsorted(self.counters, segments.first, side="left"))
        size = keep + len(segments)
        if size > len(self._counters):
            capacity = max(size, 2 * len(self._counters))
            self._sources = np.resize(self._sources, capacity)
            self._counters = np.resize(self._counters, capacity)
        self._sources[keep:size] = segments.sources
        self._counters[keep:size] = segments.counters
        self._size = size

    def replace(self, segments: Segments, end: int) -> None:
        """Replace the segments from the chunk's first counter to the counter ``end`` by it."""
        low, high = np.searchsorted(self.counters, [segments.first, end], side="left")
        sources = np.concatenate([self.sources[:low], segments.sources, self.sources[high:]])
        counters = np.concatenate([self.counters[:low], segments.counters, self.counters[high:]])
        self._sources, self._counters = sources.astype(np.int64), counters.astype(np.int64)
        self._size = len(sources)

    def between(self, first: int, end: int) -> Segments | None:
        """The segments that begin from the counter ``first`` on and before ``end``, if any."""
        low, high = np.searchsorted(self.counters, [first, end], side="left")
        if low == high:
            return None
        return Segments(self.sources[low:high].tolist(), self.counters[low:high].tolist())

    def sizes(self, firsts: Sequence[int]) -> list[int]:
        """How many segments there are from each of these counters to the next one, ascending."""
        edges = np.searchsorted(self.counters, firsts, side="left")
        return [int(size) for size in np.diff(edges, append=self._size)]

    def tail(self, first: int) -> Segments:
        """The segments from the one at this index on."""
        return Segments(self.sources[first:].tolist(), self.counters[first:].tolist())

    def index(self, counter: int) -> int:
        """Which segment record number ``counter`` is in, or would be.

        Raises ``LookupError`` for a number before the first segment.
        """
        at = int(np.searchsorted(self.counters, counter, side="right")) - 1
        if at < 0:
            raise LookupError(f"record number {counter} is before the map's first segment")
        return at

    @property
    def first(self) -> int:
        """The first number that the map has."""
        return int(self._counters[0])

    def source_of(self, counter: int) -> int:
        """The source offset of record number ``counter``, or where the next one is looked for.

        Raises ``LookupError`` for a number before the first segment.
        """
        at = self.index(counter)
        return int(self._sources[at]) + counter - int(self._counters[at])
