"""The offset map's topic: which handler gets which records, what is replaced, what is in flight."""

from __future__ import annotations

import pytest

from kit.fakes.state import FakeReader, FakeWriter, StateTopic
from replicator.errors import ClusterError, StateError
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.map_topic import Fate, MapTopic
from replicator.state.records import ChunkKey, EpochsKey, SplitKey, Stored
from replicator.state.topics import ignored

TP = ("orders", 3)


class Told:
    """The arguments that handlers were called with."""

    def __init__(self, topic: MapTopic) -> None:
        self.chunks: list[tuple[int, Fate]] = []  # generations
        self.latest: list[int] = []
        topic.on(ChunkKey, self._chunk)
        topic.on_latest(EpochsKey, self._epochs)

    def _chunk(self, record: Stored[ChunkKey], fate: Fate) -> None:
        self.chunks.append((record.key.generation, fate))

    def _epochs(self, record: Stored[EpochsKey]) -> None:
        self.latest.append(record.key.generation)


@pytest.fixture
def read() -> MapTopic:
    return MapTopic("f")


@pytest.fixture
def told(read: MapTopic) -> Told:
    return Told(read)


def chunk(generation: int, *, flow: str = "f", partition: int = 3) -> bytes:
    return ChunkKey(flow, "orders", partition, generation, 0).encode()


def epochs(generation: int) -> bytes:
    return EpochsKey("f", *TP, generation).encode()


def owned(read: MapTopic, generation: int = 9) -> MapTopic:
    read.take_over({"orders": generation})
    return read


# --- reading --------------------------------------------------------------------------------------


def test_an_older_generation_than_one_before_does_not_count(read: MapTopic, told: Told) -> None:
    for offset, generation in enumerate((2, 2, 5, 3, 5)):
        read.read([(offset, chunk(generation), b"x")])
    assert told.chunks == [(2, "counts"), (2, "counts"), (5, "counts"), (3, "void"), (5, "counts")]


def test_generations_are_of_a_partition_and_of_all_its_kinds(read: MapTopic, told: Told) -> None:
    read.read([(0, epochs(5), b"x"), (1, chunk(3), b"x"), (2, chunk(3, partition=4), b"x")])
    assert told.chunks == [(3, "void"), (3, "counts")]
    assert read.generations.newest == 5
    assert read.generations.is_newest(TP, 5)
    assert not read.generations.is_newest(TP, 4)


def test_a_tombstone_says_nothing_of_generations(read: MapTopic, told: Told) -> None:
    read.read([(0, chunk(9), None), (1, chunk(3), b"x")])
    assert told.chunks == [(9, "deleted"), (3, "counts")]


def test_other_flows_and_kinds_without_a_handler_are_passed_over(
    read: MapTopic, told: Told
) -> None:
    split = SplitKey("f", *TP, 8).encode()
    read.read([(0, chunk(7, flow="g"), b"x"), (1, split, b"x"), (2, b'["later"]', b"x")])
    assert told.chunks == []
    assert read.generations.newest == -1


# --- whose records they are -----------------------------------------------------------------------


def test_this_sessions_keys_have_its_generation(read: MapTopic) -> None:
    owned(read, 9)
    assert read.key(ChunkKey, TP, 40, 50) == b'["chunk","f","orders",3,9,40,50]'
    assert read.key(EpochsKey, TP) == b'["epochs","f","orders",3,9]'


def test_a_topic_that_is_not_claimed_cannot_be_written(read: MapTopic) -> None:
    owned(read)
    with pytest.raises(KeyError):
        read.key(EpochsKey, ("payments", 0))


def test_a_map_newer_than_the_claims_is_refused(read: MapTopic, told: Told) -> None:
    read.read([(0, chunk(7), b"x")])
    with pytest.raises(StateError, match="of generation 7") as caught:
        read.take_over({"orders": 6})
    assert "orders-3" in caught.value.message
    read.take_over({"payments": 1})


# --- what is replaced, and what is on its way -----------------------------------------------------


def test_what_was_found_is_deleted_but_for_what_replaces_it(read: MapTopic, told: Told) -> None:
    """Older ones, void ones, and not those that are deleted already."""
    stored = StateTopic()
    for generation, value in ((4, b"x"), (6, b"x"), (5, b"x"), (6, None), (9, b"x")):
        stored.append(epochs(generation), value)
    read.read(FakeReader(stored).read_to_end())
    assert told.latest == [4, 6, 9]
    writer = FakeWriter(stored)
    owned(read).replace_found(EpochsKey, TP)
    read.replace([chunk(2)])
    read.clean(writer)
    deleted = [epochs(4), epochs(5), chunk(2)]
    assert sorted(writer.sent) == sorted((OFFSET_MAP_TOPIC, key, None) for key in deleted)
    read.clean(writer)
    assert len(writer.sent) == 3, "once"


def test_a_partition_is_quiet_when_everything_has_arrived_or_failed(read: MapTopic) -> None:
    said: list[object] = []
    first = read.on_the_way(TP, lambda error, offset: said.append((error, offset, read.quiet(TP))))
    second = read.on_the_way(TP, ignored)
    assert not read.quiet(TP)
    assert read.quiet(("orders", 4))
    second(None, 7)
    assert not read.quiet(TP)
    failure = ClusterError("target", "no replicas")
    first(failure, -1)
    assert said == [(failure, -1, True)], "counted off before it is told"
