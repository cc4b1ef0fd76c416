"""Records read and written: against the slow oracle, hand-made bytes and every kind of damage."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from copycore.records import (
    Record,
    RecordWriter,
    decode_records,
    encode_batches,
    encode_records,
    rewrite_records,
)
from kit.oracle import batches as oracle
from kit.oracle.batches import uvarint, varint
from kit.oracle.records import Plain, body, payload, read_payload, record, wrapped
from kit.oracle.wire_strategies import damaged, exact, i8, i16, i32, i64

contents = st.none() | st.binary(max_size=80)
headers = st.lists(st.tuples(st.binary(max_size=12), contents), max_size=5)
bodies = st.builds(body, contents, contents, headers)
entries = st.lists(st.tuples(i64, bodies), min_size=1, max_size=8)
plain_records = st.builds(record, i32, i64, bodies, st.integers(0, 255))
payloads = st.lists(plain_records, max_size=6)

# "k" → "value", one header without and one with a value, 3 ms and 2 offsets from the base.
GOLDEN = bytes.fromhex("2a 00 06 04 02 6b 0a 76616c7565 04 02 68 01 04 6831 04 7632")
GOLDEN_RECORD = Record(2, 3, b"k", b"value", [(b"h", None), (b"h1", b"v2")])
NULLS = bytes.fromhex("0c 00 00 00 01 01 00")


def check(data: bytes, count: int, base_timestamp: int = 0) -> None:
    """Reading and rewriting do what the oracle does, or refuse with the same message."""
    try:
        expected = read_payload(data, count)
    except ValueError as error:
        for reading in (
            lambda: decode_records(exact(data), count),
            lambda: rewrite_records(exact(data), count, base_timestamp),
        ):
            with pytest.raises(ValueError, match=f"^{error}$"):
                reading()
        return
    assert list(map(tuple, decode_records(exact(data), count))) == [
        tuple(plain) for plain, _ in expected
    ]
    times = [wrapped(base_timestamp + plain.timestamp_delta) for plain, _ in expected]
    written = rewrite_records(exact(data), count, base_timestamp)
    assert written == payload(
        [(t, content) for t, (_, content) in zip(times, expected, strict=True)]
    )


def test_golden_bytes() -> None:
    assert decode_records(GOLDEN, 1) == [GOLDEN_RECORD]
    assert decode_records(NULLS, 1) == [(0, 0, None, None, [])]
    assert encode_records([(77, NULLS[4:])]) == NULLS
    assert encode_records([(-1, GOLDEN[4:])]) == GOLDEN[:2] + b"\0\0" + GOLDEN[4:]
    two = encode_records([(1000, NULLS[4:]), (998, GOLDEN[4:])])
    assert two == NULLS + GOLDEN[:2] + b"\x03\x02" + GOLDEN[4:]
    assert encode_records([]) == b""
    assert decode_records(b"", 0) == []


@given(pieces=payloads, base=i64)
@example(pieces=[GOLDEN, NULLS, GOLDEN], base=2**63 - 1)
def test_any_records(pieces: list[bytes], base: int) -> None:
    check(b"".join(pieces), len(pieces), base)


@given(given_entries=entries)
@example(given_entries=[(-(2**63), b"\1\1\0"), (2**63 - 1, b"\1\1\0"), (0, b"\1\1\0")])
@example(given_entries=[(2**63 - 1, b"\1\1\0"), (-(2**63), b"\1\1\0"), (-1, b"\1\1\0")])
def test_what_is_written_is_read_with_the_same_times(
    given_entries: list[tuple[int, bytes]],
) -> None:
    """Whatever the times: a difference that does not fit wraps, and the reader's sum wraps back."""
    written = encode_records(given_entries)
    assert written == payload(given_entries)
    base = given_entries[0][0]
    back = read_payload(written, len(given_entries))
    assert [(wrapped(base + plain.timestamp_delta), content) for plain, content in back] == (
        given_entries
    )
    assert [plain.offset_delta for plain, _ in back] == list(range(len(given_entries)))
    assert rewrite_records(exact(written), len(given_entries), base) == written


@pytest.mark.parametrize("size", [0, 1, 50, 60, 63, 64, 8100, 8191, 8192, 1 << 20, (1 << 20) + 1])
def test_sizes_at_which_a_length_grows(size: int) -> None:
    for around in range(size, size + 12):
        entry = (5, body(None, bytes(around)))
        written = encode_records([entry] * 3)
        assert written == payload([entry] * 3)
        assert [r.value for r in decode_records(written, 3)] == [bytes(around)] * 3


def test_more_records_than_one_byte_of_offset_delta_holds() -> None:
    given_entries = [(10**12 + 7 * i, body(b"%d" % i, None)) for i in range(9000)]
    written = encode_records(given_entries)
    assert written == payload(given_entries)
    check(written, 9000, 10**12)


@given(
    groups=st.lists(entries, min_size=1, max_size=4),
    fields=st.fixed_dictionaries(
        {"producer_id": i64, "producer_epoch": i16, "base_sequence": i32, "attributes": i16}
    ),
)
def test_whole_batches(groups: list[list[tuple[int, bytes]]], fields: dict[str, int]) -> None:
    """One writer after another batch begins afresh, and the header says what is in the payload."""
    expected = [
        oracle.build(
            payload(group),
            count=len(group),
            base_timestamp=group[0][0],
            max_timestamp=max(timestamp for timestamp, _ in group),
            **fields,
        )
        for group in groups
    ]
    assert encode_batches(groups, **fields) == expected


def test_a_writer_begins_empty() -> None:
    writer = RecordWriter()
    assert (writer.count, writer.base_timestamp, writer.max_timestamp) == (0, -1, -1)


def test_a_batch_longer_than_its_length_field_is_refused() -> None:
    largest = 2**31 - 1 - 61 - 21  # with the header and the longest front a record may have
    first = len(payload([(0, b"\0")]))
    for entries_ in (
        [(0, bytes(2**31))],  # memory that is never touched
        [(0, bytes(largest + 1))],
        [(0, b"\0"), (0, bytes(largest - first + 1))],
    ):
        with pytest.raises(ValueError, match="at most 2 GiB"):
            encode_records(entries_)


# --- what is no record ----------------------------------------------------------------------------

FRONT = b"\0\0\0"  # attributes and both deltas


def sized(content: bytes) -> bytes:
    return varint(len(content)) + content


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        varint(0),
        varint(-1) + FRONT + body(None, None),
        varint(-(2**31)) + FRONT + body(None, None),
        varint(2**31 - 1) + FRONT + body(None, None),
        varint(2**31) + FRONT + body(None, None),
        b"\xff" * 9 + b"\x01" + FRONT + body(None, None),
        sized(b"\0"),
        sized(FRONT),
        sized(b"\0" + b"\xff" * 9 + b"\x02" + b"\0" + body(None, None)),  # a time of 65 bits
        sized(b"\0" + b"\x80" * 10 + b"\x00" + b"\0" + body(None, None)),  # of 11 bytes
        sized(b"\0\0" + varint(2**31) + body(None, None)),  # an offset of 33 bits
        sized(b"\0\0" + b"\x80" * 5 + b"\0" + body(None, None)),  # of six bytes
        sized(FRONT + varint(-2) + varint(-1) + varint(0)),
        sized(FRONT + varint(-1) + varint(-2) + varint(0)),
        sized(FRONT + varint(5) + b"four" + varint(-1) + varint(0)),
        sized(FRONT + varint(2**31 - 1) + varint(-1) + varint(0)),
        sized(FRONT + varint(-1) + varint(2**31 - 1) + varint(0)),
        sized(FRONT + varint(-1) + b"\x80" * 5 + b"\0" + varint(0)),
        sized(FRONT + body(None, None)[:-1] + varint(-1)),
        sized(FRONT + body(None, None)[:-1] + varint(1)),
        sized(FRONT + body(None, None)[:-1] + varint(2**31 - 1) + bytes(100)),
        sized(FRONT + body(None, None)[:-1] + varint(1) + varint(-1) + varint(-1)),
        sized(FRONT + body(None, None)[:-1] + varint(1) + varint(0) + varint(-2)),
        sized(FRONT + body(None, None)[:-1] + varint(2) + varint(0) + varint(-1)),
        sized(FRONT + body(b"k", b"v", [(b"h", b"v")]) + b"\0"),
        varint(len(FRONT + body(b"k", b"v")) - 1) + FRONT + body(b"k", b"v"),
        varint(len(FRONT + body(b"k", b"v")) + 1) + FRONT + body(b"k", b"v"),
    ],
    ids=lambda data: data[:24].hex() or "nothing",
)
def test_what_is_no_record(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^record 0 of 1 is broken$"):
        decode_records(exact(data), 1)
    check(data, 1)
    with pytest.raises(ValueError, match=r"^record 2 of 4 is broken$"):
        rewrite_records(exact(GOLDEN + NULLS + data), 4, 0)


def test_varints_longer_than_need_be() -> None:
    """Java reads five bytes whatever they say, so records of strange producers may hold them."""
    long_zero, long_one = b"\x80\x80\x80\x80\x00", b"\x82\x80\x80\x80\x00"
    data = sized(b"\0" + long_zero + long_one + long_one + b"k" + long_zero + long_zero)
    assert decode_records(data, 1) == [(1, 0, b"k", b"", [])]
    assert rewrite_records(data, 1, 0) == payload([(0, data[12:])])


@pytest.mark.parametrize("count", [0, 1, 3, -1, 2**31 - 1, -(2**31)])
def test_a_count_that_is_not_that_of_the_records(count: int) -> None:
    data = GOLDEN + NULLS
    for read in (decode_records, lambda d, n: rewrite_records(d, n, 0)):
        with pytest.raises(ValueError, match=r"is broken$|^\d+ bytes are left behind"):
            read(exact(data), count)
    assert len(decode_records(exact(data), 2)) == 2


def test_no_records_by_a_negative_count() -> None:
    with pytest.raises(ValueError, match="record 0 of -1"):
        decode_records(b"", -1)


SAMPLE = GOLDEN + payload(
    [
        (10**12, body(b"key", bytes(range(70)), [(b"trace", b"1"), (b"trace", None), (b"", b"")])),
        (-1, body(None, b"")),
        (2**63 - 1, body(b"", None)),
    ]
)


def test_every_truncation() -> None:
    check(SAMPLE, 4)
    for size in range(len(SAMPLE)):
        check(SAMPLE[:size], 4)


def test_every_flipped_bit() -> None:
    for bit in range(8 * len(SAMPLE)):
        flipped = bytearray(SAMPLE)
        flipped[bit // 8] ^= 1 << bit % 8
        check(bytes(flipped), 4)


def test_every_byte_replaced_by_an_extreme() -> None:
    for at in range(len(SAMPLE)):
        for value in (0x00, 0x01, 0x7F, 0x80, 0xFF):
            check(SAMPLE[:at] + bytes([value]) + SAMPLE[at + 1 :], 4)


@given(data=damaged(payloads.map(b"".join)), count=st.integers(0, 7), base=i64)
def test_damage_in_several_places(data: bytes, count: int, base: int) -> None:
    check(data, count, base)


@given(data=st.binary(max_size=120), attributes=i8)
def test_random_bytes(data: bytes, attributes: int) -> None:
    check(data, 1)
    check(uvarint(2 * (len(data) + 1)) + bytes([attributes & 0xFF]) + data, 1)
    check(sized(FRONT + data), 1)


def test_plain_and_record_have_the_same_fields() -> None:
    assert Record._fields == Plain._fields
