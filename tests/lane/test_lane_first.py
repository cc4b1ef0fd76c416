"""The first batch of an assignment goes alone, and so does one after a long pause.

A broker that does not know the producer takes any sequence: of several batches in flight it could
refuse the first and store the second in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from copycore.partition import PartitionCopy
from kit.brokers.rig import PRODUCER, Rig
from kit.brokers.scripted import ProduceRequest, SourceLog, TargetBroker, batch
from kit.logs.expected import expect
from kit.logs.shared import by_offset, evenly, outlets, share_logs
from kit.logs.truth import RecordLog, rows
from kit.oracle import batches as oracle

COUNT = 20
IDLE_LIMIT = 60_000  # ms


def log_of(partition: int = 0, count: int = COUNT) -> SourceLog:
    return SourceLog(b"t", partition, [batch(n, 1, b"%d" % n) for n in range(count)])


def in_flight(broker: TargetBroker, partition: int) -> int:
    """Batches of a target partition that are not answered yet."""
    return sum((b"to-t", partition) in request.batches for request in broker.pending)


def rest(rig: Rig, part: PartitionCopy, pause: int) -> None:
    """The clock goes on until ``pause`` ms after the last acknowledgement. The source answers all
    the while, so that no Fetch times out.
    """
    acked_at = rig.now
    while rig.now < acked_at + pause - 5000:
        rig.now += 4000
        rig.step(2)
    rig.now = acked_at + pause - 1
    assert part.ending is None


# --- until the first acknowledgement --------------------------------------------------------------


@pytest.mark.parametrize("counter", [0, 7, 2**31 - 1])
def test_one_batch_is_in_flight_until_the_first_acknowledgement(rig: Rig, counter: int) -> None:
    log = log_of()
    ends = rig.pipe(log)
    part = rig.assign(ends, log, counter=counter, base=30)
    ends.target.hold = True
    rig.step(50)
    assert part.position == COUNT, "everything is there to be sent"
    assert len(ends.target.requests) == in_flight(ends.target, 0) == 1
    ends.target.hold = False
    ends.target.serve()
    ends.target.hold = True
    rig.step(50)
    assert part.records == 1
    assert in_flight(ends.target, 0) == 5
    ends.target.hold = False
    rig.run()
    assert part.ending == "done"
    assert list(rig.stored(ends, part)) == expect(log, counter=counter).produced


def test_every_assignment_begins_with_one(rig: Rig) -> None:
    """The target may have forgotten the producer since the one before."""
    log = log_of()
    ends = rig.pipe(log)
    first = rig.assign(ends, log, end=10)
    rig.run()
    assert first.ending == "done"
    second = rig.assign(ends, log, start=10, counter=10)
    ends.target.hold = True
    rig.step(50)
    assert second.position == COUNT
    assert in_flight(ends.target, 0) == 1


def test_other_partitions_are_not_held_up(rig: Rig) -> None:
    logs = [log_of(0), log_of(1, 100), log_of(2)]
    ends = rig.pipe(*logs)
    going = rig.assign(ends, logs[1])
    rig.fill(ends)
    others = [rig.assign(ends, log) for log in (logs[0], logs[2])]
    rig.step(20)
    assert [part.position for part in others] == [COUNT] * 2
    ends.target.hold = False
    ends.target.serve()  # the five before
    ends.target.hold = True
    rig.step(20)
    assert going.records == 6
    assert [in_flight(ends.target, p) for p in range(3)] == [1, 5, 1]
    assert len(ends.target.pending) == 5
    ends.target.hold = False
    rig.run()
    assert [part.ending for part in rig.parts] == ["done"] * 3


def test_each_branch_of_a_split_partition_waits_for_itself(rig: Rig) -> None:
    log = RecordLog()
    for number in range(30):
        log.add(rows(10 * number, -10))
    ends = rig.pipe(log, targets=2)
    logs = share_logs(ends, b"to-t", 4)
    # One batch of the source at a time, so that there are many for every target partition.
    part = rig.assign(
        ends,
        log,
        split=evenly(4, by_offset),
        outlets=outlets(ends, 4),
        apart_until=log.end,
    )
    ends.targets[1].hold = True
    rig.run(lambda: logs[0].have(PRODUCER) == logs[2].have(PRODUCER) == 75)
    assert [in_flight(ends.targets[1], p) for p in (1, 3)] == [1, 1]
    assert len(ends.targets[1].requests) == 1
    ends.targets[1].hold = False
    ends.targets[1].serve()
    ends.targets[1].hold = True
    rig.step(20)
    assert [in_flight(ends.targets[1], p) for p in (1, 3)] == [5, 5]
    ends.targets[1].hold = False
    rig.run()
    assert part.ending == "done"
    assert [one.have(PRODUCER) for one in logs] == [75] * 4


def test_no_branch_is_proven_by_another_one(rig: Rig) -> None:
    """The target answers for one of the two partitions in a request, and refuses the other."""
    log = RecordLog()
    for number in range(20):
        log.add(rows(2 * number, -2))
    ends = rig.pipe(log)
    logs = share_logs(ends, b"to-t", 2)
    ends.target.hook = lambda request: ends.target.take(request, {(b"to-t", 1): (87, b"no")})
    part = rig.assign(ends, log, split=evenly(2, by_offset), outlets=[0, 0], apart_until=log.end)
    rig.run()
    assert (part.ending, part.end_code) == ("target-error", 87)
    assert logs[0].have(PRODUCER) == 1
    assert [in_request(request) for request in ends.target.requests] == [[0, 1]]


def in_request(request: ProduceRequest) -> list[int]:
    return sorted(partition for _, partition in request.batches)


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [6, 7, 10, 18, 19, 32, 56, 87])
@pytest.mark.parametrize("state", ["new", "forgotten"])
def test_nothing_is_stored_in_place_of_a_refused_first_batch(
    rig: Rig, code: int, state: str
) -> None:
    """Neither of a new producer nor of one that the target has forgotten."""
    log, other = log_of(), log_of(1)
    counter = 8 if state == "forgotten" else 0
    ends = rig.pipe(log, other)
    part = rig.assign(ends, log, start=counter, counter=counter)
    neighbour = rig.assign(ends, other)
    target = ends.target.logs[b"to-t", 0]
    if state == "forgotten":
        target.forget()
    refused: list[bytes] = []

    def refuse_first(whole: bytes) -> int:
        refused.append(whole)
        return code if len(refused) == 1 else 0

    target.refuse = refuse_first
    rig.run()
    assert (part.ending, part.end_code, part.end_offset) == ("target-error", code, counter)
    assert (part.records, part.acked_counter) == (0, counter)
    assert (target.counter, target.batches) == (counter, [])
    assert len(refused) == 1, "nothing else has been sent"
    assert neighbour.ending == "done"

    again = rig.assign(ends, log, start=counter, counter=counter)
    rig.run()
    assert (again.ending, again.records) == ("done", COUNT - counter)
    assert target.batches == expect(log, start=counter, counter=counter).produced


@pytest.mark.parametrize("code", [7, 87])
def test_nothing_is_stored_in_place_of_a_batch_refused_after_a_pause(rig: Rig, code: int) -> None:
    log = log_of(count=10)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=-1)
    rig.run(lambda: part.records == 10)
    target = ends.target.logs[b"to-t", 0]
    stored = list(target.batches)
    rest(rig, part, IDLE_LIMIT)
    target.forget()
    refusals = iter([code])
    target.refuse = lambda _whole: next(refusals, 0)
    log.batches += [batch(n, 1, b"%d" % n) for n in range(10, 30)]
    rig.run()
    assert (part.ending, part.end_code, part.end_offset) == ("target-error", code, 10)
    assert target.batches == stored


def test_what_is_queued_at_a_refusal_is_dropped(rig: Rig) -> None:
    """Later batches of a known producer are refused by their sequence, as before."""
    log = log_of()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.fill(ends)
    refusals = iter([87])
    ends.target.logs[b"to-t", 0].refuse = lambda _whole: next(refusals, 0)
    ends.target.hold = False
    rig.run()
    assert (part.ending, part.end_code, part.end_offset) == ("target-error", 87, 1)
    assert len(ends.target.logs[b"to-t", 0].batches) == 1


# --- after a pause --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pause", "most"), [(IDLE_LIMIT - 100, 5), (IDLE_LIMIT, 1), (10 * IDLE_LIMIT, 1)]
)
def test_after_a_pause_one_batch_goes_alone(rig: Rig, pause: int, most: int) -> None:
    log = log_of(count=10)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=-1)
    rig.run(lambda: part.records == 10)
    rest(rig, part, pause)
    log.batches += [batch(n, 1, b"%d" % n) for n in range(10, 30)]
    ends.target.hold = True
    rig.run(lambda: part.position == 30)
    rig.step(20)
    assert in_flight(ends.target, 0) == most
    ends.target.hold = False
    ends.target.serve()
    ends.target.hold = True
    rig.step(20)
    assert in_flight(ends.target, 0) == 5, "the target has acknowledged one again"
    ends.target.hold = False
    rig.run(lambda: part.records == 30)
    assert list(rig.stored(ends, part)) == expect(log).produced


def test_a_target_that_is_silent_for_long_gets_no_more(make_rig: Callable[..., Rig]) -> None:
    """Two batches are on their way without an answer; what comes after a minute waits for it."""
    rig = make_rig(request_timeout=10 * IDLE_LIMIT)
    log = log_of(count=3)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=-1)

    def answer(request: ProduceRequest) -> dict[str, Any]:
        ends.target.hold = True
        return ends.target.take(request)

    ends.target.once.append(answer)
    rig.run(lambda: in_flight(ends.target, 0) == 2)
    rest(rig, part, IDLE_LIMIT)
    log.batches += [batch(n, 1, b"%d" % n) for n in range(3, 20)]
    rig.run(lambda: part.position == 20)
    rig.step(20)
    assert in_flight(ends.target, 0) == 2
    ends.target.hold = False
    rig.run(lambda: part.records == 20)
    assert list(rig.stored(ends, part)) == expect(log).produced
    assert oracle.parse(rig.stored(ends, part)[-1])["base_sequence"] == 19
