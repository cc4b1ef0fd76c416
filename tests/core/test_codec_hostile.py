"""Compressed data that was cut, damaged or made to be large: a ``CodecError`` or what it held.

What a bomb costs is measured twice: by tracemalloc, which sees what Python and its extensions ask
for, and by the resident set, which sees everything.
"""

from __future__ import annotations

import gzip
import os
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import lz4.frame
import pytest
import snappy
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from copycore.codec import CodecError, decompress_bytes, decompress_lz4_v0
from kit.oracle import packed
from kit.oracle.packed import COMPRESSED, GZIP, LIMIT, LZ4, NAMES, SNAPPY, ZSTD

MIB = 1 << 20
PLAIN = packed.text(200) + bytes(90) + packed.text(60, 2)
FORMS = packed.forms(PLAIN)
# They have a checksum of the content or its declared size, so damaged data that is read is right.
CHECKED = {"gzip", "gzip-members", "zstd-checksum"}


def attempt(codec: int, data: bytes, limit: int = LIMIT) -> bytes | None:
    """None where it is refused. Anything but ``CodecError`` and ``bytes`` fails the test."""
    try:
        plain = decompress_bytes(codec, data, limit)
    except CodecError as error:
        assert error.codec == NAMES[codec]
        assert error.limit in (None, limit)
        return None
    assert type(plain) is bytes
    assert len(plain) <= limit
    return plain


# --- Cut and damaged ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
def test_cut_at_every_position(name: str) -> None:
    """Refused, except for a cut between two members, chunks or frames: what precedes it is
    complete.
    """
    codec, data = FORMS[name]
    whole_parts = {
        "gzip-members": [gzip.compress(PLAIN[: len(PLAIN) // 2])],
        "zstd-frames": [packed.zstd_stream(PLAIN[: len(PLAIN) // 2])],
        "snappy-xerial": [packed.XERIAL_HEADER],
        "snappy-xerial-twice": [
            packed.XERIAL_HEADER,
            half := packed.xerial(PLAIN[: len(PLAIN) // 2]),
            half + packed.XERIAL_HEADER,
        ],
    }.get(name, [])
    if name == "zstd-frames":
        whole_parts.append(data[: len(whole_parts[0]) + 11])
    slack = {"gzip-members": 2, "snappy-xerial": 3, "snappy-xerial-twice": 3}.get(name, 0)
    readable = {len(part) + n for part in whole_parts for n in range(slack + 1)}
    for end in range(len(data)):
        plain = attempt(codec, data[:end])
        assert (plain is None) == (end not in readable), end
        assert plain is None or PLAIN.startswith(plain), end


@pytest.mark.parametrize("name", FORMS)
def test_one_bit_flipped_at_every_position(name: str) -> None:
    codec, data = FORMS[name]
    refused = 0
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            plain = attempt(codec, bytes(damaged))
            refused += plain is None
            # A member's or frame's first bytes damaged may end the data before it.
            if name in CHECKED and plain is not None:
                assert PLAIN.startswith(plain), (position, bit)
    assert refused > len(data), "damage that is hardly ever seen"


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("value", [0, 0x7F, 0x80, 0xFF])
def test_one_byte_replaced_at_every_position(name: str, value: int) -> None:
    codec, data = FORMS[name]
    for position in range(len(data)):
        attempt(codec, data[:position] + bytes([value]) + data[position + 1 :], 4 * MIB)


@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
def test_damage_in_several_places(name: str, data: st.DataObject) -> None:
    codec, form = FORMS[name]
    damaged = bytearray(form)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(damaged)))
        end = min(len(damaged), position + data.draw(st.integers(0, 6)))
        damaged[position:end] = data.draw(st.binary(max_size=6))
    attempt(codec, bytes(damaged), 4 * MIB)


MAGICS = {
    GZIP: [b"\x1f\x8b\x08"],
    SNAPPY: [b"", packed.XERIAL_HEADER],
    LZ4: [b"\x04\x22\x4d\x18", b"\x04\x22\x4d\x18\x60\x40\x82"],
    ZSTD: [b"\x28\xb5\x2f\xfd", b"\x5a\x2a\x4d\x18"],
}


@pytest.mark.parametrize("codec", COMPRESSED)
@given(data=st.data())
def test_bytes_that_never_were_valid(codec: int, data: st.DataObject) -> None:
    noise = data.draw(st.sampled_from([b"", *MAGICS[codec]])) + data.draw(st.binary(max_size=80))
    attempt(codec, noise, 4 * MIB)
    if codec == LZ4:
        with suppress(CodecError):
            decompress_lz4_v0(noise, 4 * MIB)


# --- Bombs ----------------------------------------------------------------------------------------

CAP = 4 * MIB
BOMB = 64 * MIB
# Over the cap: a chunk or two, a library's own buffers (lz4: four blocks), BytesIO's eighth.
SLACK = 6 * MIB


def zstd_rle(size: int) -> bytes:
    """Blocks of four bytes that stand for 128 KiB each."""
    block = struct.pack("<I", (128 << 10) << 3 | 1 << 1)[:3] + b"\0"
    last = struct.pack("<I", 0 << 3 | 1)[:3]
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(17 - 10) << 3]) + block * (size // (128 << 10)) + last


def zstd_window(size: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, strategy=1)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(bytes(size)) + stream.flush()


def chunk(block: bytes) -> bytes:
    return struct.pack(">i", len(block)) + block


BOMBS: dict[str, tuple[int, Callable[[], bytes]]] = {
    "gzip": (GZIP, lambda: zlib.compress(bytes(BOMB), 9, 31)),
    "gzip-members": (GZIP, lambda: zlib.compress(bytes(BOMB // 64), 9, 31) * 64),
    "gzip-tiny-members": (GZIP, lambda: gzip.compress(b"") * 20_000 + gzip.compress(bytes(BOMB))),
    "snappy-raw": (SNAPPY, lambda: snappy.compress(bytes(BOMB))),
    "snappy-declares": (SNAPPY, lambda: b"\xff\xff\xff\xff\x07" + b"\0" * 20),
    "snappy-xerial": (SNAPPY, lambda: packed.xerial(bytes(BOMB), MIB)),
    "snappy-xerial-declares": (
        SNAPPY,
        lambda: packed.XERIAL_HEADER + chunk(b"\xff\xff\xff\x01" + b"\0" * 20) * 1000,
    ),
    "lz4": (LZ4, lambda: lz4.frame.compress(bytes(BOMB), block_size=4, block_linked=False)),
    "lz4-4MiB": (LZ4, lambda: lz4.frame.compress(bytes(BOMB), block_size=7, block_linked=False)),
    "lz4-linked": (LZ4, lambda: lz4.frame.compress(bytes(BOMB), block_size=7, store_size=False)),
    "zstd": (ZSTD, lambda: zstandard.ZstdCompressor().compress(bytes(BOMB))),
    "zstd-stream": (ZSTD, lambda: packed.zstd_stream(bytes(BOMB))),
    "zstd-rle": (ZSTD, lambda: zstd_rle(1 << 33)),
    "zstd-window": (ZSTD, lambda: zstd_window(BOMB)),
    "zstd-frames": (ZSTD, lambda: packed.zstd_stream(bytes(BOMB // 64)) * 64),
    "zstd-tiny-frames": (
        ZSTD,
        lambda: zstandard.ZstdCompressor().compress(b"") * 20_000 + packed.zstd_stream(bytes(BOMB)),
    ),
}


def refuse(codec: int, data: bytes) -> None:
    with pytest.raises(CodecError, match=f"more than {CAP} bytes") as error:
        decompress_bytes(codec, data, CAP)
    assert error.value.limit == CAP


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_no_more_than_the_limit(name: str) -> None:
    codec, make = BOMBS[name]
    data = make()
    tracemalloc.start()
    try:
        refuse(codec, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < CAP + SLACK, f"{peak / MIB:.1f} MiB"


def status(field: str) -> int:
    """Bytes, by the kernel's count."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith(field + ":")]
    return int(line.split()[1]) << 10


@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer holds freed memory back"
)
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_does_not_grow_the_process_by_what_it_holds(name: str) -> None:
    codec, make = BOMBS[name]
    data = make()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins here
    before = status("VmRSS")
    refuse(codec, data)
    grown = status("VmHWM") - before
    # The kernel counts pages per CPU and adds them up late, by megabytes on a large machine.
    assert grown < BOMB // 2, f"{grown / MIB:.1f} MiB"


@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer holds freed memory back"
)
def test_a_large_window_is_given_back() -> None:
    data = zstd_window(BOMB)
    before = status("VmRSS")
    assert len(decompress_bytes(ZSTD, data, BOMB)) == BOMB
    assert status("VmRSS") - before < BOMB // 2


@pytest.mark.parametrize("name", ["gzip", "lz4", "lz4-4MiB", "snappy-xerial", "zstd-stream"])
def test_what_is_just_allowed_is_not_held_twice(name: str) -> None:
    codec, make = BOMBS[name]
    data = make()
    tracemalloc.start()
    try:
        plain = decompress_bytes(codec, data, BOMB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert plain == bytes(BOMB)
    assert peak < BOMB * 9 / 8 + SLACK, f"{peak / MIB:.1f} MiB"


@pytest.mark.parametrize("seed", range(3))
def test_damage_does_not_leak(seed: int) -> None:
    """Hundreds of failures, each with a megabyte allocated."""
    rng = random.Random(seed)
    data = rng.randbytes(MIB // 2) + bytes(MIB // 2)
    forms = [form for name, form in packed.forms(data).items() if name != "snappy-raw"]

    def fail(times: int) -> None:
        for number in range(times):
            codec, form = forms[number % len(forms)]
            damaged = bytearray(form)
            damaged[-40:] = rng.randbytes(40)
            attempt(codec, bytes(damaged))

    fail(2 * len(forms))
    tracemalloc.start()
    before = status("VmRSS")
    try:
        fail(100)
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < MIB
    if "asan" not in os.environ.get("LD_PRELOAD", ""):
        assert status("VmRSS") - before < 16 * MIB
