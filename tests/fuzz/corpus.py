"""Seeds: batches as clients and brokers write them, and ways to damage them that go deep.

Damage to raw bytes rarely gets past a CRC. So each case is damaged at levels of its own choosing
(the bytes, a header's fields, the compressed records, the records, the messages of a set, the
order of the batches), and what encloses it (lengths, CRCs) is made right again.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence

from kit.brokers.scripted import batch, span
from kit.logs.random_records import random_records
from kit.logs.truth import packed, unpacked
from kit.oracle import batches as oracle

EDGES = {
    1: [b"\0", b"\1", b"\x7f", b"\x80", b"\xfe", b"\xff"],
    4: [b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", bytes(4), b"\0\0\0\1", b"\x08\0\0\0"],
    5: [b"\xff\xff\xff\xff\x0f", b"\xfe\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x10"],
    8: [b"\x7f" + b"\xff" * 7, b"\x80" + bytes(7), b"\xff" * 8],
    10: [b"\xff" * 9 + b"\1", b"\xff" * 10],
}
NUMBERS = [-(2**31), -2, -1, 0, 1, 2, 7, 2**15, 2**31 - 1]
LONGS = [-(2**63), -1, 0, 1, 2**62, 2**63 - 2, 2**63 - 1]

Pieces = list[bytes]


def seeds(rng: random.Random) -> tuple[Pieces, list[tuple[int, int]]]:
    """A short log, whole batch by whole batch, and the aborted transactions of its Fetch."""
    log = random_records(rng, b"t", 0, start=rng.choice([0, 0, 3, 2**40]))
    begin = rng.randrange(len(log.batches))
    pieces = log.batches[begin : begin + rng.choice([1, 2, 3, 5, 5, 15])]
    aborted = [(producer, first) for producer, first, _ in log.aborted]
    # Abort lists with false entries make more of the markers matter.
    places = [span(piece)[0] for piece in pieces]
    aborted += [(rng.randrange(3), rng.choice(places)) for _ in range(rng.choice([0, 0, 1, 3]))]
    return pieces, aborted


# --- bytes ----------------------------------------------------------------------------------------


def scribble(rng: random.Random, data: bytes) -> bytes:
    """One to four edits anywhere."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(out) + 1)
        edit = rng.randrange(7)
        if edit == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif edit == 1:
            edge = rng.choice(EDGES[rng.choice(list(EDGES))])
            out[at : at + len(edge)] = edge
        elif edit == 2:
            del out[at : at + rng.choice([1, 1, 2, 8, 40])]
        elif edit == 3:
            out[at:at] = rng.randbytes(rng.choice([1, 1, 4, 20]))
        elif edit == 4:
            end = min(len(out), at + rng.choice([1, 4, 30]))
            out[at:at] = out[at:end] * rng.choice([1, 2, 9])
        elif edit == 5:
            del out[at:]
        # A small change to a number keeps more of what follows readable.
        elif at < len(out):
            out[at] = (out[at] + rng.choice([-2, -1, 1, 2])) % 256
    return bytes(out)


# --- levels ---------------------------------------------------------------------------------------


def rebuilt(whole: bytes, payload: bytes | None = None, **fields: int) -> bytes:
    """A batch v2 with other records or fields, its length and CRC right."""
    h = oracle.parse(whole)
    del h["crc"], h["length"]
    h |= fields
    content = whole[oracle.HEADER :] if payload is None else payload
    return batch(h.pop("base_offset"), h.pop("count"), content, **h)


def is_v2(whole: bytes) -> bool:
    return len(whole) >= oracle.HEADER and whole[16] == 2


def field(rng: random.Random, whole: bytes) -> bytes:
    """A header with other fields and a right CRC."""
    if not is_v2(whole):
        return scribble(rng, whole)
    h = oracle.parse(whole)
    name = rng.choice(
        ["base_offset", "attributes", "last_offset_delta", "base_timestamp", "max_timestamp",
         "producer_id", "producer_epoch", "base_sequence", "count"]
    )  # fmt: skip
    if name in ("base_offset", "base_timestamp", "max_timestamp", "producer_id"):
        value = rng.choice([*LONGS, h[name] + 1, h[name] - 1])
        value = min(max(value, -(2**63)), 2**63 - 1)
    elif name in ("attributes", "producer_epoch"):
        bit = 1 << rng.randrange(7)
        value = rng.choice([h[name] ^ bit, h[name] | 5, rng.randrange(-(2**15), 2**15)])
    else:
        value = rng.choice([*NUMBERS, h[name] + 1, h[name] - 1])
        value = min(max(value, -(2**31)), 2**31 - 1)
    return rebuilt(whole, None, **{name: value})


def rotten(rng: random.Random, whole: bytes) -> bytes:
    """One byte that the CRC covers is changed."""
    out = bytearray(whole)
    out[rng.randrange(min(21, len(out) - 1), len(out))] ^= rng.randrange(1, 256)
    return bytes(out)


def compressed(rng: random.Random, whole: bytes) -> bytes:
    """Damage to the records as they are packed, and a right CRC over it."""
    if not is_v2(whole):
        return message_set(rng, whole)
    return rebuilt(whole, scribble(rng, whole[oracle.HEADER :]))


def records(rng: random.Random, whole: bytes) -> bytes:
    """Damage to the records, packed again as their batch says or in another codec."""
    if not is_v2(whole):
        return message_set(rng, whole)
    h = oracle.parse(whole)
    try:
        plain = unpacked(h["attributes"] & 7, whole[oracle.HEADER :])
    except Exception:  # it was damaged before; each library has its own errors
        return compressed(rng, whole)
    codec = rng.choice([h["attributes"] & 7, rng.randrange(5)])
    attributes = h["attributes"] & ~7 | codec
    return rebuilt(whole, packed(codec, scribble(rng, plain)), attributes=attributes)


def message_set(rng: random.Random, whole: bytes) -> bytes:
    """Damage to an entry of magic 0 or 1, in its wrapped set if it has one, with right CRC-32s."""
    if is_v2(whole) or len(whole) < 34 or whole[16] > 1:
        return scribble(rng, whole)
    value_at = 18 + 8 * whole[16]
    (key,) = struct.unpack_from(">i", whole, value_at)
    value_at += 4 + max(key, 0)
    codec = whole[17] & 7
    if not codec or rng.random() < 0.3 or value_at + 4 > len(whole):
        return entry(whole[:8], scribble(rng, whole[16:]))
    try:
        inner = unpacked(codec, whole[value_at + 4 :])
    except Exception:  # of magic 0, lz4's header has another checksum
        return entry(whole[:8], scribble(rng, whole[16:]))
    damaged = vouched(scribble(rng, inner)) if rng.random() < 0.8 else scribble(rng, inner)
    value = packed(codec, damaged)
    return entry(whole[:8], whole[16:value_at] + struct.pack(">i", len(value)) + value)


def entry(offset: bytes, checked: bytes) -> bytes:
    message = struct.pack(">I", zlib.crc32(checked)) + checked
    return offset + struct.pack(">i", len(message)) + message


def vouched(data: bytes) -> bytes:
    """The entries of a set with their CRCs made right, as far as they can be told apart."""
    out, at = b"", 0
    while len(data) - at >= 16:
        (size,) = struct.unpack_from(">i", data, at + 8)
        if size < 4 or at + 12 + size > len(data):
            break
        out += entry(data[at : at + 8], data[at + 16 : at + 12 + size])
        at += 12 + size
    return out + data[at:]


LEVELS: Sequence[Callable[[random.Random, bytes], bytes]] = (
    scribble,
    rotten,
    field,
    compressed,
    records,
    records,
    message_set,
)


def damaged(rng: random.Random, pieces: Pieces) -> Pieces:
    """Batches of which some are damaged, missing, double or in another order."""
    pieces = list(pieces)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        at = rng.randrange(len(pieces))
        pieces[at] = rng.choice(LEVELS)(rng, pieces[at]) or b"\0"
    if rng.random() < 0.15:
        at = rng.randrange(len(pieces))
        pieces.insert(rng.randrange(len(pieces) + 1), pieces[at])
    if rng.random() < 0.1:
        rng.shuffle(pieces)
    if rng.random() < 0.1:
        pieces[-1] = pieces[-1][: rng.randrange(1, len(pieces[-1]) + 1)]
    return pieces
