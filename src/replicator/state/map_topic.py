"""The offset map's topic as one flow reads and writes it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeVar, assert_never

from replicator.errors import CopystreamError
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.generations import Generations
from replicator.state.records import Entry, Handlers, MapKey, Stored
from replicator.state.topics import Delivered, StateWriter, ignored
from replicator.terms import TopicPartition

# What a record that was read means: it counts, or an older generation wrote it, or it was deleted.
Fate = Literal["counts", "void", "deleted"]
M = TypeVar("M", bound=MapKey)


class MapTopic:
    """The records of one flow, each handed to the handler of its kind; and which of them this
    session has replaced, and what it has on its way.

    The job's thread reads the topic and takes it over before anything is copied; after that any
    thread may write. The lock guards what the lanes' threads and the state writer's change.
    """

    def __init__(self, flow: str) -> None:
        self.flow = flow
        self.generations = Generations()
        self._handlers = Handlers(OFFSET_MAP_TOPIC)
        self._lock = threading.Lock()  # guards what follows
        # Of kinds of which a partition has one record that counts: the keys that were found.
        self._found: dict[type[MapKey], dict[TopicPartition, set[bytes]]] = {}
        self._replaced: list[bytes] = []
        self._on_the_way: Counter[TopicPartition] = Counter()

    # --- reading: the job's thread ------------------------------------------------------------

    def on(self, kind: type[M], handler: Callable[[Stored[M], Fate], None]) -> None:
        """Have ``handler`` called with each record of a kind that is this flow's, in order."""

        def handle(record: Stored[M]) -> None:
            key = record.key
            if key.flow != self.flow:
                return
            if record.deleted:
                handler(record, "deleted")
            elif self.generations.note_read(key.tp, key.generation):
                handler(record, "counts")
            else:
                handler(record, "void")

        self._handlers.on(kind, handle)

    def on_latest(self, kind: type[M], handler: Callable[[Stored[M]], None]) -> None:
        """The same for a kind of which the latest record of a partition says everything."""
        self._found[kind] = {}

        def handle(record: Stored[M], fate: Fate) -> None:
            found = self._found[kind].setdefault(record.key.tp, set())
            match fate:
                case "counts":
                    found.add(record.raw_key)
                    handler(record)
                case "void":
                    found.add(record.raw_key)
                case "deleted":
                    found.discard(record.raw_key)
                case _:
                    assert_never(fate)

        self.on(kind, handle)

    def read(self, entries: Iterable[Entry]) -> None:
        """Take records of the topic in, in order. Raises ``StateError``, see ``Handlers.read``."""
        self._handlers.read(entries)

    def take_over(self, generations: Mapping[str, int]) -> None:
        """See ``Generations.take_over``; called once everything has been read."""
        self.generations.take_over(generations)

    # --- writing: any thread ------------------------------------------------------------------

    def key(self, kind: type[MapKey], tp: TopicPartition, *rest: int) -> bytes:
        """The key of a record that this session writes."""
        topic, partition = tp
        generation = self.generations.own(topic)
        return kind(self.flow, topic, partition, generation, *rest).encode()

    def replace(self, keys: Iterable[bytes]) -> None:
        """Note that durable records of this session say what those with these keys did."""
        with self._lock:
            self._replaced += keys

    def replace_found(self, kind: type[MapKey], tp: TopicPartition) -> None:
        """The same of all that was found of a kind of which the latest record counts."""
        with self._lock:
            self._replaced += self._found[kind].pop(tp, set()) - {self.key(kind, tp)}

    def clean(self, writer: StateWriter) -> None:
        """Delete what was replaced; only while the claims hold, so that a successor finds what
        replaces it.
        """
        with self._lock:
            replaced, self._replaced = self._replaced, []
        for key in replaced:
            writer.send(OFFSET_MAP_TOPIC, key, None, ignored)

    def on_the_way(self, tp: TopicPartition, delivered: Delivered) -> Delivered:
        """Count something of a partition as on its way, until what is returned is called, which
        calls ``delivered``.
        """
        with self._lock:
            self._on_the_way[tp] += 1

        def arrived(error: CopystreamError | None, offset: int) -> None:
            with self._lock:
                self._on_the_way[tp] -= 1
            delivered(error, offset)

        return arrived

    def quiet(self, tp: TopicPartition) -> bool:
        """Whether nothing of a partition is on its way."""
        with self._lock:
            return not self._on_the_way[tp]
