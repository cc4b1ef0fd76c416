"""Codecs against Kafka's own compression classes, on whole data and on damaged.

They define what a batch holds: a source's consumers read with them, and a target's brokers check
with them what is produced.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from copycore.codec import (
    CodecError,
    compress_bytes,
    decompress_bytes,
    decompress_lz4_v0,
    level_range,
)
from copycore.retrace import retraced
from kit.oracle import packed
from kit.oracle.java_codecs import JavaCodecs
from kit.oracle.packed import COMPRESSED, LZ4
from kit.oracle.retraced import BLOCK, rewrite, source

pytestmark = pytest.mark.timeout(180)

SIZES = [0, 1, 100, 1 << 15, 1 << 16, (1 << 16) + 1, 1 << 17, 300_000, 3 << 20]
LIMIT = 4 << 20


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JavaCodecs]:
    with JavaCodecs(tmp_path_factory.mktemp("java")) as peer:
        yield peer


def ours(codec: int, data: bytes) -> bytes | None:
    try:
        return decompress_bytes(codec, data, LIMIT)
    except CodecError:
        return None


@pytest.mark.parametrize("codec", COMPRESSED)
@pytest.mark.parametrize("size", SIZES)
def test_each_reads_the_other(java: JavaCodecs, codec: int, size: int) -> None:
    for data in (packed.text(size), random.Random(size).randbytes(size), bytes(size)):
        assert decompress_bytes(codec, java.compress(codec, data), size) == data
        assert java.decompress(codec, compress_bytes(codec, data)) == data


@pytest.mark.parametrize("codec", COMPRESSED)
def test_java_reads_every_level(java: JavaCodecs, codec: int) -> None:
    data = packed.text(200_000)
    low, high = level_range(codec) or (-1000, -1000)
    for level in {low, max(low, -5), 1, 3, high} if high > 0 else {-1000}:
        assert java.decompress(codec, compress_bytes(codec, data, level)) == data, level


def test_lz4_of_magic_0(java: JavaCodecs) -> None:
    for size in SIZES:
        data = packed.text(size)
        wrapped = java.compress(LZ4, data, magic=0)
        assert decompress_lz4_v0(wrapped, size) == data
        assert ours(LZ4, wrapped) is None is java.decompress(LZ4, wrapped)


@pytest.mark.parametrize("name", packed.forms(b""))
def test_java_reads_these_forms(java: JavaCodecs, name: str) -> None:
    """Java reads all forms but linked lz4 blocks."""
    data = packed.text(200_000)
    codec, form = packed.forms(data)[name]
    assert java.decompress(codec, form) == (None if name == "lz4-linked" else data)
    assert ours(codec, form) == data


@pytest.mark.parametrize("size", [1, 200, BLOCK - 10, BLOCK, 5 * BLOCK])
@pytest.mark.parametrize("growth", [0, 1, 3])
def test_java_reads_retraced_frames(java: JavaCodecs, size: int, growth: int) -> None:
    """Frames of blocks that have kept their size, and of blocks that have not."""
    lines = packed.text(size).splitlines(keepends=True)
    dropped = 1 if growth == 0 else 0
    one = rewrite([(line[:dropped], b"!" * growth, line[dropped:]) for line in lines])
    frame = java.compress(LZ4, one.old)
    twice = retraced(one.new * 2, [source(frame, one), source(frame, one, len(one.new))])
    assert java.decompress(LZ4, twice) == one.new * 2


PLAIN = packed.text(150) + bytes(200) + packed.text(100, 2)
FORMS = {name: form for name, form in packed.forms(PLAIN).items() if name != "lz4-linked"}
SIMPLE = ["gzip", "snappy-raw", "snappy-xerial", "lz4", "zstd", "zstd-stream", "zstd-checksum"]


def damaged(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """A bit flipped at every position."""
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            yield position, bit, bytes(flipped)


@pytest.mark.parametrize("name", SIMPLE)
def test_damage_is_judged_alike(java: JavaCodecs, name: str) -> None:
    """Refused by both, or read as the same by both."""
    codec, form = FORMS[name]
    # Java ignores reserved gzip flags, and an end mark of lz4 that is marked as uncompressed.
    passed_over = {"gzip": {(3, 5), (3, 6), (3, 7)}, "lz4": {(len(form) - 1, 7)}}.get(name, set())
    for position, bit, data in damaged(form):
        theirs, read = java.decompress(codec, data), ours(codec, data)
        assert (read != theirs) == ((position, bit) in passed_over), (position, bit)
        assert read is None or read == theirs


@pytest.mark.parametrize("name", [name for name in FORMS if name not in SIMPLE])
def test_nothing_is_read_that_java_reads_otherwise(java: JavaCodecs, name: str) -> None:
    """Java stops without an error before a damaged second part, and skips lz4's content size."""
    codec, form = FORMS[name]
    for position, bit, data in damaged(form):
        read = ours(codec, data)
        assert read is None or read == java.decompress(codec, data), (position, bit)


@pytest.mark.parametrize("name", FORMS)
def test_nothing_is_read_of_cut_data_that_java_reads_otherwise(java: JavaCodecs, name: str) -> None:
    codec, form = FORMS[name]
    for end in range(1, len(form)):
        theirs, read = java.decompress(codec, form[:end]), ours(codec, form[:end])
        assert read is None or read == theirs, end
        assert read == theirs or name not in SIMPLE, end


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("tail", [b"\0", b"\0\0\0", b"\0\0\0\0", b"no data at all", b"\xff" * 40])
def test_trailing_bytes_are_judged_alike(java: JavaCodecs, name: str, tail: bytes) -> None:
    codec, form = FORMS[name]
    assert java.decompress(codec, form + tail) == ours(codec, form + tail)
