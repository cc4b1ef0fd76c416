"""Which records of the topic the map of one partition consists of, and which are left over.

A chunk of segments is small where a follower wrote each hole as it came. Small ones next to each
other are merged when the map is taken over, so that a map is a few large records.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import Struct

FULL = 25_000  # segments; a chunk of as many is left alone


class Part(Struct):
    """A chunk, or a part of one in whose middle something was replaced: it counts from the counter
    ``first`` on, up to where the next part begins, but not from ``end`` on unless that is −1.
    """

    first: int
    end: int
    key: bytes


def _first(part: Part) -> int:
    return part.first


class StoredRecords:
    """The keys of one partition's records as they were read, in the log's order.

    Not thread-safe: for the thread that reads the topic and takes maps over.
    """

    def __init__(self) -> None:
        self._parts: list[Part] = []  # by their first counters
        self._counts: Counter[bytes] = Counter()  # parts of each chunk
        self._void: set[bytes] = set()
        self._bindings: set[bytes] = set()

    def bound(self, key: bytes, *, anew: bool) -> None:
        """A binding; ``anew`` if it voids the map."""
        if anew:
            self._void |= self._bindings
            self._bindings.clear()
            self._put(0, len(self._parts), [])
        self._void.discard(key)
        self._bindings.add(key)

    def add(self, key: bytes, first: int, end: int) -> None:
        """A chunk that replaces what was from ``first`` on, up to ``end`` unless that is −1."""
        low = bisect_left(self._parts, first, key=_first)
        high = len(self._parts)
        new = [Part(first, end, key)]
        if end >= 0:
            high = max(low, bisect_left(self._parts, end, key=_first))
            cut = self._parts[high - 1] if high else None
            goes_on = high == len(self._parts) or self._parts[high].first > end
            if cut is not None and goes_on and (cut.end < 0 or cut.end > end):
                new.append(Part(end, cut.end, cut.key))
        self._put(low, high, new)

    def leave(self, key: bytes) -> None:
        """A record that counts for nothing."""
        self._void.add(key)

    def forget(self, key: bytes) -> None:
        """A record that was deleted."""
        self._void.discard(key)
        self._bindings.discard(key)
        if self._counts.pop(key, 0):
            self._parts = [part for part in self._parts if part.key != key]

    @property
    def everything(self) -> set[bytes]:
        return self._void | self._bindings | self._counts.keys()

    @property
    def firsts(self) -> list[int]:
        return [part.first for part in self._parts]

    def from_on(self, first: int) -> set[bytes]:
        """The keys of what counts for nothing, also once there is a new chunk from there on."""
        return self._void | self._counts.keys() - {p.key for p in self._parts if p.first < first}

    def runs(self, sizes: list[int], end: int) -> Iterator[tuple[int, int, list[bytes]]]:
        """Small chunks next to each other before the counter ``end``: from where to where, and
        their keys. ``sizes`` are the segments of each part that count.
        """
        run: list[bytes] = []
        begin = 0
        for part, size in zip(self._parts, sizes, strict=True):
            if part.first < end and size < FULL and self._counts[part.key] == 1:
                begin = begin if run else part.first
                run.append(part.key)
                continue
            if len(run) > 1:
                yield begin, min(end, part.first), run
            run = []
        if len(run) > 1:
            yield begin, end, run

    def _put(self, low: int, high: int, new: Iterable[Part]) -> None:
        """Replace the parts from ``low`` to ``high``; a chunk without a part is void."""
        gone = self._parts[low:high]
        self._parts[low:high] = new
        for part in new:
            self._counts[part.key] += 1
        for part in gone:
            self._counts[part.key] -= 1
            if not self._counts[part.key]:
                del self._counts[part.key]
                self._void.add(part.key)
        self._void.difference_update(part.key for part in new)
