"""The offset map against a dictionary, and what of the stored records goes into it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copycore.segments import Segments
from kit.fakes.state import FakeReader, FakeWriter, StateTopic
from replicator.errors import ClusterError, ExitCode, StateError
from replicator.offsets import chunks, stored
from replicator.offsets.chunks import LARGEST_CHUNK
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.partition_map import PartitionMap
from replicator.offsets.stored import FULL
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.map_topic import MapTopic
from replicator.state.records import Binding

PLACE = ("orders", 3)
BINDING = Binding(
    source_id="source-id",
    target_topic="orders",
    target_id="target-id",
    base=7,
    producer_id=4001,
    producer_epoch=0,
)
REACH = 120  # numbers the dictionary knows


@dataclass
class Slow:
    """Number → source offset, one by one, up to ``REACH``."""

    known: dict[int, int] = field(default_factory=dict)

    def add(self, sources: list[int], counters: list[int]) -> None:
        # From its first number on, a chunk is the only truth.
        self.known = {c: s for c, s in self.known.items() if c < counters[0]}
        ends = [*counters[1:], REACH + 1]
        for source, first, end in zip(sources, counters, ends, strict=True):
            for counter in range(first, end):
                self.known[counter] = source + counter - first


@st.composite
def small_chunks(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    counters = sorted(draw(st.sets(st.integers(0, REACH - 1), min_size=1, max_size=8)))
    sources = [draw(st.integers(0, 1000))]
    for before, after in itertools.pairwise(counters):
        sources.append(sources[-1] + after - before + draw(st.integers(0, 5)))
    return sources, counters


@settings(deadline=None, max_examples=200)
@given(st.lists(small_chunks(), min_size=1, max_size=8))
def test_later_chunks_void_what_they_begin_before(
    written: list[tuple[list[int], list[int]]],
) -> None:
    fast, slow = PartitionMap(), Slow()
    for sources, counters in written:
        fast.add(Segments(sources, counters))
        slow.add(sources, counters)
        for counter in range(REACH):
            if counter in slow.known:
                assert fast.source_of(counter) == slow.known[counter]
            else:
                with pytest.raises(LookupError):
                    fast.source_of(counter)
        assert list(fast.counters) == sorted(set(fast.counters.tolist()))
        assert len(fast) == len(fast.sources) == len(fast.counters)


def test_an_empty_map_knows_nothing() -> None:
    with pytest.raises(LookupError, match="before the map's first segment"):
        PartitionMap().source_of(0)


def test_a_map_grows_to_many_segments() -> None:
    whole = PartitionMap()
    for n in range(5000):
        whole.add(Segments([3 * n], [2 * n]))
    assert len(whole) == 5000
    assert [whole.source_of(c) for c in (0, 1, 2, 3, 9998, 9999, 10_000)] == [
        0, 1, 3, 4, 14_997, 14_998, 14_999,
    ]  # fmt: skip
    assert isinstance(whole.source_of(5), int)


def test_the_number_after_the_last_record_is_looked_for_after_it() -> None:
    """A copy goes on there: a segment that starts exactly at that number decides."""
    known = PartitionMap()
    known.add(Segments([10], [0]))
    assert known.source_of(5) == 15
    known.add(Segments([40], [5]))
    assert known.source_of(5) == 40
    assert known.source_of(4) == 14


def test_offsets_near_the_end_of_time() -> None:
    known = PartitionMap()
    known.add(Segments([2**62, 2**63 - 1], [2**61, 2**62]))
    assert known.source_of(2**62) == 2**63 - 1
    assert known.source_of(2**61 + 5) == 2**62 + 5


# --- the stored records ---------------------------------------------------------------------------


def ours(generation: int = 1) -> OffsetMaps:
    """A map that a session writes."""
    maps = OffsetMaps(MapTopic("f"))
    maps.topic.take_over({PLACE[0]: generation, "other": generation})
    return maps


def replayed(topic: StateTopic, flow: str = "f") -> OffsetMaps:
    maps = OffsetMaps(MapTopic(flow))
    maps.topic.read(FakeReader(topic).read_to_end())
    return maps


def answers(known: OffsetMaps, counters: list[int]) -> list[int]:
    return [known.source_of(PLACE, counter) for counter in counters]


def test_what_is_written_is_read_back(topic: StateTopic) -> None:
    writer, maps = FakeWriter(topic), ours()
    maps.write_bindings(writer, [(PLACE, BINDING, 100)])
    told: list[tuple[object, int]] = []
    maps.send_segments(
        writer,
        PLACE,
        Segments.of([(120, 10), (125, 12)]),
        lambda error, offset: told.append((error, offset)),
    )
    assert told == [(None, 2)]
    assert {name for name, _, _ in writer.sent} == {OFFSET_MAP_TOPIC}
    for known in (maps, replayed(topic)):
        assert known.binding(PLACE) == BINDING
        assert known.segments(PLACE) == 3
        assert answers(known, [0, 9, 10, 11, 12, 13]) == [100, 109, 120, 121, 125, 126]


def test_a_segment_joins_the_map_only_when_it_is_durable(topic: StateTopic) -> None:
    """Records after a segment that was never written would have none after a crash (D12)."""
    writer, maps = FakeWriter(topic), ours()
    maps.write_bindings(writer, [(PLACE, BINDING, 100)])
    writer.failure = ClusterError("target", "no")
    told: list[object] = []
    maps.send_segments(
        writer, PLACE, Segments.of([(120, 10)]), lambda error, _offset: told.append(error)
    )
    assert told == [writer.failure]
    assert answers(maps, [10]) == [110]
    with pytest.raises(ClusterError):
        maps.write_bindings(writer, [(("other", 0), BINDING, 7)])
    assert maps.binding(("other", 0)) is None
    assert maps.segments(("other", 0)) == 0


def test_compaction_changes_nothing(topic: StateTopic) -> None:
    """Chunks that a later try wrote under the same first number stay beside each other."""
    writer, maps = FakeWriter(topic), ours()
    maps.write_bindings(writer, [(PLACE, BINDING, 100)])
    for segments in (
        [(120, 10), (130, 15)],  # ahead of data that never came
        [(150, 18)],
        [(121, 10), (140, 12)],  # the next try saw other holes
        [(160, 18)],
    ):
        maps.send_segments(writer, PLACE, Segments.of(segments), lambda *_: None)
    before = replayed(topic)
    topic.compact()
    assert len(topic.records) == 6
    for known in (maps, before, replayed(topic)):
        assert known.segments(PLACE) == 4
        assert answers(known, [0, 10, 12, 18]) == [100, 121, 140, 160]


def taken_over(topic: StateTopic, generation: int, counter: int) -> OffsetMaps:
    """Takes the map over as the next session does."""
    maps, writer = replayed(topic), FakeWriter(topic)
    maps.topic.take_over({PLACE[0]: generation, "other": generation})
    maps.restate(writer, [(PLACE, counter)])
    maps.topic.clean(writer)
    return maps


def test_what_a_predecessor_had_on_its_way_counts_for_nothing(topic: StateTopic) -> None:
    """Its late records would void segments that its successor relies on (D19)."""
    writer, first = FakeWriter(topic), ours(3)
    first.write_bindings(writer, [(PLACE, BINDING, 100)])
    first.send_segments(writer, PLACE, Segments.of([(120, 10), (130, 15)]), lambda *_: None)
    writer.hold = True
    first.send_segments(writer, PLACE, Segments.of([(122, 11)]), lambda *_: None)
    second = taken_over(topic, 8, 11)
    second.send_segments(FakeWriter(topic), PLACE, Segments.of([(140, 18)]), lambda *_: None)
    writer.deliver()
    before = replayed(topic)
    topic.compact()
    for known in (second, before, replayed(topic), taken_over(topic, 9, 12), replayed(topic)):
        assert answers(known, [9, 10, 11, 15, 18]) == [109, 120, 121, 130, 140]


def test_a_late_chunk_of_a_predecessor_replaces_none_that_counts(topic: StateTopic) -> None:
    """The target's log had lost records, so the predecessor had gone back when it was taken over.
    Compaction keeps the later of two records with one key, whether it counts or not.
    """
    writer, first = FakeWriter(topic), ours(3)
    first.write_bindings(writer, [(PLACE, BINDING, 100)])
    first.send_segments(writer, PLACE, Segments.of([(130, 15)]), lambda *_: None)
    writer.hold = True
    first.send_segments(writer, PLACE, Segments.of([(101, 0)]), lambda *_: None)
    second = taken_over(topic, 8, 16)  # a chunk alone is left as it is
    writer.deliver()
    before = replayed(topic)
    topic.compact()
    for known in (second, before, replayed(topic), taken_over(topic, 9, 17), replayed(topic)):
        assert answers(known, [0, 14, 15, 18]) == [100, 114, 130, 133]


def test_chunks_with_one_first_counter_are_told_apart_for_any_reader(topic: StateTopic) -> None:
    """The version before reads an end from the key, and accepts one that no record reaches."""
    writer, maps = FakeWriter(topic), ours(3)
    maps.write_bindings(writer, [(PLACE, BINDING, 100)])
    for source in (121, 122):
        maps.send_segments(writer, PLACE, Segments.of([(source, 10)]), lambda *_: None)
    keys = [msgspec.json.decode(key) for _, key, _ in topic.records if b"chunk" in key]
    assert [key[5:] for key in keys] == [[0], [10], [10, 1 << 62]]
    assert answers(replayed(topic), [9, 10, 10**9]) == [109, 122, 10**9 + 112]


def test_a_binding_of_a_predecessor_counts_for_nothing(topic: StateTopic) -> None:
    late, first, second = FakeWriter(topic), ours(3), ours(4)
    late.before = lambda: second.write_bindings(FakeWriter(topic), [(PLACE, BINDING, 100)])
    first.write_bindings(late, [(PLACE, msgspec.structs.replace(BINDING, producer_id=1), 50)])
    topic.compact()
    known = replayed(topic)
    assert known.binding(PLACE) == BINDING
    assert known.source_of(PLACE, 0) == 100


def test_what_is_replaced_is_deleted(topic: StateTopic) -> None:
    """However often a copy is run, its map does not grow by it."""
    ours(1).write_bindings(FakeWriter(topic), [(PLACE, BINDING, 100)])
    for generation in range(2, 20):
        taken_over(topic, generation, generation)
    topic.compact()
    assert len(topic.compacted()) == 2
    assert replayed(topic).source_of(PLACE, 4) == 104


def test_small_chunks_are_merged_when_a_map_is_taken_over(topic: StateTopic) -> None:
    """A follower writes one for each hole; the next one to hold the map makes few of them."""
    maps, writer = ours(1), FakeWriter(topic)
    maps.write_bindings(writer, [(PLACE, BINDING, 0)])
    for n in range(1, 5000):
        maps.send_segments(writer, PLACE, Segments.of([(2 * n, n)]), lambda *_: None)
    assert replayed(topic).crowded(PLACE)
    taken_over(topic, 2, 4990)
    assert len(topic.compacted()) == 3  # the binding, what was merged, the end
    taken_over(topic, 3, 4995)
    assert len(topic.compacted()) == 3
    for known in (replayed(topic), taken_over(topic, 4, 4995)):
        assert answers(known, [0, 5, 4000, 5000]) == [0, 10, 8000, 9999]


def test_large_chunks_are_left_alone(topic: StateTopic) -> None:
    maps, writer = ours(1), FakeWriter(topic)
    maps.write_bindings(writer, [(PLACE, BINDING, 0)])
    large = Segments([2 * n for n in range(1, FULL + 1)], list(range(1, FULL + 1)))
    maps.send_segments(writer, PLACE, large, lambda *_: None)
    for n in range(FULL + 1, FULL + 100):
        maps.send_segments(writer, PLACE, Segments.of([(2 * n, n)]), lambda *_: None)
    before = topic.compacted()
    taken_over(topic, 2, FULL + 90)
    after = topic.compacted()
    kept = [key for key, value in after.items() if before.get(key) == value]
    assert [msgspec.json.decode(key)[5:] for key in kept] == [[], [0], [1]]
    assert len(after) == len(kept) + 2
    assert answers(replayed(topic), [1, FULL, FULL + 99]) == [2, 2 * FULL, 2 * FULL + 198]


@dataclass
class Life:
    """A topic, what its map is by the dictionary, and the newest generation that wrote."""

    topic: StateTopic = field(default_factory=StateTopic)
    slow: Slow = field(default_factory=Slow)
    generation: int = 1
    fence: int = REACH  # late records are from there on: nothing was sent after what they say

    def begin(self) -> None:
        ours(1).write_bindings(FakeWriter(self.topic), [(PLACE, BINDING, 0)])
        self.slow.add([0], [0])

    def write(self, counters: list[int], holes: list[int], generation: int) -> None:
        """Segments that follow what the map says before the first of these counters."""
        sources: list[int] = []
        at = self.slow.known[counters[0] - 1] + 1 if counters[0] else 0
        ends = [*counters[1:], counters[-1]]
        for counter, end, hole in zip(counters, ends, holes, strict=False):
            sources.append(at + hole)
            at += hole + end - counter
        maps = ours(generation)
        chunk = Segments(sources, counters)
        maps.send_segments(FakeWriter(self.topic), PLACE, chunk, lambda *_: None)
        if generation == self.generation:
            self.slow.add(sources, counters)
            self.fence = REACH

    def take_over(self, counter: int, written: int, deleted: int) -> None:
        """Up to a crash after so many records and so many deletions."""
        self.generation += 1
        maps, paper = replayed(self.topic), FakeWriter(StateTopic())
        maps.topic.take_over({PLACE[0]: self.generation})
        maps.restate(paper, [(PLACE, counter)])
        whole = len(paper.sent) <= written
        maps.topic.clean(paper)
        values = [entry for entry in paper.sent if entry[2] is not None]
        deletions = [entry for entry in paper.sent if entry[2] is None]
        for _, key, value in values[:written] + (deletions[:deleted] if whole else []):
            self.topic.append(key, value)
        fields = [len(msgspec.json.decode(key)) for _, key, _ in values]
        self.fence = counter if written > fields.index(6) else REACH

    def check(self) -> None:
        known = replayed(self.topic)
        assert {c: known.source_of(PLACE, c) for c in range(REACH)} == {
            c: self.slow.known[c] for c in range(REACH)
        }


HOLES = st.lists(st.integers(0, 5), min_size=8, max_size=8)
COUNTERS = st.lists(st.integers(0, REACH - 1), min_size=1, max_size=8, unique=True).map(sorted)
ACTS = st.one_of(
    st.tuples(st.just("write"), COUNTERS, HOLES),
    st.tuples(st.just("late"), COUNTERS, HOLES),
    st.tuples(
        st.just("take over"),
        st.integers(0, REACH - 1),
        st.integers(1, 8) | st.just(99),
        st.integers(0, 8) | st.just(99),
    ),
    st.just(("compact",)),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(ACTS, max_size=25), st.integers(2, 6), st.integers(1, 8))
def test_merging_says_what_was_said_before(
    acts: list[tuple[Any, ...]], full: int, largest: int
) -> None:
    """Whatever is written, in whichever order of crashes, takeovers, compactions and late records
    of an earlier holder.
    """
    with (
        mock.patch.object(stored, "FULL", full),
        mock.patch.object(chunks, "LARGEST_CHUNK", largest),
    ):
        life = Life()
        life.begin()
        for act in acts:
            match act:
                case ("write", counters, holes):
                    life.write(counters, holes, life.generation)
                case ("late", counters, holes) if life.fence <= counters[0]:
                    life.write(counters, holes, life.generation - 1)
                case ("take over", counter, written, deleted):
                    life.take_over(counter, written, deleted)
                case ("compact",):
                    life.topic.compact()
            life.check()
        for _ in range(2):
            life.take_over(REACH - 1, 99, 99)
            life.topic.compact()
            life.check()


def test_many_segments_at_once_are_several_records(topic: StateTopic) -> None:
    """A broker takes records of 1 MB; they are durable when the last one is."""
    maps, writer = ours(), FakeWriter(topic)
    maps.write_bindings(writer, [(PLACE, BINDING, 0)])
    count = 2 * LARGEST_CHUNK + 7
    many = Segments(
        [10_000_000 * n for n in range(1, count + 1)], [2 * n for n in range(1, count + 1)]
    )
    told: list[object] = []
    writer.hold = True
    maps.send_segments(writer, PLACE, many, lambda error, _offset: told.append(error))
    assert len(writer.held) == 3
    assert all(len(value or b"") < 900_000 for _, value, _ in writer.held)
    held, writer.held = writer.held, []
    for number, (key, value, delivered) in enumerate(held):
        assert (told, maps.segments(PLACE)) == ([], 1), number
        delivered(None, topic.append(key, value))
    assert told == [None]
    for known in (maps, replayed(topic)):
        assert answers(known, [2, 3, 2 * count]) == [10_000_000, 10_000_001, 10_000_000 * count]


def test_a_registry_that_went_back_is_refused(topic: StateTopic) -> None:
    ours(7).write_bindings(FakeWriter(topic), [(PLACE, BINDING, 100)])
    known = replayed(topic)
    known.topic.take_over({"other": 1})
    with pytest.raises(StateError, match=r"generation 7.*ends at 6") as caught:
        known.topic.take_over({PLACE[0]: 6})
    assert caught.value.exit_code == ExitCode.STATE


def test_other_flows_and_other_records_are_passed_over(topic: StateTopic) -> None:
    others = OffsetMaps(MapTopic("another flow"))
    others.topic.take_over({PLACE[0]: 1})
    others.write_bindings(FakeWriter(topic), [(PLACE, BINDING, 5)])
    topic.append(b'["heartbeat","f"]', b"whatever")
    topic.append(b"", b"")
    topic.append(b"\xff\xfe", None)
    maps = replayed(topic)
    assert maps.binding(PLACE) is None
    assert maps.segments(PLACE) == 0


def test_tombstones_are_passed_over(topic: StateTopic) -> None:
    writer = FakeWriter(StateTopic())
    ours().write_bindings(writer, [(PLACE, BINDING, 5)])
    for _, key, _ in writer.sent:
        topic.append(key, None)
    known = replayed(topic)
    assert known.binding(PLACE) is None
    assert known.segments(PLACE) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"source_id": "another source topic of that name"},
        {"target_id": "another target topic of that name"},
        {"base": 90},
        {"producer_id": 4002},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_new_binding_voids_the_map(topic: StateTopic, change: dict[str, object]) -> None:
    """A binding is written for a first copy only: what was known is of other topics (D3)."""
    writer, maps = FakeWriter(topic), ours()
    other = ("other", 0)
    maps.write_bindings(writer, [(PLACE, BINDING, 100), (other, BINDING, 1)])
    maps.send_segments(writer, PLACE, Segments.of([(200, 50)]), lambda *_: None)
    new = msgspec.structs.replace(BINDING, **change)
    topic.append(msgspec.json.encode(["binding", "f", *PLACE, 1]), msgspec.json.encode(new))
    known = replayed(topic)
    assert known.binding(PLACE) == new
    assert known.segments(PLACE) == 0
    assert known.source_of(other, 4) == 5


def test_the_same_binding_again_keeps_the_map(topic: StateTopic) -> None:
    ours().write_bindings(FakeWriter(topic), [(PLACE, BINDING, 100)])
    topic.append(msgspec.json.encode(["binding", "f", *PLACE, 1]), msgspec.json.encode(BINDING))
    assert replayed(topic).source_of(PLACE, 1) == 101


CHUNK = Segments([5], [0]).encode()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b'["binding"', b"{}"),
        (b'["binding","f","t",0]', b"{}"),
        (b'["binding","f","t","0",1]', b"{}"),
        (b'["binding","f","t",0,1]', b"{}"),
        (b'["binding","f","t",0,1]', b""),
        (b'["binding","f","t",0,1]', b'{"source_id":1}'),
        (b'["chunk","f","t",0,1]', CHUNK),
        (b'["chunk","f","t",0,1,0]', b""),
        (b'["chunk","f","t",0,1,0]', b"\x80"),
        (b'["chunk","f","t",0,1,0]', CHUNK + b"\x01"),
        (b'["chunk","f","t",0,1,{}]', CHUNK),
        (b'["chunk",\xff\xff,"t",0,1,0]', CHUNK),
    ],
)
def test_broken_records_are_a_state_error(key: bytes, value: bytes) -> None:
    with pytest.raises(StateError) as caught:
        OffsetMaps(MapTopic("f")).topic.read([(0, key, value)])
    assert caught.value.exit_code == ExitCode.STATE
    assert OFFSET_MAP_TOPIC in caught.value.message
    assert "newer copystream" in (caught.value.hint or "")


def test_fields_of_a_newer_version_are_taken_as_they_come() -> None:
    """Unknown JSON fields are no reason to refuse a binding."""
    value = msgspec.json.encode(msgspec.to_builtins(BINDING) | {"since": "2030"})
    maps = OffsetMaps(MapTopic("f"))
    maps.topic.read([(0, b'["binding","f","orders",3,1]', value)])
    assert maps.binding(PLACE) == BINDING


def test_segments_that_are_none_are_never_written(topic: StateTopic) -> None:
    """The map stays as it is when a chunk is refused."""
    writer, maps = FakeWriter(topic), ours()
    maps.write_bindings(writer, [(PLACE, BINDING, 100)])
    sent = len(writer.sent)
    with pytest.raises(ValueError, match="segment"):
        maps.send_segments(writer, PLACE, Segments.of([(200, 5), (201, 9)]), lambda *_: None)
    assert len(writer.sent) == sent
    assert maps.segments(PLACE) == 1
