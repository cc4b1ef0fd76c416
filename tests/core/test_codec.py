"""Codecs: round trips, every form of their data, limits, levels, and what is refused."""

from __future__ import annotations

import gzip
import random
import struct
import threading
from contextlib import suppress
from typing import Any

import lz4.frame
import pytest
import snappy
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from copycore.codec import (
    CodecError,
    compress_bytes,
    decompress_bytes,
    decompress_lz4_v0,
    level_range,
)
from kit.oracle import packed
from kit.oracle.packed import COMPRESSED, GZIP, LIMIT, LZ4, NAMES, NONE, SNAPPY, ZSTD

TEXT = packed.text(300_000)
FORMS = packed.forms(TEXT)
# Sizes about a block of snappy-java, of lz4, of zstd, and of what is asked for at once.
EDGES = [n + d for n in (0, 1 << 15, 1 << 16, 1 << 17, 1 << 20) for d in (-1, 0, 1) if n + d >= 0]
codecs = st.sampled_from([NONE, *COMPRESSED])


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Random bytes, runs and repeats: what compresses well, hardly and not at all."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    pieces = []
    for _ in range(draw(st.integers(0, 5))):
        kind, size = rng.randrange(3), rng.choice([3, 100, 5000, 70_000])
        run, word = bytes([rng.randrange(256)]), rng.randbytes(9)
        pieces.append([rng.randbytes(size), run * size, word * (size // 9)][kind])
    return b"".join(pieces) + draw(st.binary(max_size=50))


@given(codec=codecs, data=payloads())
def test_round_trip(codec: int, data: bytes) -> None:
    assert decompress_bytes(codec, compress_bytes(codec, data), len(data)) == data


@pytest.mark.parametrize("codec", [NONE, *COMPRESSED])
@pytest.mark.parametrize("size", EDGES)
def test_round_trip_about_the_edges_of_blocks(codec: int, size: int) -> None:
    for data in (TEXT * 4, random.Random(size).randbytes(size), bytes(size)):
        whole = data[:size]
        assert decompress_bytes(codec, compress_bytes(codec, whole), size) == whole


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("size", [0, 1, 100, 1 << 16, 300_000])
def test_every_form_is_read(name: str, size: int) -> None:
    codec, data = packed.forms(TEXT[:size])[name]
    assert decompress_bytes(codec, data, size) == TEXT[:size]


@pytest.mark.parametrize("name", FORMS)
@given(data=payloads())
def test_every_form_of_anything_is_read(name: str, data: bytes) -> None:
    codec, form = packed.forms(data)[name]
    assert decompress_bytes(codec, form, len(data)) == data


@pytest.mark.parametrize("name", ["none", *FORMS])
def test_the_limit_is_exact_and_named(name: str) -> None:
    codec, data = FORMS.get(name, (NONE, TEXT))
    assert decompress_bytes(codec, data, len(TEXT)) == TEXT
    for limit in (len(TEXT) - 1, len(TEXT) // 2, 1, 0):
        with pytest.raises(CodecError, match=f"{NAMES[codec]} .* more than {limit} bytes") as error:
            decompress_bytes(codec, data, limit)
        assert (error.value.codec, error.value.limit) == (NAMES[codec], limit)
    with pytest.raises(ValueError, match="limit"):
        decompress_bytes(codec, data, -1)


@pytest.mark.parametrize("codec", COMPRESSED)
def test_nothing_compressed_is_something(codec: int) -> None:
    assert decompress_bytes(codec, compress_bytes(codec, b""), 0) == b""
    with pytest.raises(CodecError, match="ends early") as error:
        decompress_bytes(codec, b"", LIMIT)
    assert error.value.limit is None
    assert decompress_bytes(NONE, b"", 0) == compress_bytes(NONE, b"") == b""


def test_what_is_written_has_the_form_that_java_writes() -> None:
    assert compress_bytes(SNAPPY, TEXT) == packed.xerial(TEXT)
    assert compress_bytes(GZIP, TEXT)[:8] == bytes.fromhex("1f8b080000000000"), "with a time in it"
    info = lz4.frame.get_frame_info(compress_bytes(LZ4, TEXT))
    assert (info["block_size"], info["content_size"]) == (64 << 10, 0)
    assert not any(info[flag] for flag in ("block_linked", "block_checksum", "content_checksum"))
    parameters = zstandard.get_frame_parameters(compress_bytes(ZSTD, TEXT))
    assert (parameters.content_size, parameters.has_checksum) == (len(TEXT), False)


@pytest.mark.parametrize(
    ("codec", "levels"),
    [(NONE, None), (GZIP, (1, 9)), (SNAPPY, None), (LZ4, (-64, 12)), (ZSTD, (-64, 22))],
)
def test_levels(codec: int, levels: tuple[int, int] | None) -> None:
    assert level_range(codec) == levels
    default = compress_bytes(codec, TEXT)
    assert compress_bytes(codec, TEXT, -1000) == default
    low, high = levels or (0, -1)
    for level in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"{NAMES[codec]} has no level {level}"):
            compress_bytes(codec, TEXT, level)
    if levels is not None:
        weak, strong = (compress_bytes(codec, TEXT, level) for level in levels)
        assert len(weak) >= len(default) > len(strong)
        for data in (weak, strong):
            assert decompress_bytes(codec, data, len(TEXT)) == TEXT


def test_the_default_levels_are_kafkas() -> None:
    assert compress_bytes(GZIP, TEXT) == compress_bytes(GZIP, TEXT, 6)
    assert compress_bytes(LZ4, TEXT) == compress_bytes(LZ4, TEXT, 0)
    assert compress_bytes(ZSTD, TEXT) == compress_bytes(ZSTD, TEXT, 3)


@pytest.mark.parametrize("codec", [-1, 5, 6, 7, 2**31 - 1])
def test_codecs_not_known(codec: int) -> None:
    with pytest.raises(CodecError, match=f"codec {codec}"):
        decompress_bytes(codec, b"data", LIMIT)
    with pytest.raises(ValueError, match=f"codec {codec}"):
        compress_bytes(codec, b"data")
    assert level_range(codec) is None


@pytest.mark.parametrize("codec", [NONE, *COMPRESSED])
def test_any_flat_buffer_will_do(codec: int) -> None:
    for kind in (bytes, bytearray, memoryview):
        data = compress_bytes(codec, kind(TEXT))
        assert decompress_bytes(codec, kind(data), len(TEXT)) == TEXT
    wrong: Any
    for wrong in (None, "text", 5):
        with pytest.raises(TypeError):
            compress_bytes(codec, wrong)
        with pytest.raises(TypeError):
            decompress_bytes(codec, wrong, 1)


@pytest.mark.parametrize("name", FORMS)
def test_the_data_may_go_when_it_is_read(name: str) -> None:
    """Decompressed data is a copy, since slabs are used again."""
    codec, form = FORMS[name]
    slab = bytearray(form)
    plain = decompress_bytes(codec, slab, LIMIT)
    slab[:] = bytes(len(slab))
    assert plain == TEXT


# --- Bytes after the end of the data (the table in codec.pyx) -------------------------------------

TAILS = [b"\0", b"\0\0\0", b"\0\0\0\0", b"tail that is no data", b"\xff" * 30]


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", FORMS)
def test_trailing_bytes(name: str, tail: bytes) -> None:
    codec, data = FORMS[name]
    ignored = codec in (GZIP, LZ4) or ("xerial" in name and len(tail) < 4)
    if ignored:
        assert decompress_bytes(codec, data + tail, len(TEXT)) == TEXT
    else:
        with pytest.raises(CodecError):
            decompress_bytes(codec, data + tail, LIMIT)


@pytest.mark.parametrize("codec", COMPRESSED)
def test_data_after_data(codec: int) -> None:
    """All members or frames are read, but for lz4, of which Java reads only the first frame."""
    twice = compress_bytes(codec, b"first ") + compress_bytes(codec, b"second")
    expected = b"first " if codec == LZ4 else b"first second"
    assert decompress_bytes(codec, twice, len(expected)) == expected
    if codec != LZ4:
        with pytest.raises(CodecError, match="more than 11"):
            decompress_bytes(codec, twice, 11)
    many = compress_bytes(codec, b"x") * 1000
    assert decompress_bytes(codec, many, 1000) == (b"x" if codec == LZ4 else b"x" * 1000)


# --- Peculiarities ------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "oldest"), [(1, 1), (2, 1), (7, 0), (0, 1), (-1, -1)])
def test_any_version_of_the_xerial_header(version: int, oldest: int) -> None:
    block = snappy.compress(b"data")
    header = packed.XERIAL_HEADER[:8] + struct.pack(">ii", version, oldest)
    data = header + struct.pack(">i", len(block)) + block
    assert decompress_bytes(SNAPPY, data, 4) == b"data"
    with pytest.raises(CodecError):  # too short for a header, so it is a raw block
        decompress_bytes(SNAPPY, header[:15], LIMIT)


@pytest.mark.parametrize("size", [-1, -(2**31), 2**31 - 1, 5])
def test_xerial_chunks_of_impossible_sizes(size: int) -> None:
    chunk = struct.pack(">i", size) + b"\4\14d"
    with pytest.raises(CodecError):
        decompress_bytes(SNAPPY, packed.XERIAL_HEADER + chunk, LIMIT)


@pytest.mark.parametrize("declared", [2**31, 2**32 - 1, 2**35, 2**63])
def test_a_snappy_block_that_declares_more_than_java_holds(declared: int) -> None:
    size = b""
    while declared >= 0x80:
        size += bytes([declared & 0x7F | 0x80])
        declared >>= 7
    for data in (size + bytes([declared]) + b"rest", size + bytes([declared])):
        with pytest.raises(CodecError):
            decompress_bytes(SNAPPY, data, LIMIT)


@given(data=payloads())
def test_lz4_of_magic_0(data: bytes) -> None:
    right = compress_bytes(LZ4, data)
    wrong = packed.lz4_v0(right)
    assert decompress_lz4_v0(wrong, len(data)) == data
    assert decompress_lz4_v0(right, len(data)) == data
    if data:
        with pytest.raises(CodecError, match="more than"):
            decompress_lz4_v0(wrong, len(data) - 1)
    with pytest.raises(CodecError, match="lz4"):
        decompress_bytes(LZ4, wrong, len(data))


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("block_size", [4, 5, 6, 7])
@pytest.mark.parametrize("checksums", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("store_size", [False, True])
def test_lz4_of_magic_0_with_any_header(
    linked: bool, block_size: int, checksums: tuple[bool, bool], store_size: bool
) -> None:
    frame = bytearray(
        lz4.frame.compress(
            TEXT,
            block_linked=linked,
            block_size=block_size,
            content_checksum=checksums[0],
            block_checksum=checksums[1],
            store_size=store_size,
        )
    )
    assert decompress_bytes(LZ4, frame, len(TEXT)) == TEXT
    frame[14 if store_size else 6] ^= 0x5A
    assert decompress_lz4_v0(frame, len(TEXT)) == TEXT
    with pytest.raises(CodecError):
        decompress_bytes(LZ4, frame, len(TEXT))


def test_lz4_of_magic_0_that_is_damaged() -> None:
    wrong = packed.lz4_v0(compress_bytes(LZ4, TEXT[:1000]))
    for end in range(len(wrong)):
        with pytest.raises(CodecError):
            decompress_lz4_v0(wrong[:end], LIMIT)
    with pytest.raises(ValueError, match="limit"):
        decompress_lz4_v0(wrong, -1)


@pytest.mark.parametrize("log", [10, 17, 23, 24, 27])
def test_zstd_windows(log: int) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=log, strategy=1)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = stream.compress(TEXT) + stream.flush()
    assert zstandard.get_frame_parameters(frame).window_size == 1 << log
    assert decompress_bytes(ZSTD, frame, len(TEXT)) == TEXT


def test_a_zstd_window_beyond_what_java_reads_is_refused() -> None:
    frame = bytearray(packed.zstd_stream(TEXT))
    assert frame[4] == 0, "no single segment, so that a window follows"
    frame[5] = (28 - 10) << 3
    with pytest.raises(CodecError, match="zstd data is damaged"):
        decompress_bytes(ZSTD, frame, LIMIT)


def test_a_zstd_frame_that_needs_a_dictionary_is_refused() -> None:
    samples: list[bytes | bytearray | memoryview] = [packed.text(2000, seed) for seed in range(200)]
    dictionary = zstandard.train_dictionary(4096, samples)
    frame = zstandard.ZstdCompressor(dict_data=dictionary).compress(TEXT)
    with pytest.raises(CodecError):
        decompress_bytes(ZSTD, frame, LIMIT)


def test_a_zstd_frame_may_not_declare_more_than_its_blocks_hold() -> None:
    frame = bytearray(zstandard.ZstdCompressor().compress(TEXT))
    assert frame[4] >> 6 == 2, "four bytes of content size"
    frame[5:9] = (2**32 - 1).to_bytes(4, "little")
    with pytest.raises(CodecError, match="declares more") as error:
        decompress_bytes(ZSTD, frame, 2**33)
    assert error.value.limit is None


@example(seed=0)
@given(seed=st.integers(0, 2**32))
def test_after_a_failure_the_next_one_is_read(seed: int) -> None:
    """Contexts are used again; nothing of a damaged or too large one is left in them."""
    rng = random.Random(seed)
    names = list(FORMS)
    for _ in range(20):
        codec, form = FORMS[rng.choice(names)]
        damaged = bytearray(form)
        damaged[rng.randrange(len(form))] ^= 1 << rng.randrange(8)
        for broken, limit in ((damaged, LIMIT), (form[: len(form) // 2], LIMIT), (form, 1000)):
            with suppress(CodecError):
                decompress_bytes(codec, broken, limit)
            codec, form = FORMS[rng.choice(names)]
            assert decompress_bytes(codec, form, len(TEXT)) == TEXT


def test_threads_do_not_meet() -> None:
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        try:
            start.wait(30)
            for _ in range(60):
                codec, data = rng.choice(COMPRESSED), packed.text(rng.randrange(60_000), seed)
                assert decompress_bytes(codec, compress_bytes(codec, data), len(data)) == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_gzip_members_of_more_than_is_asked_for_at_once(size: int) -> None:
    parts = [bytes(size), random.Random(size).randbytes(size), (TEXT * 11)[:size]]
    data = b"".join(gzip.compress(part, 1) for part in parts)
    assert decompress_bytes(GZIP, data, 3 * size) == b"".join(parts)


def test_gzip_header_fields_are_skipped() -> None:
    plain = gzip.compress(b"data", mtime=0)
    named = plain[:3] + b"\x1c" + plain[4:10] + b"\x03\0abc" + b"name\0" + b"comment\0" + plain[10:]
    assert decompress_bytes(GZIP, named, 4) == b"data"
    endless = plain[:3] + b"\x08" + plain[4:10] + b"n" * 200_000
    with pytest.raises(CodecError, match="ends early"):
        decompress_bytes(GZIP, endless, 4)
