"""The offset map against a dictionary, and what of the stored records goes into it."""

from __future__ import annotations

import itertools
from array import array
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copycore.segments import encode_segments
from delivery.fakes import FakeReader, FakeWriter, StateTopic
from replicator.errors import ExitCode, StateError
from replicator.offsets.map import PartitionMap
from replicator.offsets.store import Binding, OffsetMaps
from replicator.state import OFFSET_MAP_TOPIC

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
        fast.add(sources, counters)
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
        whole.add([3 * n], [2 * n])
    assert len(whole) == 5000
    assert [whole.source_of(c) for c in (0, 1, 2, 3, 9998, 9999, 10_000)] == [
        0, 1, 3, 4, 14_997, 14_998, 14_999,
    ]  # fmt: skip
    assert isinstance(whole.source_of(5), int)


def test_the_number_after_the_last_record_is_looked_for_behind_it() -> None:
    """Where a copy goes on: a segment that starts just there decides."""
    known = PartitionMap()
    known.add([10], [0])
    assert known.source_of(5) == 15
    known.add([40], [5])
    assert known.source_of(5) == 40
    assert known.source_of(4) == 14


def test_offsets_near_the_end_of_time() -> None:
    known = PartitionMap()
    known.add([2**62, 2**63 - 1], [2**61, 2**62])
    assert known.source_of(2**62) == 2**63 - 1
    assert known.source_of(2**61 + 5) == 2**62 + 5


# --- the stored records ---------------------------------------------------------------------------


def replayed(topic: StateTopic, flow: str = "f") -> OffsetMaps:
    maps = OffsetMaps(flow)
    for _, key, value in FakeReader(topic).read_to_end():
        maps.absorb(key, value)
    return maps


def test_what_is_written_is_read_back(topic: StateTopic) -> None:
    writer, maps = FakeWriter(topic), OffsetMaps("f")
    writer.write(
        OFFSET_MAP_TOPIC,
        [maps.binding_record(PLACE, BINDING), maps.chunk_record(PLACE, [100], [0])],
    )
    told: list[tuple[object, int]] = []
    maps.send_chunk(
        writer, PLACE, [(120, 10), (125, 12)], lambda error, offset: told.append((error, offset))
    )
    assert told == [(None, 2)]
    assert {name for name, _, _ in writer.sent} == {OFFSET_MAP_TOPIC}
    for known in (maps, replayed(topic)):
        assert known.bindings == {PLACE: BINDING}
        assert known.of(PLACE).sources.tolist() == [100, 120, 125]
        assert known.of(PLACE).counters.tolist() == [0, 10, 12]


def test_compaction_changes_nothing(topic: StateTopic) -> None:
    """Chunks that a later try wrote under the same first number replace each other."""
    writer, maps = FakeWriter(topic), OffsetMaps("f")
    writer.write(OFFSET_MAP_TOPIC, [maps.binding_record(PLACE, BINDING)])
    for sources, counters in (
        ([100], [0]),
        ([120, 130], [10, 15]),  # ahead of data that never came
        ([150], [18]),
        ([121, 140], [10, 12]),  # the next try saw other holes
        ([160], [18]),
    ):
        writer.write(OFFSET_MAP_TOPIC, [maps.chunk_record(PLACE, sources, counters)])
    before = replayed(topic)
    topic.compact()
    assert len(topic.records) == 4
    for known in (maps, before, replayed(topic)):
        assert known.of(PLACE).sources.tolist() == [100, 121, 140, 160]
        assert known.of(PLACE).counters.tolist() == [0, 10, 12, 18]


def test_other_flows_and_other_records_are_passed_over(topic: StateTopic) -> None:
    theirs = OffsetMaps("somebody else")
    FakeWriter(topic).write(
        OFFSET_MAP_TOPIC,
        [theirs.binding_record(PLACE, BINDING), theirs.chunk_record(PLACE, [5], [0])],
    )
    topic.append(b'["heartbeat","f"]', b"whatever")
    topic.append(b"", b"")
    topic.append(b"\xff\xfe", None)
    maps = replayed(topic)
    assert maps.bindings == {}
    assert not len(maps.of(PLACE))


def test_tombstones_are_passed_over(topic: StateTopic) -> None:
    maps = OffsetMaps("f")
    key, _ = maps.chunk_record(PLACE, [5], [0])
    topic.append(key, None)
    topic.append(maps.binding_record(PLACE, BINDING)[0], None)
    known = replayed(topic)
    assert known.bindings == {}
    assert not len(known.of(PLACE))


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
    writer, maps = FakeWriter(topic), OffsetMaps("f")
    other = ("other", 0)
    writer.write(
        OFFSET_MAP_TOPIC,
        [
            maps.binding_record(PLACE, BINDING),
            maps.chunk_record(PLACE, [100, 200], [0, 50]),
            maps.binding_record(other, BINDING),
            maps.chunk_record(other, [1], [0]),
        ],
    )
    new = msgspec.structs.replace(BINDING, **change)
    writer.write(OFFSET_MAP_TOPIC, [maps.binding_record(PLACE, new)])
    for known in (maps, replayed(topic)):
        assert known.bindings[PLACE] == new
        assert not len(known.of(PLACE))
        assert known.of(other).source_of(4) == 5


def test_the_same_binding_again_keeps_the_map(topic: StateTopic) -> None:
    writer, maps = FakeWriter(topic), OffsetMaps("f")
    records = [maps.binding_record(PLACE, BINDING), maps.chunk_record(PLACE, [100], [0])]
    writer.write(OFFSET_MAP_TOPIC, [*records, maps.binding_record(PLACE, BINDING)])
    assert replayed(topic).of(PLACE).source_of(1) == 101


CHUNK = encode_segments(array("q", [5]), array("q", [0]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b'["binding"', b"{}"),
        (b'["binding","f","t"]', b"{}"),
        (b'["binding","f","t","0"]', b"{}"),
        (b'["binding","f","t",0]', b"{}"),
        (b'["binding","f","t",0]', b""),
        (b'["binding","f","t",0]', b'{"source_id":1}'),
        (b'["chunk","f","t",0]', CHUNK),
        (b'["chunk","f","t",0,0]', b""),
        (b'["chunk","f","t",0,0]', b"\x80"),
        (b'["chunk","f","t",0,0]', CHUNK + b"\x01"),
        (b'["chunk","f","t",0,{}]', CHUNK),
        (b'["chunk",\xff\xff,"t",0,0]', CHUNK),
    ],
)
def test_broken_records_are_a_state_error(key: bytes, value: bytes) -> None:
    with pytest.raises(StateError) as caught:
        OffsetMaps("f").absorb(key, value)
    assert caught.value.exit_code == ExitCode.STATE
    assert OFFSET_MAP_TOPIC in caught.value.message
    assert "newer copystream" in (caught.value.hint or "")


def test_fields_of_a_newer_version_are_taken_as_they_come() -> None:
    """Unknown JSON fields are no reason to refuse a binding."""
    value = msgspec.json.encode(msgspec.to_builtins(BINDING) | {"since": "2030"})
    maps = OffsetMaps("f")
    maps.absorb(b'["binding","f","orders",3]', value)
    assert maps.bindings == {PLACE: BINDING}


def test_segments_that_are_none_are_never_written(topic: StateTopic) -> None:
    """The map stays as it is when a chunk is refused."""
    writer, maps = FakeWriter(topic), OffsetMaps("f")
    maps.chunk_record(PLACE, [100], [0])
    with pytest.raises(ValueError, match="segment"):
        maps.send_chunk(writer, PLACE, [(200, 5), (201, 9)], lambda *_: None)
    assert writer.sent == []
    assert maps.of(PLACE).source_of(7) == 107
