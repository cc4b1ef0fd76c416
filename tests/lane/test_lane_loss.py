"""Connections that break, stall or are given up, at every stage; stopping in the middle.

Nothing may be sent twice. An assignment ends only when all its requests are answered or their
connection is gone, and what it says it has delivered is on the target.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from copycore.partition import PartitionCopy
from kit.brokers.rig import Ends, Rig
from kit.brokers.scripted import SourceLog, batch, framed
from kit.logs.expected import expect
from kit.oracle import batches as oracle

COUNT = 30


def long_log(partition: int = 0, size: int = 200) -> SourceLog:
    payloads = [b"%d" % n * size for n in range(COUNT)]
    return SourceLog(b"t", partition, [batch(n, 1, text) for n, text in enumerate(payloads)])


def check_truth(rig: Rig, ends: Ends, part: PartitionCopy, log: SourceLog) -> None:
    """What was acknowledged is stored; what is stored is the beginning of the log, once."""
    stored = list(rig.stored(ends, part))
    assert stored == expect(log).produced[: len(stored)]
    assert part.records == part.acked_counter == part.acked <= len(stored)


def check_lost(rig: Rig, part: PartitionCopy, side: str, reason: str) -> None:
    assert (part.ending, part.end_side) == ("lost", side)
    assert reason in (part.end_message or "")
    assert [entry[1] for entry in rig.closed] == [side]
    assert reason in rig.closed[0][2]


# --- the source goes away -------------------------------------------------------------------------


def test_source_closes_before_its_answer(rig: Rig) -> None:
    log = long_log()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    ends.source.hold = True
    rig.run(lambda: bool(ends.source.pending))
    ends.source.close()
    rig.run()
    check_lost(rig, part, "source", "closed the connection")
    assert (part.end_offset, part.records) == (0, 0)


@pytest.mark.parametrize("part_of_it", [0.001, 0.2, 0.5, 0.999], ids=lambda x: f"{x:.1%}")
def test_source_closes_inside_its_answer(rig: Rig, part_of_it: float) -> None:
    """An incomplete answer is not used; its slab is given back."""
    log = long_log()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    ends.source.hold = True
    rig.run(lambda: bool(ends.source.pending))
    request = ends.source.pending[0]
    answer = framed(
        request.correlation,
        oracle.fetch_response(request.version, ends.source.honest(request)),
    )
    ends.source.say(answer[: max(1, int(len(answer) * part_of_it))])
    rig.step(3)
    ends.source.close()
    rig.run()
    check_lost(rig, part, "source", "closed the connection")
    assert part.records == 0
    assert ends.target.requests == []


def test_what_is_in_flight_when_the_source_goes_is_still_answered(rig: Rig) -> None:
    log = long_log()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.fill(ends)
    # All is fetched, so no fetch is out: an end that lies ahead brings the next one.
    ends.source.close()
    rig.step(5)
    assert rig.ended == []
    ends.target.hold = False
    rig.run(lambda: part.records >= 6)
    rig.run()
    check_truth(rig, ends, part, log)
    # With everything fetched the source is not needed any more.
    assert (part.ending, part.records) == ("done", COUNT)


def test_a_lost_source_drops_what_is_queued(rig: Rig) -> None:
    log = long_log()
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=COUNT + 5)
    rig.fill(ends)
    ends.source.close()
    rig.run(lambda: bool(rig.closed))
    rig.step(3)
    assert part not in rig.ended, "five batches are on their way"
    ends.target.hold = False
    rig.run()
    check_lost(rig, part, "source", "")  # found out by sending or by receiving
    check_truth(rig, ends, part, log)
    assert part.records == 6
    assert len(rig.stored(ends, part)) == 6


# --- the target goes away -------------------------------------------------------------------------


def test_target_closes_before_its_answer(rig: Rig) -> None:
    """Written but never acknowledged: the assignment does not count it."""
    log = long_log()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)

    rig.fill(ends)
    ends.target.hook = lambda request: b"" if ends.target.take(request) else None
    ends.target.hold = False
    rig.step(3)
    ends.target.close()
    rig.run()
    check_lost(rig, part, "target", "closed the connection")
    assert len(rig.stored(ends, part)) == 6
    assert (part.records, part.acked, part.end_offset) == (1, 1, 1)


def test_target_closes_inside_its_answer(rig: Rig) -> None:
    log = long_log()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    ends.target.once.append(ends.target.take)
    ends.target.once.append(lambda request: _half(ends, request))
    rig.run(lambda: len(ends.target.requests) >= 2)
    rig.step(3)
    ends.target.close()
    rig.run()
    check_lost(rig, part, "target", "closed the connection")
    check_truth(rig, ends, part, log)
    assert part.records == 1


def _half(ends: Ends, request: object) -> bytes:
    answer = ends.target.encode(request, ends.target.take(request))  # type: ignore[arg-type]
    ends.target.hook = lambda _request: None
    return answer[: len(answer) // 2]


def test_target_closes_while_a_request_is_sent(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    log = long_log(size=20_000)
    ends = rig.pipe(log, buffer=4096)
    part = rig.assign(ends, log)
    ends.target.intake = lambda: 3000
    rig.run(lambda: len(ends.target.inbox) >= 9000)
    assert ends.target.requests == []
    ends.target.close()
    rig.run()
    assert (part.ending, part.end_side, part.records) == ("lost", "target", 0)
    assert [entry[1] for entry in rig.closed] == ["target"]


def test_a_request_is_sent_in_pieces(rig: Rig) -> None:
    """The socket takes a few kilobytes at a time; the bytes still are the right ones."""
    log = long_log(size=9000)
    ends = rig.pipe(log, buffer=4096)
    part = rig.assign(ends, log)
    ends.target.intake = lambda: 2000
    rig.run(turns=20_000)
    assert part.ending == "done"
    assert list(rig.stored(ends, part)) == expect(log).produced


def test_an_answer_ahead_of_its_request(rig: Rig) -> None:
    """While a request is on its way out its memory must not be given up (L1)."""
    log = SourceLog(b"t", 0, [batch(n, 1, b"A" * 300_000) for n in range(3)])
    ends = rig.pipe(log, buffer=4096)
    part = rig.assign(ends, log)
    ends.target.intake = lambda: 4096
    rig.run(lambda: len(ends.target.inbox) > 4096)
    entry = {"partition": 0, "error": 0, "base_offset": 0, "log_start_offset": 0,
             "record_errors": [], "error_message": None}  # fmt: skip
    answer = {"throttle_ms": 0, "topics": [(b"to-t", [entry])]}
    ends.target.say(framed(1, oracle.produce_response(9, answer)))
    rig.run()
    check_lost(rig, part, "target", "before it had all of it")
    assert part.records == 0
    ends.target.intake = lambda: 1 << 30
    ends.target.receive()
    assert bytes(ends.target.inbox).count(b"A") > len(ends.target.inbox) - 200


# --- silence --------------------------------------------------------------------------------------


def test_a_fetch_without_answer_times_out(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(request_timeout=5000)
    log = long_log()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    ends.source.hold = True
    rig.run(lambda: bool(ends.source.pending))
    asked = rig.now
    rig.tick = 50
    rig.run(lambda: part.ending is not None)
    # A fetch may wait at the broker for data first.
    assert 5000 + rig.poll_wait <= rig.now - asked <= 5000 + rig.poll_wait + 100
    rig.run()
    check_lost(rig, part, "source", "no answer to a Fetch within 5000 ms")


def test_an_answer_that_dribbles_times_out(make_rig: Callable[..., Rig]) -> None:
    """Bytes that arrive do not prolong the deadline."""
    rig = make_rig(request_timeout=5000)
    log = long_log()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    ends.source.window = lambda: 1
    rig.tick = 50
    rig.run()
    check_lost(rig, part, "source", "no answer to a Fetch")


def test_a_produce_without_answer_times_out(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(request_timeout=5000)
    log = long_log()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.fill(ends)
    rig.tick = 50
    rig.run()
    check_lost(rig, part, "target", "no answer to a Produce within 5000 ms")
    assert part.records == 1


def test_a_target_that_takes_no_bytes_times_out(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(request_timeout=5000)
    log = long_log(size=50_000)
    ends = rig.pipe(log, buffer=4096)
    part = rig.assign(ends, log)
    ends.target.intake = lambda: 0
    rig.run(lambda: part.position > 0)
    rig.tick = 50
    rig.run()
    check_lost(rig, part, "target", "no answer to a Produce")


def test_answers_in_time_never_time_out(make_rig: Callable[..., Rig]) -> None:
    """Each request has its own deadline, so a slow but steady target is no failure."""
    rig = make_rig(request_timeout=1000)
    log = long_log()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    ends.target.per_turn = lambda: 1
    rig.tick = 150  # five in flight: each waits 750 ms
    rig.run()
    assert part.ending == "done"
    assert rig.closed == []


# --- pipes apart ----------------------------------------------------------------------------------


def test_a_stuck_target_holds_back_its_own_pipe_only(rig: Rig) -> None:
    stuck, free = long_log(0), long_log(1)
    slow, quick = rig.pipe(stuck), rig.pipe(free)
    waiting, going = rig.assign(slow, stuck), rig.assign(quick, free)
    slow.target.hold = True
    rig.run(lambda: going in rig.ended)
    assert (waiting.records, waiting.ending) == (0, None)
    assert going.ending == "done"
    slow.target.hold = False
    rig.run()
    assert waiting.ending == "done"


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_lost_pipe_leaves_the_other_alone(rig: Rig, side: str) -> None:
    logs = [long_log(0), long_log(1)]
    pipes = [rig.pipe(log) for log in logs]
    parts = [rig.assign(ends, log) for ends, log in zip(pipes, logs, strict=True)]
    pipes[0].source.hold = True
    rig.step(2)
    getattr(pipes[0], side).close()
    rig.run(lambda: parts[1] in rig.ended)
    assert parts[1].ending == "done"
    pipes[0].source.hold = False
    rig.run()
    check_lost(rig, parts[0], side, "closed the connection")
    assert not pipes[0].pipe.open
    assert pipes[1].pipe.open
    with pytest.raises(ValueError, match="closed"):
        rig.lane.assign(pipes[0].pipe, parts[0])


@pytest.mark.parametrize("side", ["source", "target"])
def test_the_other_connection_of_a_lost_pipe_is_closed(rig: Rig, side: str) -> None:
    """A broker must not keep a connection that is not used any more (L2)."""
    log = long_log()
    ends = rig.pipe(log)
    rig.assign(ends, log, end=COUNT + 1)
    rig.run(lambda: len(rig.stored(ends, rig.parts[0])) == COUNT)
    lost, other = (ends.source, ends.target) if side == "source" else (ends.target, ends.source)
    lost.close()
    rig.run()
    rig.step(2)
    other.receive()
    assert other.hung_up


# --- giving up ------------------------------------------------------------------------------------


def test_stop_finishes_what_is_in_flight(rig: Rig) -> None:
    log = long_log()
    other = long_log(1)
    ends = rig.pipe(log, other)
    part, neighbour = rig.assign(ends, log), rig.assign(ends, other)
    rig.fill(ends)
    rig.lane.stop(part)
    rig.step(5)
    assert part not in rig.ended
    ends.target.hold = False
    rig.run(lambda: part in rig.ended)
    assert (part.ending, part.records) == ("stopped", 6)
    check_truth(rig, ends, part, log)
    assert len(rig.stored(ends, part)) == 6, "nothing is sent after a stop"
    rig.run()
    assert neighbour.ending == "done"
    assert rig.closed == []


def test_stop_does_not_wait_for_the_gate(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(confirming=False)
    log = SourceLog(b"t", 0, [batch(0), batch(5), batch(9)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.run(lambda: part.records == 1)
    rig.lane.stop(part)
    rig.run()
    assert (part.ending, part.records, part.acked) == ("stopped", 1, 1)
    part.confirm(5)  # late, and without harm
    rig.step(3)
    assert len(rig.stored(ends, part)) == 1


def test_stop_all_ends_every_partition(rig: Rig) -> None:
    logs = [long_log(p) for p in range(4)]
    pipes = [rig.pipe(*logs[:2]), rig.pipe(*logs[2:])]
    parts = [rig.assign(pipes[p // 2], log) for p, log in enumerate(logs)]
    rig.step(6)
    rig.lane.stop_all()
    rig.run()
    assert {part.ending for part in parts} == {"stopped"}
    for p, part in enumerate(parts):
        check_truth(rig, pipes[p // 2], part, logs[p])
        assert part.records == len(rig.stored(pipes[p // 2], part))
    assert rig.lane.idle


def test_stopping_a_finished_partition_changes_nothing(rig: Rig) -> None:
    _, (part,) = rig.copy(long_log())
    rig.lane.stop(part)
    rig.step(2)
    assert part.ending == "done"
    assert rig.ended == [part]


@pytest.mark.parametrize("when", range(0, 24, 3))
def test_abandon_drops_everything_without_another_byte(rig: Rig, when: int) -> None:
    log, other = long_log(0), long_log(1)
    pipes = [rig.pipe(log), rig.pipe(other)]
    parts = [rig.assign(pipes[0], log), rig.assign(pipes[1], other, end=-1)]
    for ends in pipes:
        ends.target.per_turn = lambda: 1
    rig.step(when)
    sent = [len(ends.target.requests) for ends in pipes]
    rig.lane.abandon("the process was paused")
    rig.step(3)
    assert len(rig.ended) == 2
    assert [len(ends.target.requests) for ends in pipes] == sent
    for ends, part, whole in zip(pipes, parts, (log, other), strict=True):
        check_truth(rig, ends, part, whole)
        assert part.ending in ("lost", "done")
        assert ends.target.hung_up
        assert not ends.pipe.open
    assert rig.borrowed == 0


@pytest.mark.parametrize("inside", [True, False])
def test_after_a_pause_nothing_more_is_sent(make_rig: Callable[..., Rig], inside: bool) -> None:
    """SIGSTOP mostly hits a lane inside its wait; answers that came meanwhile are left."""
    rig = make_rig(pause_limit=10_000)
    log = long_log()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.fill(ends)
    ends.target.hold = False
    ends.target.serve()  # five answers wait in the socket
    if inside:
        rig.lane_step(passing=15_000)
    else:
        rig.now += 15_000
        rig.lane_step()
    ends.target.serve()
    assert len(ends.target.requests) == 6
    assert part.ending == "lost"
    assert "stood still" in (part.end_message or "")


def test_a_slow_step_is_no_pause(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(pause_limit=10_000)
    log = long_log()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.lane_step(passing=9_000)
    rig.run()
    assert part.ending == "done"


def test_closing_the_lane_closes_every_connection(rig: Rig) -> None:
    log = long_log()
    ends = rig.pipe(log)
    rig.assign(ends, log)
    rig.run()
    rig.lane.close()
    ends.source.receive()
    ends.target.receive()
    assert ends.source.hung_up
    assert ends.target.hung_up
