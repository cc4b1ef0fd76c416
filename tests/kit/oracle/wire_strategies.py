"""Hypothesis strategies for everything the core reads: batches, slices, responses."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from kit.oracle import batches as oracle


def exact(data: bytes) -> array[int]:
    """The same in memory of just that size (an array made from a list has no room to grow).

    ``bytes`` have a zero after their end, which would hide a read of one byte too many.
    """
    return array("B", list(data))


def signed(bits: int) -> st.SearchStrategy[int]:
    """Any signed integer of that width, the edges often."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return st.sampled_from([low, low + 1, -2, -1, 0, 1, high - 1, high]) | st.integers(low, high)


i8, i16, i32, i64 = signed(8), signed(16), signed(32), signed(64)
u32 = st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]) | st.integers(0, 0xFFFFFFFF)
payloads = st.binary(max_size=80)
STRATEGIES = {"b": i8, "h": i16, "i": i32, "I": u32, "q": i64}


@st.composite
def dense_batches(draw: st.DrawFn) -> bytes:
    """A batch that can be passed through, with every field its kind leaves free."""
    count = draw(st.integers(1, 2**31 - 1) | st.integers(1, 5))
    transactional = draw(st.booleans())
    spare_bits = draw(st.integers(0, 0x1FF)) << 7
    attributes = (
        draw(st.integers(0, 4))
        | (oracle.TRANSACTIONAL if transactional else 0)
        | (draw(st.booleans()) * oracle.DELETE_HORIZON)
        | spare_bits
    )
    return oracle.build(
        draw(payloads),
        base_offset=draw(st.integers(0, 2**63 - 1 - count)),
        leader_epoch=draw(i32),
        attributes=attributes - (0x10000 if attributes & 0x8000 else 0),
        last_offset_delta=count - 1,
        base_timestamp=draw(i64),
        max_timestamp=draw(i64),
        producer_id=draw(st.integers(0, 2**63 - 1) if transactional else i64),
        producer_epoch=draw(i16),
        base_sequence=draw(i32),
        count=count,
    )


@st.composite
def any_batches(draw: st.DrawFn) -> bytes:
    """A batch whose length is right and whose other fields hold anything, magic 2 mostly."""
    fields = {
        name: draw(STRATEGIES[code])
        for name, code in oracle.FIELDS
        if name not in ("length", "magic", "crc") and draw(st.booleans())
    }
    fields["magic"] = draw(st.sampled_from([2, 2, 2, 2, 3, -1, 127]))
    if draw(st.booleans()):
        fields["crc"] = draw(u32)
    return oracle.build(draw(payloads), **fields)


legacy_messages = st.builds(
    oracle.legacy,
    st.sampled_from([0, 1]),
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=20),
    i64,
)
slices = st.tuples(
    st.lists(dense_batches() | any_batches() | legacy_messages, max_size=5).map(b"".join),
    st.binary(max_size=70),
).map(b"".join)

names = st.binary(min_size=0, max_size=12)
topic_ids = st.binary(min_size=16, max_size=16)
tag_sections = st.lists(st.tuples(st.integers(0, 1 << 30), st.binary(max_size=9)), max_size=3)


def fetch_topics() -> st.SearchStrategy[list[tuple[bytes, bytes, list[tuple[int, ...]]]]]:
    """The topics of a Fetch request as ``encode_fetch`` takes them."""
    partitions = st.lists(st.tuples(i32, i32, i64, i32), max_size=4)
    return st.lists(st.tuples(names, topic_ids, partitions), max_size=4)


def fetch_responses(
    version: int, errors: st.SearchStrategy[int] = i16, epoch: st.SearchStrategy[int] = i32
) -> st.SearchStrategy[dict[str, Any]]:
    partition = st.fixed_dictionaries(
        {
            "partition": i32,
            "error": errors,
            "high_watermark": i64,
            "last_stable_offset": i64,
            "log_start_offset": i64,
            "aborted": st.none() | st.lists(st.tuples(i64, i64), max_size=5),
            "preferred_replica": i32,
            "records": st.none() | st.binary(max_size=100),
        }
    )
    key = topic_ids if version >= 13 else names
    return st.fixed_dictionaries(
        {
            "throttle_ms": epoch,
            "error": errors,
            "topics": st.lists(st.tuples(key, st.lists(partition, max_size=4)), max_size=3),
        }
    )


def produce_responses(
    errors: st.SearchStrategy[int] = i16, texts: st.SearchStrategy[bytes] = names
) -> st.SearchStrategy[dict[str, Any]]:
    partition = st.fixed_dictionaries(
        {
            "partition": i32,
            "error": errors,
            "base_offset": i64,
            "log_append_time": st.just(-1) | st.integers(0, 2**40),
            "log_start_offset": i64,
            "record_errors": st.lists(st.tuples(i32, st.none() | texts), max_size=3),
            "error_message": st.none() | texts,
        }
    )
    return st.fixed_dictionaries(
        {
            "throttle_ms": i32,
            "topics": st.lists(st.tuples(names, st.lists(partition, max_size=4)), max_size=3),
        }
    )


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Valid bytes with a few bytes replaced, inserted or removed, or cut short."""
    data = bytearray(draw(whole))
    edits: Sequence[Callable[[bytearray, int], None]] = (
        lambda d, at: d.__setitem__(slice(at, at + 1), draw(st.binary(min_size=1, max_size=1))),
        lambda d, at: d.__setitem__(slice(at, at), draw(st.binary(min_size=1, max_size=4))),
        lambda d, at: d.__delitem__(slice(at, at + draw(st.integers(1, 4)))),
        lambda d, at: d.__setitem__(
            slice(at, at + 4),
            draw(st.sampled_from([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0"])),
        ),
    )
    for _ in range(draw(st.integers(1, 3))):
        draw(st.sampled_from(edits))(data, draw(st.integers(0, len(data))))
    return bytes(data)
