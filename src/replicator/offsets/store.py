"""The offset map on the target: bindings and chunks of segments in a compacted topic.

Two kinds of records, keys in JSON:

``["binding", flow, topic, partition]``
    JSON: the topic ids of both sides, the target offset of record number 0 and the producer id
    in use. A recreated topic has another id, so its old map is never taken for its own.
``["chunk", flow, topic, partition, first counter]``
    Segments as ``copycore.segments`` lays them out.

Records count in log order: a chunk voids what was written before from its first counter on.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from copycore.segments import decode_segments, encode_segments
from replicator.errors import CopystreamError, StateError
from replicator.offsets.map import PartitionMap
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.log import Delivered, Record, StateWriter

TopicPartition = tuple[str, int]


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
        self._lock = threading.Lock()
        self._bindings: dict[TopicPartition, Binding] = {}
        self._maps: dict[TopicPartition, PartitionMap] = {}
        self._on_the_way: Counter[TopicPartition] = Counter()

    def absorb(self, key: bytes, value: bytes | None) -> None:
        """Take one record of the topic in, in order."""
        try:
            if key.startswith(b'["binding"'):
                _, flow, topic, partition = msgspec.json.decode(key, type=tuple[str, str, str, int])
                if flow == self._flow and value is not None:
                    self._bind((topic, partition), msgspec.json.decode(value, type=Binding))
            elif key.startswith(b'["chunk"'):
                _, flow, topic, partition, _ = msgspec.json.decode(
                    key, type=tuple[str, str, str, int, int]
                )
                if flow == self._flow and value is not None:
                    self._add((topic, partition), *decode_segments(value))
        except (msgspec.MsgspecError, ValueError) as error:
            raise StateError(
                f"{OFFSET_MAP_TOPIC} holds a record that cannot be read: {error}",
                hint="a newer copystream may have written it: use that version",
            ) from None

    def binding(self, place: TopicPartition) -> Binding | None:
        return self._bindings.get(place)

    def segments(self, place: TopicPartition) -> int:
        """How many segments the map of a partition has."""
        with self._lock:
            return len(self._maps.get(place, ()))

    def source_of(self, place: TopicPartition, counter: int) -> int:
        """See ``PartitionMap.source_of``."""
        with self._lock:
            return self._maps[place].source_of(counter)

    def settled(self, place: TopicPartition) -> bool:
        """Whether no segment is on its way. One that is will void durable ones when it arrives,
        so until then nobody may begin from this map.
        """
        return self._on_the_way[place] == 0

    def write_bindings(
        self, writer: StateWriter, new: Sequence[tuple[TopicPartition, Binding, int]]
    ) -> None:
        """Make bindings durable, each with the source offset of its record number 0."""
        records: list[Record] = []
        for place, binding, start in new:
            key = msgspec.json.encode(["binding", self._flow, *place])
            records += [(key, msgspec.json.encode(binding)), self._chunk(place, [(start, 0)])]
        writer.write(OFFSET_MAP_TOPIC, records)
        for place, binding, start in new:
            self._bind(place, binding)
            self._add(place, [start], [0])

    def send_segments(
        self,
        writer: StateWriter,
        place: TopicPartition,
        segments: Sequence[tuple[int, int]],
        delivered: Delivered,
    ) -> None:
        """Write segments (source, counter); ``delivered`` is called when they are durable."""

        def added(error: CopystreamError | None, offset: int) -> None:
            if error is None:
                self._add(place, [s for s, _ in segments], [c for _, c in segments])
            self._on_the_way[place] -= 1
            delivered(error, offset)

        key, value = self._chunk(place, segments)
        self._on_the_way[place] += 1
        writer.send(OFFSET_MAP_TOPIC, key, value, added)

    def _chunk(self, place: TopicPartition, segments: Sequence[tuple[int, int]]) -> Record:
        value = encode_segments(
            array("q", [source for source, _ in segments]),
            array("q", [counter for _, counter in segments]),
        )
        return msgspec.json.encode(["chunk", self._flow, *place, segments[0][1]]), value

    def _bind(self, place: TopicPartition, binding: Binding) -> None:
        with self._lock:
            if self._bindings.get(place) != binding:  # written for a first copy only
                self._maps.pop(place, None)
            self._bindings[place] = binding

    def _add(self, place: TopicPartition, sources: Sequence[int], counters: Sequence[int]) -> None:
        with self._lock:
            self._maps.setdefault(place, PartitionMap()).add(sources, counters)
