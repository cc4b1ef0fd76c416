"""Messages of magic 0 and 1: as a consumer sees them, or a named error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from kafka.record.legacy_records import LegacyRecordBatch, LegacyRecordBatchBuilder

from copycore.legacy import LegacyError, unwrap
from kit.oracle import legacy as legacy_oracle
from kit.oracle.batches import In
from kit.oracle.legacy import (
    APPEND_TIME,
    GZIP,
    LZ4,
    SNAPPY,
    Seen,
    Told,
    decompress,
    read_entry,
    wrap,
    write,
)
from kit.oracle.legacy_strategies import CODECS, TOP, plain_messages, seen, wrappers
from kit.oracle.records import body

codecs = pytest.mark.parametrize("codec", CODECS, ids=["gzip", "snappy", "lz4"])
magics = pytest.mark.parametrize("magic", [0, 1])

# --- golden bytes, by Kafka's own MemoryRecordsBuilder (kafka-clients 3.9.2) ----------------------

Message = tuple[int, int, bytes | None, bytes | None]

PLAIN: list[Message] = [(1000, 5, b"k", b"v")]
THREE: list[Message] = [(1000, 5, b"k", b"v"), (1001, 6, None, None), (1004, 7, b"", b"vv")]
GOLDEN: dict[str, tuple[list[Message], str]] = {
    "0-none": (
        PLAIN,
        "00000000000003e8000000101fecd70a0000000000016b0000000176",
    ),
    "1-none": (
        PLAIN,
        "00000000000003e8000000187fdc1dec01000000000000000005000000016b0000000176",
    ),
    "1-none-777": (
        PLAIN,
        "00000000000003e8000000180bf9405e01080000000000000309000000016b0000000176",
    ),
    "0-gzip": (
        THREE,
        "00000000000003ec00000053f71a4aae0001ffffffff000000451f8b08000000000000ff63600001e6174042"
        "40fecd752e3097311b44943140e45e0209bee56f32981918fe430154e60d48d78e20890a0618602a2b030035"
        "bff7d852000000",
    ),
    "0-snappy": (
        THREE,
        "00000000000003ec00000069d8c937890002ffffffff0000005b82534e415050590000000001000000010000"
        "004752000005012803e8000000101fecd70a00010118016b0000000176010b38000003e90000000ea7ec6803"
        "0000ff0d010d1a50ec00000010b8521878000000000000000000027676",
    ),
    "0-lz4": (
        THREE,
        "00000000000003ec0000005ed7f0b9a00003ffffffff0000005004224d1860401a4100000011000100a103e8"
        "000000101fecd70a0f0071016b00000001760c00e30003e90000000ea7ec68030000ff0100031a0010ec3600"
        "42b852187810006000000002767600000000",
    ),
    "1-gzip": (
        THREE,
        "00000000000003ec0000005bac3c3b2e01010000000000000007ffffffff000000451f8b08000000000000ff"
        "6360800389fa3bb26f18613c562066cc06116550119094d87e538660b81ab6ff5000e5b3804c69e0cb8e87ab"
        "6087d24c65650054e0fe216a000000",
    ),
    "1-snappy": (
        THREE,
        "00000000000003ec000000728b13a34a01020000000000000007ffffffff0000005c82534e41505059000000"
        "000100000001000000486a0000190114187fdc1dec0111101405000000016b010500760d13011b1016bf3500"
        "53010905010406ff0d01050e2800000400000018800e6b5f1522280700000000000000027676",
    ),
    "1-lz4-777": (
        THREE,
        "00000000000003ec0000006c38839e26010b0000000000000309ffffffff0000005604224d18604082470000"
        "001600010072180bf9405e01081100700309000000016b050012761200a60001000000166dab3b1f240013ff"
        "0100032200960400000018ac478f2c2200a00000000000000002767600000000",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_what_java_wrote(name: str) -> None:
    """The number at the end of a name is the append time of a LogAppendTime topic."""
    messages, data = GOLDEN[name]
    magic, _codec, *append_time = name.split("-")
    assert seen(bytes.fromhex(data)) == [
        (offset, -1 if magic == "0" else int(append_time[0]) if append_time else time, key, value)
        for offset, time, key, value in messages
    ]


# --- what is in there -----------------------------------------------------------------------------


@given(message=plain_messages, attributes=st.sampled_from([0, APPEND_TIME, 0x70, -0x80]))
@example(message=Told(0, 0, None, None, None), attributes=0)
@example(message=Told(1, TOP, -(2**63), b"", b""), attributes=APPEND_TIME)
def test_a_plain_message(message: Told, attributes: int) -> None:
    time = -1 if message.timestamp is None else message.timestamp
    expected = [(message.offset, time, message.key, message.value)]
    assert seen(write(message, attributes)) == expected
    assert unwrap(write(message), 0) == [(message.offset, time, body(message.key, message.value))]


@given(pair=wrappers())
def test_a_wrapper(pair: tuple[bytes, Seen]) -> None:
    data, expected = pair
    assert seen(data) == legacy_oracle.read(data) == expected


@codecs
@magics
def test_offsets(magic: int, codec: int) -> None:
    """Relative to the wrapper's in magic 1, absolute in magic 0; the wrapper's 0 is no offset."""
    time = 5 if magic else None
    content = b"".join(write(Told(magic, offset, time, None, b"v")) for offset in (2, 3, 7))

    def found(offset: int) -> list[int]:
        return [message[0] for message in seen(wrap(content, codec, magic=magic, offset=offset))]

    assert found(7) == [2, 3, 7]
    assert found(0) == [2, 3, 7]
    assert found(1007) == ([1002, 1003, 1007] if magic else [2, 3, 7])
    assert found(TOP) == ([TOP - 5, TOP - 4, TOP] if magic else [2, 3, 7])
    if magic == 1:
        with pytest.raises(LegacyError, match="a wrapper has offset 6, its last message 7"):
            found(6)
    else:
        assert found(6) == [2, 3, 7]


def test_whose_time_counts() -> None:
    inner = [Told(1, 0, 11, None, b"a"), Told(0, 1, None, None, b"b"), Told(1, 2, 12, None, b"c")]
    content = b"".join(map(write, inner))

    def times(magic: int, attributes: int) -> list[int]:
        data = wrap(content, GZIP, magic=magic, offset=2, timestamp=99, attributes=attributes)
        return [message[1] for message in seen(data)]

    assert times(1, 0) == [11, -1, 12]
    assert times(1, APPEND_TIME) == [99, -1, 99]
    assert times(0, 0) == times(0, APPEND_TIME) == [11, -1, 12]


def test_the_key_of_a_wrapper_is_ignored() -> None:
    content = write(Told(1, 0, 1, b"k", b"v"))
    data = wrap(content, GZIP, magic=1, offset=9, key=b"wrapper")
    assert seen(data) == [(9, 1, b"k", b"v")]


@pytest.mark.parametrize(
    ("magic", "codec"), [(0, GZIP), (0, SNAPPY), (1, GZIP), (1, SNAPPY), (1, LZ4)]
)
def test_what_kafka_python_writes(magic: int, codec: int) -> None:
    """All codecs but lz4 in magic 0, for which kafka-python needs another library."""
    builder = LegacyRecordBatchBuilder(magic=magic, compression_type=codec, batch_size=1 << 20)
    given_messages = [(None, b"v0"), (b"k1", None), (b"", b""), (b"k3", bytes(3000))]
    for number, (key, value) in enumerate(given_messages):
        assert builder.append(number, 10**12 + number, key, value) is not None
    data = bytearray(builder.build())
    data[:8] = struct.pack(">q", 1003 if magic else 3)  # what a broker adds

    theirs = LegacyRecordBatch(bytes(data), magic)
    assert theirs.validate_crc()
    expected = [
        (
            record.offset,
            -1 if record.timestamp is None else record.timestamp,
            record.key,
            record.value,
        )
        for record in theirs
    ]
    assert [entry[2:] for entry in expected] == given_messages
    assert seen(bytes(data)) == expected


@given(pair=wrappers())
def test_what_kafka_python_reads(pair: tuple[bytes, Seen]) -> None:
    """kafka-python assumes that all messages have the wrapper's magic."""
    data, expected = pair
    outer, attributes = read_entry(In(data, False))
    content = In(decompress(attributes & 7, outer.magic, outer.value or b""), False)
    inner = [read_entry(content)[0].magic for _ in expected]
    assume(set(inner) == {outer.magic} and (outer.magic, attributes & 7) != (0, LZ4))
    assert expected == [
        (r.offset, -1 if r.timestamp is None else r.timestamp, r.key, r.value)
        for r in LegacyRecordBatch(data, outer.magic)
    ]
