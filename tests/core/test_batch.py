"""Cutting a fetched slice, the header view, classification and control markers."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from copycore.batch import CODECS, KINDS, Batch, cut_slice
from kit.oracle import batches as oracle
from kit.oracle.wire_strategies import (
    any_batches,
    dense_batches,
    i16,
    i32,
    i64,
    legacy_messages,
    slices,
)

CONTROL, TRANSACTIONAL = oracle.CONTROL, oracle.TRANSACTIONAL
LOG_APPEND_TIME, DELETE_HORIZON = oracle.LOG_APPEND_TIME, oracle.DELETE_HORIZON
TOP = 2**63 - 1


def only(data: bytes | bytearray) -> Batch:
    (batch,), tail = cut_slice(data)
    assert tail == 0
    return batch


def check_slice(data: bytes) -> None:
    """Cut as the oracle cuts, each batch of the oracle's kind, or the oracle's error."""
    try:
        expected, expected_tail = oracle.cut(data)
    except ValueError as error:
        with pytest.raises(ValueError, match=f"^{error}$"):
            cut_slice(data)
        return
    batches, tail = cut_slice(data)
    assert [data[b.position : b.position + b.size] for b in batches] == expected
    assert tail == expected_tail
    assert [b.kind for b in batches] == [oracle.kind(whole) for whole in expected]


@given(batch=any_batches() | dense_batches())
def test_every_field(batch: bytes) -> None:
    view = only(batch)
    expected = oracle.parse(batch)
    assert view.size == expected.pop("length") + oracle.OVERHEAD
    assert view.position == 0
    assert view.magic == expected.pop("magic")
    if view.magic != 2:  # the rest has another meaning then, or none
        assert (view.base_offset, view.kind) == (expected["base_offset"], "malformed")
        assert not view.crc_matches()
        return
    assert {name: getattr(view, name) for name in expected} == expected
    attributes = view.attributes
    assert view.codec == dict(enumerate(CODECS)).get(attributes & 7)
    assert view.has_log_append_time == bool(attributes & 8)
    assert view.is_transactional == bool(attributes & 16)
    assert view.is_control == bool(attributes & 32)
    assert view.has_delete_horizon == bool(attributes & 64)
    assert view.crc_matches() == (oracle.crc32c(batch[21:]) == view.crc)
    assert view.kind == oracle.kind(batch)
    if view.kind != "malformed":
        assert view.next_offset == view.base_offset + view.last_offset_delta + 1


def test_codec_numbers_and_kinds_are_kafkas() -> None:
    assert CODECS == ("none", "gzip", "snappy", "lz4", "zstd")
    assert len(set(KINDS)) == len(KINDS) == 8


# The rules in the order in which they win. Each row breaks its own rule and every later one that
# can be broken at the same time.
LATER = {"attributes": LOG_APPEND_TIME | 5, "last_offset_delta": 9, "count": 3}
KIND_TABLE = [
    ("dense", {}),
    ("dense", {"count": 2**31 - 1}),
    ("dense", {"base_offset": TOP - 1}),
    ("dense", {"base_offset": TOP - 5, "count": 5}),
    ("dense", {"attributes": TRANSACTIONAL, "producer_id": 0}),
    ("dense", {"attributes": DELETE_HORIZON}),
    ("dense", {"attributes": -128}),  # bits 7–15 mean nothing today
    ("dense", {"attributes": 4}),
    ("dense", {"producer_id": 7, "base_sequence": -1}),
    ("dense", {"base_timestamp": -1, "max_timestamp": -1}),
    ("log-append-time", {"attributes": LOG_APPEND_TIME}),
    ("log-append-time", {"attributes": LOG_APPEND_TIME | TRANSACTIONAL | 3, "producer_id": 1}),
    ("gapped", {"last_offset_delta": 1}),
    ("gapped", {"last_offset_delta": 2**31 - 1}),
    ("gapped", {"attributes": LOG_APPEND_TIME, "last_offset_delta": 1}),
    ("unknown-codec", {"attributes": 5}),
    ("unknown-codec", {"attributes": 6}),
    ("unknown-codec", {"attributes": 7}),
    ("unknown-codec", LATER),
    ("empty", {"count": 0, "last_offset_delta": 0}),
    ("empty", LATER | {"count": 0}),
    ("malformed", {"attributes": TRANSACTIONAL, "producer_id": -1}),
    ("malformed", LATER | {"attributes": TRANSACTIONAL | 7, "producer_id": -1, "count": 0}),
    ("control", {"attributes": CONTROL}),
    ("control", LATER | {"attributes": CONTROL | TRANSACTIONAL | 15, "producer_id": -1}),
    ("control", LATER | {"attributes": CONTROL, "count": 0}),
    ("malformed", {"attributes": CONTROL, "last_offset_delta": 0, "count": 2}),
    ("malformed", {"attributes": CONTROL, "count": -1}),
    ("malformed", {"last_offset_delta": 4, "count": 6}),
    ("malformed", {"count": 0, "last_offset_delta": -1}),
    ("malformed", {"count": 2**31 - 1, "last_offset_delta": 0}),
    ("malformed", {"last_offset_delta": -2}),
    ("malformed", {"last_offset_delta": -(2**31)}),
    ("malformed", {"count": -(2**31), "last_offset_delta": 0}),
    ("malformed", {"base_offset": -1}),
    ("malformed", {"base_offset": -(2**63), "last_offset_delta": -(2**31)}),
    ("malformed", {"base_offset": TOP}),  # the next offset would not fit
    ("malformed", {"base_offset": TOP - 4, "count": 5}),
    ("malformed", {"magic": 0, "base_offset": -1}),
    ("malformed", {"magic": 1, "base_offset": TOP}),
    ("malformed", {"magic": 3}),
    ("malformed", {"magic": -1}),
    ("malformed", {"magic": 127, "attributes": CONTROL}),
    ("old-magic", {"magic": 0}),
    ("old-magic", {"magic": 1, "attributes": CONTROL, "base_offset": 5, "count": -1}),
]


@pytest.mark.parametrize(("kind", "fields"), KIND_TABLE)
def test_classification(kind: str, fields: dict[str, int]) -> None:
    batch = oracle.build(bytes(24), **fields)
    assert only(batch).kind == kind
    assert oracle.kind(batch) == kind


def test_the_table_has_every_kind() -> None:
    assert {kind for kind, _ in KIND_TABLE} == set(KINDS)


@pytest.mark.parametrize("fields", [f for kind, f in KIND_TABLE if kind == "malformed"])
def test_a_malformed_batch_spans_no_offsets(fields: dict[str, int]) -> None:
    view = only(oracle.build(bytes(24), **fields))
    if fields.get("base_offset", 0) < 0 or fields.get("last_offset_delta", 0) < 0:
        assert view.next_offset == view.base_offset
    assert view.base_offset <= view.next_offset <= view.base_offset + 2**31


def test_every_attribute_value() -> None:
    for attributes in range(-(2**15), 2**15):
        for producer_id in (-1, 9):
            batch = oracle.build(attributes=attributes, producer_id=producer_id, crc=0)
            assert only(batch).kind == oracle.kind(batch), (attributes, producer_id)


@given(data=slices)
def test_cutting_any_slice(data: bytes) -> None:
    check_slice(data)


def test_an_empty_slice() -> None:
    assert cut_slice(b"") == ([], 0)


@given(first=dense_batches(), second=legacy_messages, third=any_batches())
def test_a_partial_tail_of_every_length(first: bytes, second: bytes, third: bytes) -> None:
    data = first + second + third
    ends = [0, len(first), len(first) + len(second), len(data)]
    for size in range(len(data) + 1):
        batches, tail = cut_slice(memoryview(data)[:size])
        whole = max(i for i, end in enumerate(ends) if end <= size)
        assert len(batches) == whole
        assert tail == size - ends[whole]
        assert [b.position for b in batches] == ends[:whole]


@pytest.mark.parametrize("length", [-(2**31), -49, -12, -1, 0, 1, 13])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_lengths_that_cannot_be(length: int, before: int) -> None:
    whole = oracle.build(bytes(10)) * before
    broken = oracle.build(bytes(10), length=length)
    with pytest.raises(ValueError, match=f"batch at byte {len(whole)} has an impossible length"):
        cut_slice(whole + broken)
    with pytest.raises(ValueError, match=f"batch at byte {len(whole)} "):
        cut_slice(whole + broken[:12])
    batches, tail = cut_slice(whole + broken[:11])
    assert (len(batches), tail) == (before, 11)


@pytest.mark.parametrize("length", [60, 2**20, 2**31 - 1])
def test_a_length_past_the_end_is_a_partial_batch(length: int) -> None:
    assert cut_slice(oracle.build(bytes(10), length=length)) == ([], 71)


@pytest.mark.parametrize("size", range(26, 61))
def test_a_whole_batch_shorter_than_its_header(size: int) -> None:
    short = bytearray(oracle.build(length=size - 12)[:size])
    view = only(short)
    assert (view.kind, view.size) == ("malformed", size)
    assert view.crc_matches() == (oracle.crc32c(bytes(short[21:])) == view.crc)
    short[16] = 1
    assert only(short).kind == "old-magic"


@given(message=legacy_messages)
def test_messages_of_magic_0_and_1(message: bytes) -> None:
    view = only(message)
    assert view.kind == oracle.kind(message)
    assert view.magic == message[16]
    assert view.base_offset == struct.unpack_from(">q", message)[0]
    assert (view.count, view.codec, view.control_type()) == (1, "none", -1)
    assert not view.crc_matches()
    with pytest.raises(ValueError, match=f"{view.kind} batch cannot"):
        view.rewritten_header(1, 0, 0)


def test_batches_keep_their_slice_alive() -> None:
    data = bytearray(oracle.build(b"payload") * 3)
    batches, _ = cut_slice(data)
    with pytest.raises(BufferError):
        data.clear()
    del data
    assert all(b.crc_matches() for b in batches)
    with pytest.raises(TypeError):
        cut_slice(None)  # type: ignore[arg-type]
    with pytest.raises((ValueError, BufferError)):
        cut_slice(memoryview(bytes(90))[::2])


@pytest.mark.parametrize("marker", [0, 1])
@pytest.mark.parametrize("version", [0, 1, 2**15 - 1])
def test_transaction_markers(marker: int, version: int) -> None:
    view = only(oracle.control_batch(marker, version=version))
    assert (view.kind, view.control_type()) == ("control", marker)


def test_the_shortest_marker() -> None:
    assert only(control_with(b"\x10\0\0\0\x08" + b"\0\0\0\1")).control_type() == 1


def test_a_longer_key_of_a_later_version_is_still_a_marker() -> None:
    key = struct.pack(">hhi", 1, 1, 5)
    assert only(oracle.control_batch(1, key=key)).control_type() == 1


@pytest.mark.parametrize("marker", [-1, 2, 3, 2**15 - 1, -(2**15)])
def test_other_control_records_are_neither(marker: int) -> None:
    assert only(oracle.control_batch(marker)).control_type() == -1


def control_with(payload: bytes) -> bytes:
    return oracle.build(payload, attributes=CONTROL, producer_id=1)


MARKER = b"\0\0\0\1"  # version 0, commit


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(control_with(b""), id="no record"),
        pytest.param(oracle.control_batch(1, version=-1), id="negative version"),
        pytest.param(oracle.control_batch(1, key=b"\0\0\0"), id="short key"),
        pytest.param(oracle.control_batch(1, key=b""), id="empty key"),
        pytest.param(control_with(b"\x10\0\0\0" + oracle.varint(-1) + MARKER), id="null key"),
        pytest.param(control_with(b"\x10\0\0\0" + oracle.varint(-5) + MARKER), id="length -5"),
        pytest.param(control_with(b"\x12\0\0\0" + oracle.varint(-4000) + MARKER), id="negative"),
        pytest.param(control_with(b"\x12\0\0\0" + oracle.varint(99) + MARKER), id="past the end"),
        pytest.param(control_with(b"\x10\0\0\0" + b"\xff" * 11 + MARKER), id="endless varint"),
        pytest.param(control_with(b"\x0e\0\0\0\x08" + MARKER), id="record shorter than it is"),
        pytest.param(control_with(b"\x12\0\0\0\x08" + MARKER), id="record past the end"),
        pytest.param(oracle.control_batch(1, count=0, last_offset_delta=0), id="emptied"),
        pytest.param(oracle.control_batch(1, count=2), id="two records"),
        pytest.param(oracle.control_batch(1, attributes=CONTROL | 1), id="compressed"),
        pytest.param(oracle.control_batch(1, attributes=0), id="no control batch"),
        pytest.param(oracle.control_batch(1, base_offset=-1), id="malformed"),
    ],
)
def test_odd_control_batches_are_neither(batch: bytes) -> None:
    assert only(batch).control_type() == -1


@given(payload=st.binary(max_size=30), marker=st.sampled_from([0, 1]), cut=st.integers(1, 16))
@example(payload=b"", marker=1, cut=16)
def test_control_payloads_of_any_bytes(payload: bytes, marker: int, cut: int) -> None:
    assert only(control_with(payload)).control_type() in (-1, 0, 1)
    whole = oracle.control_batch(marker)
    assert only(control_with(whole[61:-cut])).control_type() in (-1, marker)
    assert only(control_with(whole[61:66])).control_type() == -1


@given(pid=i64, epoch=i16, counter=i64, sequence=i32)
def test_only_dense_batches_are_rewritten(
    pid: int, epoch: int, counter: int, sequence: int
) -> None:
    for kind, fields in KIND_TABLE:
        view = only(oracle.build(bytes(24), **{"base_sequence": sequence} | fields))
        if kind == "dense":
            assert len(view.rewritten_header(pid, epoch, counter)) == 61
        else:
            with pytest.raises(ValueError, match=f"a {kind} batch cannot be passed through"):
                view.rewritten_header(pid, epoch, counter)
