"""Messages of magic 0 and 1, written and read slowly, from Kafka's description of them.

``Told`` is a message as the format has it: its offset is as written, its time is None in magic 0.
``Seen`` is what a consumer gets of an entry: offset, timestamp, key and value of each message.
Compression is by other libraries than the core's where there are others.
"""

from __future__ import annotations

import gzip
import struct
from binascii import crc32
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import lz4.frame
import snappy

from kit.oracle.batches import In
from kit.oracle.packed import XERIAL_HEADER

NONE, GZIP, SNAPPY, LZ4 = range(4)
APPEND_TIME = 0x08


Seen = list[tuple[int, int, bytes | None, bytes | None]]


class Told(NamedTuple):
    magic: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None


def sized(content: bytes | None) -> bytes:
    return struct.pack(">i", -1) if content is None else struct.pack(">i", len(content)) + content


def entry(offset: int, checked: bytes, *, crc: int | None = None) -> bytes:
    """An entry around everything that its CRC covers."""
    message = struct.pack(">I", crc32(checked) if crc is None else crc) + checked
    return struct.pack(">qi", offset, len(message)) + message


def write(told: Told, attributes: int = 0) -> bytes:
    checked = struct.pack(">bb", told.magic, attributes)
    if told.timestamp is not None:
        checked += struct.pack(">q", told.timestamp)
    return entry(told.offset, checked + sized(told.key) + sized(told.value))


def compress(codec: int, magic: int, data: bytes) -> bytes:
    if codec == GZIP:
        return gzip.compress(data, mtime=0)
    if codec == SNAPPY:
        block: bytes = snappy.compress(data)
        return XERIAL_HEADER + struct.pack(">i", len(block)) + block
    frame: bytes = lz4.frame.compress(data, block_linked=False, store_size=False)
    # KAFKA-3160: any value but the header's checksum. Readers of magic 0 do not check it.
    return frame[:6] + bytes([frame[6] ^ 0x5A]) + frame[7:] if magic == 0 else frame


def decompress(codec: int, magic: int, data: bytes) -> bytes:
    if codec == GZIP:
        return gzip.decompress(data)
    if codec == SNAPPY and data[:8] != XERIAL_HEADER[:8]:
        return bytes(snappy.decompress(data))
    if codec == SNAPPY:
        r, plain = In(data, False, 16), b""
        while r.position < len(data):
            plain += snappy.decompress(r.raw(r.get("i")))
        return plain
    if magic == 1:
        return bytes(lz4.frame.decompress(data))
    at = 14 if data[4] & 0x08 else 6  # after the content's size, if the header has it
    for checksum in range(256):
        with suppress(RuntimeError):
            return bytes(lz4.frame.decompress(data[:at] + bytes([checksum]) + data[at + 1 :]))
    raise ValueError("lz4")


def wrap(
    content: bytes,
    codec: int,
    *,
    magic: int,
    offset: int,
    timestamp: int = -1,
    attributes: int = 0,
    key: bytes | None = None,
) -> bytes:
    """A wrapper around the bytes of a set."""
    value = compress(codec, magic, content)
    time = timestamp if magic == 1 else None
    return write(Told(magic, offset, time, key, value), codec | attributes)


def wrapper(
    messages: Sequence[Told], codec: int, *, magic: int, base: int, timestamp: int, attributes: int
) -> tuple[bytes, Seen]:
    """A wrapper around messages, and what a consumer sees of them when the offset of the first is
    to be ``base`` higher than it says."""
    last = messages[-1].offset + base
    whole = wrap(
        b"".join(map(write, messages)),
        codec,
        magic=magic,
        offset=last,
        timestamp=timestamp,
        attributes=attributes,
    )
    appended = magic == 1 and attributes & APPEND_TIME
    seen = []
    for told in messages:
        time = -1 if told.timestamp is None else timestamp if appended else told.timestamp
        seen.append((told.offset + base, time, told.key, told.value))
    return whole, seen


def read_entry(r: In) -> tuple[Told, int]:
    """A message and its attributes."""
    offset = r.get("q")
    inner = In(r.raw(r.get("i")), False)
    if crc32(inner.data[4:]) != inner.get("I"):
        raise ValueError("CRC")
    magic, attributes = inner.get("b"), inner.get("b")
    if magic not in (0, 1):
        raise ValueError("magic")
    timestamp = inner.get("q") if magic == 1 else None
    told = Told(magic, offset, timestamp, inner.blob(), inner.blob())
    if inner.position != len(inner.data):
        raise ValueError("bytes left in a message")
    return told, attributes


def read(data: bytes) -> Seen:
    """What a consumer sees of an entry."""
    r = In(data, False)
    outer, attributes = read_entry(r)
    if r.position != len(data) or outer.offset < 0:
        raise ValueError("not one entry")
    codec = attributes & 7
    if codec == NONE:
        return [(outer.offset, time_of(outer), outer.key, outer.value)]
    if codec > LZ4 or outer.value is None:
        raise ValueError("not a wrapper")
    content = In(decompress(codec, outer.magic, outer.value), False)
    messages = []
    while content.position < len(content.data):
        told, inner_attributes = read_entry(content)
        if inner_attributes & 7:
            raise ValueError("nested")
        if told.magic == outer.magic == 1 and attributes & APPEND_TIME:
            told = told._replace(timestamp=outer.timestamp)
        messages.append(told)
    offsets = [told.offset for told in messages]
    if not offsets or offsets[0] < 0 or offsets != sorted(set(offsets)):
        raise ValueError("offsets")
    base = outer.offset - offsets[-1] if outer.magic == 1 and outer.offset else 0
    if base < 0:
        raise ValueError("the wrapper's offset")
    return [(told.offset + base, time_of(told), told.key, told.value) for told in messages]


def time_of(told: Told) -> int:
    return -1 if told.timestamp is None else told.timestamp
