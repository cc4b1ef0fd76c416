"""Input for tests that retrace lz4 frames: content with other fronts, and frames of every form. The
lz4 library, which wrote the old frames, also checks the new ones.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from typing import NamedTuple

import lz4.frame

from kit.oracle import packed
from kit.oracle.wire_strategies import exact

BLOCK = 1 << 16
INDEPENDENT = 0x20


class Rewrite(NamedTuple):
    """Content before and after its fronts were replaced; ``places`` are those of the bodies."""

    old: bytes
    new: bytes
    places: list[tuple[int, int]]


def rewrite(pieces: list[tuple[bytes, bytes, bytes]]) -> Rewrite:
    """Of (front, new front, body)."""
    old, new, places = bytearray(), bytearray(), []
    for before, after, body in pieces:
        old += before
        new += after
        places.append((len(old), len(new)))
        old += body
        new += body
    return Rewrite(bytes(old), bytes(new), places)


def flushed(data: bytes, rng: random.Random) -> bytes:
    """A frame whose blocks end anywhere, as a producer that flushes makes them."""
    compressor = lz4.frame.LZ4FrameCompressor(block_linked=False, auto_flush=True)
    frame: bytes = compressor.begin()
    at = 0
    while at < len(data):
        step = rng.choice([1, 100, 20_000])
        frame += compressor.compress(data[at : at + step])
        at += step
    frame += compressor.flush()
    return frame


def best(data: bytes, block_size: int = 4, block_checksum: bool = False) -> bytes:
    """Compressed far better than by default."""
    frame: bytes = lz4.frame.compress(
        data,
        compression_level=12,
        block_size=block_size,
        block_linked=False,
        block_checksum=block_checksum,
        store_size=False,
    )
    return frame


FRAMES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    name: lambda data, _, name=name: packed.forms(data)[name][1]
    for name in packed.forms(b"")
    if name.startswith("lz4")
} | {"flushed": flushed, "best": lambda data, _: best(data)}


def any_bytes(rng: random.Random, size: int) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(size)
    if kind == 1:
        return bytes([rng.randrange(256)]) * size
    if kind == 2:
        return (rng.randbytes(rng.choice([1, 3, 9, 70])) * size)[:size]
    return packed.text(size, rng.randrange(3))


def any_rewrite(rng: random.Random) -> Rewrite:
    """Fronts of the same and of other sizes, bodies that repeat each other, and some left out."""
    bodies = [any_bytes(rng, rng.choice([0, 1, 4, 13, 40, 300, 5000])) for _ in range(6)]
    if rng.random() < 0.3:
        bodies.append(any_bytes(rng, rng.choice([BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])))
    fronts = [rng.randbytes(rng.choice([0, 1, 2, 2, 5, 20])) for _ in range(4)]
    pieces = []
    for _ in range(rng.choice([0, 1, 5, 60])):
        before, after, body = rng.choice(fronts), rng.choice(fronts), rng.choice(bodies)
        if rng.random() < 0.1:  # a record that is left out
            before, body = before + body, b""
        pieces.append((before, after, body))
    return rewrite(pieces)


def records(fronts: Callable[[int], tuple[bytes, bytes]], count: int = 900) -> Rewrite:
    text = packed.text(count * 200)
    bodies = [text[at : at + 200] for at in range(0, len(text), 200)]
    return rewrite([(*fronts(n), body) for n, body in enumerate(bodies)])


FRONTS: dict[str, Callable[[int], tuple[bytes, bytes]]] = {
    "same": lambda n: (b"ab%c" % (n % 50), b"ab%c" % (n % 50)),
    "changed": lambda n: (b"a%c" % (n % 50), b"a\0"),
    "shorter": lambda n: (b"a\x80%c" % (n % 128), b"a%c" % (n % 128)),
    "longer": lambda n: (b"a%c" % (n % 128), b"a\x80%c" % (n % 128)),
    "mixed": lambda n: (
        (b"a\x80%c" % n if n % 3 else b"a", b"a\x80%c" % n if n % 5 else b"a")
        if n < 128
        else (b"a", b"a")
    ),
}


def damaged(frame: bytes, rng: random.Random) -> bytes:
    """Lengths and distances that lie, mostly."""
    out = bytearray(frame)
    for _ in range(rng.choice([1, 1, 3, 30])):
        out[rng.randrange(len(out))] = rng.choice([0, 1, 15, 240, 255, rng.randrange(256)])
    if rng.random() < 0.2:
        del out[rng.randrange(len(out)) :]
    return bytes(out)


Source = tuple["array[int]", int, int, int, list[tuple[int, int]]]


def source(frame: bytes, of: Rewrite, start: int = 0) -> Source:
    places = [(old, start + new) for old, new in of.places]
    return exact(frame), len(of.old), start, start + len(of.new), places


def check_ends(block: bytes) -> None:
    """The rules that decoders which are not libraries of today may count on: a block ends with five
    literals, and no match begins in its last twelve bytes."""
    at = done = begin = 0
    while True:
        token = block[at]
        at += 1
        count, length = token >> 4, token & 15
        if count == 15:
            while block[at] == 255:
                count, at = count + 255, at + 1
            count, at = count + block[at], at + 1
        at += count
        done += count
        if at == len(block):
            assert begin == 0 or (count >= 5 and done - begin >= 12)
            return
        at += 2
        if length == 15:
            while block[at] == 255:
                length, at = length + 255, at + 1
            length, at = length + block[at], at + 1
        begin, done = done, done + 4 + length


def check(frame: bytes, content: bytes) -> bytes:
    """The frame holds the content, in independent blocks; the frame."""
    assert lz4.frame.decompress(frame) == content
    assert frame[4] == 0x40 | INDEPENDENT, "no more than that, which every broker reads"
    at = 7
    while size := int.from_bytes(frame[at : at + 4], "little"):
        at += 4
        if not size >> 31:
            check_ends(frame[at : at + size])
        at += size & 0x7FFFFFFF
    return frame
