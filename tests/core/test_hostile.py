"""Damaged bytes at every position: a ``ValueError`` or what the oracle reads, never anything else.

The loops are exhaustive over small valid inputs; hypothesis adds damage in several places at once
and bytes that never were valid. ``tests/sanitize.sh`` runs all of it under the sanitizers, where a
read one byte too far is an error even if its value is not used.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copycore.frames import decode_fetch, decode_produce
from kit.oracle import batches as oracle
from kit.oracle.slice_check import check_slice
from kit.oracle.wire_strategies import damaged, exact, fetch_responses, produce_responses, slices

SLICE = b"".join(
    [
        oracle.build(b"first", base_offset=100, count=2),
        oracle.control_batch(0, base_offset=102),
        oracle.legacy(1, b"k", b"v", offset=103),
        oracle.build(b"last", base_offset=104, attributes=0x13, producer_id=8, count=3),
    ]
)
TAGS = [(0, b"xy"), (300, b"")]
PARTITION = {
    "partition": 3,
    "error": 0,
    "high_watermark": 1000,
    "last_stable_offset": 999,
    "log_start_offset": 5,
    "aborted": [(7, 90), (8, 20)],
    "preferred_replica": -1,
    "records": b"records",
}
PRODUCED = {
    "partition": 3,
    "error": 87,
    "base_offset": -1,
    "log_start_offset": 5,
    "record_errors": [(0, None), (1, b"no")],
    "error_message": b"bad",
}


def fetch_example(version: int) -> bytes:
    key = bytes(range(16)) if version == 13 else b"topic"
    bare = PARTITION | {"aborted": None, "records": None}
    response = {"throttle_ms": 1, "error": 0, "topics": [(key, [PARTITION, bare]), (key, [bare])]}
    return oracle.fetch_response(version, response, TAGS)


def produce_example(version: int) -> bytes:
    bare = PRODUCED | {"record_errors": [], "error_message": None}
    topics = [(b"topic", [PRODUCED, bare]), (b"u", [bare])]
    return oracle.produce_response(version, {"throttle_ms": 1, "topics": topics}, TAGS)


def check_response(
    decode: Callable[[int, array[int]], Any],
    read: Callable[[int, bytes], Any],
    version: int,
    data: bytes,
) -> None:
    try:
        expected = read(version, data)
    except ValueError:
        with pytest.raises(ValueError, match=r"malformed|truncated"):
            decode(version, exact(data))
    else:
        assert in_order(decode(version, exact(data))) == in_order(expected), data.hex()


def in_order(decoded: dict[str, Any]) -> dict[str, Any]:
    """Aborted transactions of one first offset have no order among themselves."""
    for _, partitions in decoded["topics"]:
        for p in partitions:
            if "aborted" in p:
                p["aborted"].sort(key=lambda entry: (entry[1], entry[0]))
    return decoded


def check_fetch(version: int, data: bytes) -> None:
    check_response(decode_fetch, oracle.read_fetch_response, version, data)


def check_produce(version: int, data: bytes) -> None:
    check_response(decode_produce, oracle.read_produce_response, version, data)


def truncations(data: bytes) -> Iterator[bytes]:
    return (data[:size] for size in range(len(data)))


def bit_flips(data: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


def overwrites(data: bytes) -> Iterator[bytes]:
    """Edge values of bytes, int32s and int64s over every position."""
    edges = [b"\0", b"\x7f", b"\x80", b"\xff"]
    edges += [edge[:1] + edge[-1:] * 3 for edge in (b"\xff\xff", b"\x7f\xff", b"\x80\0", b"\0\0")]
    edges += [b"\x7f" + b"\xff" * 7, b"\x80" + bytes(7)]
    for position in range(len(data)):
        for edge in edges:
            yield data[:position] + edge + data[position + len(edge) :]


def shifted(data: bytes) -> Iterator[bytes]:
    """A byte missing or too many at every position."""
    for position in range(len(data)):
        yield data[:position] + data[position + 1 :]
        for extra in (b"\0", b"\xff"):
            yield data[:position] + extra + data[position:]


DAMAGE = [truncations, bit_flips, overwrites, shifted]
damage = pytest.mark.parametrize("damage", DAMAGE, ids=lambda way: way.__name__)
fetch_versions = pytest.mark.parametrize("version", [11, 12, 13])
produce_versions = pytest.mark.parametrize("version", [7, 8, 9])


@damage
def test_slices(damage: Callable[[bytes], Iterator[bytes]]) -> None:
    check_slice(SLICE)
    for data in damage(SLICE):
        check_slice(data)


@damage
@fetch_versions
def test_fetch_responses(version: int, damage: Callable[[bytes], Iterator[bytes]]) -> None:
    whole = fetch_example(version)
    assert len(decode_fetch(version, whole)["topics"]) == 2
    for data in damage(whole):
        check_fetch(version, data)


@damage
@produce_versions
def test_produce_responses(version: int, damage: Callable[[bytes], Iterator[bytes]]) -> None:
    whole = produce_example(version)
    assert len(decode_produce(version, whole)["topics"]) == 2
    for data in damage(whole):
        check_produce(version, data)


@fetch_versions
def test_every_truncation_of_a_fetch_response_is_noticed(version: int) -> None:
    whole = fetch_example(version)
    unread = oracle.Out(version >= 12)
    unread.tags(TAGS)  # those at the very end say nothing, and are not read
    for size in range(len(whole) - len(unread.data)):
        with pytest.raises(ValueError, match=r"malformed|truncated"):
            decode_fetch(version, exact(whole[:size]))


@given(data=damaged(slices))
def test_damaged_slices(data: bytes) -> None:
    check_slice(data)


@fetch_versions
@given(data=st.data())
def test_damaged_fetch_responses(version: int, data: Any) -> None:
    whole = fetch_responses(version).map(lambda r: oracle.fetch_response(version, r, TAGS))
    check_fetch(version, data.draw(damaged(whole)))


@produce_versions
@given(data=st.data())
def test_damaged_produce_responses(version: int, data: Any) -> None:
    whole = produce_responses().map(lambda r: oracle.produce_response(version, r, TAGS))
    check_produce(version, data.draw(damaged(whole)))


@given(data=st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    check_slice(data)
    for version in (11, 12, 13):
        check_fetch(version, data)
    for version in (7, 8, 9):
        check_produce(version, data)


@given(middle=st.binary(max_size=49), length=st.integers(14, 49))
def test_random_bytes_after_a_valid_length(middle: bytes, length: int) -> None:
    head = bytes(8) + length.to_bytes(4, "big") + bytes(4) + b"\x02"
    check_slice((head + middle)[: 12 + length])
    check_slice(head + middle + SLICE)


@pytest.mark.parametrize("claim", [40, 2**16, 2**31 - 2])
@pytest.mark.parametrize("version", [11, 12])
def test_counts_larger_than_the_response_end_at_once(version: int, claim: int) -> None:
    """A made-up count costs neither memory nor time: it is compared with the bytes that are
    left.
    """

    def count(n: int) -> bytes:
        return oracle.uvarint(n + 1) if version >= 12 else n.to_bytes(4, "big")

    tags = b"\0" if version >= 12 else b""
    head = tags + bytes(10)
    name = b"\x02t" if version >= 12 else b"\0\x01t"
    partition = bytes(30)
    for data in (
        head + count(claim),
        head + count(1) + name + count(claim),
        head + count(1) + name + count(1) + partition + count(claim),
        head + count(1) + name + count(1) + partition + count(0) + bytes(4) + count(claim),
    ):
        with pytest.raises(ValueError, match=r"malformed|truncated"):
            decode_fetch(version, data)
        with pytest.raises(ValueError, match=r"malformed|truncated"):
            decode_fetch(version, data + bytes(12))
