"""CRC-32C: known values, the oracle, an independent library, and the algebra of shifting."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import crc32c as peer
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from copycore.crc32c import combine, crc32c, implementation, shift, table_crc32c
from kit.oracle import batches as oracle
from kit.oracle.wire_strategies import u32

# RFC 3720 B.4, as google/crc32c's StandardResults test has them; then the usual check value and the
# empty string.
KNOWN = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (
        bytes.fromhex(
            "01c00000 00000000 00000000 00000000 14000000 00000400"
            "00000014 00000018 28000000 00000000 02000000 00000000"
        ),
        0xD9963A56,
    ),
    (b"123456789", 0xE3069283),
    (b"", 0),
]
INTERLEAVE = 3 * 4096  # bytes the SSE4.2 path takes at once
WAYS = [crc32c, table_crc32c]
lengths = st.sampled_from([0, 1, 255, 256, 2**16, 2**32, 2**63, 2**64 - 1]) | st.integers(0, 2**64)
small_lengths = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize("way", [*WAYS, oracle.crc32c])
@pytest.mark.parametrize(("data", "value"), KNOWN)
def test_known_values(way: Callable[..., int], data: bytes, value: int) -> None:
    assert way(data) == value


@pytest.mark.parametrize("way", WAYS)
@given(data=st.binary(max_size=300), crc=u32)
def test_equals_oracle(way: Callable[..., int], data: bytes, crc: int) -> None:
    assert way(data, crc) == oracle.crc32c(data, crc)


@given(seed=st.integers(0, 2**32))
@example(seed=0)
def test_every_length_near_the_interleave_at_every_alignment(seed: int) -> None:
    data = random.Random(seed).randbytes(3 * INTERLEAVE + 64)
    view = memoryview(data)
    for blocks in (1, 2, 3):
        for start in range(8):
            for length in range(blocks * INTERLEAVE - 9, blocks * INTERLEAVE + 18, 3):
                piece = view[start : start + length]
                assert crc32c(piece) == peer.crc32c(piece) == table_crc32c(piece)


def test_every_prefix_equals_oracle() -> None:
    data = random.Random(3720).randbytes(2 * INTERLEAVE + 40)
    crc = 0
    for end in range(len(data)):
        if end % INTERLEAVE < 40 or end % INTERLEAVE > INTERLEAVE - 40 or end % 509 == 0:
            assert crc32c(data[:end]) == crc, end
            assert table_crc32c(data[:end]) == crc, end
        crc = oracle.crc32c(data[end : end + 1], crc)


@given(seed=st.integers(0, 2**32), cut=st.integers(0, 40_000), crc=u32)
def test_extending_in_two_steps_is_one_step(seed: int, cut: int, crc: int) -> None:
    data = random.Random(seed).randbytes(40_000)
    assert crc32c(data[cut:], crc32c(data[:cut], crc)) == crc32c(data, crc)
    assert table_crc32c(data, crc) == crc32c(data, crc)


@given(a=st.binary(max_size=200), b=st.binary(max_size=200))
def test_combine_is_the_crc_of_both(a: bytes, b: bytes) -> None:
    assert combine(crc32c(a), crc32c(b), len(b)) == oracle.crc32c(a + b)


@given(register=u32, nbytes=st.integers(0, 600))
def test_shift_is_feeding_zero_bytes(register: int, nbytes: int) -> None:
    fed = oracle.crc32c(bytes(nbytes), register ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    assert shift(register, nbytes) == fed


@given(register=u32, nbytes=lengths.filter(lambda n: n < 2**64))
def test_shift_equals_oracle_for_any_length(register: int, nbytes: int) -> None:
    assert shift(register, nbytes) == oracle.shift(register, nbytes)


@given(a=u32, b=u32, m=small_lengths, n=small_lengths)
def test_shift_is_linear_and_additive(a: int, b: int, m: int, n: int) -> None:
    assert shift(a ^ b, m) == shift(a, m) ^ shift(b, m)
    assert shift(shift(a, m), n) == shift(a, m + n)
    assert shift(a, 0) == a


@given(register=u32, times=st.integers(1, 2**32))
def test_shift_has_the_period_of_the_polynomial(register: int, times: int) -> None:
    # P = (x + 1) · Q with Q primitive of degree 31, so x has the order 2^31 − 1.
    assert shift(register, times * (2**31 - 1)) == register


@given(a=u32, b=u32, m=small_lengths, n=small_lengths)
def test_combine_is_associative(a: int, b: int, m: int, n: int) -> None:
    c = a ^ 0x5A5A5A5A
    assert combine(combine(a, b, m), c, n) == combine(a, combine(b, c, n), m + n)


def test_one_mebibyte_against_the_independent_library() -> None:
    data = random.Random(1).randbytes(1 << 20)
    assert crc32c(data) == peer.crc32c(data) == table_crc32c(data)


@pytest.mark.parametrize("way", WAYS)
def test_buffers(way: Callable[..., int]) -> None:
    data = bytearray(b"123456789")
    assert way(data) == way(memoryview(data)) == 0xE3069283
    with pytest.raises((ValueError, BufferError)):
        way(memoryview(data)[::2])
    with pytest.raises((ValueError, BufferError)):
        way(memoryview(struct.pack("4i", 1, 2, 3, 4)).cast("i"))
    for wrong in (None, "text", 5):
        with pytest.raises(TypeError):
            way(wrong)
    for crc in (-1, 2**32):
        with pytest.raises(OverflowError):
            way(b"", crc)


def test_hardware_is_used_where_the_processor_has_it() -> None:
    words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    expected = "sse4.2" if "sse4_2" in words else "armv8" if "crc32" in words else "table"
    assert implementation() == expected
