"""Damage under a right checksum: it ends its partition with a named fault, and nothing else."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from copycore.partition import PartitionCopy
from copycore.rebatch import Rebatcher
from kit.brokers.rig import Ends, Rig
from kit.brokers.scripted import SourceLog, batch
from kit.logs.truth import (
    CODECS,
    GZIP,
    LATER,
    LZ4,
    NONE,
    SNAPPY,
    ZSTD,
    Row,
    arrived,
    made,
    packed,
    records_of,
    row,
    rows,
    unpacked,
)
from kit.oracle import batches as oracle
from kit.oracle.packed import XERIAL_HEADER
from kit.oracle.records import body, read_payload, record, wrapped

every_codec = pytest.mark.parametrize("codec", range(5), ids=CODECS)

BEFORE = rows(0, -2)
CONTENT = [row(2), Row(3, LATER, None, b"abcabcabc" * 3), row(6), Row(7, 5, b"", b"")]
SPAN = 8  # offsets 2 to 9


def hostile(codec: int, payload: bytes, *, dense: bool = False, **fields: int) -> bytes:
    """A batch at offset 2 around ``payload``, which has a right CRC, and so has to be taken apart:
    it is gapped, or has LogAppendTime."""
    fields = {
        "attributes": codec | (oracle.LOG_APPEND_TIME if dense else 0),
        "last_offset_delta": len(CONTENT) - 1 if dense else SPAN - 1,
        "base_timestamp": CONTENT[0].timestamp,
        "max_timestamp": LATER + 60,
    } | fields
    return batch(2, fields.pop("count", len(CONTENT)), payload, **fields)


def sound(whole: bytes) -> list[Row] | None:
    """The rows of a batch as a reader that checks everything sees them; None for a broken one."""
    h = oracle.parse(whole)
    try:
        payload = unpacked(h["attributes"] & 7, whole[oracle.HEADER :])
        content = [plain for plain, _ in read_payload(payload, h["count"])]
    except Exception:  # each library has its own
        return None
    found: list[Row] = []
    dense = h["count"] == h["last_offset_delta"] + 1
    for number, plain in enumerate(content):
        delta = number if dense else plain.offset_delta
        offset = h["base_offset"] + delta
        if not 0 <= delta <= h["last_offset_delta"] or (found and offset <= found[-1].offset):
            return None
        moment = wrapped(h["base_timestamp"] + plain.timestamp_delta)
        if h["attributes"] & oracle.LOG_APPEND_TIME:
            moment = h["max_timestamp"]
        found.append(Row(offset, moment, plain.key, plain.value, tuple(plain.headers)))
    return found


def copy_all(make_rig: Callable[..., Rig], batches: Iterable[bytes]) -> list[list[Row] | None]:
    """Copies each batch in a partition of its own, with a good one before and after it. Returns
    what arrived of each; None where it was named as malformed.
    """
    outcomes: list[list[Row] | None] = []
    pending = list(batches)
    for first in range(0, len(pending), 100):
        rig = make_rig(rebatcher=Rebatcher(merge="never"))
        logs = [
            SourceLog(b"t", number, [made(BEFORE), whole, made([row(40)])])
            for number, whole in enumerate(pending[first : first + 100])
        ]
        ends = rig.pipe(*logs)
        parts = [rig.assign(ends, log) for log in logs]
        rig.run()
        assert rig.closed == []
        outcomes += [outcome(rig, ends, part) for part in parts]
    return outcomes


def outcome(rig: Rig, ends: Ends, part: PartitionCopy) -> list[Row] | None:
    got = arrived(rig.stored(ends, part))
    assert [one.seen for one in got[:2]] == [one.seen for one in BEFORE]
    segments = {counter: source for source, counter in rig.segments(part)}
    assert part.acked_counter == part.records == len(got)
    placed, goes_on = [], 2
    for number, one in enumerate(got[2:], 2):
        goes_on = segments.get(number, goes_on)
        placed.append(one._replace(offset=goes_on))
        goes_on += 1
    if part.ending == "done":
        assert placed.pop().seen == row(40).seen
        return placed
    assert (part.ending, part.end_side) == ("malformed", "source")
    assert part.end_message
    assert 2 <= part.end_offset < 40
    assert part.acked <= part.end_offset
    return None


def check_all(make_rig: Callable[..., Rig], batches: list[bytes]) -> int:
    """Every batch that is still valid arrives, every other one is named; returns how many are
    named.
    """
    named = 0
    for whole, got in zip(batches, copy_all(make_rig, batches), strict=True):
        assert got == sound(whole), whole.hex()
        named += got is None
    return named


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


# --- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dense", [False, True], ids=["gapped", "dense"])
def test_every_bit_of_the_records(make_rig: Callable[..., Rig], dense: bool) -> None:
    payload = records_of(CONTENT, 2, CONTENT[0].timestamp)
    batches = [hostile(NONE, flipped(payload, bit), dense=dense) for bit in range(8 * len(payload))]
    named = check_all(make_rig, batches)
    assert len(batches) // 20 < named < len(batches)


def test_every_length_of_the_records(make_rig: Callable[..., Rig]) -> None:
    payload = records_of(CONTENT, 2, CONTENT[0].timestamp)
    batches = [hostile(NONE, payload[:size]) for size in range(len(payload))]
    batches += [hostile(NONE, payload + tail) for tail in (b"\0", payload[:9], bytes(300))]
    assert check_all(make_rig, batches) == len(batches)


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_more_or_fewer_records_than_the_header_says(
    make_rig: Callable[..., Rig], count: int
) -> None:
    payload = records_of(CONTENT, 2, CONTENT[0].timestamp)
    assert check_all(make_rig, [hostile(NONE, payload, count=count)]) == 1


@pytest.mark.parametrize(
    "deltas",
    [
        (0, 1, 1, 3),
        (0, 2, 1, 3),
        (-1, 0, 1, 2),
        (0, 1, 2, 8),
        (0, 1, 2, 2**31 - 1),
        (0, 1, 2, -(2**31)),
        (-(2**31), -1, 0, 1),
    ],
    ids=str,
)
def test_offsets_out_of_order_or_outside_the_batch(
    make_rig: Callable[..., Rig], deltas: tuple[int, ...]
) -> None:
    payload = records_of(CONTENT, 2, 5, deltas)
    assert check_all(make_rig, [hostile(codec, packed(codec, payload)) for codec in range(5)]) == 5


def test_offsets_up_to_the_largest_there_is(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge="never"))
    first = 2**63 - 2**31 - 2
    content = [row(first)._replace(timestamp=1), row(first + 2**31 - 2)._replace(timestamp=1)]
    log = SourceLog(b"t", 0, [made(content, last=first + 2**31 - 1)])
    ends, (part,) = rig.copy(log)
    assert (part.ending, part.records, part.position) == ("done", 2, 2**63 - 2)
    assert len(rig.stored(ends, part)) == 1
    assert rig.segments(part) == [(first + 2**31 - 2, 1)]


def test_lengths_that_would_overflow(make_rig: Callable[..., Rig]) -> None:
    most = oracle.varint(2**31 - 1)
    least = oracle.varint(-(2**31))
    good = record(0, 0, body(b"k", b"v"))
    batches = []
    for number in (most, least, oracle.varint(-1), oracle.varint(-2), b"\xff" * 5, b"\xff" * 10):
        for content in (
            number,
            good + number + good,
            record(0, 0, number + bytes(9)),
            record(0, 0, b"\1" + number + bytes(9)),
            record(0, 0, b"\1\1" + number + bytes(9)),
            record(0, 0, b"\1\1\2" + number + bytes(9)),
            record(0, 0, b"\1\1\2\0" + number + bytes(9)),
        ):
            batches += [
                hostile(codec, packed(codec, content), count=2, dense=True, last_offset_delta=1)
                for codec in (NONE, LZ4)
            ]
    assert check_all(make_rig, batches) == len(batches)


# --- compressed data ------------------------------------------------------------------------------


def compressed(codec: int) -> bytes:
    return packed(codec, records_of(CONTENT, 2, CONTENT[0].timestamp))


@every_codec
def test_every_length_of_compressed_records(make_rig: Callable[..., Rig], codec: int) -> None:
    payload = compressed(codec)
    batches = [hostile(codec, payload[:size]) for size in range(len(payload))]
    for whole, got in zip(batches, copy_all(make_rig, batches), strict=True):
        # A reader that works as Java does does not miss bytes cut off gzip's checksum.
        assert got is None or (codec == GZIP and got == CONTENT), len(whole)


@every_codec
def test_every_bit_of_compressed_records(make_rig: Callable[..., Rig], codec: int) -> None:
    """The libraries and the oracle need not agree on every bit of a frame's header; whatever is
    taken for sound has to be the right records."""
    payload = compressed(codec)
    batches = [hostile(codec, flipped(payload, bit)) for bit in range(8 * len(payload))]
    named = 0
    for whole, got in zip(batches, copy_all(make_rig, batches), strict=True):
        if got is None:
            named += 1
        else:
            assert got in (sound(whole), CONTENT), whole.hex()
    assert named > len(batches) // 20


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_random_damage_with_a_right_checksum(seed: int) -> None:
    note(f"seed {seed}")
    rng = random.Random(seed)
    batches = []
    for _ in range(40):
        codec = rng.randrange(5)
        content = [row(2 + 2 * n, rng.choice([None, bytes(40), b"%d" % n * 30])) for n in range(9)]
        payload = bytearray(packed(codec, records_of(content, 2, content[0].timestamp)))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(payload))
            edit = rng.randrange(4)
            if edit == 0:
                payload[at] = rng.randrange(256)
            elif edit == 1:
                payload[at : at + 4] = rng.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
            elif edit == 2:
                del payload[at : at + rng.randrange(1, 9)]
            else:
                payload[at:at] = rng.randbytes(rng.randrange(1, 9))
            payload = payload or bytearray(b"\0")
        batches.append(
            hostile(codec, bytes(payload), count=9, last_offset_delta=rng.choice([8, 20]),
                    attributes=codec | oracle.LOG_APPEND_TIME)
        )  # fmt: skip
    rigs: list[Rig] = []

    def make(**given_settings: object) -> Rig:
        rigs.append(Rig(**given_settings))  # type: ignore[arg-type]
        return rigs[-1]

    try:
        copy_all(make, batches)
    finally:
        for rig in rigs:
            rig.finish()


# --- decompression bombs --------------------------------------------------------------------------

CAP = 100_000


def capped(make_rig: Callable[..., Rig], *batches: bytes) -> list[PartitionCopy]:
    """Each batch in a partition of its own, in a lane that decompresses no more than CAP bytes."""
    rig = make_rig(rebatcher=Rebatcher(merge="never", cap=CAP))
    logs = [SourceLog(b"t", p, [made(BEFORE), whole]) for p, whole in enumerate(batches)]
    _, parts = rig.copy(*logs)
    assert rig.closed == []
    return parts


@pytest.mark.parametrize("codec", range(1, 5), ids=CODECS[1:])
def test_a_decompression_bomb_is_named(make_rig: Callable[..., Rig], codec: int) -> None:
    """A thousandfold, from a few kilobytes; the partitions beside it are copied."""
    bomb = hostile(codec, packed(codec, bytes(20 << 20)))
    good = hostile(codec, compressed(codec))
    parts = capped(make_rig, good, bomb, good)
    assert [part.ending for part in parts] == ["done", "malformed", "done"]
    assert (parts[1].end_offset, parts[1].records) == (2, 2)
    assert parts[1].end_message == f"{CODECS[codec]} data decompresses to more than {CAP} bytes"


@pytest.mark.parametrize("codec", range(1, 5), ids=CODECS[1:])
def test_just_the_cap_is_allowed(make_rig: Callable[..., Rig], codec: int) -> None:
    front = len(records_of([Row(2, 7, None, bytes(CAP - 100))], 2, 7)) - (CAP - 100)
    endings = []
    for size in (CAP, CAP + 1):
        content = [Row(2, 7, None, bytes(size - front))]
        assert len(records_of(content, 2, 7)) == size
        (part,) = capped(make_rig, made(content, codec, last=3))
        endings.append(part.ending)
    assert endings == ["done", "malformed"]


@pytest.mark.parametrize(
    ("codec", "payload"),
    [
        (SNAPPY, b"\xff\xff\xff\xff\x07" + b"\0a" * 20),
        (SNAPPY, XERIAL_HEADER + struct.pack(">i", 8) + b"\xff\xff\xff\xff\x07\0ab"),
        (SNAPPY, XERIAL_HEADER + struct.pack(">i", 2**31 - 1) + b"\x05\0abcde"),
        (SNAPPY, XERIAL_HEADER + struct.pack(">i", -(2**31)) + b"\x05\0abcde"),
        (ZSTD, bytes.fromhex("28b52ffd e0") + struct.pack("<Q", 2**62) + b"\x01\0\0"),
        (ZSTD, bytes.fromhex("28b52ffd 00 ff") + b"\x01\0\0"),
        (LZ4, bytes.fromhex("04224d18 6870") + struct.pack("<Q", 2**62) + b"\x73" + bytes(8)),
        (GZIP, bytes.fromhex("1f8b0804000000000000 ffff") + bytes(20)),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else CODECS[value],
)
def test_sizes_that_are_only_claimed(
    make_rig: Callable[..., Rig], codec: int, payload: bytes
) -> None:
    (part,) = capped(make_rig, hostile(codec, payload))
    assert (part.ending, part.end_offset) == ("malformed", 2)
    assert part.end_message
