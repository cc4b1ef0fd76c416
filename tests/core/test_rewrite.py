"""The header rewrite: every field, and a CRC that still covers the source's bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from copycore.batch import Batch, cut_slice, rewrite_slice
from copycore.crc32c import table_crc32c
from kit.oracle.batches import HEADER, build, parse, rewrite
from kit.oracle.wire_strategies import damaged, dense_batches, i16, i32, i64, slices, u32


def only(data: bytes | bytearray) -> Batch:
    (batch,), tail = cut_slice(data)
    assert tail == 0
    return batch


def rewritten(batch: bytes, producer_id: int = 9, epoch: int = 1, counter: int = 2) -> bytes:
    return only(batch).rewritten_header(producer_id, epoch, counter) + batch[HEADER:]


def crc_is_right(batch: bytes) -> bool:
    return parse(batch)["crc"] == table_crc32c(batch[21:])


@given(batch=dense_batches(), pid=i64, epoch=i16, counter=st.integers(0, 2**63 - 1))
@example(batch=build(b"x"), pid=0, epoch=0, counter=2**31 - 1)
@example(batch=build(b"x"), pid=0, epoch=0, counter=2**31)
@example(batch=build(b""), pid=-1, epoch=-1, counter=2**63 - 1)
def test_equals_the_recomputed_batch(batch: bytes, pid: int, epoch: int, counter: int) -> None:
    assert rewritten(batch, pid, epoch, counter) == rewrite(batch, pid, epoch, counter % 2**31)


@given(batch=dense_batches(), pid=i64, epoch=i16, sequence=st.integers(0, 2**31 - 1))
def test_every_field_of_the_new_header(batch: bytes, pid: int, epoch: int, sequence: int) -> None:
    old, new = parse(batch), parse(rewritten(batch, pid, epoch, sequence))
    kept = ("length", "magic", "last_offset_delta", "base_timestamp", "max_timestamp", "count")
    assert {name: new[name] for name in kept} == {name: old[name] for name in kept}
    assert (new["base_offset"], new["leader_epoch"]) == (0, -1)
    assert (new["producer_id"], new["producer_epoch"]) == (pid, epoch)
    assert new["base_sequence"] == sequence
    assert new["attributes"] == old["attributes"] & ~0x78


def test_every_attribute_value() -> None:
    dense = 0
    for attributes in range(-(2**15), 2**15):
        batch = bytearray(build(b"records", attributes=attributes, producer_id=3, crc=0))
        batch[17:21] = table_crc32c(batch[21:]).to_bytes(4, "big")
        if only(batch).kind != "dense":
            continue
        dense += 1
        new = rewritten(bytes(batch))
        assert parse(new)["attributes"] == attributes & ~0x78
        assert crc_is_right(new), attributes
    assert dense == 5 * 2 * 2 * 2**9  # codecs, transactional, delete horizon, spare bits


@given(batch=dense_batches(), size=st.sampled_from([0, 1, 7, 255, 256, 65_535, 65_536, 131_072]))
def test_payloads_of_any_size(batch: bytes, size: int) -> None:
    fields = {k: v for k, v in parse(batch).items() if k not in ("length", "crc")}
    whole = bytearray(build(b"", **fields, crc=0, length=49 + size) + b"\xa5" * size)
    whole[17:21] = table_crc32c(whole[21:]).to_bytes(4, "big")
    assert crc_is_right(rewritten(bytes(whole)))


@given(batch=dense_batches(), pid=i64, counter=st.integers(0, 2**63 - 1))
def test_rewriting_twice_changes_nothing_more(batch: bytes, pid: int, counter: int) -> None:
    # The broker would refuse a producer id of −1 with sequences; the CRC does not depend on it.
    once = rewritten(batch, pid, 0, counter)
    assert rewritten(once, pid, 0, counter) == once


def test_every_flipped_bit_stays_detected() -> None:
    """End-to-end integrity: the target detects what was damaged on the way."""
    batch = build(bytes(range(200)), producer_id=5, producer_epoch=2, base_sequence=8, count=1000)
    detected = 0
    for bit in range(8 * len(batch)):
        flipped = bytearray(batch)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            batches, _ = cut_slice(flipped)
        except ValueError:
            continue  # an impossible length
        if not batches or batches[0].kind != "dense":
            continue
        new = batches[0].rewritten_header(9, 1, 2) + bytes(flipped[HEADER : batches[0].size])
        if bit // 8 in range(8) or bit // 8 in range(12, 16):
            assert new == rewritten(batch), bit  # outside the CRC, and overwritten
        else:
            assert not only(new).crc_matches(), bit
            detected += 1
    assert detected > 8 * 200


@given(batch=damaged(dense_batches()), crc=st.none() | u32, pid=i64, counter=i32)
def test_the_new_crc_is_right_exactly_when_the_old_one_was(
    batch: bytes, crc: int | None, pid: int, counter: int
) -> None:
    if crc is not None:
        batch = batch[:17] + crc.to_bytes(4, "big") + batch[21:]
    try:
        batches, _ = cut_slice(batch)
    except ValueError:
        return
    for view in batches:
        if view.kind == "dense":
            start = view.position
            whole = batch[start : start + view.size]
            new = view.rewritten_header(pid, 0, counter) + whole[HEADER:]
            assert only(new).crc_matches() == view.crc_matches() == crc_is_right(whole)


def test_the_source_is_never_written_to() -> None:
    batch = bytearray(build(b"payload", attributes=0x50, producer_id=1))
    before = bytes(batch)
    only(batch).rewritten_header(2, 3, 4)
    rewrite_slice(batch, 2, 4)
    assert batch == before
    rewrite_slice(bytes(batch), 2, 4)


@given(data=slices, pid=i64, counter=st.integers(0, 2**62))
def test_a_slice_has_as_many_rewritten_as_it_has_dense(data: bytes, pid: int, counter: int) -> None:
    try:
        batches, _ = cut_slice(data)
    except ValueError:
        return
    dense = sum(view.kind == "dense" for view in batches)
    assert rewrite_slice(data, pid, counter) == dense


def test_arguments_out_of_range() -> None:
    view = only(build(b""))
    for arguments in ((2**63, 0, 0), (0, 2**15, 0), (0, 0, 2**63), (-(2**63) - 1, 0, 0)):
        with pytest.raises(OverflowError):
            view.rewritten_header(*arguments)
    assert parse(view.rewritten_header(0, 0, -1))["base_sequence"] == 2**31 - 1
