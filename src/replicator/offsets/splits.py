"""What is durable of partitions that are split up: one record each in the offset map's topic.

Key, in JSON: ``["split", flow, topic, partition, generation]``; of two generations the newer one
counts (``generations``). The value, in JSON, is a ``SplitState``.

A source partition that is split up has a counter for every partition of the target topic. Where
those stood is known at *points* of the source: the first one is settled, everything before it is
on the target; the others are the ends of strides that were cut and may not have arrived. Nothing
of a stride is sent before the state that has its end is durable, so the log of the target never
has more than the last point says.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from copycore.split import Stride
from replicator.errors import CopystreamError
from replicator.offsets.epochs import Epochs
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.generations import MapKeys
from replicator.state.topics import Delivered, StateWriter, ignored, unreadable
from replicator.terms import TopicPartition


class SplitBinding(Struct, frozen=True):
    source_id: str  # topic id
    target_topic: str
    target_id: str
    producer_id: int
    producer_epoch: int
    partitioner: str
    bases: tuple[int, ...]  # the ends of the target's partitions before anything was written


class Point(Struct, frozen=True, array_like=True):
    source: int  # offset
    counters: tuple[int, ...]  # of the next record for each target partition


class Arrival(Struct, frozen=True, array_like=True):
    """All our records before number ``counter`` lie before ``offset`` in the target partition."""

    offset: int
    counter: int


class SplitState(Struct, frozen=True):
    binding: SplitBinding
    points: tuple[Point, ...]
    arrivals: tuple[Arrival, ...]  # for each target partition
    epochs: Epochs = Epochs()  # of the source
    seen: int = -1  # source offset after the last batch fetched; −1 unknown

    @property
    def settled_seen(self) -> int:
        """The same for what is settled: strides end where batches do, but for the last one."""
        return min(self.seen, self.points[0].source)

    @property
    def settled(self) -> bool:
        """Whether all that was ever cut has arrived."""
        return len(self.points) == 1


def fresh(binding: SplitBinding, start: int) -> SplitState:
    """Of a copy that begins at this source offset."""
    return SplitState(
        binding=binding,
        points=(Point(start, (0,) * len(binding.bases)),),
        arrivals=tuple(Arrival(base, 0) for base in binding.bases),
    )


class Splits:
    """The states of one flow. Thread-safe; fed the map's topic in order, and written later."""

    def __init__(self, flow: str) -> None:
        self._flow = flow
        self.keys = MapKeys(flow)
        self._lock = threading.Lock()
        self._states: dict[TopicPartition, SplitState] = {}
        self._found: dict[TopicPartition, set[bytes]] = {}  # keys
        self._on_the_way: Counter[TopicPartition] = Counter()

    def absorb(self, key: bytes, value: bytes | None) -> None:
        """Take one record of the topic in, in order."""
        if not key.startswith(b'["split"'):
            return
        try:
            _, flow, topic, partition, generation = msgspec.json.decode(
                key, type=tuple[str, str, str, int, int]
            )
            if flow != self._flow:
                return
            place = (topic, partition)
            if value is None:
                self._found.get(place, set()).discard(key)
                return
            self._found.setdefault(place, set()).add(key)
            if not self.keys.counts(place, generation):
                return
            self._states[place] = msgspec.json.decode(value, type=SplitState)
        except msgspec.MsgspecError as error:
            raise unreadable(f"{OFFSET_MAP_TOPIC} holds a record", error) from None

    def state(self, place: TopicPartition) -> SplitState | None:
        with self._lock:
            return self._states.get(place)

    def producers(self) -> set[tuple[int, int]]:
        """The producer ids in use, with their epochs."""
        bound = [state.binding for state in self._states.values()]
        return {(binding.producer_id, binding.producer_epoch) for binding in bound}

    def of_topic(self, topic: str) -> dict[int, SplitState]:
        """By source partition, whatever became of the topics since."""
        with self._lock:
            return {p: state for (name, p), state in self._states.items() if name == topic}

    def into(self, topic: str, target_id: str) -> dict[int, SplitState]:
        """Those that write into the target topic of this id: others were left by a topic of the
        same name that is no more.
        """
        states = self.of_topic(topic)
        return {p: state for p, state in states.items() if state.binding.target_id == target_id}

    def restate(self, writer: StateWriter, states: Mapping[TopicPartition, SplitState]) -> None:
        """Make these states durable as ours; what an earlier session still has on its way counts
        for nothing after that.
        """
        keys = {place: self.keys.key("split", place) for place in states}
        writer.write(
            OFFSET_MAP_TOPIC,
            [(keys[place], msgspec.json.encode(state)) for place, state in states.items()],
        )
        with self._lock:
            for place, state in states.items():
                self._states[place] = state
                self.keys.replace(self._found.pop(place, set()) - {keys[place]})

    def send_stride(
        self,
        writer: StateWriter,
        place: TopicPartition,
        stride: Stride,
        acked: int,
        arrivals: Sequence[tuple[int, int]],
        delivered: Delivered,
        epochs: Sequence[tuple[int, int]] = (),
        seen: int = -1,
    ) -> None:
        """Write the state with a new stride at its end; ``delivered`` is called when it is durable.

        Everything before the source offset ``acked`` is on the target, and of each target
        partition what ``arrivals`` say, as ``PartitionCopy.arrivals``, and new leader epochs are
        ``epochs``, as ``PartitionCopy.epochs``, ``seen`` as there. Of an earlier assignment
        that cut further, the points behind the stride stay: some pairs may have come there.
        """
        with self._lock:
            state = self._states[place]
            points = [
                *(point for point in state.points if point.source <= stride.start),
                Point(stride.end, tuple(stride.counters)),
                *(point for point in state.points if point.source > stride.end),
            ]
            behind = sum(1 for point in points if point.source <= acked)
            self._states[place] = state = SplitState(
                binding=state.binding,
                points=tuple(points[max(0, behind - 1) :]),
                arrivals=_later(state.arrivals, arrivals),
                epochs=state.epochs.merged(epochs),
                seen=max(state.seen, seen),
            )
        self._send(writer, place, state, delivered)

    def settle(
        self,
        writer: StateWriter,
        place: TopicPartition,
        source: int,
        counters: Sequence[int],
        arrivals: Sequence[tuple[int, int]],
        epochs: Sequence[tuple[int, int]] = (),
        seen: int = -1,
    ) -> None:
        """Note that everything before that source offset is on the target."""
        with self._lock:
            known = self._states[place]
            state = SplitState(
                binding=known.binding,
                points=(
                    Point(source, tuple(counters)),
                    *(point for point in known.points if point.source > source),
                ),
                arrivals=_later(known.arrivals, arrivals),
                epochs=known.epochs.merged(epochs),
                seen=max(known.seen, seen),
            )
            if state == known:
                return
            self._states[place] = state
        self._send(writer, place, state, ignored)

    def quiet(self, place: TopicPartition) -> bool:
        """Whether nothing of it is on its way to the topic."""
        with self._lock:
            return not self._on_the_way[place]

    def _send(
        self, writer: StateWriter, place: TopicPartition, state: SplitState, delivered: Delivered
    ) -> None:
        def written(error: CopystreamError | None, offset: int) -> None:
            with self._lock:
                self._on_the_way[place] -= 1
            delivered(error, offset)

        with self._lock:
            self._on_the_way[place] += 1
        writer.send(
            OFFSET_MAP_TOPIC, self.keys.key("split", place), msgspec.json.encode(state), written
        )


def _later(known: Sequence[Arrival], seen: Sequence[tuple[int, int]]) -> tuple[Arrival, ...]:
    return tuple(
        Arrival(offset, counter) if offset >= 0 and counter > before.counter else before
        for before, (offset, counter) in zip(known, seen, strict=True)
    )
