"""Message sets v0 and v1, plain and wrapped, among batches v2: their messages become records."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from copycore.rebatch import Rebatcher
from kit.brokers.rig import Rig
from kit.brokers.scripted import SourceLog
from kit.logs.truth import (
    CODECS,
    GZIP,
    LZ4,
    NONE,
    SNAPPY,
    ZSTD,
    RecordLog,
    Row,
    check_delivered,
    made,
    message,
    packed,
    row,
    rows,
    wrapper,
)
from kit.oracle import batches as oracle

both = pytest.mark.parametrize("magic", [0, 1])
wrapped = pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4], ids=CODECS[1:4])


def copied(rig: Rig, log: RecordLog, **assign: Any) -> list[bytes]:
    ends = rig.pipe(log)
    part = rig.assign(ends, log, **assign)
    rig.run()
    return check_delivered(rig, ends, part, log, **assign)


@both
def test_plain_messages(rig: Rig, magic: int) -> None:
    """Each message is an entry of its own, so messages are merged whether or not small batches
    are.
    """
    log = RecordLog().messages(
        magic, [*rows(5, -6), Row(12, 77, None, None), Row(13, 78, b"", b"")]
    )
    (whole,) = copied(rig, log)
    header = oracle.parse(whole)
    assert (header["count"], header["attributes"]) == (8, 0)
    assert rig.segments(rig.parts[0]) == [(12, 6)]


@both
@wrapped
@pytest.mark.parametrize("gapped", [False, True], ids=["dense", "gapped"])
def test_wrapped_messages_keep_their_codec(rig: Rig, magic: int, codec: int, gapped: bool) -> None:
    log = RecordLog()
    log.messages(magic, rows(5, 6, 9) if gapped else rows(5, -3), codec)
    log.messages(magic, rows(10, -40), codec)
    (whole,) = copied(rig, log)
    assert oracle.parse(whole)["attributes"] == codec


@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY, LZ4], ids=CODECS[:4])
def test_messages_get_the_time_they_were_appended(rig: Rig, codec: int) -> None:
    log = RecordLog().messages(1, rows(0, -3), codec, append_time=5).messages(1, rows(3, -2), codec)
    copied(rig, log)


@wrapped
@both
@pytest.mark.parametrize("start", range(10, 16))
def test_a_start_inside_a_wrapper(rig: Rig, magic: int, codec: int, start: int) -> None:
    """A wrapper's own offset is that of its last message, so it is after the start."""
    log = RecordLog().messages(magic, rows(10, 11, 13, 14), codec).add(rows(15, -2))
    copied(rig, log, start=start, counter=3)


@wrapped
@both
@pytest.mark.parametrize("end", range(11, 18))
def test_an_end_inside_a_wrapper(rig: Rig, magic: int, codec: int, end: int) -> None:
    log = RecordLog().messages(magic, rows(10, 11, 13, 14), codec).add(rows(15, -2))
    copied(rig, log, end=end)


@both
def test_a_wrapper_above_the_targets_limit_is_split(rig: Rig, magic: int) -> None:
    log = RecordLog().messages(magic, [row(n, bytes([n]) * 500) for n in range(30)], GZIP)
    assert len(copied(rig, log, batch_limit=4000)) > 5


@pytest.mark.parametrize("merge", ["never", "always", "auto"])
@pytest.mark.parametrize("limit", [1, 200, 1 << 20], ids=lambda n: f"{n} bytes a fetch")
def test_mixed_magics_and_codecs(make_rig: Callable[..., Rig], merge: Any, limit: int) -> None:
    """A log that has lived through several versions of Kafka."""
    rig = make_rig(rebatcher=Rebatcher(merge=merge, batch_bytes=600))
    log = RecordLog(aborted=[(4, 40, 45)])
    log.messages(0, rows(0, -3)).messages(0, rows(3, 5, 6), LZ4).messages(0, rows(8, -2), SNAPPY)
    log.messages(1, rows(10, -2)).messages(1, rows(12, 15), GZIP, append_time=9).add(rows(16, -3))
    log.messages(1, rows(20, -2), LZ4).add(rows(23, 25), ZSTD).messages(1, rows(30, -1))
    log.empty(31, 4).add(rows(40, -3), producer=4).marker(45, 4, commit=False).add(rows(46, -1))
    ends = rig.pipe(log, limit=lambda: limit)
    part = rig.assign(ends, log)
    rig.run()
    check_delivered(rig, ends, part, log)


def test_everything_in_the_codec_asked_for(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge="never", compression=ZSTD))
    log = RecordLog().messages(0, rows(0, -3)).messages(1, rows(3, -3), GZIP)
    (whole,) = copied(rig, log)
    assert oracle.parse(whole)["attributes"] == ZSTD


# --- damage ---------------------------------------------------------------------------------------


def ending_of(make_rig: Callable[..., Rig], whole: bytes, **settings: Any) -> tuple[Any, ...]:
    rig = make_rig(rebatcher=Rebatcher(merge="never", **settings))
    log = SourceLog(b"t", 0, [made(rows(0, -2)), whole, made(rows(20, -1))])
    _, (part,) = rig.copy(log)
    assert rig.closed == []
    assert part.acked_counter == part.records
    return part.ending, part.records


def resealed(whole: bytes) -> bytes:
    """With a right CRC-32 and length."""
    body = whole[16:]
    return whole[:8] + struct.pack(">iI", len(body) + 4, zlib.crc32(body)) + body


@both
def test_every_bit_of_a_wrapper(make_rig: Callable[..., Rig], magic: int) -> None:
    """Every bit after the CRC-32, which is made right again."""
    rig = make_rig(rebatcher=Rebatcher(merge="never"))
    whole = wrapper(magic, [one._replace(headers=()) for one in rows(10, 11, 13)], GZIP)
    logs = []
    for bit in range(8 * 16, 8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        log = SourceLog(b"t", bit, [made(rows(0, -2)), resealed(bytes(damaged))], log_start=0)
        logs.append(log)
    for first in range(0, len(logs), 100):
        ends = rig.pipe(*logs[first : first + 100])
        parts = [rig.assign(ends, log, end=14) for log in logs[first : first + 100]]
        rig.run()
        for part in parts:
            assert part.ending in ("done", "malformed", "unknown-codec", "corrupt")
            assert part.records >= 2
    assert sum(part.ending != "done" for part in rig.parts) > len(logs) // 2


@both
@pytest.mark.parametrize("place", [12, 17, 20, -1])
def test_a_wrong_checksum_is_named(make_rig: Callable[..., Rig], magic: int, place: int) -> None:
    whole = bytearray(message(magic, 5, 7, b"key", b"value"))
    whole[place] ^= 1
    assert ending_of(make_rig, bytes(whole)) in (("malformed", 2), ("corrupt", 2))


@both
@wrapped
def test_a_bomb_in_a_wrapper_is_named(make_rig: Callable[..., Rig], magic: int, codec: int) -> None:
    whole = wrapper(magic, [Row(9, 5, None, bytes(1 << 20))], codec)
    assert ending_of(make_rig, whole, cap=100_000) == ("malformed", 2)


@both
def test_a_wrapper_of_zstd_or_of_nothing(make_rig: Callable[..., Rig], magic: int) -> None:
    """Old formats never had zstd, and a wrapper holds one message at least."""
    for codec, inner in ((ZSTD, message(magic, 0, 5, None, b"v")), (GZIP, b"")):
        whole = message(magic, 9, 5, None, packed(codec, inner), codec)
        assert ending_of(make_rig, whole) == ("malformed", 2)
