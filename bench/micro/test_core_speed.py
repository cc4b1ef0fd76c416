"""What the core costs without sockets: headers, CRC and frames.

    pytest bench/micro --benchmark-enable

Every batch that is passed through takes the header path: it is cut off the fetched slice and
classified, and its header is rewritten with the transformed CRC. It reads 61 bytes of a batch
whatever its size, so its cost is per batch; bytes a second are that times the batch size. Frames
are measured through their Python form, which copies records and makes dictionaries; the lane uses
the same code without either.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest

from copycore.batch import cut_slice, rewrite_slice
from copycore.crc32c import crc32c, implementation, table_crc32c
from copycore.frames import decode_fetch, decode_produce, encode_fetch, encode_produce
from copycore.records import encode_records, rewrite_records

GB = 1e9
MILLION = 1e6
KIB = 1024


def one_batch(size: int, count: int) -> bytes:
    """A dense, uncompressed batch of ``size`` bytes that says it holds ``count`` records."""
    covered = struct.pack(">hiqqqhii", 0, count - 1, 0, 0, 4000, 0, 0, count) + bytes(size - 61)
    return struct.pack(">qiibI", 0, size - 12, 5, 2, crc32c(covered)) + covered


def slice_of(size: int, batches: int) -> bytes:
    """``batches`` of them at rising offsets, as a broker would send them."""
    body = one_batch(size, 10)[8:]
    return b"".join(struct.pack(">q", 10 * index) + body for index in range(batches))


def varint(value: int) -> bytes:
    """Zigzag, of at most two bytes."""
    raw = 2 * value if value >= 0 else -2 * value - 1
    return bytes([raw]) if raw < 0x80 else bytes([raw & 0x7F | 0x80, raw >> 7])


def rewrite_all(data: bytes, batches: int) -> None:
    assert rewrite_slice(data, 9000, 0) == batches


@pytest.mark.parametrize(
    ("size", "batches", "unit", "goal"),
    [
        (128 * KIB, 256, "GB/s", 10),
        (16 * KIB, 1024, "M batches/s", 1),
        (200, 5000, "M batches/s", 1),
    ],
)
def test_header_path(measure: Any, size: int, batches: int, unit: str, goal: float) -> None:
    data = slice_of(size, batches)
    amount = len(data) / GB if unit == "GB/s" else batches / MILLION
    label = f"cut, classify, rewrite: {size:,} B batches"
    measure(label, amount, unit, goal, rewrite_all, data, batches)


@pytest.mark.parametrize(("key", "value", "goal"), [(0, 100, 10), (16, 84, 10), (16, 1000, None)])
def test_records(measure: Any, key: int, value: int, goal: float | None) -> None:
    """Every record is read, checked and written again, as re-batching does between two codecs."""
    count, time = 10_000, 1_700_000_000_000
    body = varint(key) + bytes(key) if key else varint(-1)
    body += varint(value) + bytes(value) + varint(0)
    payload = encode_records([(time + number // 3, body) for number in range(count)])
    assert rewrite_records(payload, count, time) == payload
    label = f"read and write records: {key + value:,} B"
    label += f", key {key}" if key else ", null key"
    amount = count / MILLION
    measure(label, amount, "M records/s", goal, rewrite_records, payload, count, time)


def check_all(data: bytes) -> None:
    batches, _ = cut_slice(data)
    assert all(batch.crc_matches() for batch in batches)


def test_checked_batches(measure: Any) -> None:
    data = slice_of(128 * KIB, 64)
    measure(
        "cut and check the CRC: 131,072 B batches", len(data) / GB, "GB/s", None, check_all, data
    )


@pytest.mark.parametrize("size", [64, 4 * KIB, 128 * KIB, 4 * KIB * KIB])
def test_crc(measure: Any, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    view = memoryview(data)[:size]
    measure(f"CRC-32C, {implementation()}: {size:,} B", size / GB, "GB/s", None, crc32c, view)


def test_crc_by_table(measure: Any) -> None:
    data = bytes(128 * KIB)
    measure("CRC-32C, table: 131,072 B", len(data) / GB, "GB/s", None, table_crc32c, data)


@pytest.mark.parametrize("partitions", [12, 200])
def test_fetch_decode(measure: Any, partitions: int) -> None:
    records = bytes(16 * KIB)
    entry = struct.pack(">ihqqq", 0, 0, 1000, 1000, 0) + b"\1" + struct.pack(">i", -1)
    entry += b"\x81\x80\x01" + records + b"\0"  # 16 KiB + 1 as a varint
    body = struct.pack(">bihi", 0, 0, 0, 0) + b"\2\7orders"
    body += (bytes([partitions + 1]) if partitions < 127 else b"\xc9\x01") + entry * partitions
    body += b"\0\0"
    ((_, decoded),) = decode_fetch(12, body)["topics"]
    assert [p["records"] for p in decoded] == [records] * partitions
    label = f"decode a Fetch of {partitions} partitions, 16 KiB each"
    measure(label, partitions / MILLION, "M parts/s", None, decode_fetch, 12, body)


@pytest.mark.parametrize("partitions", [12, 200])
def test_fetch_encode(measure: Any, partitions: int) -> None:
    topics = [(b"orders", bytes(16), [(p, 0, 10**9, 1 << 20) for p in range(partitions)])]
    label = f"encode a Fetch of {partitions} partitions"
    measure(label, partitions / MILLION, "M parts/s", None, encode_fetch, 12, 1, b"bench", topics)


@pytest.mark.parametrize("partitions", [12, 200])
def test_produce_encode(measure: Any, partitions: int) -> None:
    batch = one_batch(16 * KIB, 10)
    topics = [(b"orders", [(p, batch) for p in range(partitions)])]
    label = f"encode a Produce of {partitions} 16 KiB batches"
    amount = partitions / MILLION
    measure(label, amount, "M parts/s", None, encode_produce, 9, 1, b"bench", topics)


@pytest.mark.parametrize("partitions", [12, 200])
def test_produce_decode(measure: Any, partitions: int) -> None:
    entry = struct.pack(">ihqqq", 0, 0, 1000, -1, 0) + b"\1\0\0"
    body = b"\0\2\7orders"
    body += (bytes([partitions + 1]) if partitions < 127 else b"\xc9\x01") + entry * partitions
    body += b"\0" + bytes(5)
    assert len(decode_produce(9, body)["topics"][0][1]) == partitions
    label = f"decode a Produce response of {partitions}"
    measure(label, partitions / MILLION, "M parts/s", None, decode_produce, 9, body)
