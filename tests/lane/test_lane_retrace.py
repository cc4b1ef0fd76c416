"""Large lz4 batches that are taken apart: their records go on compressed as their producer did it.

The source's batches are compressed with far more effort than here, so compressing anew yields more
bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import lz4.frame
import pytest

from copycore.rebatch import Rebatcher
from kit.brokers.rig import Rig
from kit.logs.truth import (
    GZIP,
    LZ4,
    NONE,
    SNAPPY,
    ZSTD,
    RecordLog,
    Row,
    check_delivered,
    records_of,
    row,
)
from kit.oracle import batches as oracle

WORDS = [b"alpha", b"beta", b"gamma", b"delta", b"epsilon", b"zeta", b"eta", b"theta"]
SLAB = 4 << 20


def content(first: int, count: int, step: int = 2) -> list[Row]:
    """Text, of which repetitions are hard to find; by default every other record is missing."""
    rng = random.Random(first)
    return [
        row(first + step * n, b" ".join(rng.choice(WORDS) for _ in range(60))) for n in range(count)
    ]


def best(records: Sequence[Row], block_linked: bool = False) -> bytes:
    plain = records_of(records, records[0].offset, records[0].timestamp)
    frame: bytes = lz4.frame.compress(
        plain, compression_level=12, block_size=4, block_linked=block_linked, store_size=False
    )
    return frame


def add(log: RecordLog, records: Sequence[Row], append_time: int | None = None) -> RecordLog:
    return log.add(records, LZ4, payload=best(records), append_time=append_time)


@pytest.fixture
def copied(make_rig: Callable[..., Rig]) -> Callable[..., list[bytes]]:
    def copy(log: RecordLog, rebatcher: Rebatcher | None = None, **assign: Any) -> list[bytes]:
        rig = make_rig(rebatcher=rebatcher or Rebatcher())
        ends = rig.pipe(log, slab=SLAB, memory=4 * SLAB)
        part = rig.assign(ends, log, **assign)
        rig.run()
        return check_delivered(rig, ends, part, log, **assign)

    return copy


def sizes(batches: Sequence[bytes]) -> int:
    return sum(map(len, batches))


def counts(stored: Sequence[bytes]) -> list[int]:
    return [oracle.parse(whole)["count"] for whole in stored]


@pytest.mark.parametrize("append_time", [None, 99], ids=["gapped", "append-time"])
def test_batches_are_joined_and_no_larger(
    copied: Callable[..., list[bytes]], append_time: int | None
) -> None:
    log = RecordLog()
    for first in (0, 1000, 2000):
        add(log, content(first, 300), append_time)
    stored = copied(log)
    assert counts(stored) == [900]
    assert sizes(stored) < 1.03 * sizes(log.batches)


def test_compressed_anew_they_are_larger(copied: Callable[..., list[bytes]]) -> None:
    """Batches grow where compressing anew is asked for, and where the old blocks are of no use;
    otherwise they do not, although lz4 is asked for.
    """
    asked = add(RecordLog(), content(0, 300))
    linked = RecordLog().add(content(0, 300), LZ4, payload=best(content(0, 300), block_linked=True))
    for log, rebatcher in ((asked, Rebatcher(compression=LZ4, level=0)), (linked, Rebatcher())):
        assert sizes(copied(log, rebatcher)) > 1.2 * sizes(log.batches)
    told = add(RecordLog(partition=1), content(0, 300))
    assert sizes(copied(told, Rebatcher(compression=LZ4))) < 1.03 * sizes(told.batches)


@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY, ZSTD])
def test_another_codec(copied: Callable[..., list[bytes]], codec: int) -> None:
    """To lz4 and from it."""
    log = add(RecordLog(partition=codec), content(0, 300)).add(content(1000, 300), codec)
    for wanted in (codec, LZ4):
        stored = copied(log, Rebatcher(compression=wanted, merge="never"))
        assert {oracle.parse(whole)["attributes"] & 7 for whole in stored} == {wanted}
        log.partition += 10


def test_small_batches_shrink_with_their_neighbours(copied: Callable[..., list[bytes]]) -> None:
    log = RecordLog()
    for first in range(0, 3000, 100):
        log.add(content(first, 3), LZ4)
    assert sizes(copied(log)) < 0.9 * sizes(log.batches)


def test_neighbours_that_are_compressed_anew(copied: Callable[..., list[bytes]]) -> None:
    """Small batches, and those of another codec."""
    log = RecordLog()
    add(log, content(0, 10))
    add(log, content(100, 300))
    add(log, content(1000, 2))
    add(log, content(1100, 300))
    log.add(content(2000, 300), ZSTD)
    add(log, content(3000, 300))
    assert counts(copied(log)) == [612, 300, 300]


def test_a_batch_stays_in_one_piece(copied: Callable[..., list[bytes]]) -> None:
    """It stays whole as long as the target takes it; a batch being built ends before one that would
    not fit.
    """
    log = add(add(add(RecordLog(), content(0, 300)), content(1000, 300)), content(2000, 300))
    plain = len(records_of(content(0, 300), 0, 0))
    for batch_bytes, expected in (
        (plain // 2, [300, 300, 300]),
        (2 * plain + 2000, [600, 300]),
        (2 * plain - 2000, [300, 300, 300]),
    ):
        log.partition += 1
        stored = copied(log, Rebatcher(batch_bytes=batch_bytes))
        assert counts(stored) == expected
        assert sizes(stored) < 1.03 * sizes(log.batches)


def test_a_batch_that_the_target_does_not_take_is_split(
    copied: Callable[..., list[bytes]],
) -> None:
    log = add(RecordLog(), content(0, 300))
    limit = len(records_of(content(0, 300), 0, 0)) // 2
    stored = copied(log, batch_limit=limit)
    assert len(stored) > 1
    assert max(map(len, stored)) <= limit


@pytest.mark.parametrize(("start", "end"), [(0, 301), (301, 599), (299, 302), (2, 598)])
def test_a_copy_that_begins_or_ends_inside(
    copied: Callable[..., list[bytes]], start: int, end: int
) -> None:
    log = add(RecordLog(), content(0, 300))
    stored = copied(log, start=start, end=end)
    assert counts(stored) == [len([one for one in content(0, 300) if start <= one.offset < end])]


def test_a_batch_that_breaks_off(make_rig: Callable[..., Rig]) -> None:
    """Everything before it arrives; nothing of the broken one's trace is left for the next."""
    good, bad = content(0, 300), content(1000, 300)
    plain = records_of(bad, 1000, bad[0].timestamp)[:-1] + b"\x05"
    frame = lz4.frame.compress(plain, compression_level=12, block_linked=False)
    log = add(RecordLog(), good).add(bad, LZ4, payload=frame)
    other = add(RecordLog(partition=1), content(0, 300))
    rig = make_rig(rebatcher=Rebatcher())
    ends = rig.pipe(log, other, slab=SLAB, memory=4 * SLAB)
    broken, fine = rig.assign(ends, log), rig.assign(ends, other)
    rig.run()
    assert (broken.ending, fine.ending) == ("malformed", "done")
    assert sum(counts(list(rig.stored(ends, broken)))) >= 300
    check_delivered(rig, ends, fine, other)
