"""The bounded cursor against a simple reader, and every kind of malformed bytes."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from copycore.cursor import Cursor, Writer
from kit.oracle.batches import In, uvarint, varint

WIDTHS = {"i8": ("b", 1), "i16": ("h", 2), "i32": ("i", 4), "i64": ("q", 8)}
flexible = st.booleans()
steps = st.one_of(
    *(st.tuples(st.just(name)) for name in (*WIDTHS, "uvarint", "varint", "tags")),
    st.tuples(st.just("count"), flexible, st.integers(1, 40)),
    st.tuples(st.just("blob"), flexible, st.booleans()),
    st.tuples(st.just("take"), st.one_of(st.integers(-2, 70), st.integers(-(2**70), 2**70))),
)


def read_slowly(data: bytes, position: int, step: tuple[Any, ...]) -> tuple[Any, int]:
    """What one step reads at ``position``, and where it ends."""
    name, *arguments = step
    r = In(data, bool(arguments and arguments[0]), position)
    value: Any = None
    if name in WIDTHS:
        value = r.get(WIDTHS[name][0])
    elif name in ("uvarint", "varint"):
        value = 0
        for place in range(11):
            byte = r.raw(1)[0]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                break
        if value >= 2**64 or r.position - position > 10:
            raise ValueError("more than 64 bits")
        if name == "varint":
            value = value // 2 if value % 2 == 0 else -(value // 2) - 1
    elif name == "count":
        value = r.length("i")
        if value > 0 and value * arguments[1] > len(data) - r.position:
            raise ValueError("more elements than bytes")
    elif name == "take":
        if not 0 <= arguments[0] <= len(data) - r.position:
            raise ValueError("more bytes than there are")
        value = r.raw(arguments[0])
    elif name == "blob":
        value = r.string() if arguments[1] else r.blob()
    else:
        r.flexible = True
        r.tags()
    return value, r.position


@given(data=st.binary(max_size=60), program=st.lists(steps, max_size=12))
@example(data=b"\x80" * 9 + b"\x01", program=[("uvarint",)])
@example(data=b"\xff" * 9 + b"\x01", program=[("varint",)])
@example(data=b"\xff\xff\xff\xff\x07", program=[("count", True, 1)])
@example(data=b"\x00\x00\x00\x00" + bytes(3), program=[("blob", False, False), ("i16",), ("i16",)])
def test_any_program_equals_the_obvious_reader(data: bytes, program: list[tuple[Any, ...]]) -> None:
    cursor, position = Cursor(array("B", list(data))), 0
    for step in program:
        try:
            expected, position = read_slowly(data, position, step)
        except ValueError:
            with pytest.raises(ValueError, match="malformed or truncated"):
                getattr(cursor, step[0])(*step[1:])
            break
        assert getattr(cursor, step[0])(*step[1:]) == expected
        assert cursor.position == position
        assert cursor.remaining == len(data) - position
    else:
        return
    # A cursor that has failed stays failed: nothing after the damage is read as if it were sound.
    assert cursor.remaining == 0
    for step in [*program, ("i8",), ("uvarint",), ("tags",)]:
        with pytest.raises(ValueError, match="malformed or truncated"):
            getattr(cursor, step[0])(*step[1:])


@given(value=st.integers(0, 2**64 - 1), tail=st.binary(max_size=3))
def test_unsigned_varints_of_every_size(value: int, tail: bytes) -> None:
    cursor = Cursor(uvarint(value) + tail)
    assert cursor.uvarint() == value
    assert cursor.remaining == len(tail)


@given(value=st.integers(-(2**63), 2**63 - 1))
def test_zigzag_varints_of_every_size(value: int) -> None:
    assert Cursor(varint(value)).varint() == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80" * 9,
        b"\x80" * 10,
        b"\x80" * 10 + b"\x00",  # eleven bytes, though worth 0
        b"\xff" * 9 + b"\x02",  # the 65th bit
        b"\xff" * 9 + b"\x7f",
        b"\xff" * 20,
    ],
)
@pytest.mark.parametrize("name", ["uvarint", "varint"])
def test_varints_of_more_than_64_bits_or_cut_short(data: bytes, name: str) -> None:
    with pytest.raises(ValueError, match="malformed or truncated"):
        getattr(Cursor(data), name)()


@pytest.mark.parametrize(
    "length",
    [
        b"\x80" * 5 + b"\x00",  # six bytes, though worth 0
        b"\xff\xff\xff\xff\x0f",  # 2³² − 1
        b"\x80\x80\x80\x80\x08",  # 2³¹
        b"\xff\xff\xff\xff\x07",  # 2³¹ − 1, more than there is
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    ],
)
def test_compact_lengths_of_more_than_31_bits_or_more_than_there_is(length: bytes) -> None:
    data = length + bytes(20)
    with pytest.raises(ValueError, match="malformed or truncated"):
        Cursor(data).blob(True)
    with pytest.raises(ValueError, match="malformed or truncated"):
        Cursor(data).count(True)
    with pytest.raises(ValueError, match="malformed or truncated"):
        Cursor(b"\x01\x00" + data).tags()
    with pytest.raises(ValueError, match="malformed or truncated"):
        Cursor(data).tags()


@pytest.mark.parametrize("length", [-2, -128, -(2**15)])
def test_negative_short_lengths(length: int) -> None:
    with pytest.raises(ValueError, match="malformed or truncated"):
        Cursor(length.to_bytes(2, "big", signed=True) + bytes(9)).blob(False, True)


@pytest.mark.parametrize("length", [-2, -(2**31), 2**31 - 1, 10])
def test_lengths_and_counts_that_cannot_be(length: int) -> None:
    data = length.to_bytes(4, "big", signed=True) + bytes(9)
    for read in (Cursor(data).blob, Cursor(data).count):
        with pytest.raises(ValueError, match="malformed or truncated"):
            read(False)


def test_null_and_empty_are_told_apart() -> None:
    assert Cursor(b"\xff\xff\xff\xff").blob(False) is None
    assert Cursor(b"\x00\x00\x00\x00").blob(False) == b""
    assert Cursor(b"\xff\xff").blob(False, True) is None
    assert Cursor(b"\x00\x00").blob(False, True) == b""
    assert Cursor(b"\x00").blob(True) is None
    assert Cursor(b"\x01").blob(True) == b""
    assert Cursor(b"\xff\xff\xff\xff").count(False) == -1
    assert Cursor(b"\x00").count(True) == -1
    assert Cursor(b"\x01").count(True) == 0


@pytest.mark.parametrize("least", [1, 7, 35])
def test_a_count_is_held_against_the_bytes_left(least: int) -> None:
    for count in range(1, 5):
        data = count.to_bytes(4, "big") + bytes(count * least)
        assert Cursor(data).count(False, least) == count
        with pytest.raises(ValueError, match="malformed or truncated"):
            Cursor(data[:-1]).count(False, least)


@pytest.mark.parametrize("least", [0, -1])
def test_elements_of_no_size_are_refused(least: int) -> None:
    with pytest.raises(ValueError, match="least"):
        Cursor(b"\0\0\0\x01abcd").count(False, least)


def test_the_buffer_stays_alive_and_locked() -> None:
    data = bytearray(b"\x00\x00\x00\x05hello")
    cursor = Cursor(data)
    with pytest.raises(BufferError):
        data.clear()
    del data
    assert cursor.blob(False) == b"hello"
    with pytest.raises(TypeError):
        Cursor(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("capacity", [-1, 0, 1, 1 << 20])
def test_writers_of_any_capacity(capacity: int) -> None:
    Writer(capacity)
    with pytest.raises(MemoryError):
        Writer(2**63 - 1)
