"""What is durable of partitions that are split up: one record each in the offset map's topic.

A source partition that is split up has a counter for every partition of the target topic; its
record is a ``SplitState`` of ``state.records``. Of two generations the newer one counts.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from copycore.split import Stride
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.map_topic import MapTopic
from replicator.state.records import (
    Arrival,
    Point,
    SplitBinding,
    SplitKey,
    SplitState,
    Stored,
    encode_value,
)
from replicator.state.topics import Delivered, StateWriter, ignored
from replicator.terms import TopicPartition


def fresh(binding: SplitBinding, start: int) -> SplitState:
    """The state of a copy that begins at this source offset."""
    return SplitState(
        binding=binding,
        points=(Point(start, (0,) * len(binding.bases)),),
        arrivals=tuple(Arrival(base, 0) for base in binding.bases),
    )


class Splits:
    """The states of one flow.

    The job's thread reads the topic, takes states over (``restate``), settles and asks; the lanes'
    threads call ``send_stride``; any thread may ask.
    """

    def __init__(self, topic: MapTopic) -> None:
        self.topic = topic
        self._lock = threading.Lock()
        self._states: dict[TopicPartition, SplitState] = {}
        topic.on_latest(SplitKey, self._read)

    def _read(self, record: Stored[SplitKey]) -> None:
        with self._lock:
            self._states[record.key.tp] = record.value()

    def state(self, tp: TopicPartition) -> SplitState | None:
        """What is durable or on its way of a partition; None where there is nothing."""
        with self._lock:
            return self._states.get(tp)

    def producers(self) -> set[tuple[int, int]]:
        """The producer ids in use, with their epochs."""
        with self._lock:
            bound = [state.binding for state in self._states.values()]
        return {(binding.producer_id, binding.producer_epoch) for binding in bound}

    def of_topic(self, topic: str) -> dict[int, SplitState]:
        """By source partition, for any target topic."""
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
        writer.write(
            OFFSET_MAP_TOPIC,
            [(self.topic.key(SplitKey, tp), encode_value(state)) for tp, state in states.items()],
        )
        with self._lock:
            self._states.update(states)
        for tp in states:
            self.topic.replace_found(SplitKey, tp)

    def send_stride(
        self,
        writer: StateWriter,
        tp: TopicPartition,
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
        ``epochs``, as ``PartitionCopy.epochs``, ``seen`` as there. If an earlier assignment had
        already cut beyond this stride, its later points stay: batches from them may be on the
        target.
        """
        with self._lock:
            state = self._states[tp]
            points = [
                *(point for point in state.points if point.source <= stride.start),
                Point(stride.end, tuple(stride.counters)),
                *(point for point in state.points if point.source > stride.end),
            ]
            settled = sum(1 for point in points if point.source <= acked)
            self._states[tp] = state = SplitState(
                binding=state.binding,
                points=tuple(points[max(0, settled - 1) :]),
                arrivals=_later(state.arrivals, arrivals),
                epochs=state.epochs.merged(epochs),
                seen=max(state.seen, seen),
            )
        self._send(writer, tp, state, delivered)

    def settle(
        self,
        writer: StateWriter,
        tp: TopicPartition,
        source: int,
        counters: Sequence[int],
        arrivals: Sequence[tuple[int, int]],
        epochs: Sequence[tuple[int, int]] = (),
        seen: int = -1,
    ) -> None:
        """Note that everything before that source offset is on the target."""
        with self._lock:
            known = self._states[tp]
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
            self._states[tp] = state
        self._send(writer, tp, state, ignored)

    def quiet(self, tp: TopicPartition) -> bool:
        """Whether nothing of it is on its way to the topic."""
        return self.topic.quiet(tp)

    def _send(
        self, writer: StateWriter, tp: TopicPartition, state: SplitState, delivered: Delivered
    ) -> None:
        writer.send(
            OFFSET_MAP_TOPIC,
            self.topic.key(SplitKey, tp),
            encode_value(state),
            self.topic.on_the_way(tp, delivered),
        )


def _later(known: Sequence[Arrival], seen: Sequence[tuple[int, int]]) -> tuple[Arrival, ...]:
    return tuple(
        Arrival(offset, counter) if offset >= 0 and counter > before.counter else before
        for before, (offset, counter) in zip(known, seen, strict=True)
    )
