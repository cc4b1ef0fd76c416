"""Where a log ends without a batch: holes at the tail, throttled answers, data that is late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kit.brokers.rig import Rig
from kit.brokers.scripted import FetchRequest, ProduceRequest, SourceLog, batch
from kit.logs.expected import expect
from kit.oracle import batches as oracle


def lone(requests: list[FetchRequest], log: SourceLog) -> list[FetchRequest]:
    """The requests that asked for this partition only."""
    return [r for r in requests if list(r.partitions) == [(log.topic_id, log.partition)]]


def test_a_hole_at_the_tail_ends_a_copy_after_lone_fetches(rig: Rig) -> None:
    """Compaction has removed the last batches, so no answer brings offset 11."""
    holed = SourceLog(b"t", 0, [batch(0, 3)], high_watermark=12)
    good = SourceLog(b"good", 0, [batch(n) for n in range(200)])
    ends = rig.pipe(holed, good, limit=lambda: 800)
    part, neighbour = rig.assign(ends, holed), rig.assign(ends, good)
    rig.run(lambda: neighbour.ending is not None)
    assert (part.ending, neighbour.ending) == (None, "done")
    rig.tick = 20
    rig.run()
    assert (part.ending, part.end_side, part.end_message) == ("empty", "source", None)
    # Where it stopped is known; that nothing follows is for the caller to find out.
    assert (part.acked, part.position, part.end_offset, part.records) == (3, 3, 3, 3)
    # An answer without data for one of several may be one without room for it.
    assert len(lone(ends.source.requests, holed)) >= 2
    assert list(rig.stored(ends, neighbour)) == expect(good).produced


def test_a_partition_that_finds_no_room_is_not_taken_for_a_hole(rig: Rig) -> None:
    """The answers are full before its turn; asked for alone, it is served."""
    first = SourceLog(b"a", 0, [batch(n, 1, bytes(500)) for n in range(60)])
    starved = SourceLog(b"b", 0, [batch(n, 1, bytes(500)) for n in range(4)])
    ends = rig.pipe(first, starved)
    parts = [rig.assign(ends, first), rig.assign(ends, starved)]

    def unfair(request: FetchRequest, answer: dict[str, Any]) -> dict[str, Any]:
        if len(request.partitions) > 1:
            for key, entries in answer["topics"]:
                if key == starved.topic_id:
                    entries[0]["records"] = b""
        return answer

    ends.source.hook = unfair
    rig.run()
    for part, log in zip(parts, (first, starved), strict=True):
        assert part.ending == "done"
        assert list(rig.stored(ends, part)) == expect(log).produced
    assert lone(ends.source.requests, starved)


@pytest.mark.parametrize("throttle", [1, 500, 2**31 - 1])
def test_a_throttled_empty_answer_is_no_hole(rig: Rig, throttle: int) -> None:
    log = SourceLog(b"t", 0, [batch(n) for n in range(6)])
    ends = rig.pipe(log, limit=lambda: 150)
    part = rig.assign(ends, log)
    empties = 0

    def throttled(_request: FetchRequest, answer: dict[str, Any]) -> dict[str, Any]:
        nonlocal empties
        if empties < 10:
            empties += 1
            answer["throttle_ms"] = throttle
            answer["topics"][0][1][0]["records"] = b""
        return answer

    ends.source.hook = throttled
    waited = min(throttle, 3_600_000)
    for empty in range(10):
        rig.run(lambda count=empty + 1: len(ends.source.requests) == count)  # type: ignore[misc]
        rig.step(2)  # the answer arrives and is read
        answered = rig.now
        rig.tick = max(waited // 20, 1)
        rig.run(lambda count=empty + 1: len(ends.source.requests) > count)  # type: ignore[misc]
        rig.tick = 1
        assert rig.now - answered >= waited - 2, "the lane waits as long as it was told to"
    rig.run()
    assert (part.ending, part.records) == ("done", 6)
    assert rig.lane.source_quota_ms == 10 * waited


def test_a_throttle_is_waited_for_at_most_an_hour(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [batch(0), batch(1)])
    ends = rig.pipe(log, limit=lambda: 1)
    part = rig.assign(ends, log)
    ends.source.once.append(lambda _request, answer: answer | {"throttle_ms": 2**31 - 1})
    rig.run(lambda: part.position == 1)
    rig.now += 3_600_000
    rig.run()
    assert part.ending == "done"


@pytest.mark.parametrize("throttle", [-1, -(2**31)])
def test_a_throttle_below_zero_means_nothing(rig: Rig, throttle: int) -> None:
    log = SourceLog(b"t", 0, [batch(n) for n in range(3)])
    ends = rig.pipe(log)
    ends.source.hook = lambda _request, answer: answer | {"throttle_ms": throttle}

    def produced(request: ProduceRequest) -> dict[str, Any]:
        return ends.target.take(request) | {"throttle_ms": throttle}

    ends.target.hook = produced
    part = rig.assign(ends, log)
    rig.run()
    assert part.ending == "done"
    assert (rig.lane.source_quota_ms, rig.lane.target_quota_ms) == (0, 0)


def test_the_targets_throttle_holds_the_next_request(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [batch(n) for n in range(12)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    ends.target.once.append(lambda request: ends.target.take(request) | {"throttle_ms": 700})
    rig.run(lambda: rig.lane.target_quota_ms > 0)
    rig.step(10)
    sent = len(ends.target.requests)
    told = rig.now
    rig.tick = 20
    rig.run(lambda: len(ends.target.requests) > sent)
    assert 660 <= rig.now - told <= 720
    rig.run()
    assert part.ending == "done"
    assert rig.lane.target_quota_ms == 700


def test_requests_in_flight_after_a_throttled_answer_are_waited_for(rig: Rig) -> None:
    """The broker reads nothing more from the connection meanwhile (KIP-219), which takes longer
    here than an answer may take.
    """
    log = SourceLog(b"t", 0, [batch(n) for n in range(12)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.fill(ends)
    allowed = 0
    ends.target.per_turn = lambda: allowed
    ends.target.hold = False
    most = 5
    ends.target.hook = lambda request: ends.target.take(request) | {"throttle_ms": 50_000}
    told: list[int] = []
    while len(told) < 3:
        allowed = 1
        waiting = len(ends.target.pending)
        rig.run(lambda n=waiting: len(ends.target.pending) < n)  # type: ignore[misc]
        allowed = 0
        told.append(rig.now)
        rig.tick = 500
        rig.run(lambda: rig.now - told[-1] >= 50_000)
        rig.tick = 1
        assert len(ends.target.pending) < most, "nothing more is sent to wait there"
        most = len(ends.target.pending)
    ends.target.hook = None
    allowed = 5
    rig.run()
    assert (part.ending, part.records) == ("done", 12)
    assert rig.lane.target_quota_ms == pytest.approx(150_000, abs=1000)


def test_a_broker_that_is_silent_beyond_its_throttle_is_given_up(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [batch(n) for n in range(12)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    allowed = 1
    ends.target.per_turn = lambda: allowed
    ends.target.once.append(lambda request: ends.target.take(request) | {"throttle_ms": 50_000})
    rig.run(lambda: rig.lane.target_quota_ms >= 0 and part.acked > 0)
    allowed = 0
    told = rig.now
    rig.tick = 500
    rig.run()
    assert part.ending == "lost"
    assert rig.now - told == pytest.approx(80_000, abs=2000)


def test_how_long_the_target_takes_is_told_without_the_lanes_own_work(rig: Rig) -> None:
    """Of the time until a request's answer only the part counts in which the lane waited."""
    log = SourceLog(b"t", 0, [batch(n) for n in range(12)])
    ends = rig.pipe(log)
    rig.assign(ends, log)
    rig.fill(ends)
    assert len(rig.lane.take_latencies()) == 1
    assert rig.lane.take_latencies() == []
    rig.lane_step(passing=40)
    rig.now += 1000  # opening batches, say
    ends.target.hold = False
    ends.target.serve()
    rig.lane_step(passing=7)
    assert rig.lane.take_latencies() == [47] * 5
    rig.run()
    assert len(rig.lane.take_latencies()) == len(ends.target.requests) - 6
    assert rig.lane.take_latencies() == []


def test_data_that_is_not_readable_yet_is_waited_for(rig: Rig) -> None:
    """The end is after the high watermark: replication is late, nothing is missing."""
    log = SourceLog(b"t", 0, [batch(0, 2), batch(2, 2)], high_watermark=2)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=4)
    rig.step(30)
    assert (part.position, part.ending) == (2, None)
    log.high_watermark = 4
    rig.run()
    assert (part.ending, part.records) == ("done", 4)


def test_a_log_that_has_become_shorter(rig: Rig) -> None:
    """An unclean election took the records before ``end``: nothing would ever come (L3)."""
    log = SourceLog(b"t", 0, [batch(0, 5)])
    good = SourceLog(b"good", 0, [batch(n) for n in range(4)])
    ends = rig.pipe(log, good)
    part, neighbour = rig.assign(ends, log, end=9), rig.assign(ends, good)
    rig.run()
    assert (part.ending, part.end_side, part.end_offset) == ("short", "source", 5)
    assert part.end_message == "the source's log ends at 5 now, not at 9"
    assert (part.records, part.acked) == (5, 5)
    assert neighbour.ending == "done"
    assert rig.closed == []


def test_following_never_finds_a_log_too_short(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [batch(0, 5)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=-1)
    rig.step(300)
    assert (part.ending, part.records) == (None, 5)


def test_short_answers_do_not_count_towards_a_hole(rig: Rig) -> None:
    """A lagging high watermark says nothing about what is after it (L8)."""
    log = SourceLog(b"t", 0, [batch(0, 5), batch(5, 1)], high_watermark=5)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=6)
    rig.run(lambda: part.records == 5)
    asked = len(ends.source.requests)
    rig.run(lambda: len(ends.source.requests) == asked + 6)
    log.high_watermark = 6

    def empty(_request: FetchRequest, answer: dict[str, Any]) -> dict[str, Any]:
        answer["topics"][0][1][0]["records"] = b""
        return answer

    ends.source.once.append(empty)
    rig.run()
    assert (part.ending, part.records) == ("done", 6)


def test_a_hole_after_which_more_data_appears(rig: Rig) -> None:
    """Following: an empty answer at the end means only that nothing new is there."""
    log = SourceLog(b"t", 0, [batch(0, 2)], high_watermark=9)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=-1)
    rig.step(40)
    assert (part.position, part.ending) == (2, None)
    log.batches.append(batch(9, 1))
    log.high_watermark = 10
    rig.run(lambda: part.records == 3)
    assert rig.segments(part) == [(9, 2)]


def test_a_hole_that_ends_in_markers(rig: Rig) -> None:
    log = SourceLog(
        b"t", 0, [batch(0, 2), oracle.control_batch(1, base_offset=6)], high_watermark=9
    )
    rig.tick = 20
    ends, (part,) = rig.copy(log)
    assert (part.ending, part.acked, part.skipped) == ("empty", 7, 1)
    assert part.acked_counter == 2
    assert ends.pipe.open


def test_an_answer_that_only_names_offsets_before_the_asked_one(rig: Rig) -> None:
    """H11: a broker that always sends the same old batch is named in the end; no endless loop."""
    log = SourceLog(b"t", 0, [batch(0, 2)], high_watermark=9)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, start=2, counter=2)

    def old(_request: FetchRequest, answer: dict[str, Any]) -> dict[str, Any]:
        answer["topics"][0][1][0]["records"] = log.batches[0]
        return answer

    ends.source.hook = old
    rig.run()
    assert part.ending == "malformed"
    assert (part.end_side, part.end_offset, part.acked, part.records) == ("source", 2, 2, 0)
    assert len(ends.source.requests) < 10


def test_contradicting_watermarks(rig: Rig) -> None:
    """H16: a log start above the high watermark, a stable offset above both. Data is data."""
    log = SourceLog(b"t", 0, [batch(0, 2), batch(2, 2)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log)

    def confused(_request: FetchRequest, answer: dict[str, Any]) -> dict[str, Any]:
        answer["topics"][0][1][0] |= {
            "log_start_offset": 2**60,
            "high_watermark": -7,
            "last_stable_offset": 2**62,
            "preferred_replica": 77,
        }
        return answer

    ends.source.hook = confused
    rig.run()
    assert (part.ending, part.records) == ("done", 4)


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "uncommitted"])
def test_the_end_shown_to_the_progress_is_what_can_be_read(
    make_rig: Callable[..., Rig], committed: bool
) -> None:
    rig = make_rig(read_committed=committed)
    log = SourceLog(b"t", 0, [batch(0, 2)], high_watermark=9, last_stable=6)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=-1)
    rig.run(lambda: part.records == 2)
    assert part.readable == (6 if committed else 9)
