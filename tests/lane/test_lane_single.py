"""The assignment after a refusal: every record in a batch of its own up to an offset, or no
compressed batch passed through.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from copycore.partition import PartitionCopy
from copycore.rebatch import Rebatcher
from copycore.split import Split
from kit.brokers.rig import EPOCH, PRODUCER, Rig
from kit.brokers.scripted import rewritten
from kit.logs.random_records import Merge
from kit.logs.shared import by_offset, check, expected, share_logs
from kit.logs.truth import (
    CODECS,
    GZIP,
    LZ4,
    NONE,
    SNAPPY,
    RecordLog,
    Row,
    arrived,
    check_delivered,
    row,
    rows,
    unpacked,
)
from kit.oracle import batches as oracle

every_codec = pytest.mark.parametrize("codec", range(5), ids=CODECS)
# In batches of five records: inside the first and the second one, at the end of one, after all.
every_until = pytest.mark.parametrize("until", [1, 3, 5, 7, 8, 10, 15, 30])
LARGE = 8 << 10  # bytes from which on a batch in lz4 is compressed the way it was


def copied(rig: Rig, log: RecordLog, **assign: Any) -> tuple[PartitionCopy, list[bytes]]:
    ends = rig.pipe(log)
    part = rig.assign(ends, log, **assign)
    rig.run()
    return part, check_delivered(rig, ends, part, log, **assign)


def counts(stored: Sequence[bytes]) -> list[int]:
    return [oracle.parse(whole)["count"] for whole in stored]


def codecs(stored: Sequence[bytes]) -> set[int]:
    return {oracle.parse(whole)["attributes"] & 7 for whole in stored}


def noise(offset: int, size: int) -> Row:
    return Row(offset, 10**12 + offset, b"key", random.Random(offset).randbytes(size))


# --- single_until ---------------------------------------------------------------------------------


@every_codec
@every_until
@pytest.mark.parametrize("merge", ["never", "always"])
@pytest.mark.parametrize("append_time", [None, 10**12 + 7], ids=["create-time", "append-time"])
def test_before_an_offset_every_record_has_a_batch(
    make_rig: Callable[..., Rig], codec: int, until: int, merge: Merge, append_time: int | None
) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge=merge))
    log = RecordLog()
    for number in range(6):
        log.add(rows(5 * number, -5), codec, append_time=append_time)
    part, stored = copied(rig, log, single_until=until)
    assert counts(stored)[:until] == [1] * until
    assert codecs(stored) == {codec}
    if until < 30:
        assert max(counts(stored)[until:]) > 1, "later batches have several records again"
    if merge == "never" and append_time is None:
        assert part.passed == (30 - until) // 5, "later batches pass"


@every_codec
@pytest.mark.parametrize("until", [7, 50])
def test_after_that_offset_batches_are_merged_again(
    make_rig: Callable[..., Rig], codec: int, until: int
) -> None:
    """Merging begins with the next fetch; each brings about six batches here."""
    rig = make_rig(rebatcher=Rebatcher(merge="always"))
    log = RecordLog()
    for number in range(40):
        log.add(rows(5 * number, -5), codec)
    ends = rig.pipe(log, limit=lambda: 6 * len(log.batches[0]))
    part = rig.assign(ends, log, single_until=until)
    rig.run()
    stored = check_delivered(rig, ends, part, log, single_until=until)
    assert counts(stored)[:until] == [1] * until
    assert max(counts(stored)) > 20


@every_codec
@pytest.mark.parametrize("until", [1, 2, 4, 9, 10, 11, 12, 40])
def test_records_between_holes_have_a_batch_each(rig: Rig, codec: int, until: int) -> None:
    """The offset may lie inside a hole, or in front of one."""
    log = RecordLog()
    for number in range(4):
        at = 10 * number
        log.add(rows(at + 1, at + 3, at + 4, at + 7), codec, base=at, last=at + 8)
    part, stored = copied(rig, log, start=0, single_until=until)
    alone = sum(one.offset < until for one in log.seen(0, 40, committed=True))
    assert counts(stored)[:alone] == [1] * alone
    assert sum(counts(stored)[alone:]) == 16 - alone
    assert part.passed == 0
    if alone < 16:
        assert max(counts(stored)[alone:]) > 1


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY, LZ4])
@every_until
def test_old_messages_have_a_batch_each(rig: Rig, magic: int, codec: int, until: int) -> None:
    log = RecordLog()
    for number in range(6):
        log.messages(magic, rows(5 * number, -5), codec)
    _, stored = copied(rig, log, single_until=until)
    assert counts(stored)[:until] == [1] * until
    if until < 29:
        assert max(counts(stored)[until:]) > 1


@pytest.mark.parametrize("until", [0, 1, 3, 4, 5, 7, 12])
def test_large_batches_in_lz4_have_a_batch_each(make_rig: Callable[..., Rig], until: int) -> None:
    """The way they were compressed is kept only for a batch that stays whole."""
    rig = make_rig(rebatcher=Rebatcher(merge="never", batch_bytes=LARGE))
    log = RecordLog()
    for number in range(3):
        at = 5 * number
        log.add([noise(at + n, 4000) for n in range(4)], LZ4, last=at + 4)
    assert min(map(len, log.batches)) >= LARGE
    _, stored = copied(rig, log, single_until=until)
    alone = sum(one.offset < until for one in log.seen(0, 15, committed=True))
    assert counts(stored)[:alone] == [1] * alone
    if until < 10:
        assert counts(stored)[-1] == 4
    if until == 0:
        assert counts(stored) == [4, 4, 4]


@pytest.mark.parametrize("start", [0, 2, 5, 6])
@pytest.mark.parametrize("end", [9, 10, 12, 15])
@every_codec
def test_a_copy_that_begins_and_ends_inside_batches(
    rig: Rig, start: int, end: int, codec: int
) -> None:
    log = RecordLog()
    for number in range(3):
        log.add(rows(5 * number, -5), codec)
    _, stored = copied(rig, log, start=start, end=end, counter=11, single_until=8)
    assert counts(stored)[: 8 - start] == [1] * (8 - start)
    assert sum(counts(stored)) == end - start


def test_a_batch_of_one_record_passes(rig: Rig) -> None:
    """Such a batch cannot be taken apart any further."""
    log = RecordLog()
    for number in range(6):
        log.add([row(number)], GZIP)
    part, stored = copied(rig, log, single_until=6)
    assert part.passed == 6
    assert stored == [rewritten(whole, PRODUCER, EPOCH, n) for n, whole in enumerate(log.batches)]


@pytest.mark.parametrize("known", [[], [(10, 6)], [(10, 8)], [(10, 8), (20, 16)]])
def test_the_map_is_true_of_single_records(rig: Rig, known: list[tuple[int, int]]) -> None:
    """Segments that an earlier session stored are used, too: where they are true, nothing is
    reported.
    """
    log = RecordLog()
    for number in range(4):
        log.add(rows(10 * number, -8), last=10 * number + 9)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, known=known, single_until=25)
    rig.run()
    check_delivered(rig, ends, part, log, known=known, single_until=25)
    true = [(10, 8), (20, 16), (30, 24)]
    if known and known[0] in true:
        assert rig.segments(part) == true[len(known) :]
    else:
        assert rig.segments(part) == ([(6, 6)] if known else []) + true


@every_codec
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("until", [3, 10, 12, 28, 60])
def test_records_of_a_split_partition_have_a_batch_each(
    rig: Rig, codec: int, count: int, until: int
) -> None:
    log = RecordLog()
    for number in range(6):
        log.add(rows(10 * number, -9), codec, last=10 * number + 9)
    ends = rig.pipe(log)
    logs = share_logs(ends, b"to-t", count)
    split = Split(by_offset, [0] * count, [0] * count)
    part = rig.assign(ends, log, split=split, outlets=[0] * count, single_until=until)
    rig.run()
    wanted = expected(log, by_offset, count, log.end)
    check(logs, PRODUCER, wanted)
    assert part.ending == "done"
    for one, content in zip(logs, wanted, strict=True):
        alone = sum(seen.offset < until for seen in content)
        found = counts(one.logs[PRODUCER].batches)
        assert found[:alone] == [1] * alone
        if alone < len(content) - 1:
            assert max(found[alone:]) > 1


# --- unpack ---------------------------------------------------------------------------------------


def zeros(codec: int) -> RecordLog:
    """Four batches of four records that compress to next to nothing."""
    log = RecordLog()
    for number in range(4):
        content = [Row(4 * number + n, 10**12 + n, None, bytes(4000)) for n in range(4)]
        log.add(content, codec)
    return log


@pytest.mark.parametrize("codec", range(1, 5), ids=CODECS[1:])
@pytest.mark.parametrize("limit", [1, 5000, 10_000, 14_000])
def test_compressed_batches_are_taken_apart(rig: Rig, codec: int, limit: int) -> None:
    """The target may store them without compression: each has to be small enough for that."""
    log = zeros(codec)
    passing, _ = copied(rig, log, batch_limit=2000)
    assert passing.passed == 4, "as they are they are small enough"
    other = zeros(codec)
    other.topic = b"other"
    part, stored = copied(rig, other, batch_limit=limit, unpack=True)
    assert (part.passed, part.rebatched) == (0, 4)
    assert codecs(stored) == {codec}, "compressed as they were"
    for whole in stored:
        records = unpacked(codec, whole[oracle.HEADER :])
        assert oracle.HEADER + len(records) <= max(limit, 4100)
    assert max(counts(stored)) == {1: 1, 5000: 1, 10_000: 2, 14_000: 3}[limit]


@pytest.mark.parametrize("codec", range(1, 5), ids=CODECS[1:])
def test_compressed_batches_of_one_record_are_taken_apart_too(rig: Rig, codec: int) -> None:
    """The bytes of such a batch are then checked, as those of any batch that is built anew."""
    log = RecordLog()
    for number in range(4):
        log.add([noise(number, 300)], codec)
    part, stored = copied(rig, log, unpack=True)
    assert part.passed == 0
    assert codecs(stored) == {codec}


def test_uncompressed_batches_pass(rig: Rig) -> None:
    log = zeros(NONE)
    part, stored = copied(rig, log, unpack=True)
    assert part.passed == 4
    assert [one.seen for one in arrived(stored)] == [
        one.seen for one in log.seen(0, 16, committed=True)
    ]
    assert stored == [
        rewritten(whole, PRODUCER, EPOCH, 4 * n) for n, whole in enumerate(log.batches)
    ]


@pytest.mark.parametrize("compression", [NONE, GZIP])
def test_the_copys_own_codec_changes_nothing(
    make_rig: Callable[..., Rig], compression: int
) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge="never", compression=compression))
    part, stored = copied(rig, zeros(GZIP), batch_limit=10_000, unpack=True)
    assert part.passed == 0
    assert codecs(stored) == {compression}
    assert max(counts(stored)) == 2


@pytest.mark.parametrize("codec", [NONE, GZIP, LZ4])
def test_both_at_once(rig: Rig, codec: int) -> None:
    part, stored = copied(rig, zeros(codec), batch_limit=10_000, unpack=True, single_until=6)
    assert counts(stored)[:6] == [1] * 6
    assert max(counts(stored)) == 2
    assert part.passed == 0, "the uncompressed ones are larger than the limit"
