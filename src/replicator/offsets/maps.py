"""The offset map on the target: bindings and chunks of segments in a compacted topic.

Two kinds of records, keys in JSON:

``["binding", flow, topic, partition, generation]``
    JSON: the topic ids of both sides, the target offset of record number 0 and the producer id
    in use. A recreated topic has another id, so its old map is never taken for its own.
``["chunk", flow, topic, partition, generation, first counter]``
    Segments as ``copycore.segments`` lays them out.
``["chunk", flow, topic, partition, generation, first counter, end]``
    The same of smaller chunks that were merged; it says nothing of the counters from ``end`` on.

``["epochs", flow, topic, partition, generation]``
    JSON, ``Epochs``: the leader epochs of the source's batches, written before the records.

Records count in log order: a chunk voids what was written before from its first counter on (up to
its end, if it has one). Those of an older generation than was seen before count for nothing
(``generations``). A map is taken over by records that say what others said before, each of which
may be the last one that gets written: only the very last has no end.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from copycore.segments import Segments
from replicator.errors import CopystreamError
from replicator.offsets.epochs import Epochs
from replicator.offsets.partition_map import PartitionMap
from replicator.offsets.stored import StoredRecords
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.generations import MapKeys
from replicator.state.topics import Delivered, Record, StateWriter, ignored, unreadable
from replicator.terms import TopicPartition

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
        self._found_epochs: dict[TopicPartition, set[bytes]] = {}  # keys
        # With the generation that wrote them: those of an older one may be incomplete.
        self._epochs: dict[TopicPartition, tuple[int, Epochs]] = {}
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
            elif key.startswith(b'["epochs"'):
                self._absorb_epochs(key, value)
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

    def _absorb_epochs(self, key: bytes, value: bytes | None) -> None:
        _, flow, topic, partition, generation = msgspec.json.decode(
            key, type=tuple[str, str, str, int, int]
        )
        place = (topic, partition)
        if flow != self._flow:
            return
        if value is None:
            self._found_epochs.get(place, set()).discard(key)
            return
        self._found_epochs.setdefault(place, set()).add(key)
        if self.keys.counts(place, generation):
            self._epochs[place] = (generation, msgspec.json.decode(value, type=Epochs))

    def epochs(self, place: TopicPartition) -> Epochs:
        """The leader epochs of the source that are stored; none where they may be incomplete."""
        with self._lock:
            generation, found = self._epochs.get(place, (0, Epochs()))
            return found if self.keys.is_newest(place, generation) else Epochs()

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

    def around(self, place: TopicPartition, counter: int) -> tuple[int, int]:
        """Where the next record of that number is looked for, and the source offset after the
        record before it; −1 where there is none.
        """
        with self._lock:
            known = self._maps[place]
            after = known.source_of(counter - 1) + 1 if counter > known.first else -1
            return known.source_of(counter), after

    def ahead(self, place: TopicPartition, counter: int) -> Segments:
        """The segments that begin behind this counter."""
        with self._lock:
            known = self._maps[place]
            return known.tail(known.index(counter) + 1)

    def write_bindings(
        self,
        writer: StateWriter,
        new: Sequence[tuple[TopicPartition, Binding, int]],
        epochs: Mapping[TopicPartition, Epochs] | None = None,
    ) -> None:
        """Make bindings durable, each with the source offset of its record number 0, and the
        leader epochs that are known from there on.
        """
        records: list[Record] = []
        known = epochs or {}
        for place, binding, start in new:
            records += self._epochs_record(place, known.get(place, Epochs()))
            records.append((self.keys.key("binding", place), msgspec.json.encode(binding)))
            records += self._chunks(place, Segments([start], [0]))
        writer.write(OFFSET_MAP_TOPIC, records)
        for place, binding, start in new:
            self._bind(place, binding)
            self._add(place, Segments([start], [0]))
            self._keep_epochs(place, known.get(place, Epochs()))
            self.keys.replace(self._stored.pop(place, StoredRecords()).everything)

    def crowded(self, place: TopicPartition) -> bool:
        """Whether taking the map over would make it fewer records."""
        stored = self._stored.get(place)
        return stored is not None and any(self._runs(place, stored, MAX_COUNTER))

    def restate(self, writer: StateWriter, where: Sequence[tuple[TopicPartition, int]]) -> None:
        """Make these maps ours, each from some segment before this counter on: what an earlier
        session still has on its way counts for nothing after that. Small chunks are merged.
        """
        records: list[Record] = []
        replaced: list[bytes] = []
        for place, counter in where:
            tail = self._tail(place, counter)
            stored = self._stored.pop(place, StoredRecords())
            records += self._epochs_record(place, self.epochs(place))
            # First of all: a late record of an earlier session may replace those it replaces.
            records += self._restated(place, tail)
            for first, end, keys in self._runs(place, stored, tail.first):
                with self._lock:
                    merged = self._maps[place].between(first, end)
                if merged is not None:
                    records += self._chunks(place, merged, end)
                replaced += keys
            replaced += stored.from_on(tail.first)
        known = {place: self.epochs(place) for place, _ in where}
        writer.write(OFFSET_MAP_TOPIC, records)
        for place, epochs in known.items():
            self._keep_epochs(place, epochs)
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
        new_epochs: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Write segments, and leader epochs found since the assignment began; ``delivered`` is
        called when they are durable. There may be no segment.
        """
        before = self.epochs(place)
        epochs = before.merged(new_epochs)
        with self._lock:
            self._on_the_way[place] += 1

        def finished(error: CopystreamError | None, offset: int) -> None:
            with self._lock:
                self._on_the_way[place] -= 1
            delivered(error, offset)

        def epochs_written(error: CopystreamError | None, offset: int) -> None:
            # The segments first: once the epochs are known to be stored, those of a later call do
            # not wait for them.
            if error is None and segments:
                self._send_chunks(writer, place, segments, finished)
            if error is None:
                self._keep_epochs(place, epochs)
            if error is not None or not segments:
                finished(error, offset)

        if epochs == before:
            epochs_written(None, -1)
        else:
            # One after the other: a segment that is found later has its epoch.
            for key, value in self._epochs_record(place, epochs):
                writer.send(OFFSET_MAP_TOPIC, key, value, epochs_written)

    def _send_chunks(
        self, writer: StateWriter, place: TopicPartition, segments: Segments, delivered: Delivered
    ) -> None:
        records = self._chunks(place, segments)
        failures: list[CopystreamError] = []
        left = len(records)

        def written(error: CopystreamError | None, offset: int) -> None:
            nonlocal left
            left -= 1
            if error is not None:
                failures.append(error)
            if left:
                return
            if failures:
                # A time-out does not tell whether it was written.
                with self._lock:
                    first = segments.first
                    self._doubtful[place] = min(first, self._doubtful.get(place, first))
            else:
                self._add(place, segments)
            delivered(failures[0] if failures else None, offset)

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

    def _epochs_record(self, place: TopicPartition, epochs: Epochs) -> list[Record]:
        if not epochs.starts:
            return []
        return [(self.keys.key("epochs", place), msgspec.json.encode(epochs))]

    def _keep_epochs(self, place: TopicPartition, epochs: Epochs) -> None:
        """Note that these are stored, by this session, instead of any others."""
        with self._lock:
            self._epochs[place] = (self.keys.generation(place), epochs)
            mine = self.keys.key("epochs", place)
            self.keys.replace(self._found_epochs.pop(place, set()) - {mine})

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
