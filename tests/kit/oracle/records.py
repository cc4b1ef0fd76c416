"""Records of a batch v2, slowly: written and read field by field as Kafka's documentation has them.

A record here is a ``Plain``: its two deltas, key, value and headers. Everything malformed or cut
short raises ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kit.oracle.batches import In, varint

Headers = Sequence[tuple[bytes, bytes | None]]


class Plain(NamedTuple):
    offset_delta: int
    timestamp_delta: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[bytes, bytes | None]]


def nullable(content: bytes | None) -> bytes:
    return varint(-1) if content is None else varint(len(content)) + content


def body(key: bytes | None, value: bytes | None, headers: Headers = ()) -> bytes:
    """The part of a record that never changes: from the key's length to the end of the headers."""
    listed = b"".join(nullable(name) + nullable(content) for name, content in headers)
    return nullable(key) + nullable(value) + varint(len(headers)) + listed


def record(offset_delta: int, timestamp_delta: int, content: bytes, attributes: int = 0) -> bytes:
    whole = bytes([attributes]) + varint(timestamp_delta) + varint(offset_delta) + content
    return varint(len(whole)) + whole


def payload(entries: Sequence[tuple[int, bytes]]) -> bytes:
    """The records of ``(timestamp, body)`` at consecutive offsets; the first one's time is the
    base, and differences wrap as Java's longs do."""
    return b"".join(
        record(number, wrapped(timestamp - entries[0][0]), content)
        for number, (timestamp, content) in enumerate(entries)
    )


def wrapped(number: int) -> int:
    """Modulo 2^64, as a signed number."""
    return (number + 2**63) % 2**64 - 2**63


def read_varint(r: In, bits: int) -> int:
    value = 0
    for place in range(0, bits, 7):
        byte = r.raw(1)[0]
        value |= (byte & 0x7F) << place
        if byte < 0x80:
            if value >= 2**bits:
                break
            return value // 2 if value % 2 == 0 else -(value // 2) - 1
    raise ValueError("varint too long")


def read_nullable(r: In) -> bytes | None:
    size = read_varint(r, 32)
    return None if size == -1 else r.raw(size)


def read_record(r: In) -> tuple[Plain, bytes]:
    """A record and its body."""
    inner = In(r.raw(read_varint(r, 32)), False)
    inner.raw(1)
    timestamp_delta = read_varint(inner, 64)
    offset_delta = read_varint(inner, 32)
    start = inner.position
    key, value = read_nullable(inner), read_nullable(inner)
    count = read_varint(inner, 32)
    if not 0 <= count <= len(inner.data):
        raise ValueError("impossible number of headers")
    headers = []
    for _ in range(count):
        name = read_nullable(inner)
        if name is None:
            raise ValueError("a header without a name")
        headers.append((name, read_nullable(inner)))
    if inner.position != len(inner.data):
        raise ValueError("bytes left in a record")
    return Plain(offset_delta, timestamp_delta, key, value, headers), inner.data[start:]


def read_payload(data: bytes, count: int) -> list[tuple[Plain, bytes]]:
    """The records with their bodies; the error says which record is the first broken one."""
    r, records = In(data, False), []
    for number in range(count):
        try:
            records.append(read_record(r))
        except ValueError:
            raise ValueError(f"record {number} of {count} is broken") from None
    if r.position != len(data):
        raise ValueError(f"{len(data) - r.position} bytes are left behind {count} records")
    return records
