"""Generations: whose records in the offset map count.

A session's generation for a topic is the offset of its claim in the registry, so generations grow
from one holder of a topic to the next. A record of an older generation than one read before counts
for nothing: a session that was taken over while something of its own was on its way cannot void
what its successor relies on.
"""

from __future__ import annotations

from collections.abc import Mapping

from replicator.errors import StateError
from replicator.state import REGISTRY_TOPIC
from replicator.terms import TopicPartition


class Generations:
    """The newest generation read of each partition, and this session's own of each topic.

    ``note_read`` and ``take_over`` are for the thread that reads the topic; the rest changes
    nothing, and any thread may call it once that has been read.
    """

    def __init__(self) -> None:
        self._newest: dict[TopicPartition, int] = {}
        self._own: Mapping[str, int] = {}

    def note_read(self, tp: TopicPartition, generation: int) -> bool:
        """Note the generation of the next record; False where it is older than one before, so that
        the record counts for nothing.
        """
        if generation < self._newest.get(tp, 0):
            return False
        self._newest[tp] = generation
        return True

    @property
    def newest(self) -> int:
        """The newest generation of any partition that was read; −1 for none."""
        return max(self._newest.values(), default=-1)

    def is_newest(self, tp: TopicPartition, generation: int) -> bool:
        """Whether no record of a newer generation has been read."""
        return generation >= self._newest.get(tp, 0)

    def own(self, topic: str) -> int:
        """The generation of what this session writes. Raises ``KeyError`` for a topic that it has
        not claimed.
        """
        return self._own[topic]

    def take_over(self, own: Mapping[str, int]) -> None:
        """From now on this session writes for these topics, as that generation each.

        Raises ``StateError`` where a newer one has been read.
        """
        for (topic, partition), newest in self._newest.items():
            if own.get(topic, newest) < newest:
                raise StateError(
                    f"the map of {topic}-{partition} is of generation {newest}, and "
                    f"{REGISTRY_TOPIC} ends at {own[topic]}: it has lost records meanwhile",
                    hint="see that it is not deleted again, then run the same command again",
                )
        self._own = own
