"""Leader epochs of the source: the list against a slow one, and how they are stored."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copycore.segments import Segments
from kit.fakes.state import FakeReader, FakeWriter, StateTopic
from offsets.test_offset_map import BINDING, PLACE, ours, replayed, taken_over
from replicator.errors import ClusterError, CopystreamError, StateError
from replicator.offsets.maps import OffsetMaps
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.map_topic import MapTopic
from replicator.state.records import LATEST_EPOCHS, Epochs

Pairs = tuple[tuple[int, int], ...]

REACH = 60  # offsets the slow list knows


@st.composite
def pairs(draw: st.DrawFn, *, least: int = 0) -> Pairs:
    """Epochs and offsets both ascend."""
    starts = sorted(draw(st.sets(st.integers(0, REACH), min_size=least, max_size=6)))
    epochs = sorted(draw(st.sets(st.integers(0, 15), min_size=len(starts), max_size=len(starts))))
    return tuple(zip(starts, epochs, strict=True))


def batch_by_batch(found: Pairs) -> dict[int, int]:
    """The epoch of the batch before each offset, offset by offset."""
    before, now = {}, -1
    starts = dict(found)
    for offset in range(REACH + 5):
        before[offset] = now
        now = starts.get(offset, now)
    return before


@given(pairs())
def test_the_epoch_before_an_offset(starts: Pairs) -> None:
    found = Epochs(starts)
    assert {offset: found.at(offset) for offset in range(REACH + 5)} == batch_by_batch(starts)


@settings(max_examples=300)
@given(pairs(), pairs())
def test_new_epochs_replace_what_was_after_them(old: Pairs, new: Pairs) -> None:
    """A log that was cut off and written anew has the new epochs from there on, and before that
    none that is as high: epochs only grow.
    """
    merged = Epochs(old).merged(new)
    first = new[0] if new else (REACH + 10, 99)
    before = batch_by_batch(old)
    for offset in range(REACH + 5):
        known = batch_by_batch(new)[offset]
        if known < 0:
            kept = [epoch for start, epoch in old if start < min(offset, first[0])]
            known = max([epoch for epoch in kept if epoch < first[1]], default=-1)
            if not new:
                known = before[offset]
        assert merged.at(offset) == known
    assert list(merged.starts) == sorted(set(merged.starts))
    assert [epoch for _, epoch in merged.starts] == sorted({epoch for _, epoch in merged.starts})
    assert merged.merged(new) == merged
    assert Epochs(old).merged(()) == Epochs(old)


@given(pairs(), pairs(), st.integers(0, REACH + 5))
def test_what_is_not_stored_up_to_an_offset(stored: Pairs, known: Pairs, offset: int) -> None:
    missing = Epochs(stored).missing(Epochs(known), offset)
    assert set(missing) == {one for one in known if one[0] < offset} - set(stored)
    assert list(missing) == sorted(missing)


def test_only_the_latest_epochs_are_kept() -> None:
    many = [(10 * n, n) for n in range(LATEST_EPOCHS + 20)]
    found = Epochs().merged(many[:-1]).merged(many[-1:])
    assert len(found.starts) == LATEST_EPOCHS
    assert found.starts == tuple(many[-LATEST_EPOCHS:])
    assert found.at(200) == -1
    assert found.at(10_000) == LATEST_EPOCHS + 19


# --- stored ---------------------------------------------------------------------------------------


def kinds(topic: StateTopic) -> list[str]:
    return [msgspec.json.decode(key)[0] for _, key, _ in topic.records]


def test_epochs_are_durable_before_the_segments_that_come_with_them(topic: StateTopic) -> None:
    """A segment that is found has its epoch; the other way round a log that was cut off between
    them could not be told from the one that was copied."""
    writer, maps = FakeWriter(topic), ours()
    maps.write_bindings(writer, [(PLACE, BINDING, 100)])
    writer.hold = True
    told: list[CopystreamError | None] = []
    segments = Segments.of([(120, 10)])
    maps.send_segments(writer, PLACE, segments, lambda error, _: told.append(error), [(120, 4)])
    assert [msgspec.json.decode(key)[0] for key, _, _ in writer.held] == ["epochs"]
    assert not maps.settled(PLACE)
    writer.deliver()
    assert (told, maps.epochs(PLACE)) == ([], Epochs(((120, 4),)))
    assert [msgspec.json.decode(key)[0] for key, _, _ in writer.held] == ["chunk"]
    writer.deliver()
    assert told == [None]
    assert maps.settled(PLACE)
    assert kinds(topic) == ["binding", "chunk", "epochs", "chunk"]
    assert {name for name, _, _ in writer.sent} == {OFFSET_MAP_TOPIC}
    for known in (maps, replayed(topic)):
        assert known.epochs(PLACE) == Epochs(((120, 4),))
        assert known.source_of(PLACE, 10) == 120


def test_an_epoch_without_a_segment_is_told_when_it_is_durable(topic: StateTopic) -> None:
    writer, maps = FakeWriter(topic), ours()
    maps.write_bindings(writer, [(PLACE, BINDING, 100)])
    writer.hold = True
    told: list[object] = []
    maps.send_segments(writer, PLACE, Segments(), lambda error, _: told.append(error), [(100, 4)])
    assert told == []
    writer.deliver()
    assert (told, writer.held) == ([None], [])
    assert kinds(topic)[2:] == ["epochs"]
    assert maps.settled(PLACE)


def test_epochs_that_are_stored_already_are_not_written_again(topic: StateTopic) -> None:
    """A lane reports all that it has found since it began, each time."""
    writer, maps = FakeWriter(topic), ours()
    maps.write_bindings(writer, [(PLACE, BINDING, 100)])
    for number, epochs in enumerate([[(100, 4)], [(100, 4)], [(100, 4), (130, 5)]]):
        segments = Segments.of([(130 + number, 5 + number)]) if number else Segments()
        maps.send_segments(writer, PLACE, segments, lambda *_: None, epochs)
    assert kinds(topic)[2:] == ["epochs", "chunk", "epochs", "chunk"]
    assert replayed(topic).epochs(PLACE) == Epochs(((100, 4), (130, 5)))
    topic.compact()
    assert replayed(topic).epochs(PLACE) == Epochs(((100, 4), (130, 5)))


def test_epochs_that_could_not_be_written_hold_their_segments_back(topic: StateTopic) -> None:
    writer, maps = FakeWriter(topic), ours()
    maps.write_bindings(writer, [(PLACE, BINDING, 100)])
    before = len(topic.records)
    writer.failure = ClusterError("target", "no")
    told: list[object] = []
    segments = Segments.of([(120, 10)])
    maps.send_segments(writer, PLACE, segments, lambda error, _: told.append(error), [(120, 4)])
    assert told == [writer.failure]
    assert len(topic.records) == before
    assert [msgspec.json.decode(key)[0] for _, key, _ in writer.sent[before:]] == ["epochs"]
    assert (maps.epochs(PLACE), maps.source_of(PLACE, 10)) == (Epochs(), 110)
    assert maps.settled(PLACE)


def test_segments_that_could_not_be_written_leave_their_epochs(topic: StateTopic) -> None:
    """Stored epochs are true without the segments."""
    writer, maps = FakeWriter(topic), ours()
    maps.write_bindings(writer, [(PLACE, BINDING, 100)])
    writer.hold = True
    told: list[object] = []
    segments = Segments.of([(120, 10)])
    maps.send_segments(writer, PLACE, segments, lambda error, _: told.append(error), [(120, 4)])
    writer.deliver()
    ((_, _, delivered),) = writer.held
    failure = ClusterError("target", "timed out")
    delivered(failure, -1)
    assert told == [failure]
    assert maps.epochs(PLACE) == replayed(topic).epochs(PLACE) == Epochs(((120, 4),))
    assert maps.source_of(PLACE, 10) == 110
    assert not maps.settled(PLACE), "the chunk may be in the log all the same"


def test_no_later_segment_overtakes_one_that_waits_for_its_epochs(
    topic: StateTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane's thread reports the next hole just when the writer's thread has learned that the
    epochs are durable: the chunk that waited for them would void the later one."""
    writer, maps = FakeWriter(topic), ours()
    maps.write_bindings(writer, [(PLACE, BINDING, 100)])
    keep, later = OffsetMaps._keep_epochs, Segments.of([(150, 20)])

    def meanwhile(self: OffsetMaps, place: tuple[str, int], epochs: Epochs) -> None:
        keep(self, place, epochs)
        monkeypatch.setattr(OffsetMaps, "_keep_epochs", keep)
        maps.send_segments(writer, PLACE, later, lambda *_: None, [(120, 4)])

    monkeypatch.setattr(OffsetMaps, "_keep_epochs", meanwhile)
    maps.send_segments(writer, PLACE, Segments.of([(120, 10)]), lambda *_: None, [(120, 4)])
    for known in (maps, replayed(topic)):
        assert [known.source_of(PLACE, n) for n in (9, 10, 19, 20)] == [109, 120, 129, 150]


def test_the_epochs_of_a_first_copy_are_written_with_its_binding(topic: StateTopic) -> None:
    writer, maps = FakeWriter(topic), ours()
    other = ("other", 0)
    new = [(PLACE, BINDING, 100), (other, BINDING, 7)]
    maps.write_bindings(writer, new, {PLACE: Epochs(((100, 3),))})
    assert kinds(topic) == ["epochs", "binding", "chunk", "binding", "chunk"]
    for known in (maps, replayed(topic)):
        assert known.epochs(PLACE) == Epochs(((100, 3),))
        assert known.epochs(other) == Epochs()


def test_epochs_are_restated_by_each_session(topic: StateTopic) -> None:
    first = ours(1)
    first.write_bindings(FakeWriter(topic), [(PLACE, BINDING, 100)], {PLACE: Epochs(((100, 3),))})
    for generation in range(2, 9):
        taken_over(topic, generation, 4)
    topic.compact()
    keys = [msgspec.json.decode(key) for key in topic.compacted() if key.startswith(b'["epochs"')]
    assert [key[4] for key in keys] == [8], "what is replaced is deleted"
    assert replayed(topic).epochs(PLACE) == Epochs(((100, 3),))


def test_epochs_of_an_older_session_that_arrive_late_count_for_nothing(topic: StateTopic) -> None:
    late, first = FakeWriter(topic), ours(3)
    first.write_bindings(FakeWriter(topic), [(PLACE, BINDING, 100)], {PLACE: Epochs(((100, 3),))})
    late.hold = True
    first.send_segments(late, PLACE, Segments(), lambda *_: None, [(110, 4)])
    second = taken_over(topic, 8, 4)
    second.send_segments(FakeWriter(topic), PLACE, Segments(), lambda *_: None, [(150, 6)])
    late.deliver()
    wanted = Epochs(((100, 3), (150, 6)))
    before = replayed(topic)
    topic.compact()
    for known in (second, before, replayed(topic), taken_over(topic, 9, 4)):
        assert known.epochs(PLACE) == wanted


def test_epochs_from_before_a_newer_chunk_do_not_count(topic: StateTopic) -> None:
    """A version that knows no epochs went on with the copy: those it met are missing, and the
    latest that is known may have ended before what it copied."""
    first = ours(3)
    first.write_bindings(FakeWriter(topic), [(PLACE, BINDING, 100)], {PLACE: Epochs(((100, 3),))})
    topic.append(
        msgspec.json.encode(["chunk", "f", *PLACE, 4, 10]), Segments.of([(130, 10)]).encode()
    )
    known = replayed(topic)
    assert known.epochs(PLACE) == Epochs()
    assert known.source_of(PLACE, 10) == 130
    # And the session after it does not state them again.
    assert taken_over(topic, 5, 11).epochs(PLACE) == Epochs()
    assert replayed(topic).epochs(PLACE) == Epochs()


# What the version before this one wrote: a binding, and two chunks with a hole between.
OLDER = [
    (
        b'["binding","f","orders",3,1]',
        b'{"source_id":"source-id","target_topic":"orders","target_id":"target-id","base":7,'
        b'"producer_id":4001,"producer_epoch":0}',
    ),
    (b'["chunk","f","orders",3,1,0]', bytes.fromhex("6400")),
    (b'["chunk","f","orders",3,1,10]', bytes.fromhex("780a0203")),
]


def test_what_the_version_before_wrote_is_read(topic: StateTopic) -> None:
    for key, value in OLDER:
        topic.append(key, value)
    known = replayed(topic)
    assert known.binding(PLACE) == BINDING
    assert [known.source_of(PLACE, n) for n in (0, 9, 10, 12)] == [100, 109, 120, 125]
    assert known.epochs(PLACE) == Epochs()
    # The next session goes on with it, and notes the epochs that it meets.
    maps, writer = taken_over(topic, 2, 12), FakeWriter(topic)
    maps.send_segments(writer, PLACE, Segments(), lambda *_: None, [(125, 4)])
    assert replayed(topic).epochs(PLACE) == Epochs(((125, 4),))
    assert [replayed(topic).source_of(PLACE, n) for n in (0, 12)] == [100, 125]


def test_what_is_written_without_epochs_is_what_the_version_before_wrote(topic: StateTopic) -> None:
    maps, writer = ours(), FakeWriter(topic)
    maps.write_bindings(writer, [(PLACE, BINDING, 100)])
    maps.send_segments(writer, PLACE, Segments.of([(120, 10), (125, 12)]), lambda *_: None)
    formatted = b'"format":1,'  # which that version passes over
    records = [(key, (value or b"").replace(formatted, b"")) for _, key, value in topic.records]
    assert records == OLDER


def test_epochs_of_other_flows_are_passed_over(topic: StateTopic) -> None:
    topic.append(b'["epochs","another","orders",3,1]', b'{"starts":[[0,1]]}')
    assert replayed(topic).epochs(PLACE) == Epochs()


def test_a_tombstone_takes_nothing_away(topic: StateTopic) -> None:
    """The tombstone follows the epochs that a newer session has written."""
    topic.append(b'["epochs","f","orders",3,1]', b'{"starts":[[0,1]]}')
    topic.append(b'["epochs","f","orders",3,2]', b'{"starts":[[0,1]]}')
    topic.append(b'["epochs","f","orders",3,1]', None)
    assert replayed(topic).epochs(PLACE) == Epochs(((0, 1),))


def test_fields_of_a_newer_version_are_taken_as_they_come(topic: StateTopic) -> None:
    topic.append(b'["epochs","f","orders",3,1]', b'{"starts":[[0,1]],"since":"2030"}')
    assert replayed(topic).epochs(PLACE) == Epochs(((0, 1),))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b'["epochs"', b"{}"),
        (b'["epochs","f","t",0]', b"{}"),
        (b'["epochs","f","t","0",1]', b"{}"),
        (b'["epochs","f","t",0,1]', b""),
        (b'["epochs","f","t",0,1]', b'{"starts":[[0]]}'),
        (b'["epochs","f","t",0,1]', b'{"starts":[[0,"1"]]}'),
        (b'["epochs","f","t",0,1]', b'{"starts":7}'),
        (b'["epochs",\xff\xff,"t",0,1]', b"{}"),
    ],
)
def test_broken_records_are_a_state_error(key: bytes, value: bytes) -> None:
    with pytest.raises(StateError) as caught:
        OffsetMaps(MapTopic("f")).topic.read([(0, key, value)])
    assert OFFSET_MAP_TOPIC in caught.value.message


def test_the_reader_is_given_each_record_once(topic: StateTopic) -> None:
    """Reading in two steps gives the same."""
    maps, writer = ours(), FakeWriter(topic)
    maps.write_bindings(writer, [(PLACE, BINDING, 100)], {PLACE: Epochs(((100, 3),))})
    reader, known = FakeReader(topic), OffsetMaps(MapTopic("f"))
    known.topic.read(reader.read_to_end())
    maps.send_segments(writer, PLACE, Segments(), lambda *_: None, [(140, 9)])
    known.topic.read(reader.read_new())
    assert known.epochs(PLACE) == Epochs(((100, 3), (140, 9)))
