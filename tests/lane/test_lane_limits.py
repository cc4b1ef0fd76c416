"""The limits of a lane: bytes of memory, bytes a second, processor time while it waits."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from copycore.bucket import BURST, CHUNK, Bucket
from copycore.partition import PartitionCopy
from kit.brokers.rig import SLAB, Rig
from kit.brokers.scripted import SourceLog, batch
from kit.logs.expected import expect

SLAB_MARGIN = 64 << 10  # what a lane adds to a slab for everything but records


def sized_log(partition: int, count: int, size: int) -> SourceLog:
    return SourceLog(b"t", partition, [batch(n, 1, b"%d" % (n % 10) * size) for n in range(count)])


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("slabs", [1, 2, 3])
def test_slabs_stay_within_the_budget(rig: Rig, slabs: int) -> None:
    """The target is stuck: the lane fetches ahead as far as its budget goes, and stops there."""
    budget = slabs * (SLAB + SLAB_MARGIN)
    logs = [sized_log(p, 40, 9000) for p in range(4)]
    ends = rig.pipe(*logs, slab=SLAB, memory=budget)
    parts = [rig.assign(ends, log) for log in logs]
    ends.target.hold = True
    highest = 0
    for _ in range(300):
        rig.step()
        highest = max(highest, rig.borrowed)
    # The response on its way counts as well, so every full one has to fit a slab.
    assert highest == budget
    assert len(ends.source.requests) == slabs
    ends.target.hold = False
    while len(rig.ended) < len(parts):
        rig.step()
        assert rig.borrowed <= budget
    for part, log in zip(parts, logs, strict=True):
        assert list(rig.stored(ends, part)) == expect(log).produced


def test_a_budget_below_one_slab_still_copies(rig: Rig) -> None:
    log = sized_log(0, 30, 5000)
    ends, (part,) = rig.copy(log, memory=1)
    assert part.ending == "done"
    assert list(rig.stored(ends, part)) == expect(log).produced


def test_a_response_above_the_slab_is_the_only_one_beyond_the_budget(rig: Rig) -> None:
    """A batch larger than the fetch size comes whole; its buffer is given back, not kept."""
    size = 700_000
    log = SourceLog(b"t", 0, [batch(0, 1, bytes(size)), batch(1, 1, b"small")])
    ends = rig.pipe(log, memory=1 << 18)
    rig.assign(ends, log)
    highest = 0
    while not rig.ended:
        rig.step()
        highest = max(highest, rig.borrowed)
    assert size < highest < size + 4096 + (1 << 18)
    assert list(rig.stored(ends, rig.parts[0])) == expect(log).produced


def test_a_slow_gate_does_not_starve_the_others(make_rig: Callable[..., Rig]) -> None:
    """One partition waits for its segment: it may hold its share of memory and no more."""
    rig = make_rig(confirming=False)
    gated = SourceLog(b"t", 0, [batch(n + 5, 1, bytes(20_000)) for n in range(60)])
    logs = [sized_log(p, 60, 2000) for p in (1, 2, 3)]
    ends = rig.pipe(gated, *logs, slab=256 << 10, memory=4 * (320 << 10))
    waiting = rig.assign(ends, gated, start=0)
    parts = [rig.assign(ends, log) for log in logs]
    rig.run(lambda: all(part in rig.ended for part in parts))
    assert waiting.records == 0
    rig.confirm()
    rig.run()
    assert list(rig.stored(ends, waiting)) == expect(gated, start=0).produced


def test_a_partition_with_a_full_queue_is_not_asked_for(rig: Rig) -> None:
    log = sized_log(0, 200, 5000)
    ends = rig.pipe(log, slab=1 << 20, memory=1 << 30)
    part = rig.assign(ends, log)
    ends.target.hold = True
    rig.step(100)
    waiting = part.position - part.records
    assert part.position < 200 * 5000
    # The only partition has a whole slab as its share; below that one more fetch may have been
    # sent.
    assert waiting * 5000 <= 2 * ((1 << 20) + SLAB_MARGIN)


def test_a_lane_closed_in_the_middle_gives_its_memory_back(rig: Rig) -> None:
    """A process that runs many jobs must not keep the slabs of those that were cut short."""
    logs = [sized_log(p, 30, 9000) for p in range(3)]
    ends = rig.pipe(*logs)
    for log in logs:
        rig.assign(ends, log)
    rig.fill(ends)
    ends.source.hold = True
    assert ends.pipe.borrowed_bytes > 0
    rig.lane.close()
    assert ends.pipe.borrowed_bytes == 0


# --- rate -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [20_000, 90_000])
@pytest.mark.parametrize("tick", [1, 7, 40])
def test_the_bucket_holds_the_rate(make_rig: Callable[..., Rig], rate: int, tick: int) -> None:
    rig = make_rig(request_bytes=4000)
    rig.limit(rate)
    rig.tick = tick
    logs = [sized_log(p, 40, 1000) for p in range(4)]
    pipes = [rig.pipe(*logs[:2]), rig.pipe(*logs[2:])]
    parts = [rig.assign(pipes[p // 2], log) for p, log in enumerate(logs)]
    sent = [(rig.now, 0)]
    while len(rig.ended) < len(parts):
        rig.step()
        total = sum(len(b) for e in pipes for r in e.target.requests for b in r.batches.values())
        if total > sent[-1][1]:
            sent.append((rig.now, total))
    batch = 1000 + 61
    for place, (began, before) in enumerate(sent):
        for ended, after in sent[place + 1 :]:
            allowed = rate * ((ended - began + 2 * tick) / 1000 + BURST) + batch
            assert after - before <= allowed
    began, before = sent[1]
    ended, after = sent[-1]
    assert after - before >= 0.95 * rate * (ended - began) / 1000 - rate * CHUNK - batch
    for part, log in zip(parts, logs, strict=True):
        assert part.records == len(log.batches)


def test_waiting_for_the_rate_is_counted(make_rig: Callable[..., Rig]) -> None:
    """The wait lies inside ``step``, between its two looks at the clock."""
    rig = make_rig()
    rig.limit(10_000)
    log = sized_log(0, 20, 1000)
    ends = rig.pipe(log)
    rig.assign(ends, log)
    rig.run(lambda: rig.parts[0].position == 20)
    began = rig.now
    while not rig.ended:
        rig.lane_step(passing=25)
        ends.source.serve()
        ends.target.serve()
    elapsed = rig.now - began
    assert elapsed > 1500
    assert 0.9 * elapsed <= rig.lane.limited_ms <= elapsed + 25


@pytest.mark.parametrize("pipes", [1, 3])
def test_topics_share_a_limit_by_weight(rig: Rig, pipes: int) -> None:
    """Whatever the number of their partitions, the size of their batches and their connections."""
    whole = rig.limit(100_000)
    parts: list[tuple[int, PartitionCopy]] = []
    ends = [rig.pipe() for _ in range(pipes)]
    topics = ((b"a", 1, 6, 300), (b"b", 2, 1, 1500), (b"c", 5, 3, 9000))
    for topic, weight, partitions, size in topics:
        rig.bucket = Bucket(whole, weight)
        for number in range(partitions):
            batches = [batch(n, 1, bytes(size)) for n in range(1_200_000 // size)]
            log = SourceLog(topic, number, batches)
            end = ends[len(parts) % pipes]
            end.source.logs[topic, number] = log
            parts.append((weight, rig.assign(end, log)))
    rig.step(1000)
    before = [part.bytes for _, part in parts]
    rig.step(10_000)
    had = {weight: 0 for weight, _ in parts}
    for (weight, part), earlier in zip(parts, before, strict=True):
        had[weight] += part.bytes - earlier
    assert sum(had.values()) == pytest.approx(1_000_000, rel=0.03)
    for weight, amount in had.items():
        assert amount == pytest.approx(1_000_000 * weight / 8, abs=30_000), had


def test_a_topic_of_its_own_limit_does_not_hold_others_back(rig: Rig) -> None:
    """The topics share connections and memory: the slow one may hold its share of memory and no
    more.
    """
    whole = rig.limit(0)
    slow, quick = [sized_log(p, 200, 2000) for p in range(3)], sized_log(3, 3000, 2000)
    ends = rig.pipe(*slow, quick, memory=4 * (SLAB + SLAB_MARGIN))
    rig.bucket = Bucket(whole)
    rig.bucket.set_rates(rig.now / 1000, 4000, 0)
    held = [rig.assign(ends, log) for log in slow]
    rig.bucket = Bucket(whole)
    free = rig.assign(ends, quick)
    began = rig.now
    rig.run(lambda: free in rig.ended, turns=20_000)
    seconds = (rig.now - began) / 1000
    assert sum(part.bytes for part in held) <= 4000 * (seconds + BURST) + 2061
    assert seconds < 5


def test_no_limit_counts_no_waiting(rig: Rig) -> None:
    rig.copy(sized_log(0, 10, 1000))
    assert rig.lane.limited_ms == 0


# --- waiting --------------------------------------------------------------------------------------


def seconds_of(rig: Rig, timeout: int, passing: int = 0) -> float:
    """How long a step really takes."""
    began = time.monotonic()
    rig.lane_step(timeout, passing)
    return time.monotonic() - began


def test_an_idle_lane_waits_its_whole_time(rig: Rig) -> None:
    rig.copy(sized_log(0, 3, 10))
    assert seconds_of(rig, 60) >= 0.055


def test_a_lane_that_was_limited_once_waits_too(make_rig: Callable[..., Rig]) -> None:
    """The batch that was held back is gone with its partition; the lane must not spin for it
    (L4).
    """
    rig = make_rig()
    rig.limit(100)
    log = sized_log(0, 5, 500)
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.run(lambda: part.position == 5)
    rig.now += 1000
    rig.run(lambda: part.records == 1)
    rig.lane.stop(part)
    rig.run()
    rig.now += 100_000
    rig.step()
    limited = rig.lane.limited_ms
    assert seconds_of(rig, 60) >= 0.055
    rig.now += 100_000
    rig.step()
    assert rig.lane.limited_ms == limited


def test_a_limited_lane_wakes_when_the_bucket_allows(make_rig: Callable[..., Rig]) -> None:
    """A step that might wait a minute returns soon, since the batch is held back for 70 ms at the
    most.
    """
    rig = make_rig()
    rig.limit(50_000)
    log = sized_log(0, 9, 900)
    ends = rig.pipe(log)
    rig.assign(ends, log)
    rig.run(lambda: rig.parts[0].records > 0)
    assert seconds_of(rig, 60_000) < 10


def test_a_deadline_ends_the_wait(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(request_timeout=30)
    log = sized_log(0, 2, 10)
    ends = rig.pipe(log)
    rig.assign(ends, log)
    ends.source.hold = True
    rig.step(2)
    rig.now += rig.poll_wait + 30
    assert seconds_of(rig, 60_000, passing=1) < 10
    rig.run()
    assert rig.parts[0].ending == "lost"


def test_wake_ends_a_wait_before_or_during_it(rig: Rig) -> None:
    log = sized_log(0, 2, 10)
    ends = rig.pipe(log)
    rig.assign(ends, log)
    rig.step()
    ends.source.hold = True
    for _ in range(20):
        waker = threading.Thread(target=rig.lane.wake)
        waker.start()
        assert seconds_of(rig, 30_000) < 10
        waker.join()
    rig.lane.wake()
    rig.lane.wake()  # two calls are one wake-up
    assert seconds_of(rig, 30_000) < 10
    assert seconds_of(rig, 60) >= 0.055
    ends.source.hold = False


def test_the_first_acknowledgement_is_noted_once(rig: Rig) -> None:
    log = sized_log(0, 9, 10)
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    assert rig.lane.first_ack == -1
    rig.run(lambda: part.records > 0)
    first = rig.lane.first_ack
    assert rig.now - 2 <= first <= rig.now
    ends.target.per_turn = lambda: 1
    rig.run()
    assert rig.lane.first_ack == first


def test_many_copies_in_one_lane_leave_nothing_behind(rig: Rig) -> None:
    """Pipes and partitions come and go; slabs are used again."""
    rng = random.Random(3)
    for _ in range(40):
        logs = [sized_log(p, rng.randrange(1, 8), 300) for p in range(3)]
        ends = rig.pipe(*logs)
        for log in logs:
            rig.assign(ends, log)
        rig.run()
        if rng.random() < 0.5:
            ends.source.close()
        else:
            ends.target.close()
    assert rig.borrowed == 0
    assert {part.ending for part in rig.parts} == {"done"}
