"""The rate of ``auto`` on a simulated target with a queue, which other clients use too."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.fakes.queue_target import MB, Target, between, quantile
from replicator.pace.auto import FLOOR, GIVEN_UP, START, AutoRate, Sample

CAPACITY = 600 * MB


def during(value: float, began: float = 20, ended: float = 60) -> Callable[[float], float]:
    return lambda now: value if began <= now < ended else 0.0


@pytest.mark.parametrize("capacity", [30 * MB, 100 * MB, 600 * MB])
@pytest.mark.parametrize("round_trip", [1.0, 40.0])
@pytest.mark.parametrize(("sighted", "left"), [(False, 0.9), (True, 0.98)])
def test_a_copy_without_other_writers_loses_hardly_any_speed(
    capacity: float, round_trip: float, sighted: bool, left: float
) -> None:
    """A tenth at most, the careful start included, also with a long round trip; next to nothing
    where the copy can see that nothing else writes.
    """
    options = {"capacity": lambda _now: capacity, "round_trip": round_trip, "window": 48 * MB}
    polite = Target(AutoRate(), sighted=sighted, **options).run(60)  # type: ignore[arg-type]
    bare = Target(None, **options).run(20)  # type: ignore[arg-type]
    assert between(polite.copied, 0, 60) >= left * between(bare.copied, 0, 20)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("sighted", [False, True])
def test_a_writer_that_needs_a_part_gets_it(share: float, sighted: bool) -> None:
    """The writer gets it at once, the copy gets most of the rest, and everything again
    afterwards.
    """
    wanted = share * CAPACITY
    target = Target(AutoRate(), steady=during(wanted), sighted=sighted).run(90)
    assert between(target.served, 20, 60) >= 0.98 * wanted
    assert between(target.copied, 25, 60) >= 0.7 * (CAPACITY - wanted)
    assert between(target.copied, 70, 90) >= 0.85 * CAPACITY
    bare = Target(None, steady=during(wanted)).run(40)
    assert quantile(target.waits, 25, 60, 0.5) <= 0.8 * quantile(bare.waits, 25, 40, 0.5)


@pytest.mark.parametrize(
    ("window", "sighted", "kept"),
    [(8 * MB, False, 0.6), (30 * MB, False, 0.75), (8 * MB, True, 0.8), (30 * MB, True, 0.8)],
)
@pytest.mark.parametrize("began", [0, 20])
def test_a_writer_at_full_speed_keeps_most_of_its_rate(
    window: float, sighted: bool, kept: float, began: float
) -> None:
    """Whether the writer started first or not. A copy at full speed gets a share of the target that
    is its share of all requests.
    """
    alone = Target(None, greedy=during(window, 0), window=0).run(20)
    target = Target(AutoRate(), greedy=during(window, began), sighted=sighted).run(90)
    theirs = between(target.served, began + 10, 60)
    assert theirs >= kept * between(alone.served, 0, 20)
    assert between(target.copied, began + 10, 60) >= 0.05 * CAPACITY
    assert between(target.copied, 70, 90) >= 0.85 * CAPACITY
    bare = Target(None, greedy=during(window, 0)).run(20)
    assert theirs >= between(bare.served, 10, 20)


def test_a_writer_of_changing_rate_does_not_stop_the_copy() -> None:
    """A writer that uses a tenth of the target's capacity is too small to be the cause of the
    load.
    """
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    rates = [rng.uniform(0.05, 0.4) * CAPACITY for _ in range(90)]
    target = Target(AutoRate(), steady=lambda now: rates[int(now)], sighted=True).run(90)
    assert between(target.served, 20, 90) >= 0.95 * sum(rates[20:]) / 70
    assert between(target.copied, 20, 90) >= 0.06 * CAPACITY


def test_a_new_writer_is_noticed_and_one_that_left_is_forgotten() -> None:
    """The writer may pause for a while; only after that the copy goes on at full speed."""
    controller = AutoRate()
    rates = []
    for others in [0.0] * 4 + [5000.0] * 10 + [0.0] * 15:
        achieved = min(controller.rate or math.inf, 200 * MB)
        controller.observe(sample([5.0] * 20, achieved, others=others))
        rates.append(controller.rate)
    assert rates[:4] == [None] * 4
    light = 0.05 * 200 * MB
    assert rates[4] == pytest.approx(light, rel=0.05)  # measures the writer undisturbed
    assert all(rate == rates[4] for rate in rates[5:7])
    assert rates[8:14] == [None] * 6
    assert rates[16] is not None  # the writer gets nothing done
    assert rates[-1] is None


def test_a_copy_that_has_caught_up_is_not_slowed_down() -> None:
    """Whatever others write, and however long requests wait. Once it lags again, it gives way."""
    controller = AutoRate()
    for number in range(100):
        others, latency = 5000.0 if number % 7 else 1000.0, 5.0 + number
        one = sample([latency] * 200, 20 * MB, others=others, caught_up=True)
        controller.observe(one)
        assert controller.rate is None or controller.rate == pytest.approx(START, rel=0.5)
    assert controller.rate is None
    controller.observe(sample([5.0] * 200, 200 * MB, others=5000.0))
    assert controller.rate == pytest.approx(0.05 * 200 * MB, rel=0.05)


def test_an_unknown_rate_of_others_is_not_taken_for_zero() -> None:
    controller = AutoRate()
    for _ in range(4):
        controller.observe(sample([5.0] * 20, 100 * MB, others=0.0))
    assert controller.rate is None
    for _ in range(4):
        controller.observe(sample([70.0] * 200, 100 * MB))
        assert controller.rate is None  # a look or two may fail
    controller.observe(sample([70.0] * 200, 100 * MB))
    assert controller.rate == pytest.approx(5 * MB, rel=0.05)  # a probe
    for latency in (70.0, 5.0, 70.0):
        controller.observe(sample([latency] * 200, min(controller.rate or math.inf, 100 * MB)))
    assert controller.rate == pytest.approx(90 * MB, rel=0.05)


@pytest.mark.parametrize("sign", ["quota", "replicas"])
def test_a_quota_and_lagging_replicas_are_signs_too(sign: str) -> None:
    """The rate falls while they last, never below the floor, and is back to full speed
    afterwards.
    """
    target = Target(AutoRate())
    if sign == "quota":
        target.throttle = lambda now: 50.0 if 20 <= now < 50 else 0.0
    else:
        target.under_replicated = lambda now: 5 if 20 <= now < 50 else 3
    target.run(80)
    assert between(target.copied, 10, 20) >= 0.85 * CAPACITY
    assert between(target.copied, 30, 40) < 0.1 * CAPACITY
    limits = [limit for at, limit in target.limits if 21 <= at < 50]
    assert all(limit is not None and limit >= FLOOR for limit in limits)
    assert between(target.copied, 60, 80) >= 0.85 * CAPACITY


def test_replicas_that_lagged_before_are_not_our_doing() -> None:
    target = Target(AutoRate(), under_replicated=lambda now: 7 if now < 20 else 4).run(40)
    assert between(target.copied, 10, 40) >= 0.85 * CAPACITY


def test_a_broker_that_is_gone_for_good_is_not_waited_for() -> None:
    target = Target(AutoRate(), under_replicated=lambda now: 5 if now >= 10 else 0)
    target.run(10 + GIVEN_UP + 30)
    assert between(target.copied, 30, 10 + GIVEN_UP) < 0.1 * CAPACITY
    assert between(target.copied, 20 + GIVEN_UP, 40 + GIVEN_UP) >= 0.85 * CAPACITY


@pytest.mark.parametrize("factor", [0.2, 3.0])
def test_a_target_of_another_pace_from_now_on(factor: float) -> None:
    """A change of the target's own speed is not taken for another writer."""
    target = Target(AutoRate(), capacity=lambda now: 200 * MB * (1 if now < 20 else factor)).run(
        400
    )
    assert between(target.copied, 300, 400) >= 0.8 * 200 * MB * factor


def sample(latencies: list[float], achieved: float, **other: float) -> Sample:
    fields = {"throttle_ms": 0.0, "under_replicated": 0, **other}
    return Sample(seconds=1.0, bytes=int(achieved), latencies=latencies, **fields)  # type: ignore[arg-type]


def test_without_answers_it_stays_careful() -> None:
    controller = AutoRate()
    for _ in range(5):
        controller.observe(sample([], 0))
        assert controller.rate == START
    for _ in range(2):
        controller.observe(sample([5.0] * 4, START))
    assert controller.rate is None
    # It goes on as it was when a partition is on its way elsewhere.
    controller.observe(sample([], 0))
    assert controller.rate is None


def test_a_probe_ends_where_it_began() -> None:
    controller = AutoRate()
    quick, slow = sample([5.0] * 200, 100 * MB), sample([70.0] * 200, 100 * MB)
    for _ in range(8):
        controller.observe(quick)
    assert controller.rate is None
    controller.observe(slow)
    assert controller.rate == pytest.approx(90 * MB)
    rates: list[float | None] = []
    for _ in range(40):
        controller.observe(sample([5.0] * 200, min(controller.rate or math.inf, 80 * MB)))
        rates.append(controller.rate)
    probes = [number for number, rate in enumerate(rates) if rate is not None and rate < 10 * MB]
    assert len(probes) == 4  # two looks each time
    assert rates[probes[0] - 1] == rates[probes[1] + 1] is None


def test_one_queue_is_one_sign() -> None:
    """Requests sent before a cut are still answered late after it, so there is one cut a second."""
    controller = AutoRate()
    for _ in range(3):
        controller.observe(sample([5.0], CAPACITY))
    for _ in range(4):
        quick = Sample(
            seconds=0.25, bytes=int(CAPACITY / 4), latencies=[5.0], throttle_ms=9,
            under_replicated=0,
        )  # fmt: skip
        controller.observe(quick)
        assert controller.rate == pytest.approx(0.75 * CAPACITY)
    controller.observe(quick)
    assert controller.rate == pytest.approx(0.75 * CAPACITY)  # of what was achieved


samples = st.builds(
    Sample,
    seconds=st.floats(0.01, 5.0),
    bytes=st.integers(0, 10**10),
    latencies=st.lists(st.floats(0.0, 1e6), max_size=5),
    throttle_ms=st.sampled_from([0.0, 0.0, 0.0, 40.0]),
    under_replicated=st.integers(0, 3),
    caught_up=st.sampled_from([False, False, True]),
    others=st.one_of(st.none(), st.just(0.0), st.floats(0.0, 1e7)),
)


@settings(deadline=None)
@given(st.lists(samples, max_size=60))
def test_whatever_comes_the_answer_is_a_rate(seen: list[Sample]) -> None:
    """The rate is never below the floor, equal for equal samples, and unlimited again after a quiet
    while.
    """
    controller, twin = AutoRate(), AutoRate()
    for one in seen:
        controller.observe(one)
        twin.observe(one)
        assert controller.rate == twin.rate
        assert controller.rate is None or (
            controller.rate >= FLOOR and math.isfinite(controller.rate)
        )
    for _ in range(300):
        controller.observe(sample([1.0], MB))
    assert controller.rate is None
