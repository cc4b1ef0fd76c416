"""A run with a limit of bytes or records: never more, and less only by the batch that did not
fit.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from copycore.allowance import Allowance
from kit.brokers.rig import Rig
from kit.brokers.scripted import SourceLog, batch
from kit.logs.expected import expect
from kit.oracle import batches as oracle

# --- by itself ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    records=st.none() | st.integers(1, 200),
    size=st.none() | st.integers(1, 20_000),
    batches=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 5000)), max_size=40),
)
def test_batches_are_taken_until_the_first_that_does_not_fit(
    records: int | None, size: int | None, batches: list[tuple[int, int]]
) -> None:
    allowance = Allowance(records, size)
    most = (float("inf") if records is None else records, float("inf") if size is None else size)
    sums, refused = (0, 0), None
    for one in batches:
        after = (sums[0] + one[0], sums[1] + one[1])
        if refused is None and (after[0] > most[0] or after[1] > most[1]):
            refused = one
        assert allowance.take(*one) == (refused is None)
        sums = after if refused is None else sums
        assert allowance.refused == refused
    if records is not None:
        assert allowance.records_left == records - sums[0]
    if size is not None:
        assert allowance.bytes_left == size - sums[1]


@pytest.mark.parametrize("limits", [(0, None), (None, 0), (-1, 5)])
def test_an_allowance_is_above_zero(limits: tuple[int | None, int | None]) -> None:
    with pytest.raises(ValueError, match="above zero"):
        Allowance(*limits)


def test_threads_take_from_the_same() -> None:
    allowance = Allowance(100_000, None)
    taken = [0] * 4

    def lane(number: int) -> None:
        while allowance.take(7, 1):
            taken[number] += 7

    threads = [threading.Thread(target=lane, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 100_000 - 100_000 % 7 == 100_000 - allowance.records_left


# --- in lanes -------------------------------------------------------------------------------------


def random_log(rng: random.Random, partition: int) -> SourceLog:
    batches, offset = [], 0
    for _ in range(rng.randrange(1, 30)):
        count = rng.randrange(1, 20)
        batches.append(batch(offset, count, bytes(rng.randrange(1, 3000))))
        offset += count + rng.choice([0, 0, 0, 5])
    return SourceLog(b"t", partition, batches)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_two_lanes_never_send_more_than_a_run_may(seed: int) -> None:
    """The sum over all logs of the target, against the sizes of the batches it was made of."""
    note(f"seed {seed}")
    rng = random.Random(seed)
    logs = [random_log(rng, p) for p in range(rng.randrange(1, 7))]
    produced = [whole for log in logs for whole in expect(log).produced]
    total = measure(produced)
    limit = (rng.randrange(1, total[0] + 30), rng.randrange(1, total[1] + 3000))
    limits = rng.choice([(limit[0], None), (None, limit[1]), limit, (None, total[1])])
    allowance = Allowance(*limits)
    rigs = [Rig(allowance=allowance, request_bytes=rng.choice([1000, 1 << 22])) for _ in range(2)]
    try:
        pipes = [(rig, rig.pipe(*logs)) for rig in rigs for _ in range(2)]
        for _, ends in pipes:
            ends.target.per_turn = lambda: rng.choice([0, 1, 5])
        for log in logs:
            rig, ends = rng.choice(pipes)
            rig.assign(ends, log)
        parts = [part for rig in rigs for part in rig.parts]

        def over() -> bool:
            return allowance.refused is not None or all(part.ending for part in parts)

        for _ in range(3000):
            if over():
                break
            for rig in rigs:
                rig.step()
        assert over()
        for rig in rigs:
            rig.lane.stop_all()
            rig.run()
        stored = [
            whole for _, ends in pipes for log in ends.target.logs.values() for whole in log.batches
        ]
    finally:
        for rig in rigs:
            rig.finish()
    sent = measure(stored)
    assert sent == (sum(part.records for part in parts), sum(part.bytes for part in parts))
    if allowance.refused is None:
        event("everything")
        assert sent == total
        assert all(part.ending == "done" for part in parts)
        return
    event("limited")
    for amount, most, next_one in zip(sent, limits, allowance.refused, strict=True):
        assert most is None or amount <= most
        assert next_one > 0
    assert any(
        most is not None and amount + next_one > most
        for amount, most, next_one in zip(sent, limits, allowance.refused, strict=True)
    ), "the next batch would have fitted"
    assert allowance.refused in [measure([whole]) for whole in produced]


def measure(batches: list[bytes]) -> tuple[int, int]:
    """Records and bytes, as a summary counts them."""
    return sum(oracle.parse(whole)["count"] for whole in batches), sum(map(len, batches))


def test_a_limit_of_just_what_there_is_ends_nothing(make_rig: Callable[..., Rig]) -> None:
    log = SourceLog(b"t", 0, [batch(n * 10, 10, bytes(100)) for n in range(20)])
    rig = make_rig(allowance=Allowance(200, 20 * len(log.batches[0])))
    ends, (part,) = rig.copy(log)
    assert part.ending == "done"
    assert rig.allowance is not None and rig.allowance.refused is None
    assert (rig.allowance.records_left, rig.allowance.bytes_left) == (0, 0)
    assert list(rig.stored(ends, part)) == expect(log).produced


def test_what_a_lost_connection_may_have_brought_stays_taken(make_rig: Callable[..., Rig]) -> None:
    log = SourceLog(b"t", 0, [batch(n, 1, bytes(100)) for n in range(50)])
    rig = make_rig(allowance=Allowance(10, None))
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.fill(ends)
    ends.target.close()
    rig.run()
    assert (part.ending, part.records) == ("lost", 1)
    again = rig.pipe(log)
    rest = rig.assign(again, log)
    allowance = rig.allowance
    assert allowance is not None
    rig.run(lambda: allowance.refused is not None)
    rig.lane.stop(rest)
    rig.run(lambda: len(rig.ended) == 2)
    assert rest.records == 4


def test_after_a_refused_batch_a_lane_sends_nothing_more(make_rig: Callable[..., Rig]) -> None:
    """The lane waits for the order to stop, and fetches no more than it would for a slow target."""
    log = SourceLog(b"t", 0, [batch(n, 1, bytes(100)) for n in range(50)])
    rig = make_rig(allowance=Allowance(3, None))
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.run(lambda: part.records == 3)
    requests = len(ends.source.requests)
    rig.step(100)
    assert len(ends.source.requests) <= requests + 1
    assert part.records == 3
    rig.lane.stop_all()
    rig.run()
    assert part.ending == "stopped"
