"""Empty answers although there is more, and what an open transaction holds back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from copycore.partition import PartitionCopy
from kit.brokers.rig import Ends, Rig
from kit.brokers.scripted import FetchRequest, SourceLog, batch
from kit.oracle import batches as oracle
from lane.test_lane_tail import lone

LIMIT = 3_000  # ms of nothing but empty answers


def holed(topic: bytes = b"holed", *, end: int = 12, **fields: Any) -> SourceLog:
    """Compaction has removed what was between offset 3 and the end."""
    return SourceLog(topic, 0, [batch(0, 3)], high_watermark=end, **fields)


def emptied(log: SourceLog, when: Callable[[], bool]) -> Callable[..., dict[str, Any]]:
    """A hook by which the source answers without records of this log now and then, as it does
    where remote storage takes too long."""

    def hook(_request: FetchRequest, answer: dict[str, Any]) -> dict[str, Any]:
        for key, entries in answer["topics"]:
            for entry in entries:
                if key == log.topic_id and entry["partition"] == log.partition and when():
                    entry["records"] = b""
        return answer

    return hook


def asked_at(rig: Rig, ends: Ends, log: SourceLog, milliseconds: int) -> list[int]:
    """Run that long, a millisecond a step; when the log was asked for."""
    times: list[int] = []
    until = rig.now + milliseconds
    while rig.now < until:
        before = len(ends.source.requests)
        rig.step()
        new = ends.source.requests[before:]
        times += [rig.now for request in new if (log.topic_id, log.partition) in request.partitions]
    return times


# --- pauses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [None, -1], ids=["bounded", "following"])
def test_a_hole_is_asked_for_with_longer_and_longer_pauses(rig: Rig, end: int | None) -> None:
    log = holed()
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=end)
    rig.run(lambda: part.records == 3)
    times = asked_at(rig, ends, log, 2500)
    pauses = [after - before for before, after in pairwise(times)]
    assert len(times) <= 20, "no busy loop"
    assert all(map(int.__ge__, pauses, [5, 10, 20, 40, 80, 160]))
    for pause, wanted in zip(pauses[-5:], [200] * 5, strict=True):
        assert wanted <= pause <= wanted + 10
    assert part.ending is None


def test_pauses_begin_anew_with_the_next_hole(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [batch(0, 3)], high_watermark=12)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=-1)
    rig.run(lambda: part.records == 3)
    asked_at(rig, ends, log, 2000)
    log.batches.append(batch(12, 1))
    log.high_watermark = 30
    rig.run(lambda: part.records == 4)
    assert len(asked_at(rig, ends, log, 300)) >= 5


def test_a_follower_with_a_hole_never_ends(rig: Rig) -> None:
    log = holed()
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=-1)
    rig.tick = 20
    rig.step(1000)
    asked = len(ends.source.requests)
    rig.step(250)
    assert (part.ending, part.position) == (None, 3)
    assert len(ends.source.requests) - asked <= 5 * 5 + 5, "in five seconds"
    log.batches.append(batch(12, 2))
    log.high_watermark = 14
    rig.run(lambda: part.records == 5)


@pytest.mark.timeout(60)
def test_the_lane_may_wait_while_a_partition_pauses(rig: Rig) -> None:
    """The lane's next deadline is the end of the pause, so a real lane neither spins nor sleeps
    longer.
    """
    log = holed()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.run(lambda: part.records == 3)
    asked_at(rig, ends, log, 2000)
    asked = len(ends.source.requests)
    rig.run(lambda: len(ends.source.requests) == asked + 1)
    rig.step(3)  # the answer is read: now it pauses
    before = rig.now
    rig.lane_step(timeout=600_000)  # in real time: it wakes up by itself
    rig.now = before + 200
    rig.step(3)
    assert len(ends.source.requests) == asked + 2


def test_a_long_poll_ends_when_a_pause_does(rig: Rig) -> None:
    """The source may let a Fetch for those that are caught up wait, but no longer than that."""
    log, good = holed(), SourceLog(b"good", 0, [batch(0)])
    ends = rig.pipe(log, good)
    part = rig.assign(ends, log, end=-1)
    rig.assign(ends, good, end=-1)
    rig.run(lambda: part.records == 3)
    asked_at(rig, ends, log, 2000)
    before, now = len(ends.source.requests), rig.now
    waits: list[int] = []
    while rig.now < now + 600:
        rig.step()
        new = ends.source.requests[before + len(waits) :]
        waits += [request.max_wait_ms for request in new]
    shared = [
        wait
        for wait, request in zip(waits, ends.source.requests[before:], strict=True)
        if (log.topic_id, 0) not in request.partitions
    ]
    assert 150 < max(shared) <= 200 < rig.poll_wait
    # The broker answers at once here, so many are asked in a pause: each for what is left of it.
    assert len(set(shared)) > 20


# --- how a bounded copy reaches its end -----------------------------------------------------------


def test_data_that_comes_after_almost_three_seconds_is_copied(rig: Rig) -> None:
    """Remote storage that takes its time: one empty answer after the other, then records."""
    log = SourceLog(b"t", 0, [batch(n) for n in range(6)])
    ends = rig.pipe(log, limit=lambda: 1)
    part = rig.assign(ends, log)
    rig.run(lambda: part.position == 3)
    since = rig.now
    ends.source.hook = emptied(log, lambda: rig.now < since + 2900)
    rig.run(lambda: rig.now > since + 2890)
    assert (part.ending, part.position) == (None, 3)
    rig.run()
    assert (part.ending, part.records) == ("done", 6)


def test_each_hole_has_its_own_three_seconds(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [batch(n) for n in range(6)])
    ends = rig.pipe(log, limit=lambda: 1)
    part = rig.assign(ends, log)
    blocked_until = rig.now
    ends.source.hook = emptied(log, lambda: rig.now < blocked_until)
    rig.tick = 5
    for position in range(1, 6):
        rig.run(lambda position=position: part.position >= position)  # type: ignore[misc]
        blocked_until = rig.now + 2500
        rig.run(lambda until=blocked_until: rig.now >= until)  # type: ignore[misc]
        assert part.ending is None
    rig.run()
    assert (part.ending, part.records) == ("done", 6)


def test_after_three_seconds_of_empty_answers_the_caller_is_asked(rig: Rig) -> None:
    log = holed()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.run(lambda: part.records == 3)
    since = rig.now
    rig.run(turns=2 * LIMIT)
    assert LIMIT <= rig.now - since <= LIMIT + 400
    assert (part.ending, part.end_side, part.end_code) == ("empty", "source", 0)
    assert (part.position, part.acked, part.end_offset) == (3, 3, 3)
    assert part.acked_counter == 3
    assert rig.segments(part) == []


@pytest.mark.parametrize("chance", [2, 3, 7])
def test_remote_storage_that_answers_empty_now_and_then(rig: Rig, chance: int) -> None:
    remote = SourceLog(b"remote", 0, [batch(n) for n in range(40)])
    local = SourceLog(b"local", 0, [batch(n) for n in range(40)])
    ends = rig.pipe(remote, local, limit=lambda: 90)
    parts = [rig.assign(ends, remote), rig.assign(ends, local)]
    count = 0

    def every() -> bool:
        nonlocal count
        count += 1
        return count % chance != 0

    ends.source.hook = emptied(remote, every)
    rig.run(turns=20_000)
    assert [(part.ending, part.records) for part in parts] == [("done", 40)] * 2


def test_empty_answers_to_several_at_once_are_no_reason_to_ask_the_caller(rig: Rig) -> None:
    """The source is so slow that this partition has not been fetched alone yet."""
    log = holed()
    others = [SourceLog(b"o%d" % n, 0, [batch(0)]) for n in range(3)]
    ends = rig.pipe(log, *others)
    part = rig.assign(ends, log)
    for other in others:
        rig.assign(ends, other, end=-1)
    rig.run(lambda: part.records == 3)
    rig.tick = 2000
    before = len(ends.source.requests)
    rig.run(lambda: part.ending is not None)
    assert part.ending == "empty"
    assert len(lone(ends.source.requests[before:], log)) >= 2


# --- neighbours -----------------------------------------------------------------------------------


@pytest.mark.parametrize("holes", [1, 4])
def test_partitions_with_holes_do_not_slow_others_down(
    make_rig: Callable[..., Rig], holes: int
) -> None:
    """Partitions with holes are fetched alone at most every other turn."""

    def turns(count: int) -> tuple[Ends, list[SourceLog], PartitionCopy, int]:
        rig = make_rig()
        logs = [holed(b"holed%d" % n) for n in range(count)]
        good = SourceLog(b"good", 0, [batch(n, 1, bytes(50)) for n in range(300)])
        ends = rig.pipe(*logs, good, limit=lambda: 120)
        for log in logs:
            rig.assign(ends, log, start=3, counter=3)
        part = rig.assign(ends, good)
        began = rig.now
        rig.run(lambda: part.ending is not None, turns=20_000)
        assert (part.ending, part.records) == ("done", 300)
        return ends, logs, part, rig.now - began

    *_, alone = turns(0)
    ends, logs, _, together = turns(holes)
    alone_asked = [(b"good", 0) not in named(request) for request in ends.source.requests]
    while alone_asked[-1]:
        alone_asked.pop()  # the neighbour has everything by then
    assert any(alone_asked)
    assert not any(a and b for a, b in pairwise(alone_asked))
    # Each hole pauses 200 ms in the end, so almost all turns are the neighbour's.
    assert together <= 1.25 * alone + 40 * holes
    assert sum(alone_asked) <= holes * (together / 200 + 10)
    assert all(lone(ends.source.requests, log) for log in logs)


def named(request: FetchRequest) -> set[tuple[bytes, int]]:
    return {(key.rstrip(b"\1"), partition) for key, partition in request.partitions}


def test_two_that_are_alone_take_turns(rig: Rig) -> None:
    """Without other partitions no turn is left to them."""
    logs = [holed(b"a"), holed(b"b")]
    ends = rig.pipe(*logs)
    parts = [rig.assign(ends, log) for log in logs]
    rig.run(turns=5 * LIMIT)
    assert [part.ending for part in parts] == ["empty", "empty"]
    counts = [len(lone(ends.source.requests, log)) for log in logs]
    assert min(counts) >= 10
    assert max(counts) <= 30


# --- open transactions ----------------------------------------------------------------------------


def held(**fields: Any) -> SourceLog:
    """Two records, then a transaction that is open at offset 2, and records after it."""
    flags = oracle.TRANSACTIONAL
    log = [batch(0, 2), batch(2, 2, producer_id=9, attributes=flags), batch(4, 3)]
    return SourceLog(b"t", 0, log, **{"last_stable": 2} | fields)


def commit(log: SourceLog) -> None:
    log.batches.append(oracle.control_batch(1, base_offset=7, producer_id=9))
    log.last_stable = -1


def test_an_open_transaction_is_waited_for(rig: Rig) -> None:
    """For as long as the transaction limit; then the copy ends, and nothing after it counts as done
    (C08).
    """
    log = held()
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=7)
    rig.run(lambda: part.records == 2)
    since = rig.now
    rig.tick = 10
    rig.run(lambda: rig.now > since + 9_900)
    assert part not in rig.ended
    assert (part.held_at, part.high_watermark) == (2, 7)
    assert since <= part.held_since <= since + 10
    rig.run()
    assert 10_000 <= rig.now - since <= 10_600
    assert (part.ending, part.end_side, part.end_offset) == ("open-transaction", "source", 2)
    assert (part.acked, part.acked_counter, part.records) == (2, 2, 2)


def test_the_limit_is_the_callers(rig: Rig) -> None:
    log = held()
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=7, transaction_limit=500)
    rig.run()
    assert part.ending == "open-transaction"
    assert rig.now - part.held_since <= 1000


def test_a_copy_goes_on_when_the_transaction_is_decided(rig: Rig) -> None:
    log = held()
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=7)
    rig.tick = 10
    rig.run(lambda: part.records == 2)
    since = rig.now
    rig.run(lambda: rig.now > since + 8_000)
    commit(log)
    rig.run()
    assert (part.ending, part.records, part.position) == ("done", 7, 7)


def test_each_transaction_has_its_own_time(rig: Rig) -> None:
    """Movement of the last stable offset starts it anew."""
    log = held()
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=7)
    rig.tick = 10
    rig.run(lambda: part.records == 2)
    since = rig.now
    rig.run(lambda: rig.now > since + 8_000)
    log.last_stable = 4
    rig.run(lambda: part.position == 4)
    since = rig.now
    rig.run(lambda: rig.now > since + 8_000)
    assert (part.ending, part.held_at) == (None, 4)
    rig.run()
    assert (part.ending, part.end_offset) == ("open-transaction", 4)
    assert rig.now - since >= 10_000


def test_a_follower_waits_for_a_transaction_without_limit(rig: Rig) -> None:
    log = held()
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=-1)
    rig.run(lambda: part.records == 2)
    began, asked = rig.now, len(ends.source.requests)
    rig.tick = 100
    rig.step(600)
    assert part.ending is None
    assert (part.held_at, part.high_watermark) == (2, 7)
    assert began <= part.held_since <= began + 200
    assert len(ends.source.requests) - asked <= 600
    rig.tick = 1
    commit(log)
    rig.run(lambda: part.records == 7)
    assert part.held_at < part.position


def test_nothing_is_held_where_everything_is_stable(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [batch(0, 2)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=-1)
    rig.step(300)
    assert (part.position, part.held_at, part.held_since) == (2, -1, -1)


def test_readers_of_everything_are_not_held(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(read_committed=False)
    _, (part,) = rig.copy(held())
    assert (part.ending, part.records, part.held_at) == ("done", 7, -1)


@pytest.mark.parametrize("end", [9, -1], ids=["bounded", "following"])
def test_an_open_transaction_after_a_hole_is_no_end(rig: Rig, end: int) -> None:
    """The stable part of the log ends in a hole (an aborted transaction that was cleaned away,
    say), so only empty answers come; but records follow the open transaction.
    """
    flags = oracle.TRANSACTIONAL
    log = SourceLog(
        b"t", 0, [batch(0, 2), batch(5, 2, producer_id=9, attributes=flags), batch(7, 2)],
        last_stable=5,
    )  # fmt: skip
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=end)
    rig.run(lambda: part.records == 2)
    rig.tick = 10
    since = rig.now
    rig.run(lambda: rig.now > since + 12_000)
    assert part not in rig.ended
    assert part.held_at == 2
    if end < 0:
        log.last_stable = -1
        rig.run(lambda: part.records == 6)
    else:
        rig.run()
        assert (part.ending, part.position) == ("open-transaction", 2)


def test_a_hole_in_front_of_the_end_with_an_open_transaction_after_the_end(rig: Rig) -> None:
    """The transaction does not concern this copy."""
    flags = oracle.TRANSACTIONAL
    log = SourceLog(
        b"t", 0, [batch(0, 2), batch(9, 2, producer_id=9, attributes=flags)], last_stable=9
    )
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=6)
    rig.tick = 20
    rig.run()
    assert (part.ending, part.position) == ("empty", 2)
