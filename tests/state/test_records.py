"""Records of the state topics: what is stored today is read by every later version.

``records-before-formats.jsonl`` has records of every kind, in the order in which a session wrote
them when values had no format version yet; a value is its JSON, or the hexadecimal digits of its
bytes. The file never changes: records of a new format get a file of their own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from copycore.segments import Segments
from kit.fakes.state import FakeReader, StateTopic
from replicator.errors import ExitCode, StateError
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.splits import Splits
from replicator.state import OFFSET_MAP_TOPIC, REGISTRY_TOPIC, records
from replicator.state.map_topic import MapTopic
from replicator.state.records import (
    CHUNK_MARK,
    MARKER,
    Arrival,
    Binding,
    BindingKey,
    ChunkKey,
    ClaimKey,
    Entry,
    Epochs,
    EpochsKey,
    FillerKey,
    Handlers,
    Key,
    Point,
    Process,
    ProducerIdentity,
    ProducerKey,
    SessionKey,
    SplitBinding,
    SplitKey,
    SplitState,
    Stored,
    encode_value,
)

FLOW = "src-cluster>dst-cluster"
SESSION = "0123456789abcdef0123456789abcdef"
SOURCE_ID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
TARGET_ID = "6ba7b811-9dad-11d1-80b4-00c04fd430c8"
SPLIT_BINDING = SplitBinding(
    SOURCE_ID, "clicks", "6ba7b812-9dad-11d1-80b4-00c04fd430c8", 4002, 3, "murmur2", (0, 5)
)
BINDING = Binding(SOURCE_ID, "orders", TARGET_ID, 7, 4001, 0)
STREET = 'straße "q"'  # no topic has such a name; what is stored of one is read as it is

# What the file says, record by record; None for a tombstone. Chunks as pairs, markers as numbers.
STORED: list[tuple[Key, object]] = [
    (SessionKey(SESSION), Process("boot-id pid:[4026531836]", "copier-1", 77, 123456, 0)),
    (ClaimKey(FLOW, "orders", SESSION), 1),
    (ClaimKey(FLOW, STREET, SESSION), 1),
    (SessionKey(SESSION), Process("boot-id pid:[4026531836]", "copier-1", 77, 123456, 1)),
    (ProducerKey(FLOW, 4001), ProducerIdentity(4001, 0, "src-cluster")),
    (ProducerKey(FLOW, 4002), ProducerIdentity(4002, 3, "src-cluster")),
    (FillerKey(), 1),
    (EpochsKey(FLOW, "orders", 3, 8), Epochs(((100, 4),))),
    (BindingKey(FLOW, "orders", 3, 8), BINDING),
    (ChunkKey(FLOW, "orders", 3, 8, 0), [(100, 0)]),
    (EpochsKey(FLOW, "orders", 3, 8), Epochs(((100, 4), (120, 5)))),
    (ChunkKey(FLOW, "orders", 3, 8, 15), [(120, 15), (140, 30)]),
    (ChunkKey(FLOW, "orders", 3, 8, 45), [(160, 45)]),
    (EpochsKey(FLOW, "orders", 3, 12), Epochs(((100, 4), (120, 5)))),
    (ChunkKey(FLOW, "orders", 3, 12, 45), [(160, 45)]),
    (ChunkKey(FLOW, "orders", 3, 12, 0, 45), [(100, 0), (120, 15), (140, 30)]),
    (EpochsKey(FLOW, "orders", 3, 8), None),
    (ChunkKey(FLOW, "orders", 3, 8, 0), None),
    (ChunkKey(FLOW, "orders", 3, 8, 15), None),
    (ChunkKey(FLOW, "orders", 3, 8, 45), None),
    (
        SplitKey(FLOW, "clicks", 0, 9),
        SplitState(SPLIT_BINDING, (Point(40, (0, 0)),), (Arrival(0, 0), Arrival(5, 0))),
    ),
    (
        SplitKey(FLOW, "clicks", 0, 9),
        SplitState(
            SPLIT_BINDING,
            (Point(40, (0, 0)), Point(60, (11, 9))),
            (Arrival(0, 0), Arrival(5, 0)),
            Epochs(((40, 2),)),
            60,
        ),
    ),
    (SessionKey(SESSION), None),
    (ClaimKey(FLOW, "orders", SESSION), None),
    (ClaimKey(FLOW, STREET, SESSION), None),
]
KINDS = sorted({type(key) for key, _ in STORED}, key=lambda kind: kind.__name__)


def lines() -> list[tuple[str, bytes, bytes | None]]:
    """Topic, key and value of each record of the file."""
    found = []
    text = Path(__file__).with_name("records-before-formats.jsonl").read_text(encoding="utf-8")
    for line in text.splitlines():
        one = json.loads(line)
        value = bytes.fromhex(one["hex"]) if "hex" in one else None
        if "json" in one:
            value = one["json"].encode()
        found.append((one["topic"], one["key"].encode(), value))
    return found


def read(topic: str, entries: list[Entry]) -> list[Stored[Any]]:
    found: list[Stored[Any]] = []
    handlers = Handlers(topic)
    for kind in KINDS:
        handlers.on(kind, found.append)
    handlers.read(entries)
    return found


def plain(value: Any) -> object:
    return list(value) if isinstance(value, Segments) else value


def test_every_kind_is_in_the_file() -> None:
    assert set(KINDS) == set(records._VALUES)


def test_stored_records_are_read() -> None:
    seen = []
    for offset, (topic, key, value) in enumerate(lines()):
        (record,) = read(topic, [(offset, key, value)])
        assert (record.topic, record.offset, record.raw_key) == (topic, offset, key)
        seen.append((record.key, None if record.deleted else plain(record.value())))
    assert seen == STORED


def test_keys_and_values_are_written_as_they_were() -> None:
    """Only the format is added, which older readers ignore."""
    for (_, raw_key, raw_value), (key, value) in zip(lines(), STORED, strict=True):
        assert key.encode() == raw_key
        if isinstance(value, msgspec.Struct):
            written = encode_value(value)
            assert written.startswith(b'{"format":1,')
            assert written.replace(b'"format":1,', b"") == raw_value
        elif isinstance(value, list):
            assert encode_value(Segments.of(value)) == raw_value
        elif value is not None:
            assert raw_value == MARKER


def test_the_state_that_they_are_is_the_same() -> None:
    """The state that a run begins with: each kind of record goes to its handler."""
    topic = MapTopic(FLOW)
    maps, splits = OffsetMaps(topic), Splits(topic)
    stored = [(key, value) for name, key, value in lines() if name == OFFSET_MAP_TOPIC]
    topic.read((offset, key, value) for offset, (key, value) in enumerate(stored))
    tp = ("orders", 3)
    assert maps.binding(tp) == BINDING
    assert [maps.source_of(tp, n) for n in (0, 14, 15, 29, 30, 44, 45)] == [
        100, 114, 120, 134, 140, 154, 160,
    ]  # fmt: skip
    assert maps.epochs(tp) == Epochs(((100, 4), (120, 5)))
    assert splits.of_topic("clicks") == {0: STORED[21][1]}
    assert topic.generations.newest == 12


# --- what is not known ----------------------------------------------------------------------------

LATER: list[tuple[Key, bytes]] = [
    (SessionKey(SESSION), b'{"format":2,"process":[1,2,3]}'),
    (ClaimKey(FLOW, "orders", SESSION), b"2"),
    (ProducerKey(FLOW, 1), b'{"producer_id":1,"producer_epoch":0,"origin":"a","format":2}'),
    (FillerKey(), b"2"),
    (BindingKey(FLOW, "orders", 3, 8), b'{"format":2}'),
    (EpochsKey(FLOW, "orders", 3, 8), b'{"starts":7,"format":2}'),
    (SplitKey(FLOW, "orders", 3, 8), b'{"format":2}'),
    (ChunkKey(FLOW, "orders", 3, 8, 0), CHUNK_MARK + b"\x02 whatever"),
]


@pytest.mark.parametrize(("key", "value"), LATER, ids=[type(key).__name__ for key, _ in LATER])
def test_a_later_format_is_an_error_that_says_so(key: Key, value: bytes) -> None:
    (record,) = read(OFFSET_MAP_TOPIC, [(3, key.encode(), value)])
    with pytest.raises(StateError) as caught:
        record.value()
    assert caught.value.exit_code == ExitCode.STATE
    assert "of format 2, and this version of copystream knows formats up to 1" in str(caught.value)
    assert OFFSET_MAP_TOPIC in caught.value.message
    assert key.encode().decode() in caught.value.message
    assert caught.value.hint == "a newer copystream wrote it: use that version"


def test_there_is_a_later_format_of_every_kind() -> None:
    assert {type(key) for key, _ in LATER} == set(KINDS)


def test_a_chunk_of_a_later_format_is_malformed_to_older_readers() -> None:
    """If it were ignored like an unknown kind, the map would have a hole."""
    with pytest.raises(ValueError, match="malformed chunk"):
        Segments.decode(CHUNK_MARK + b"\x02")


@pytest.mark.parametrize(
    "key", [b"", b"orders", b'["later",1]', b'["bindings"]', b"\xff\xff", b"{}"]
)
def test_kinds_that_are_not_known_are_passed_over(key: bytes) -> None:
    handlers = Handlers(REGISTRY_TOPIC)
    handlers.read([(4, key, b"1")])
    assert read(REGISTRY_TOPIC, [(4, key, b"1")]) == []
    assert handlers.read_to == 5


def test_a_kind_without_a_handler_is_not_even_decoded_further() -> None:
    handlers = Handlers(OFFSET_MAP_TOPIC)
    handlers.read([(0, ChunkKey("f", "t", 0, 1, 0).encode(), b"\x80")])
    assert handlers.read_to == 1


def test_records_of_another_flow_are_not_decoded() -> None:
    """A newer copystream may have written them, for itself."""
    topic = MapTopic("a>b")
    OffsetMaps(topic), Splits(topic)
    topic.read((offset, key.encode(), value) for offset, (key, value) in enumerate(LATER))


@pytest.mark.parametrize("fields", ['"format":1,', '"since":"2030",', ""])
def test_fields_that_are_not_known_are_passed_over(fields: str) -> None:
    raw = f'{{{fields}"producer_id":1,"producer_epoch":0,"origin":"a"}}'
    (record,) = read(REGISTRY_TOPIC, [(0, ProducerKey(FLOW, 1).encode(), raw.encode())])
    assert record.value() == ProducerIdentity(1, 0, "a")


def test_a_topic_is_read_on_from_where_it_was_read_to() -> None:
    topic = StateTopic()
    topic.append(ProducerKey(FLOW, 1).encode(), None)
    reader, handlers = FakeReader(topic), Handlers(REGISTRY_TOPIC)
    seen: list[int] = []
    handlers.on(ProducerKey, lambda record: seen.append(record.offset))
    handlers.read(reader.read_to_end())
    topic.append(ProducerKey(FLOW, 2).encode(), None)
    handlers.read(reader.read_new())
    assert seen == [0, 1]
    assert handlers.read_to == 2
