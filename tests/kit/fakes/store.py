"""The state topics of a target cluster in memory, with the clients that a session opens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kit.fakes.state import FakeReader, StateTopic
from kit.fakes.world import FakeCluster
from replicator.cluster.admin import TopicConfigs, TopicSpec
from replicator.state.records import Entry, Record
from replicator.state.topics import Delivered


class Store:
    """Topics by name, as the cluster tells them too. ``events`` are what its clients did, in order:
    ``write NAME``, ``read NAME``, and ``close writer`` or ``close consumer``.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.topics: dict[str, StateTopic] = {}
        self.events: list[str] = []
        cluster.on_ask = self._tell_ends

    def make(self, *names: str) -> None:
        for name in names:
            self._cluster.add(name)
            self.topics[name] = StateTopic()

    def writer(self, _cluster: object) -> StoreWriter:
        return StoreWriter(self)

    def consumer(self, _cluster: object, topics: Iterable[str]) -> StoreConsumer:
        return StoreConsumer(self, topics)

    def _tell_ends(self) -> None:
        for name, topic in self.topics.items():
            self._cluster.log(name).end = topic.records[-1][0] + 1 if topic.records else 0


class StoreWriter:
    """Writes at once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def send(self, topic: str, key: bytes, value: bytes | None, delivered: Delivered) -> None:
        delivered(None, self.write(topic, [(key, value)])[0])

    def write(self, topic: str, records: Iterable[Record]) -> list[int]:
        offsets = [self._store.topics[topic].append(key, value) for key, value in records]
        self._store.events += [f"write {topic}"] * len(offsets)
        return offsets

    def close(self) -> None:
        self._store.events.append("close writer")


class StoreReader(FakeReader):
    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store.topics[name])
        self._store, self._name = store, name

    def read_to_end(self) -> Iterator[Entry]:
        self._store.events.append(f"read {self._name}")
        return super().read_to_end()

    def close(self) -> None:
        self._store.events.append(f"stop reading {self._name}")


class StoreConsumer:
    def __init__(self, store: Store, topics: Iterable[str]) -> None:
        self._store = store
        self._topics = set(topics)

    def reader(self, topic: str) -> StoreReader:
        assert topic in self._topics
        return StoreReader(self._store, topic)

    def close(self) -> None:
        self._store.events.append("close consumer")


class StoreAdmin:
    """Makes state topics, whose configs are as they should be."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create_topics(self, specs: Sequence[TopicSpec]) -> dict[str, Exception]:
        self._store.make(*(spec.name for spec in specs))
        self._store.events += [f"create {spec.name}" for spec in specs]
        return {}

    def describe_topic_configs(self, topics: Iterable[str]) -> dict[str, TopicConfigs]:
        return dict.fromkeys(topics, TopicConfigs({}, {"cleanup.policy": "compact"}))
