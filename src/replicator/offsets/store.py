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

from array import array
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from copycore.segments import decode_segments, encode_segments
from replicator.errors import StateError
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
    """The maps of one flow; fed the topic's records in order."""

    def __init__(self, flow: str) -> None:
        self._flow = flow
        self.bindings: dict[TopicPartition, Binding] = {}
        self.maps: dict[TopicPartition, PartitionMap] = {}

    def absorb(self, key: bytes, value: bytes | None) -> None:
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
                    self.of((topic, partition)).add(*decode_segments(value))
        except (msgspec.MsgspecError, ValueError) as error:
            raise StateError(
                f"{OFFSET_MAP_TOPIC} holds a record that cannot be read: {error}",
                hint="a newer copystream may have written it: use that version",
            ) from None

    def _bind(self, place: TopicPartition, binding: Binding) -> None:
        before = self.bindings.get(place)
        if before is not None and before != binding:  # written for a first copy only
            self.maps.pop(place, None)
        self.bindings[place] = binding

    def of(self, place: TopicPartition) -> PartitionMap:
        return self.maps.setdefault(place, PartitionMap())

    def binding_record(self, place: TopicPartition, binding: Binding) -> Record:
        self._bind(place, binding)
        return (
            msgspec.json.encode(["binding", self._flow, *place]),
            msgspec.json.encode(binding),
        )

    def chunk_record(
        self, place: TopicPartition, sources: Sequence[int], counters: Sequence[int]
    ) -> Record:
        """The record of a chunk, which this map has from now on."""
        value = encode_segments(array("q", sources), array("q", counters))
        self.of(place).add(sources, counters)
        return msgspec.json.encode(["chunk", self._flow, *place, counters[0]]), value

    def send_chunk(
        self,
        writer: StateWriter,
        place: TopicPartition,
        segments: Sequence[tuple[int, int]],
        delivered: Delivered,
    ) -> None:
        """Write segments (source, counter) found while copying; ``delivered`` when durable."""
        key, value = self.chunk_record(place, [s for s, _ in segments], [c for _, c in segments])
        writer.send(OFFSET_MAP_TOPIC, key, value, delivered)
