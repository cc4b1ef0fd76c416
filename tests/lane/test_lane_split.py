"""Partitions that are split up: every record in the partition it belongs to, once and in order."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from copycore.partition import PartitionCopy
from copycore.split import Split
from kit.brokers.rig import PRODUCER, Rig
from kit.brokers.scripted import ProduceRequest
from kit.logs.shared import by_offset, check, evenly, expected, outlets, share_logs
from kit.logs.truth import CODECS, GZIP, ZSTD, RecordLog, Row, arrived, row, rows
from kit.oracle import batches as oracle

EVERYTHING = 1 << 62


def mixed_log(partition: int = 0) -> RecordLog:
    """Every kind of batch: dense, gapped, of several codecs, old messages, append times, empty."""
    log = RecordLog(partition=partition)
    log.add(rows(0, -9)).add(rows(9, 11, 14), ZSTD, last=15).add(rows(16, -5), GZIP)
    log.messages(1, rows(21, -3)).messages(0, rows(24, -4), 3)
    log.add(rows(28, -6), append_time=77)
    log.add([Row(34 + n, 5, None, b"no key") for n in range(8)])
    return log.empty(42, 3).add(rows(45, -20), 2)


def long_log() -> RecordLog:
    log = RecordLog()
    for number in range(60):
        log.add([row(5 * number + n, b"x" * 90) for n in range(5)])
    return log


@pytest.mark.parametrize("partitioner", ["murmur2", "consistent", "fnv1a", "modulo", by_offset])
@pytest.mark.parametrize("count", [1, 2, 5, 16])
@pytest.mark.parametrize("brokers", [1, 3])
def test_every_record_goes_where_it_belongs(
    rig: Rig, partitioner: Any, count: int, brokers: int
) -> None:
    log = mixed_log(partition=3)
    ends = rig.pipe(log, targets=brokers)
    logs = share_logs(ends, b"to-t", count)
    part = rig.assign(ends, log, split=evenly(count, partitioner), outlets=outlets(ends, count))
    rig.run()
    wanted = expected(log, partitioner, count, log.end)
    assert sum(map(len, wanted)) == 58
    check(logs, PRODUCER, wanted)
    assert (part.ending, part.end_message) == ("done", None)
    assert part.counters == [len(content) for content in wanted]
    assert part.records == 58
    assert part.acked == part.position == log.end
    assert part.passed == 0
    assert rig.segments(part) == []


@pytest.mark.parametrize("codec", range(5), ids=CODECS)
def test_codecs_are_kept(rig: Rig, codec: int) -> None:
    log = RecordLog().add(rows(0, -30), codec)
    ends = rig.pipe(log)
    logs = share_logs(ends, b"to-t", 3)
    rig.assign(ends, log, split=evenly(3), outlets=[0] * 3)
    rig.run()
    stored = [whole for one in logs for log in one.logs.values() for whole in log.batches]
    assert {oracle.parse(whole)["attributes"] & 7 for whole in stored} == {codec}


def test_several_source_partitions_write_into_one(rig: Rig) -> None:
    """Each writes with a producer id of its own, and no request has two batches of a target
    partition.
    """
    sources = [mixed_log(partition=number) for number in range(4)]
    ends = rig.pipe(*sources, targets=2)
    logs = share_logs(ends, b"to-t", 3)
    for number, log in enumerate(sources):
        split = evenly(3, by_offset)
        rig.assign(ends, log, split=split, producer=100 + number, outlets=outlets(ends, 3))
    rig.run()
    for number, log in enumerate(sources):
        check(logs, 100 + number, expected(log, by_offset, 3, log.end))


def test_nothing_goes_out_before_its_stride_is_durable(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(confirming=False)
    log = mixed_log()
    ends = rig.pipe(log)
    share_logs(ends, b"to-t", 2)
    part = rig.assign(ends, log, split=evenly(2), outlets=[0, 0])
    rig.step(20)
    assert ends.target.requests == []
    (stride,) = rig.strides[part]
    assert (stride.start, stride.end) == (0, log.end)
    assert stride.counters == part.counters
    assert part.acked == 0
    rig.confirm()
    rig.run()
    assert part.ending == "done"


@pytest.mark.parametrize("seed", range(25))
def test_after_any_loss_the_rest_goes_out_once(make_rig: Callable[..., Rig], seed: int) -> None:
    """Give an assignment up at any time, ask the logs, and go on from the beginning of a stride."""
    rng = random.Random(seed)
    count = rng.choice([1, 3, 7])
    log = long_log()
    rig = make_rig()
    ends = rig.pipe(log, targets=2, limit=lambda: rng.randrange(700, 4000))
    logs = share_logs(ends, b"to-t", count)
    points = [(0, [0] * count)]
    lives = 0
    while True:
        have = [one.have(PRODUCER) for one in logs]
        passed = [p for p in points if all(a <= b for a, b in zip(p[1], have, strict=True))]
        start, counters = rng.choice(passed[-3:])
        part = rig.assign(
            ends,
            log,
            start=start,
            split=Split("murmur2", counters, have),
            outlets=outlets(ends, count),
        )
        rig.step(rng.randrange(3, 30))
        points += [(stride.end, stride.counters) for stride in rig.strides[part]]
        lives += 1
        if part.ending == "done" or lives == 60:
            break
        rig.lane.lose(part, "the test wants it")
        rig.run()
    rig.run()
    assert lives > 1
    assert part.ending == "done"
    check(logs, PRODUCER, expected(log, "murmur2", count, log.end))


def test_counting_sends_nothing(rig: Rig) -> None:
    log = mixed_log()
    ends = rig.pipe(log)
    share_logs(ends, b"to-t", 3)
    split = Split("consistent", [5, 0, 2], [EVERYTHING] * 3)
    part = rig.assign(ends, log, end=30, split=split, outlets=[0] * 3)
    rig.run()
    assert part.ending == "done"
    assert ends.target.requests == []
    assert rig.strides[part] == []
    wanted = expected(log, "consistent", 3, 30)
    assert part.counters == [5 + len(wanted[0]), len(wanted[1]), 2 + len(wanted[2])]


def test_what_is_settled_follows_the_answers(rig: Rig) -> None:
    """``acked`` is the end of the last stride before which everything has arrived."""
    log = long_log()
    ends = rig.pipe(log, targets=2, limit=lambda: 3000)
    logs = share_logs(ends, b"to-t", 2)
    ends.targets[1].hold = True
    part = rig.assign(ends, log, split=evenly(2), outlets=[0, 1])
    rig.step(30)
    assert logs[0].end > 0
    assert part.acked < rig.strides[part][0].end
    ends.targets[1].hold = False
    rig.run()
    assert len(rig.strides[part]) > 3
    assert part.acked == log.end
    assert [counter for _, counter in part.arrivals] == part.counters
    assert [offset for offset, _ in part.arrivals] == [log.end for log in logs]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda keys, *_: [0] * (len(keys) - 1), "partitions for"),
        (lambda keys, *_: [2] * len(keys), "partition 2 of 2"),
        (lambda keys, *_: [-1] * len(keys), "partition -1 of 2"),
        (lambda keys, *_: ["x"] * len(keys), "TypeError"),
        (lambda *_: 1 / 0, "ZeroDivisionError"),
        (lambda keys, *_: [2**40] * len(keys), "OverflowError"),
    ],
)
def test_a_function_that_fails_stops_its_partition(rig: Rig, answer: Any, words: str) -> None:
    log = RecordLog().add(rows(0, -4))
    ends = rig.pipe(log)
    share_logs(ends, b"to-t", 2)
    part = rig.assign(ends, log, split=evenly(2, answer), outlets=[0, 0])
    rig.run()
    assert (part.ending, part.end_side, part.end_offset) == ("partitioner", "source", 0)
    assert words in (part.end_message or "")
    assert ends.target.requests == []


def test_one_lost_target_ends_the_partition(rig: Rig) -> None:
    log = mixed_log()
    ends = rig.pipe(log, targets=2)
    share_logs(ends, b"to-t", 2)
    ends.targets[1].hold = True
    part = rig.assign(ends, log, split=evenly(2), outlets=[0, 1])
    rig.step(10)
    ends.targets[1].close()
    rig.serving = lambda _ends: (True, False)
    rig.step(3)
    ends.targets.pop()
    rig.serving = lambda _ends: (True, True)
    rig.run()
    assert (part.ending, part.end_side) == ("lost", "target")
    assert [side for _, side, _ in rig.closed] == ["target"]
    assert not ends.pipe.open


def test_a_refused_record_is_found_among_its_neighbours(rig: Rig) -> None:
    log = RecordLog()
    for number in range(8):
        at = 4 * number
        log.add([row(at + n, b"guilty" if at + n == 22 else b"v") for n in range(4)])
    ends = rig.pipe(log)
    logs = share_logs(ends, b"to-t", 2)
    refused: list[bytes] = []

    def refuse(request: ProduceRequest) -> dict[str, Any]:
        errors = {
            place: (87, b"no")
            for place, whole in request.batches.items()
            if any(one.value == b"guilty" for one in arrived([whole]))
        }
        refused.extend(request.batches[place] for place in errors)
        return ends.target.take(request, errors)

    def again(**settings: Any) -> PartitionCopy:
        split = Split(by_offset, [0, 0], [one.have(PRODUCER) for one in logs])
        part = rig.assign(ends, log, split=split, outlets=[0, 0], **settings)
        rig.run()
        assert (part.ending, part.end_code) == ("target-error", 87)
        return part

    ends.target.hook = refuse
    first = again()
    assert first.refused == (16, len(refused[0]), False, True, 31)
    assert logs[0].end == 0
    second = again(apart_until=31)
    assert second.end_offset == 20
    assert second.refused == (2, len(refused[1]), False, False, 23)
    assert logs[0].end == 10
    third = again(single_until=23)
    assert third.end_offset == 22
    assert third.refused == (1, len(refused[2]), False, False, 23)
    check(logs[:1], PRODUCER, expected(log, by_offset, 2, 22)[:1])
    ends.target.hook = None
    split = Split(by_offset, [0, 0], [one.have(PRODUCER) for one in logs])
    last = rig.assign(ends, log, split=split, outlets=[0, 0], single_until=23)
    rig.run()
    assert last.ending == "done"
    check(logs, PRODUCER, expected(log, by_offset, 2, log.end))


@pytest.mark.parametrize(
    ("partitioner", "counters", "have"),
    [
        ("keep", [0], [0]),
        ("murmur3", [0], [0]),
        ("murmur2", [], []),
        ("murmur2", [0, 0], [0]),
        ("murmur2", [3], [2]),
        ("murmur2", [-1], [0]),
    ],
)
def test_splits_that_make_no_sense(partitioner: str, counters: list[int], have: list[int]) -> None:
    with pytest.raises(ValueError, match=r"partition|target"):
        Split(partitioner, counters, have)


def test_every_branch_has_an_outlet(rig: Rig) -> None:
    ends = rig.pipe(mixed_log(), targets=2)
    part = PartitionCopy(
        "t",
        0,
        source_name=b"t",
        source_id=bytes(16),
        target_name=b"to-t",
        leader_epoch=0,
        start=0,
        end=5,
        mapped=0,
        counter=0,
        base_target=0,
        producer_id=1,
        producer_epoch=0,
    )
    with pytest.raises(ValueError, match="outlet"):
        rig.lane.assign(ends.pipe, part, [0, 1])
