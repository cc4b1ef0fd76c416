"""The keys of the offset map's topic: JSON lists ``[kind, flow, topic, partition, generation, …]``.

Generations grow from one holder of a topic to the next, and what is of an older one than was seen
before counts for nothing: a session that was taken over while something of its own was on the way
cannot void what its successor relies on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from replicator.errors import StateError
from replicator.state import OFFSET_MAP_TOPIC, REGISTRY_TOPIC
from replicator.state.topics import StateWriter, ignored
from replicator.terms import TopicPartition


class MapKeys:
    """Which records of a flow count, what this session's keys are, and which it has replaced."""

    def __init__(self, flow: str) -> None:
        self._flow = flow
        self._generations: Mapping[str, int] = {}
        self._newest: dict[TopicPartition, int] = {}  # generation
        self._replaced: list[bytes] = []

    def counts(self, place: TopicPartition, generation: int) -> bool:
        """Whether a record that was read, of that generation, is not older than one before it."""
        if generation < self._newest.get(place, 0):
            return False
        self._newest[place] = generation
        return True

    @property
    def newest(self) -> int:
        """The newest generation of any partition that was read; −1 for none."""
        return max(self._newest.values(), default=-1)

    def is_newest(self, place: TopicPartition, generation: int) -> bool:
        """Whether no record of a newer generation has been read."""
        return generation >= self._newest.get(place, 0)

    def generation(self, place: TopicPartition) -> int:
        """That of what this session writes."""
        return self._generations[place[0]]

    def take_over(self, generations: Mapping[str, int]) -> None:
        """From now on this session writes for these topics, as that generation each.

        Raises ``StateError`` where a newer one has been read.
        """
        for (topic, partition), newest in self._newest.items():
            if generations.get(topic, newest) < newest:
                raise StateError(
                    f"the map of {topic}-{partition} is of generation {newest}, and "
                    f"{REGISTRY_TOPIC} ends at {generations[topic]}: it has lost records meanwhile",
                    hint="see that it is not deleted again, then run the same command again",
                )
        self._generations = generations

    def key(self, kind: str, place: TopicPartition, *rest: int) -> bytes:
        """Of a record that this session writes."""
        topic, partition = place
        generation = self._generations[topic]
        return msgspec.json.encode([kind, self._flow, topic, partition, generation, *rest])

    def replace(self, keys: Iterable[bytes]) -> None:
        """Records of this session say what those with these keys did."""
        self._replaced += keys

    def clean(self, writer: StateWriter) -> None:
        """Delete what was replaced; only while the claims hold, so that a successor finds what
        replaces it.
        """
        for key in self._replaced:
            writer.send(OFFSET_MAP_TOPIC, key, None, ignored)
        self._replaced = []
