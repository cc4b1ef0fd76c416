"""The offset maps on the target: where the source offset of each record number is durable.

A map is made of the records ``binding``, ``chunk`` and ``epochs`` of the offset map's topic (their
layout: ``state.records``). They count in log order: a chunk voids what was written before from its
first counter on (up to its end, if it has one). Records of an older generation than was seen before
count for nothing (``state.generations``). A session takes a map over by records that say what
others said before, and each of them may be the last one that gets written: only the very last chunk
has no end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never

from copycore.segments import Segments
from replicator.errors import CopystreamError
from replicator.offsets.chunks import Chunks
from replicator.offsets.partition_map import PartitionMap
from replicator.offsets.stored import StoredRecords
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.map_topic import Fate, MapTopic
from replicator.state.records import (
    Binding,
    BindingKey,
    ChunkKey,
    Epochs,
    EpochsKey,
    Record,
    Stored,
    encode_value,
)
from replicator.state.topics import Delivered, StateWriter, ignored
from replicator.terms import TopicPartition

MAX_COUNTER = (1 << 63) - 1


class OffsetMaps:
    """The maps of one flow: what is durable on the target, never more.

    The job's thread reads the topic, takes maps over (``write_bindings``, ``restate``), and asks;
    the lanes' threads call ``send_segments``; the state writer's thread adds segments once they are
    durable. A segment that was sent but not written must not be relied on: the records after it
    would have no segment after a crash.
    """

    def __init__(self, topic: MapTopic) -> None:
        self.topic = topic
        self._lock = threading.Lock()  # guards what follows
        self._bindings: dict[TopicPartition, Binding] = {}
        self._maps: dict[TopicPartition, PartitionMap] = {}
        self._stored: dict[TopicPartition, StoredRecords] = {}
        # With the generation that wrote them: those of an older one may be incomplete.
        self._epochs: dict[TopicPartition, tuple[int, Epochs]] = {}
        # From this counter on the stored map may be void, after a write that may have failed.
        self._doubtful: dict[TopicPartition, int] = {}
        self._chunks = Chunks(topic)
        topic.on(BindingKey, self._read_binding)
        topic.on(ChunkKey, self._read_chunk)
        topic.on_latest(EpochsKey, self._read_epochs)

    # --- reading the topic ----------------------------------------------------------------------

    def _read_binding(self, record: Stored[BindingKey], fate: Fate) -> None:
        tp = record.key.tp
        stored = self._stored.setdefault(tp, StoredRecords())
        match fate:
            case "counts":
                binding: Binding = record.value()
                stored.bound(record.raw_key, anew=self._bindings.get(tp) != binding)
                self._bind(tp, binding)
            case "void":
                stored.leave(record.raw_key)
            case "deleted":
                stored.forget(record.raw_key)
            case _:
                assert_never(fate)

    def _read_chunk(self, record: Stored[ChunkKey], fate: Fate) -> None:
        key = record.key
        stored = self._stored.setdefault(key.tp, StoredRecords())
        match fate:
            case "counts":
                segments: Segments = record.value()
                stored.add(record.raw_key, key.first, key.limit)
                self._add(key.tp, segments, key.limit)
            case "void":
                stored.leave(record.raw_key)
            case "deleted":
                stored.forget(record.raw_key)
            case _:
                assert_never(fate)

    def _read_epochs(self, record: Stored[EpochsKey]) -> None:
        key = record.key
        with self._lock:
            self._epochs[key.tp] = (key.generation, record.value())

    # --- questions ------------------------------------------------------------------------------

    def epochs(self, tp: TopicPartition) -> Epochs:
        """The leader epochs of the source that are stored; none where they may be incomplete."""
        with self._lock:
            generation, found = self._epochs.get(tp, (0, Epochs()))
            return found if self.topic.generations.is_newest(tp, generation) else Epochs()

    def binding(self, tp: TopicPartition) -> Binding | None:
        """What the map of a partition is bound to; None where there is no map."""
        with self._lock:
            return self._bindings.get(tp)

    def producers(self) -> set[tuple[int, int]]:
        """The producer ids in use, with their epochs."""
        with self._lock:
            bound = list(self._bindings.values())
        return {(binding.producer_id, binding.producer_epoch) for binding in bound}

    def segments(self, tp: TopicPartition) -> int:
        """How many segments the map of a partition has."""
        with self._lock:
            return len(self._maps.get(tp, ()))

    def source_of(self, tp: TopicPartition, counter: int) -> int:
        """See ``PartitionMap.source_of``."""
        with self._lock:
            return self._maps[tp].source_of(counter)

    def around(self, tp: TopicPartition, counter: int) -> tuple[int, int]:
        """Where the next record of that number is looked for, and the source offset after the
        record before it; −1 where there is none.
        """
        with self._lock:
            known = self._maps[tp]
            after = known.source_of(counter - 1) + 1 if counter > known.first else -1
            return known.source_of(counter), after

    def ahead(self, tp: TopicPartition, counter: int) -> Segments:
        """The segments that begin after this counter."""
        with self._lock:
            known = self._maps[tp]
            return known.tail(known.index(counter) + 1)

    # --- taking maps over -----------------------------------------------------------------------

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
        for tp, binding, start in new:
            records += self._epochs_record(tp, known.get(tp, Epochs()))
            records.append((self.topic.key(BindingKey, tp), encode_value(binding)))
            records += self._chunks.records(tp, Segments([start], [0]))
        writer.write(OFFSET_MAP_TOPIC, records)
        for tp, binding, start in new:
            self._bind(tp, binding)
            self._add(tp, Segments([start], [0]))
            self._keep_epochs(tp, known.get(tp, Epochs()))
            self.topic.replace(self._stored.pop(tp, StoredRecords()).everything)

    def crowded(self, tp: TopicPartition) -> bool:
        """Whether taking the map over would make it fewer records."""
        stored = self._stored.get(tp)
        return stored is not None and any(self._runs(tp, stored, MAX_COUNTER))

    def restate(self, writer: StateWriter, where: Sequence[tuple[TopicPartition, int]]) -> None:
        """Make these maps ours, each from some segment before this counter on: what an earlier
        session still has on its way counts for nothing after that. Small chunks are merged.
        """
        records: list[Record] = []
        replaced: list[bytes] = []
        for tp, counter in where:
            tail = self._tail(tp, counter)
            stored = self._stored.pop(tp, StoredRecords())
            records += self._epochs_record(tp, self.epochs(tp))
            # First of all: a late record of an earlier session may replace those it replaces.
            records += self._chunks.restated(tp, tail)
            for first, end, keys in self._runs(tp, stored, tail.first):
                with self._lock:
                    merged = self._maps[tp].between(first, end)
                if merged is not None:
                    records += self._chunks.records(tp, merged, end)
                replaced += keys
            replaced += stored.from_on(tail.first)
        known = {tp: self.epochs(tp) for tp, _ in where}
        writer.write(OFFSET_MAP_TOPIC, records)
        for tp, epochs in known.items():
            self._keep_epochs(tp, epochs)
        self.topic.replace(replaced)

    def _runs(
        self, tp: TopicPartition, stored: StoredRecords, end: int
    ) -> Iterator[tuple[int, int, list[bytes]]]:
        with self._lock:
            known = self._maps.get(tp)
            sizes = [] if known is None else known.sizes(stored.firsts)
        return stored.runs(sizes, end) if known is not None else iter(())

    # --- while copies run -----------------------------------------------------------------------

    def send_segments(
        self,
        writer: StateWriter,
        tp: TopicPartition,
        segments: Segments,
        delivered: Delivered,
        new_epochs: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Write segments, and leader epochs found since the assignment began; ``delivered`` is
        called when they are durable, or have failed. There may be no segment.
        """
        before = self.epochs(tp)
        epochs = before.merged(new_epochs)
        finished = self.topic.on_the_way(tp, delivered)

        def epochs_written(error: CopystreamError | None, offset: int) -> None:
            # The segments first: once the epochs are known to be stored, those of a later call do
            # not wait for them.
            if error is None and segments:
                self._send_chunks(writer, tp, segments, finished)
            if error is None:
                self._keep_epochs(tp, epochs)
            if error is not None or not segments:
                finished(error, offset)

        if epochs == before:
            epochs_written(None, -1)
        else:
            # One after the other: a segment that is found later has its epoch.
            for key, value in self._epochs_record(tp, epochs):
                writer.send(OFFSET_MAP_TOPIC, key, value, epochs_written)

    def _send_chunks(
        self, writer: StateWriter, tp: TopicPartition, segments: Segments, delivered: Delivered
    ) -> None:
        records = self._chunks.records(tp, segments)
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
                    self._doubtful[tp] = min(first, self._doubtful.get(tp, first))
            else:
                self._add(tp, segments)
            delivered(failures[0] if failures else None, offset)

        for key, value in records:
            writer.send(OFFSET_MAP_TOPIC, key, value, written)

    def settled(self, tp: TopicPartition) -> bool:
        """Whether a reader of the topic would find this very map, so that an assignment may begin
        from it.

        It would not while a segment is on its way, which voids durable ones when it arrives, nor
        after a write that failed and may be in the log nevertheless: see ``write_again``.
        """
        with self._lock:
            return self.topic.quiet(tp) and tp not in self._doubtful

    def write_again(self, writer: StateWriter, tp: TopicPartition) -> None:
        """Write again what is known from where a write failed, if there is such; the map is
        settled once that has arrived.
        """
        with self._lock:
            if not self.topic.quiet(tp) or tp not in self._doubtful:
                return
            doubtful = self._doubtful.pop(tp)
        self.send_segments(writer, tp, self._tail(tp, doubtful), ignored)

    def _tail(self, tp: TopicPartition, counter: int) -> Segments:
        """The segments from the one that holds ``counter`` on."""
        with self._lock:
            known = self._maps[tp]
            return known.tail(known.index(counter))

    def _epochs_record(self, tp: TopicPartition, epochs: Epochs) -> list[Record]:
        if not epochs.starts:
            return []
        return [(self.topic.key(EpochsKey, tp), encode_value(epochs))]

    def _keep_epochs(self, tp: TopicPartition, epochs: Epochs) -> None:
        """Note that these are stored, by this session, instead of any others."""
        with self._lock:
            self._epochs[tp] = (self.topic.generations.own(tp[0]), epochs)
        self.topic.replace_found(EpochsKey, tp)

    def _bind(self, tp: TopicPartition, binding: Binding) -> None:
        with self._lock:
            if self._bindings.get(tp) != binding:  # written for a first copy only
                self._maps.pop(tp, None)
            self._bindings[tp] = binding

    def _add(self, tp: TopicPartition, segments: Segments, end: int = -1) -> None:
        with self._lock:
            known = self._maps.setdefault(tp, PartitionMap())
            if end < 0:
                known.add(segments)
            else:
                known.replace(segments, end)
