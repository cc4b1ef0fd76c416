"""Batches that may or may not be on the target: the answer was lost, or was an error that can
follow an append. The target's log tells when it is read next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from copycore.partition import PartitionCopy, Unanswered
from copycore.split import Split
from kit.brokers.rig import Ends, Rig
from kit.brokers.scripted import ProduceRequest, SourceLog, batch
from kit.logs.shared import by_offset, outlets, share_logs
from kit.logs.truth import GZIP, NONE, RecordLog, rows
from kit.oracle import batches as oracle

REQUEST_TIMED_OUT = 7


def log_of(codec: int = NONE, count: int = 12) -> SourceLog:
    """Batches of three records."""
    whole = [batch(3 * n, 3, b"%d" % n * 40, attributes=codec) for n in range(count)]
    return SourceLog(b"t", 0, whole)


def pending(ends: Ends, counter: int = 0) -> list[Unanswered]:
    """The batches that the target of a pipe has not answered, in the order in which they were
    sent.
    """
    found = []
    for request in ends.target.pending:
        for (_, partition), whole in request.batches.items():
            h = oracle.parse(whole)
            behind = counter + (h["base_sequence"] - counter) % 2**31 + h["count"]
            compressed = bool(h["attributes"] & 7)
            found.append(Unanswered(partition, behind, h["count"], len(whole), compressed))
    return found


def check_counts(ends: Ends, part: PartitionCopy, counter: int = 0) -> None:
    """The target has what was acknowledged, and the unanswered batches that its log shows."""
    log = ends.target.logs[b"to-t", 0]
    stored = [one for one in part.unanswered if one.behind <= log.counter]
    assert part.records + sum(one.records for one in stored) == log.counter - counter
    assert part.batches + len(stored) == len(log.batches)
    assert part.bytes + sum(one.size for one in stored) == sum(map(len, log.batches))
    plain = sum(one.size for one in stored if not one.compressed)
    compressed = [whole for whole in log.batches if oracle.parse(whole)["attributes"] & 7]
    assert part.plain_bytes + plain == sum(map(len, log.batches)) - sum(map(len, compressed))


@pytest.mark.parametrize("codec", [NONE, GZIP])
@pytest.mark.parametrize("counter", [0, 2**31 - 1, 2**40])
@pytest.mark.parametrize("brought", range(6))
def test_a_lost_connection_leaves_what_was_in_flight(
    rig: Rig, codec: int, counter: int, brought: int
) -> None:
    """Some of it has arrived. Batches that were only queued were not sent, and are not in doubt."""
    log = log_of(codec)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, counter=counter)
    rig.fill(ends)
    sent = pending(ends, counter)
    assert [one.behind for one in sent] == [counter + 6 + 3 * n for n in range(5)]
    ends.target.hook = lambda request: b"" if ends.target.take(request) else None
    ends.target.hold = False
    ends.target.per_turn = lambda: brought
    ends.target.serve()
    ends.target.close()
    rig.serving = lambda _ends: (True, False)
    rig.run()
    assert (part.ending, part.end_side) == ("lost", "target")
    assert part.unanswered == sent
    assert len(ends.target.logs[b"to-t", 0].batches) == 1 + brought
    check_counts(ends, part, counter)


@pytest.mark.parametrize("at", range(6))
def test_a_time_out_after_the_append_leaves_its_batch(rig: Rig, at: int) -> None:
    log = log_of()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    asked = 0

    def answer(request: ProduceRequest) -> dict[str, Any]:
        nonlocal asked
        stored = ends.target.take(request)
        if asked == at:
            stored["topics"][0][1][0] |= {"error": REQUEST_TIMED_OUT, "base_offset": -1}
        asked += 1
        return stored

    ends.target.hook = answer
    rig.run()
    assert (part.ending, part.end_code, part.end_offset) == (
        "target-error",
        REQUEST_TIMED_OUT,
        3 * at,
    )
    size = len(log.batches[at])
    assert part.unanswered == [Unanswered(0, 3 * at + 3, 3, size, False)]
    check_counts(ends, part)


def test_a_batch_refused_after_another_is_not_on_the_target(rig: Rig) -> None:
    """The log tells it from what has been stored."""
    log = log_of()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.fill(ends)
    sent = pending(ends)
    refusals = iter([0, 87])
    ends.target.logs[b"to-t", 0].refuse = lambda _whole: next(refusals, 0)
    ends.target.hold = False
    rig.run()
    assert part.records == 6
    assert part.unanswered == sent[1:]
    check_counts(ends, part)


@pytest.mark.parametrize("how", ["done", "stopped", "source"])
def test_when_all_is_answered_nothing_is_left(rig: Rig, how: str) -> None:
    log = log_of()
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=50 if how == "source" else log.end)
    rig.fill(ends)
    if how == "stopped":
        rig.lane.stop(part)
    if how == "source":
        ends.source.close()
    ends.target.hold = False
    rig.run()
    assert part.ending == {"done": "done", "stopped": "stopped", "source": "lost"}[how]
    assert part.unanswered == []
    check_counts(ends, part)


@pytest.mark.parametrize("how", ["abandon", "time-out"])
def test_batches_stay_unanswered_when_the_lane_closes_the_connection(
    make_rig: Callable[..., Rig], how: str
) -> None:
    rig = make_rig(request_timeout=5000)
    log = log_of()
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.fill(ends)
    sent = pending(ends)
    if how == "abandon":
        rig.lane.abandon("the process was paused")
    rig.tick = 50
    rig.run()
    assert part.ending == "lost"
    assert part.unanswered == sent


def test_partitions_do_not_mix(rig: Rig) -> None:
    """Each partition has its own unanswered batches, although they share requests."""
    logs = [log_of(), log_of(GZIP)]
    logs[1].partition = 1
    ends = rig.pipe(*logs)
    parts = [rig.assign(ends, log) for log in logs]
    rig.fill(ends)
    sent = pending(ends)
    ends.target.close()
    rig.serving = lambda _ends: (True, False)
    rig.run()
    for number, part in enumerate(parts):
        assert part.unanswered == [one for one in sent if one.partition == number]
        assert len(part.unanswered) == 5


def test_those_of_a_split_partition_name_the_target_partition(rig: Rig) -> None:
    log = RecordLog()
    for number in range(8):
        log.add(rows(6 * number, -6))
    ends = rig.pipe(log, targets=2)
    share_logs(ends, b"to-t", 3)
    for target in ends.targets:
        target.hold = True
    split = Split(by_offset, [0, 4, 0], [0, 4, 0])
    part = rig.assign(ends, log, split=split, outlets=outlets(ends, 3))
    rig.step(20)
    ends.targets[1].close()
    rig.serving = lambda _ends: (True, False)
    rig.step(3)
    rig.lane.abandon("the test wants it")
    rig.step(3)
    assert part.ending == "lost"
    found = {one.partition: (one.behind, one.records) for one in part.unanswered}
    assert found == {0: (16, 16), 1: (20, 16), 2: (16, 16)}
    assert len(part.unanswered) == 3
