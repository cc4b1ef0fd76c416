"""Offset map chunks as bytes: round trips, sizes, and damage at every position."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copycore.segments import Segments
from kit.oracle import batches as oracle

LIMIT = 2**63 - 1

Chunk = tuple[list[int], list[int]]


def encode(sources: list[int], counters: list[int]) -> bytes:
    return Segments(sources, counters).encode()


def decode(data: bytes) -> Chunk:
    found = Segments.decode(data)
    return list(found.sources), list(found.counters)


def slow_encode(sources: list[int], counters: list[int]) -> bytes:
    """The layout as the module's text gives it."""
    out = oracle.uvarint(sources[0]) + oracle.uvarint(counters[0])
    for i in range(1, len(sources)):
        run = counters[i] - counters[i - 1]
        hole = sources[i] - sources[i - 1] - run
        out += oracle.uvarint(run) + oracle.uvarint(hole)
    return out


@st.composite
def chunks(draw: st.DrawFn, largest: int = 2**61) -> Chunk:
    """Segments whose numbers stay in range, small holes mostly."""
    small = st.integers(0, 200)
    number = small | st.integers(0, 2**20) | st.integers(0, largest)
    sources, counters = [draw(number)], [draw(number)]
    for _ in range(draw(st.integers(0, 30))):
        run, hole = draw(number) + 1, draw(number)
        if sources[-1] + run + hole > LIMIT or counters[-1] + run > LIMIT:
            break
        counters.append(counters[-1] + run)
        sources.append(sources[-1] + run + hole)
    return sources, counters


def follows(sources: list[int], counters: list[int]) -> bool:
    """Whether these are segments: numbers ascending, sources growing at least as fast."""
    pairs = list(zip(sources, counters, strict=True))
    return all(0 <= value <= LIMIT for pair in pairs for value in pair) and all(
        b[1] > a[1] and b[0] - a[0] >= b[1] - a[1] for a, b in itertools.pairwise(pairs)
    )


@settings(deadline=None)
@given(chunks())
def test_round_trip(chunk: Chunk) -> None:
    data = encode(*chunk)
    assert data == slow_encode(*chunk)
    assert decode(data) == chunk


@settings(deadline=None)
@given(chunks(), st.data())
def test_cut_short_it_is_shorter_or_refused(chunk: Chunk, data: st.DataObject) -> None:
    """Between two segments a cut cannot be seen; elsewhere it must be."""
    whole = encode(*chunk)
    cut = data.draw(st.integers(0, len(whole) - 1))
    borders = {len(slow_encode(chunk[0][:n], chunk[1][:n])): n for n in range(1, len(chunk[0]) + 1)}
    if cut in borders:
        n = borders[cut]
        assert decode(whole[:cut]) == (chunk[0][:n], chunk[1][:n])
    else:
        with pytest.raises(ValueError, match="malformed"):
            decode(whole[:cut])


@settings(deadline=None)
@given(chunks(largest=2**40), st.data())
def test_flipped_bits_give_segments_or_an_error(chunk: Chunk, data: st.DataObject) -> None:
    damaged = bytearray(encode(*chunk))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        sources, counters = decode(bytes(damaged))
    except ValueError:
        return
    assert follows(sources, counters)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60) | st.lists(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])).map(bytes))
def test_any_bytes_give_segments_or_an_error(data: bytes) -> None:
    try:
        sources, counters = decode(data)
    except ValueError:
        return
    assert follows(sources, counters)
    assert decode(encode(sources, counters)) == (sources, counters)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05",
        b"\x80",
        b"\x05\x05\x00\x00",  # a run of nothing
        b"\x05\x05\x01",  # no hole after the run
        b"\xff" * 9 + b"\x02\x00",  # 2^64
        b"\xff" * 9 + b"\x01\x00",  # above 2^63
        b"\x00" + b"\xff" * 9 + b"\x01",
        b"\x00\x00" + b"\xff" * 8 + b"\x7f\x00" + b"\x01\x00",  # 2^63 - 1 and one more
        b"\x00\x00" + (b"\x80" * 8 + b"\x40") * 2,  # 2^62 twice
    ],
    ids=lambda data: data.hex() or "empty",
)
def test_impossible_chunks(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"malformed|past"):
        decode(data)


def test_the_highest_offsets_there_are() -> None:
    for chunk in (
        ([LIMIT], [LIMIT]),
        ([LIMIT - 1, LIMIT], [0, 1]),
        ([0, 2**62, LIMIT], [0, 2**62, 2**62 + 1]),
    ):
        assert decode(encode(*chunk)) == chunk


def test_a_small_hole_costs_two_bytes() -> None:
    """A marker after each transaction of at most 127 records."""
    sources, counters = [2**40], [2**40 - 7]
    for n in range(10_000):
        run = n % 127 + 1
        counters.append(counters[-1] + run)
        sources.append(sources[-1] + run + n % 127)
    data = encode(sources, counters)
    assert len(data) <= 2 * 6 + 2 * 10_000
    assert decode(data) == (sources, counters)


@pytest.mark.parametrize(
    ("sources", "counters"),
    [
        ([], []),
        ([1], []),
        ([1, 2], [0]),
        ([-1], [0]),
        ([0], [-1]),
        ([5, 6], [0, 0]),  # no record in between
        ([5, 9], [3, 1]),  # backwards
        ([5, 6], [0, 2]),  # more records than offsets
        ([5, 4], [0, 1]),
        ([5, -(2**63)], [0, 1]),
        ([0, LIMIT], [0, -(2**63)]),
    ],
)
def test_what_is_no_segment_is_not_encoded(sources: list[int], counters: list[int]) -> None:
    with pytest.raises(ValueError, match="segment"):
        encode(sources, counters)
