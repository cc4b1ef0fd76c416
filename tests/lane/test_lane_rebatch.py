"""Batches that cannot go to the target as they are: their records do, in batches of ours."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from copycore.partition import PartitionCopy
from copycore.rebatch import Rebatcher
from kit.brokers.rig import EPOCH, PRODUCER, Ends, Rig
from kit.brokers.scripted import SourceLog, TargetLog, batch
from kit.logs.truth import (
    CODECS,
    GZIP,
    LZ4,
    NONE,
    SNAPPY,
    ZSTD,
    DurableMap,
    RecordLog,
    Row,
    arrived,
    check_delivered,
    made,
    row,
    rows,
)
from kit.oracle import batches as oracle

every_codec = pytest.mark.parametrize("codec", range(5), ids=CODECS)


def start_copy(rig: Rig, log: RecordLog, **assign: Any) -> tuple[Ends, PartitionCopy]:
    ends = rig.pipe(log)
    return ends, rig.assign(ends, log, **assign)


def copied(rig: Rig, log: RecordLog, **assign: Any) -> tuple[PartitionCopy, list[bytes]]:
    """Copy the log, check that every record arrived, and return what is on the target."""
    ends, part = start_copy(rig, log, **assign)
    rig.run()
    return part, check_delivered(rig, ends, part, log, **assign)


def codecs(stored: Sequence[bytes]) -> list[int]:
    return [oracle.parse(whole)["attributes"] & 7 for whole in stored]


def counts(stored: Sequence[bytes]) -> list[int]:
    return [oracle.parse(whole)["count"] for whole in stored]


@pytest.fixture
def merging(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig(rebatcher=Rebatcher(merge="always"))


# --- what cannot pass -----------------------------------------------------------------------------


@every_codec
def test_gaps_are_closed(rig: Rig, codec: int) -> None:
    log = RecordLog().add(rows(0, 1, 5), codec).add(rows(7, 9, 10, 12), codec, base=6, last=14)
    log.add(rows(15, -3), codec)
    part, stored = copied(rig, log)
    assert (part.passed, part.rebatched, part.skipped) == (1, 2, 0)
    assert counts(stored) == [7, 3], "what is taken apart is put together, dense batches pass"
    assert codecs(stored) == [codec] * 2
    assert stored[1][61:] == log.batches[2][61:]
    assert rig.segments(part) == [(5, 2), (7, 3), (9, 4), (12, 6), (15, 7)]


@every_codec
@pytest.mark.parametrize("gapped", [False, True], ids=["dense", "gapped"])
def test_records_get_the_time_they_were_appended(rig: Rig, codec: int, gapped: bool) -> None:
    first = rows(0, 2, 3) if gapped else rows(0, -3)
    log = RecordLog().add(first, codec, append_time=99).add(rows(4, -2), codec, append_time=101)
    part, stored = copied(rig, log)
    assert part.rebatched == 2
    (header,) = map(oracle.parse, stored)
    assert (header["base_timestamp"], header["max_timestamp"]) == (99, 101)


def test_records_before_a_delete_horizon_keep_their_times(rig: Rig) -> None:
    """The batch's base timestamp is the horizon then, and deltas are to it."""
    horizon = 1_900_000_000_000
    log = RecordLog().add(rows(0, 1, 4), ZSTD, horizon=horizon)
    log.add(rows(5, -2), horizon=horizon).add([row(7, None, 5), row(9, None, 3)], horizon=horizon)
    part, stored = copied(rig, log)
    assert (part.passed, part.rebatched) == (1, 2)
    assert [oracle.parse(whole)["base_timestamp"] for whole in stored] == [
        1_700_000_000_000,
        horizon,
        5,
    ]


@pytest.mark.parametrize(
    "times",
    [
        (-1, -1, -1),
        (2**63 - 1, -(2**63), 0),
        (-(2**63), 2**63 - 1, -1),
        (0, 2**62, -(2**62) - 1),
        (5, 3, 1),
    ],
    ids=str,
)
def test_times_of_any_size(rig: Rig, times: tuple[int, int, int]) -> None:
    content = [row(2 * number, b"v", moment) for number, moment in enumerate(times)]
    _, (whole,) = copied(rig, RecordLog().add(content))
    header = oracle.parse(whole)
    assert (header["base_timestamp"], header["max_timestamp"]) == (times[0], max(times))


def test_keys_values_and_headers_of_every_kind(rig: Rig) -> None:
    content = [
        Row(0, 5, None, None),
        Row(2, 5, b"", b"", ((b"", b""), (b"", None))),
        Row(4, 6, b"k" * 200, bytes(range(256)) * 70, tuple((b"h%d" % n, b"v") for n in range(99))),
        Row(6, 4, None, b"x"),
        Row(8, 4, b"x", None),
    ]
    for codec in range(5):
        copied(rig, RecordLog(partition=codec).add(content, codec))


def test_a_batch_above_the_targets_limit_is_split(rig: Rig) -> None:
    content = [row(number, bytes([number % 251]) * 300) for number in range(60)]
    log = RecordLog().add(content).add(rows(60, -2))
    part, stored = copied(rig, log, batch_limit=5000)
    assert (part.passed, part.rebatched) == (1, 1)
    assert 4 <= len(stored) <= 10, "as few as the limit allows"
    assert rig.segments(part) == []


@every_codec
def test_splitting_allows_for_what_compression_adds(rig: Rig, codec: int) -> None:
    """Noise gets larger when it is compressed."""
    noise = [row(2 * n, bytes((n * 97 + k * k * 31 + (k * n) % 7) % 256 for k in range(700)))
             for n in range(90)]  # fmt: skip
    for limit in (2000, 9000, 40_000):
        log = RecordLog(partition=limit).add(noise, codec)
        copied(rig, log, batch_limit=limit)


@every_codec
def test_a_record_above_the_limit_goes_alone(rig: Rig, codec: int) -> None:
    """The target decides whether it takes it; its neighbours are not held up."""
    content = [row(0), row(1, bytes(9000)), row(2), row(3, b"y" * 20), row(4, bytes(7000))]
    _, stored = copied(rig, RecordLog().add(content, codec), batch_limit=5000)
    if codec == NONE:
        assert counts(stored) == [1, 1, 2, 1]


def test_the_smallest_limit_makes_batches_of_one_record(rig: Rig) -> None:
    _, stored = copied(rig, RecordLog().add(rows(0, -9)), batch_limit=1)
    assert counts(stored) == [1] * 9


def test_a_batch_of_just_the_limit_passes(rig: Rig) -> None:
    whole = made(rows(0, -4))
    for partition, (limit, passed) in enumerate([(len(whole), 1), (len(whole) - 1, 0)]):
        part, _ = copied(rig, RecordLog(partition=partition).add(rows(0, -4)), batch_limit=limit)
        assert (part.passed, part.rebatched) == (passed, 1 - passed)


# --- beginnings and ends --------------------------------------------------------------------------


@every_codec
@pytest.mark.parametrize("start", range(7))
def test_a_start_inside_a_batch(rig: Rig, start: int, codec: int) -> None:
    log = RecordLog().add(rows(0, -4), codec).add(rows(4, 6, 7), codec)
    part, _ = copied(rig, log, start=start, counter=5)
    assert (part.passed, part.rebatched) == (int(start == 0), 2 - (start == 0) - (start >= 4))


@every_codec
@pytest.mark.parametrize("end", range(1, 9))
def test_an_end_inside_a_batch(rig: Rig, end: int, codec: int) -> None:
    log = RecordLog().add(rows(0, -4), codec).add(rows(4, 6, 7), codec).add(rows(8, -1))
    part, _ = copied(rig, log, end=end)
    assert part.passed == int(end >= 4)


def test_both_inside_one_batch(rig: Rig) -> None:
    log = RecordLog().add(rows(10, -20), LZ4)
    part, stored = copied(rig, log, start=13, mapped=11, end=17, counter=1)
    assert counts(stored) == [4]
    assert rig.segments(part) == [(13, 1)]


def test_a_copy_goes_on_inside_the_batch_where_the_last_one_ended(rig: Rig) -> None:
    log = RecordLog().add(rows(0, -4)).add(rows(5, 6, 9, 11), GZIP, last=12)
    ends = rig.pipe(log)
    at, counter, durable = 0, 0, DurableMap(0, 0)
    for end in (2, 3, 6, 9, 10, 13):
        mapped = durable.source_of(counter)
        part = rig.assign(ends, log, start=at, mapped=mapped, end=end, counter=counter)
        rig.run()
        assert part.ending == "done"
        at, counter = part.acked, part.acked_counter
        for chunk in rig.chunks[part]:
            durable.report(chunk)
    seen = log.seen(0, 13, committed=True)
    assert [one.seen for one in arrived(rig.stored(ends, part))] == [one.seen for one in seen]
    assert durable.segments[1:] == [(5, 4), (9, 6), (11, 7)]


def test_a_batch_that_has_only_holes_after_the_start(rig: Rig) -> None:
    log = RecordLog().add(rows(0, 1), last=8).add(rows(9, -2))
    part, stored = copied(rig, log, start=5)
    assert counts(stored) == [2]
    assert rig.segments(part) == [(9, 0)]
    assert part.rebatched == 1


def test_batches_that_overlap(rig: Rig) -> None:
    """Some brokers' logs have them after unclean shutdowns; a consumer goes on by offset."""
    log = (
        RecordLog().add(rows(0, -5)).add(rows(3, -4), SNAPPY).add(rows(5, 6, 8, 9)).add(rows(9, -1))
    )
    part, _ = copied(rig, log)
    assert part.records == 9
    assert rig.segments(part) == [(8, 7)]


def test_a_batch_wholly_inside_the_one_before_it(rig: Rig) -> None:
    log = RecordLog().add(rows(0, -5)).add(rows(2, -2)).add(rows(5, -1))
    part, _ = copied(rig, log)
    assert (part.records, part.rebatched) == (6, 0)


# --- merging --------------------------------------------------------------------------------------


@every_codec
def test_small_batches_are_merged(merging: Rig, codec: int) -> None:
    log = RecordLog()
    for number in range(30):
        log.add(rows(2 * number, -2), codec)
    part, stored = copied(merging, log)
    assert (part.passed, part.rebatched, part.batches) == (0, 30, 1)
    assert counts(stored) == [60]
    assert codecs(stored) == [codec]
    assert merging.segments(part) == []


def test_merged_batches_have_the_size_asked_for(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge="always", batch_bytes=2000))
    log = RecordLog()
    for number in range(60):
        log.add([row(number, bytes(100))])
    large = rows(60, -40)
    log.add(large)  # half of batch_bytes or more is no small batch
    part, stored = copied(rig, log)
    sizes = [len(whole) for whole in stored]
    assert max(sizes[:-1]) <= 2000 + oracle.HEADER
    assert min(sizes[:-2]) > 2000 - 150
    assert part.passed == 1
    assert stored[-1][61:] == log.batches[-1][61:]


def test_batches_of_two_codecs_are_not_merged(merging: Rig) -> None:
    log = RecordLog()
    for number, codec in enumerate([ZSTD, ZSTD, NONE, NONE, NONE, LZ4, GZIP, GZIP, ZSTD]):
        log.add(rows(3 * number, -3), codec)
    _, stored = copied(merging, log)
    assert codecs(stored) == [ZSTD, NONE, LZ4, GZIP, ZSTD]


def test_merging_goes_on_over_holes(make_rig: Callable[..., Rig]) -> None:
    """Markers, aborted and empty batches are left out; what is around them is one batch."""
    rig = make_rig(rebatcher=Rebatcher(merge="always"), confirming=False)
    log = RecordLog(aborted=[(5, 4, 8)])
    log.add(rows(0, -2)).marker(2, 9, commit=True).add(rows(3, -1), producer=9)
    log.add(rows(4, -2), producer=5).add(rows(6, -1)).empty(7, 1).marker(8, 5, commit=False)
    log.marker(9, 9, commit=True).add(rows(10, -2), attributes=oracle.DELETE_HORIZON)
    ends, part = start_copy(rig, log)
    rig.step(20)
    assert rig.chunks[part] == [[(3, 2), (6, 3), (10, 4)]]
    assert ends.target.requests == [], "the batch holds records of segments that are not durable"
    rig.confirm()
    rig.run()
    (whole,) = check_delivered(rig, ends, part, log)
    assert oracle.parse(whole)["count"] == 6
    assert part.skipped == 5


def test_aborted_records_stay_out_unless_all_is_read(make_rig: Callable[..., Rig]) -> None:
    log = RecordLog(aborted=[(5, 0, 3)])
    log.add(rows(0, 2), producer=5).marker(3, 5, commit=False).add(rows(4, 7), producer=5)
    for committed, records in ((True, 2), (False, 4)):
        rig = make_rig(read_committed=committed, rebatcher=Rebatcher(merge="always"))
        part, _ = copied(rig, log)
        assert part.records == records


def test_wrong_offsets_inside_a_dense_batch(merging: Rig) -> None:
    """Some old clients numbered records wrongly, and brokers pass over that where nothing is
    compressed. The place in the batch counts."""
    log = RecordLog().add(rows(0, -3), deltas=[0, 0, 0]).add(rows(3, -3), deltas=[7, -2, 2**31 - 1])
    part, stored = copied(merging, log)
    assert counts(stored) == [6]
    assert merging.segments(part) == []


def test_large_batches_pass_between_small_ones(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge="always", batch_bytes=4000))
    log = RecordLog().add(rows(0, -2)).add(rows(2, -2)).add([row(4, bytes(3000))]).add(rows(5, -2))
    log.add(rows(7, -2))
    part, stored = copied(rig, log)
    assert counts(stored) == [4, 1, 4]
    assert (part.passed, part.rebatched) == (1, 4)


def test_what_pays_is_merged_and_what_does_not_passes(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge="auto"))
    small, large = RecordLog(partition=1), RecordLog(partition=2)
    for number in range(20):
        small.add(rows(number, -1), LZ4)
        large.add([row(number, random.Random(number).randbytes(20_000))], LZ4)
    merged, _ = copied(rig, small)
    passed, _ = copied(rig, large)
    assert (merged.batches, merged.rebatched, merged.passed) == (1, 20, 0)
    assert (passed.batches, passed.rebatched, passed.passed) == (20, 0, 20)


def test_merging_is_decided_for_each_partition_by_itself(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge="auto"))
    small, large = RecordLog(partition=1), RecordLog(partition=2)
    for number in range(40):
        small.add(rows(number, -1), LZ4)
        large.add([row(number, random.Random(number).randbytes(17_000))], LZ4)
    ends = rig.pipe(small, large)
    parts = [rig.assign(ends, small), rig.assign(ends, large)]
    rig.run()
    check_delivered(rig, ends, parts[0], small)
    check_delivered(rig, ends, parts[1], large)
    assert parts[0].passed == parts[1].rebatched == 0


# --- another codec --------------------------------------------------------------------------------


@every_codec
def test_everything_in_the_codec_asked_for(make_rig: Callable[..., Rig], codec: int) -> None:
    rig = make_rig(rebatcher=Rebatcher(compression=codec, merge="never"))
    log = RecordLog()
    for number, source in enumerate([0, 1, 2, 3, 4, 4, 0]):
        log.add(rows(3 * number, -2), source)
    part, stored = copied(rig, log)
    assert set(codecs(stored)) == {codec}
    assert part.passed == [0, 1, 2, 3, 4, 4, 0].count(codec)


@pytest.mark.parametrize(("codec", "level"), [(GZIP, 1), (GZIP, 9), (LZ4, 9), (ZSTD, 12)])
def test_a_level_of_the_codec_asked_for(
    make_rig: Callable[..., Rig], codec: int, level: int
) -> None:
    rig = make_rig(rebatcher=Rebatcher(compression=codec, level=level, merge="never"))
    part, _ = copied(rig, RecordLog().add([row(n, b"text %d " % n * 50) for n in range(50)]))
    assert part.rebatched == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"compression": 5},
        {"compression": -2},
        {"batch_bytes": 0},
        {"cap": 0},
        {"merge": "sometimes"},
        {"compression": GZIP, "level": 10},
        {"compression": LZ4, "level": 13},
        {"compression": NONE, "level": 1},
        {"level": 3},
    ],
    ids=str,
)
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"codec|level|size|merge"):
        Rebatcher(**settings)


# --- segments, gates and memory -------------------------------------------------------------------


def test_a_merged_batch_waits_for_the_segments_of_all_its_records(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge="always"), confirming=False)
    log = RecordLog().add(rows(0, -3)).add(rows(3, -2)).add(rows(9, -2))
    ends, part = start_copy(rig, log, epoch=3)
    rig.step(20)
    assert ends.target.requests == []
    assert rig.chunks[part] == [[(9, 5)]]
    part.confirm(8)
    rig.step(5)
    assert ends.target.requests == []
    part.confirm(9)
    rig.run()
    check_delivered(rig, ends, part, log)


def test_what_is_before_a_hole_need_not_wait(make_rig: Callable[..., Rig]) -> None:
    """A gate holds back only what is after it, batch by batch."""
    rig = make_rig(rebatcher=Rebatcher(merge="never"), confirming=False)
    log = RecordLog().add(rows(0, -3)).add(rows(3, 7))
    ends, part = start_copy(rig, log, epoch=3)
    rig.step(20)
    assert part.records == 3
    rig.confirm()
    rig.run()
    check_delivered(rig, ends, part, log)


@pytest.mark.parametrize("merge", ["never", "always"])
def test_known_segments_are_not_reported_again(make_rig: Callable[..., Rig], merge: Any) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge=merge))
    log = RecordLog().add(rows(0, 2, 3), last=4).add(rows(5, -2)).add(rows(9, 11))
    known = [(2, 1), (5, 3), (9, 5), (11, 6)]
    part, _ = copied(rig, log, known=known)
    assert rig.chunks[part] == []


@pytest.mark.parametrize("merge", ["never", "always"])
def test_after_a_difference_from_the_map_all_segments_are_reported_again(
    make_rig: Callable[..., Rig], merge: Any
) -> None:
    """The cleaner has taken record 3 since the map was written."""
    rig = make_rig(rebatcher=Rebatcher(merge=merge))
    log = RecordLog().add(rows(0, 2), last=4).add(rows(5, -2)).add(rows(9, 11))
    known = [(2, 1), (5, 3), (9, 5), (11, 6)]
    part, _ = copied(rig, log, known=known)
    assert rig.segments(part) == [(5, 2), (9, 4), (11, 5)]


def test_a_batch_that_is_built_has_memory_of_its_own(make_rig: Callable[..., Rig]) -> None:
    """That memory is counted: decompressed batches must not exceed the budget unnoticed."""
    rig = make_rig(rebatcher=Rebatcher(compression=NONE, merge="never"))
    log = RecordLog()
    for number in range(4):
        log.add([row(10 * number, b"same" * 20_000)], ZSTD)
    ends, part = start_copy(rig, log)
    ends.target.hold = True
    rig.step(30)
    unpacked = 4 * 80_000
    assert part.position == 31
    assert unpacked < ends.pipe.borrowed_bytes < unpacked + 1000, "the fetched slab went back"
    ends.target.hold = False
    rig.run()
    assert ends.pipe.borrowed_bytes == 0
    check_delivered(rig, ends, part, log)


def test_fetching_stops_while_built_batches_fill_the_memory(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(rebatcher=Rebatcher(compression=NONE, merge="never"))
    logs = [
        RecordLog(partition=p).add([row(0, bytes(150_000))], ZSTD).add([row(1)]) for p in range(4)
    ]
    ends = rig.pipe(*logs, memory=400_000, limit=lambda: 1)
    parts = [rig.assign(ends, log) for log in logs]
    ends.target.hold = True
    rig.step(40)
    assert ends.pipe.borrowed_bytes < 400_000 + 150_000
    assert sum(part.position > 0 for part in parts) < 4
    ends.target.hold = False
    rig.run()
    for part, log in zip(parts, logs, strict=True):
        check_delivered(rig, ends, part, log)


@pytest.mark.parametrize("partitions", [1, 5])
def test_a_slice_that_becomes_too_large_is_taken_in_parts(
    make_rig: Callable[..., Rig], partitions: int
) -> None:
    """A few kilobytes may hold many batches that are hundreds of kilobytes each."""
    rig = make_rig(rebatcher=Rebatcher(compression=NONE, merge="never"))
    large = 300_000
    logs = [RecordLog(partition=p) for p in range(partitions)]
    for log in logs:
        for number in range(12):
            log.add([row(number, bytes(large))], ZSTD)
    ends = rig.pipe(*logs, memory=1 << 20)
    parts = [rig.assign(ends, log) for log in logs]
    most = 0
    while len(rig.ended) < partitions:
        rig.step()
        most = max(most, rig.borrowed)
    assert (1 << 20) < most < (1 << 20) + large + (1 << 18)
    for part, log in zip(parts, logs, strict=True):
        check_delivered(rig, ends, part, log)
    assert rig.closed == []


def test_built_batches_go_back_when_their_connection_is_lost(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge="never"), confirming=False)
    log = RecordLog()
    for number in range(30):
        log.add(rows(5 * number, 5 * number + 2))
    ends, part = start_copy(rig, log)
    rig.step(10)
    assert rig.borrowed > 0
    ends.target.close()
    rig.run()
    assert part.ending == "lost"
    assert rig.borrowed == 0


@pytest.mark.parametrize("counter", [2**31 - 3, 2**33 - 1])
def test_sequences_wrap_inside_a_built_batch(merging: Rig, counter: int) -> None:
    log = RecordLog().add(rows(0, -4)).add(rows(4, -4)).add(rows(8, 10))
    ends = merging.pipe(log)
    ends.target.logs[b"to-t", 0] = TargetLog(b"to-t", 0, PRODUCER, EPOCH, 0, counter)
    part = merging.assign(ends, log, counter=counter)
    merging.run()
    (whole,) = check_delivered(merging, ends, part, log, counter=counter)
    assert oracle.parse(whole)["base_sequence"] == counter % 2**31


def test_records_before_a_broken_one_are_delivered(rig: Rig) -> None:
    """Records of the same batch are delivered too, and the offset told is the broken record's."""
    content = rows(0, 2, 5, 6)
    payload = made(content)[61:]
    log = SourceLog(
        b"t", 0, [made(rows(7, -2), base=7), batch(9, 4, payload[:-3], last_offset_delta=6)]
    )
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.run()
    assert (part.ending, part.end_side, part.end_offset) == ("malformed", "source", 15)
    assert (part.records, part.acked, part.acked_counter) == (5, 15, 5)
    assert [one.key for one in arrived(rig.stored(ends, part))] == [
        b"k7",
        b"k8",
        b"k0",
        b"k2",
        b"k5",
    ]
    assert rig.segments(part) == [(11, 3), (14, 4)]


def test_a_mixed_slice(make_rig: Callable[..., Rig]) -> None:
    """Every path and codec one after another, in one fetch and in many."""
    for merge in ("never", "always", "auto"):
        for limit in (1, 300, 1 << 20):
            rig = make_rig(rebatcher=Rebatcher(merge=merge, batch_bytes=500))
            log = RecordLog(aborted=[(8, 20, 24)])
            log.add(rows(0, -2), ZSTD).add(rows(2, 4), GZIP).add(rows(5, -9), LZ4)
            log.add(rows(14, -3), SNAPPY, append_time=7).empty(17, 3).add(rows(20, -4), producer=8)
            log.marker(24, 8, commit=False).add([row(25, bytes(900))]).add(rows(26, -1))
            log.add(rows(27, -1), GZIP, horizon=9).add(rows(28, 30, 31), append_time=6)
            ends = rig.pipe(log, limit=lambda: limit)  # noqa: B023
            part = rig.assign(ends, log)
            rig.run()
            check_delivered(rig, ends, part, log)
