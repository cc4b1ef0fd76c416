"""The same plain bytes in every form that a codec's data comes in, each made by its own library."""

from __future__ import annotations

import gzip
import json
import random
import struct

import lz4.frame
import snappy
import zstandard

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
NAMES = {NONE: "none", GZIP: "gzip", SNAPPY: "snappy", LZ4: "lz4", ZSTD: "zstd"}
COMPRESSED = [GZIP, SNAPPY, LZ4, ZSTD]
XERIAL_HEADER = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
LIMIT = 64 << 20


def text(size: int, seed: int = 1) -> bytes:
    """JSON lines that compress about as logs do."""
    rng = random.Random(seed)
    lines = bytearray()
    while len(lines) < size:
        line = {
            "id": rng.randrange(10**9),
            "user": f"user{rng.randrange(1000)}",
            "at": rng.random(),
        }
        lines += json.dumps(line).encode() + b"\n"
    return bytes(lines[:size])


def xerial(data: bytes, block: int = 32 << 10) -> bytes:
    """As snappy-java's SnappyOutputStream frames it."""
    blocks = [snappy.compress(data[at : at + block]) for at in range(0, len(data), block)]
    return XERIAL_HEADER + b"".join(struct.pack(">i", len(b)) + b for b in blocks)


def zstd_stream(data: bytes, *, checksum: bool = False) -> bytes:
    """A frame without its content size, as zstd-jni writes it."""
    compressor = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=False)
    stream = compressor.compressobj()
    return stream.compress(data) + stream.flush()


def lz4_v0(frame: bytes) -> bytes:
    """The frame as producers of magic 0 wrote it: its magic hashed along with its header."""
    assert frame[:7] == bytes.fromhex("04224d18604082"), "only for the header that has this hash"
    return frame[:6] + b"\x1a" + frame[7:]


def forms(data: bytes) -> dict[str, tuple[int, bytes]]:
    """By name: codec and compressed data."""
    middle = len(data) // 2
    return {
        "gzip": (GZIP, gzip.compress(data)),
        "gzip-members": (GZIP, gzip.compress(data[:middle]) + gzip.compress(data[middle:])),
        "snappy-raw": (SNAPPY, snappy.compress(data)),
        "snappy-xerial": (SNAPPY, xerial(data)),
        "snappy-xerial-twice": (SNAPPY, xerial(data[:middle], 5000) + xerial(data[middle:])),
        "lz4": (LZ4, lz4.frame.compress(data, block_linked=False, store_size=False)),
        "lz4-checksums": (
            LZ4,
            lz4.frame.compress(
                data, block_size=5, block_linked=False, content_checksum=True, block_checksum=True
            ),
        ),
        "lz4-linked": (LZ4, lz4.frame.compress(data, block_size=4, block_linked=True)),
        "lz4-4MiB": (LZ4, lz4.frame.compress(data, block_size=7, block_linked=False)),
        "zstd": (ZSTD, zstandard.ZstdCompressor().compress(data)),
        "zstd-stream": (ZSTD, zstd_stream(data)),
        "zstd-checksum": (ZSTD, zstd_stream(data, checksum=True)),
        "zstd-frames": (
            ZSTD,
            zstd_stream(data[:middle])
            + struct.pack("<II", 0x184D2A5A, 3)
            + b"any"
            + zstandard.ZstdCompressor().compress(data[middle:]),
        ),
    }
