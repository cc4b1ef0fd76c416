"""The offset map on the target: bindings and chunks of segments in a compacted topic.

Two kinds of records, keys in JSON:

``["binding", flow, topic, partition, generation]``
    JSON: the topic ids of both sides, the target offset of record number 0 and the producer id
    in use. A recreated topic has another id, so its old map is never taken for its own.
``["chunk", flow, topic, partition, generation, first counter]``
    Segments as ``copycore.segments`` lays them out.

Records count in log order: a chunk voids what was written before from its first counter on. Those
of an older generation than was seen before count for nothing (``keys``).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from copycore.segments import Segments
from replicator.errors import CopystreamError
from replicator.offsets.keys import MapKeys, TopicPartition
from replicator.offsets.map import PartitionMap
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.log import Delivered, Record, StateWriter, ignored, unreadable

RESTATED = 1000  # segments at the end of a map that a new holder writes again
LARGEST_CHUNK = 50_000  # segments; about 100 kB, and below a broker's limit of 1 MB for any holes


class Binding(Struct, frozen=True):
    source_id: str  # topic id
    target_topic: str
    target_id: str
    base: int  # target offset of record number 0
    producer_id: int
    producer_epoch: int


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
        # Keys that were read, with the first counter of chunks.
        self._found: dict[TopicPartition, dict[bytes, int]] = {}
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
                place, first = (topic, partition), -1
            elif key.startswith(b'["chunk"'):
                _, flow, topic, partition, generation, first = msgspec.json.decode(
                    key, type=tuple[str, str, str, int, int, int]
                )
                place = (topic, partition)
            else:
                return
            if flow != self._flow:
                return
            if value is None:
                self._found.get(place, {}).pop(key, None)
                return
            self._found.setdefault(place, {})[key] = first
            if not self.keys.counts(place, generation):
                return
            if first < 0:
                self._bind(place, msgspec.json.decode(value, type=Binding))
            else:
                self._add(place, Segments.decode(value))
        except (msgspec.MsgspecError, ValueError) as error:
            raise unreadable(f"{OFFSET_MAP_TOPIC} holds a record", error) from None

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
            self.keys.replace(self._found.pop(place, {}))

    def restate(self, writer: StateWriter, where: Iterable[tuple[TopicPartition, int]]) -> None:
        """Make the ends of these maps ours, each from some segment before this counter on: what
        an earlier session still has on its way counts for nothing after that.
        """
        records: list[Record] = []
        replaced: list[bytes] = []
        for place, counter in where:
            segments = self._tail(place, counter, RESTATED)
            records += self._chunks(place, segments)
            found = self._found.pop(place, {})
            replaced += [key for key, first in found.items() if first >= segments.first]
        writer.write(OFFSET_MAP_TOPIC, records)
        self.keys.replace(replaced)

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
        self.send_segments(writer, place, self._tail(place, doubtful, 0), ignored)
        return False

    def _tail(self, place: TopicPartition, counter: int, least: int) -> Segments:
        """The segments from the one that holds ``counter`` on, and at least the last ``least``."""
        with self._lock:
            known = self._maps[place]
            return known.tail(max(0, min(known.index(counter), len(known) - least)))

    def _chunks(self, place: TopicPartition, segments: Segments) -> list[Record]:
        if len(segments) > LARGEST_CHUNK:
            sources, counters = segments.sources, segments.counters
            cuts = [slice(at, at + LARGEST_CHUNK) for at in range(0, len(sources), LARGEST_CHUNK)]
            parts = [Segments(sources[cut], counters[cut]) for cut in cuts]
        else:
            parts = [segments]
        return [(self.keys.key("chunk", place, part.first), part.encode()) for part in parts]

    def _bind(self, place: TopicPartition, binding: Binding) -> None:
        with self._lock:
            if self._bindings.get(place) != binding:  # written for a first copy only
                self._maps.pop(place, None)
            self._bindings[place] = binding

    def _add(self, place: TopicPartition, segments: Segments) -> None:
        with self._lock:
            self._maps.setdefault(place, PartitionMap()).add(segments)
