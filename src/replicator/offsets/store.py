"""The offset map on the target: bindings and chunks of segments in a compacted topic.

Two kinds of records, keys in JSON:

``["binding", flow, topic, partition, generation]``
    JSON: the topic ids of both sides, the target offset of record number 0 and the producer id
    in use. A recreated topic has another id, so its old map is never taken for its own.
``["chunk", flow, topic, partition, generation, first counter]``
    Segments as ``copycore.segments`` lays them out.
``["chunk", flow, topic, partition, generation, first counter, end]``
    The same of smaller chunks that were merged; it says nothing of the counters from ``end`` on.

Records count in log order: a chunk voids what was written before from its first counter on (up to
its end, if it has one). Those of an older generation than was seen before count for nothing
(``keys``). A map is taken over by records that say what others said before, each of which may be
the last one that gets written: only the very last has no end.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec import Struct

from copycore.segments import Segments
from replicator.errors import CopystreamError
from replicator.offsets.keys import MapKeys, TopicPartition
from replicator.offsets.map import PartitionMap
from replicator.offsets.stored import StoredRecords
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.log import Delivered, Record, StateWriter, ignored, unreadable

MAX_COUNTER = (1 << 63) - 1
LARGEST_CHUNK = 50_000  # segments; about 100 kB, and below a broker's limit of 1 MB for any holes


class Binding(Struct, frozen=True):
    source_id: str  # topic id
    target_topic: str
    target_id: str
    base: int  # target offset of record number 0
    producer_id: int
    producer_epoch: int


class _ChunkKey(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    kind: str
    flow: str
    topic: str
    partition: int
    generation: int
    first: int
    end: int = -1


class OffsetMaps:
    """The maps of one flow: what is durable on the target, never more. Thread-safe.

    Fed the topic's records in order; segments written later join once they are delivered. A
    segment that was sent but not written must not be relied on: the records behind it would have
    no segment after a crash.
    """

    def __init__(self, flow: str) -> None:
        self._flow = flow
        self.keys = MapKeys(flow)
        self._lock = threading.Lock()
        self._bindings: dict[TopicPartition, Binding] = {}
        self._maps: dict[TopicPartition, PartitionMap] = {}
        self._stored: dict[TopicPartition, StoredRecords] = {}
        self._on_the_way: Counter[TopicPartition] = Counter()
        # From this counter on the stored map may be void, after a write that may have failed.
        self._doubtful: dict[TopicPartition, int] = {}

    def absorb(self, key: bytes, value: bytes | None) -> None:
        """Take one record of the topic in, in order."""
        try:
            if key.startswith(b'["binding"'):
                _, flow, topic, partition, generation = msgspec.json.decode(
                    key, type=tuple[str, str, str, int, int]
                )
                if flow == self._flow:
                    self._absorb_binding((topic, partition), generation, key, value)
            elif key.startswith(b'["chunk"'):
                chunk = msgspec.json.decode(key, type=_ChunkKey)
                if chunk.flow == self._flow:
                    self._absorb_chunk(chunk, key, value)
        except (msgspec.MsgspecError, ValueError) as error:
            raise unreadable(f"{OFFSET_MAP_TOPIC} holds a record", error) from None

    def _absorb_binding(
        self, place: TopicPartition, generation: int, key: bytes, value: bytes | None
    ) -> None:
        stored = self._stored.setdefault(place, StoredRecords())
        if value is None:
            stored.forget(key)
        elif self.keys.counts(place, generation):
            binding = msgspec.json.decode(value, type=Binding)
            stored.bound(key, anew=self._bindings.get(place) != binding)
            self._bind(place, binding)
        else:
            stored.leave(key)

    def _absorb_chunk(self, chunk: _ChunkKey, key: bytes, value: bytes | None) -> None:
        place = (chunk.topic, chunk.partition)
        stored = self._stored.setdefault(place, StoredRecords())
        if value is None:
            stored.forget(key)
        elif self.keys.counts(place, chunk.generation):
            stored.add(key, chunk.first, chunk.end)
            self._add(place, Segments.decode(value), chunk.end)
        else:
            stored.leave(key)

    def binding(self, place: TopicPartition) -> Binding | None:
        return self._bindings.get(place)

    def producers(self) -> set[tuple[int, int]]:
        """The producer ids in use, with their epochs."""
        bound = self._bindings.values()
        return {(binding.producer_id, binding.producer_epoch) for binding in bound}

    def segments(self, place: TopicPartition) -> int:
        """How many segments the map of a partition has."""
        with self._lock:
            return len(self._maps.get(place, ()))

    def source_of(self, place: TopicPartition, counter: int) -> int:
        """See ``PartitionMap.source_of``."""
        with self._lock:
            return self._maps[place].source_of(counter)

    def ahead(self, place: TopicPartition, counter: int) -> Segments:
        """The segments that begin behind this counter."""
        with self._lock:
            known = self._maps[place]
            return known.tail(known.index(counter) + 1)

    def write_bindings(
        self, writer: StateWriter, new: Sequence[tuple[TopicPartition, Binding, int]]
    ) -> None:
        """Make bindings durable, each with the source offset of its record number 0."""
        records: list[Record] = []
        for place, binding, start in new:
            records.append((self.keys.key("binding", place), msgspec.json.encode(binding)))
            records += self._chunks(place, Segments([start], [0]))
        writer.write(OFFSET_MAP_TOPIC, records)
        for place, binding, start in new:
            self._bind(place, binding)
            self._add(place, Segments([start], [0]))
            self.keys.replace(self._stored.pop(place, StoredRecords()).everything)

    def crowded(self, place: TopicPartition) -> bool:
        """Whether taking the map over would make it fewer records."""
        stored = self._stored.get(place)
        return stored is not None and any(self._runs(place, stored, MAX_COUNTER))

    def restate(self, writer: StateWriter, where: Iterable[tuple[TopicPartition, int]]) -> None:
        """Make these maps ours, each from some segment before this counter on: what an earlier
        session still has on its way counts for nothing after that. Small chunks are merged.
        """
        records: list[Record] = []
        replaced: list[bytes] = []
        for place, counter in where:
            tail = self._tail(place, counter)
            stored = self._stored.pop(place, StoredRecords())
            # First of all: a late record of an earlier session may replace those it replaces.
            records += self._restated(place, tail)
            for first, end, keys in self._runs(place, stored, tail.first):
                with self._lock:
                    merged = self._maps[place].between(first, end)
                if merged is not None:
                    records += self._chunks(place, merged, end)
                replaced += keys
            replaced += stored.from_on(tail.first)
        writer.write(OFFSET_MAP_TOPIC, records)
        self.keys.replace(replaced)

    def _runs(
        self, place: TopicPartition, stored: StoredRecords, end: int
    ) -> Iterator[tuple[int, int, list[bytes]]]:
        with self._lock:
            known = self._maps.get(place)
            sizes = [] if known is None else known.sizes(stored.firsts)
        return stored.runs(sizes, end) if known is not None else iter(())

    def _restated(self, place: TopicPartition, tail: Segments) -> list[Record]:
        """The end of a map in pieces, of which any number from the first one on may be written."""
        cut = (len(tail) - 1) // LARGEST_CHUNK * LARGEST_CHUNK
        last = Segments(tail.sources[cut:], tail.counters[cut:])
        if not cut:
            return self._chunks(place, last)
        before = Segments(tail.sources[:cut], tail.counters[:cut])
        return [*self._chunks(place, before, last.first), *self._chunks(place, last)]

    def send_segments(
        self,
        writer: StateWriter,
        place: TopicPartition,
        segments: Segments,
        delivered: Delivered,
    ) -> None:
        """Write segments; ``delivered`` is called when they are durable."""
        records = self._chunks(place, segments)
        first = segments.first
        failures: list[CopystreamError] = []
        left = len(records)

        def written(error: CopystreamError | None, offset: int) -> None:
            nonlocal left
            left -= 1
            if error is not None:
                failures.append(error)
            if left:
                return
            if not failures:
                self._add(place, segments)
            with self._lock:
                self._on_the_way[place] -= 1
                if failures:
                    # A time-out does not tell whether it was written.
                    self._doubtful[place] = min(first, self._doubtful.get(place, first))
            delivered(failures[0] if failures else None, offset)

        with self._lock:
            self._on_the_way[place] += 1
        for key, value in records:
            writer.send(OFFSET_MAP_TOPIC, key, value, written)

    def settled(self, writer: StateWriter, place: TopicPartition) -> bool:
        """Whether a reader of the topic would find this very map, so that somebody may begin from
        it; if not, ask again later.

        A segment on its way voids durable ones when it arrives, and one whose write failed may
        have arrived: then what is known from there on is written again.
        """
        with self._lock:
            if self._on_the_way[place]:
                return False
            doubtful = self._doubtful.pop(place, None)
        if doubtful is None:
            return True
        self.send_segments(writer, place, self._tail(place, doubtful), ignored)
        return False

    def _tail(self, place: TopicPartition, counter: int) -> Segments:
        """The segments from the one that holds ``counter`` on."""
        with self._lock:
            known = self._maps[place]
            return known.tail(known.index(counter))

    def _chunks(self, place: TopicPartition, segments: Segments, end: int = -1) -> list[Record]:
        """Segments as records; with ``end`` they say nothing of the counters from there on."""
        sources, counters = segments.sources, segments.counters
        records: list[Record] = []
        for at in range(0, len(segments), LARGEST_CHUNK):
            cut = slice(at, at + LARGEST_CHUNK)
            part = Segments(sources[cut], counters[cut])
            behind = at + LARGEST_CHUNK
            limit = counters[behind] if behind < len(segments) else end
            rest = (part.first, limit) if end >= 0 else (part.first,)
            records.append((self.keys.key("chunk", place, *rest), part.encode()))
        return records

    def _bind(self, place: TopicPartition, binding: Binding) -> None:
        with self._lock:
            if self._bindings.get(place) != binding:  # written for a first copy only
                self._maps.pop(place, None)
            self._bindings[place] = binding

    def _add(self, place: TopicPartition, segments: Segments, end: int = -1) -> None:
        with self._lock:
            known = self._maps.setdefault(place, PartitionMap())
            if end < 0:
                known.add(segments)
            else:
                known.replace(segments, end)
