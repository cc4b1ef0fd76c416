"""The polite controller against a simulated target with a queue, and with somebody else on it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicator.polite import FLOOR, Polite, Sample

MB = 1_000_000.0
CAPACITY = 100 * MB  # bytes a second the target takes
WINDOW = 20 * MB  # bytes the copy has in flight at most
STEP = 0.01  # seconds
SERVICE = 3.0  # ms of a request that meets no queue


@dataclass
class Target:
    """A queue served in order. ``foreground`` is what others write a second, at a time."""

    foreground: Callable[[float], float]
    controller: Polite | None
    capacity: Callable[[float], float] = lambda _now: CAPACITY
    throttle: Callable[[float], float] = lambda _now: 0.0
    under_replicated: Callable[[float], int] = lambda _now: 0
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    copied: list[tuple[float, float]] = field(default_factory=list)  # (time, bytes)
    served: list[tuple[float, float]] = field(default_factory=list)  # of the foreground
    waits: list[tuple[float, float]] = field(default_factory=list)  # (time, ms) of the foreground
    limits: list[tuple[float, float | None]] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        ours = theirs = since = 0.0
        limit: float | None = None
        latencies: list[float] = []
        for turn in range(int(seconds / STEP)):
            now = turn * STEP
            room = WINDOW - ours
            ours += room if limit is None else min(room, limit * STEP)
            theirs += self.foreground(now) * STEP
            queue = ours + theirs
            latency = SERVICE * self.rng.uniform(0.9, 1.3) + 1000 * queue / self.capacity(now)
            latencies.append(latency)
            self.waits.append((now, latency))
            share = min(1.0, self.capacity(now) * STEP / queue) if queue else 0.0
            self.copied.append((now, ours * share))
            self.served.append((now, theirs * share))
            since += ours * share
            ours, theirs = ours * (1 - share), theirs * (1 - share)
            if turn % 100 == 99 and self.controller is not None:
                sample = Sample(
                    latencies=latencies,
                    throttle_ms=self.throttle(now),
                    under_replicated=self.under_replicated(now),
                    achieved=since,
                )
                limit = self.controller.observe(now, sample)
                self.limits.append((now, limit))
                latencies, since = [], 0.0


def between(series: list[tuple[float, float]], began: float, ended: float) -> float:
    """A second."""
    return sum(value for at, value in series if began <= at < ended) / (ended - began)


def quantile(series: list[tuple[float, float]], began: float, ended: float, share: float) -> float:
    found = sorted(value for at, value in series if began <= at < ended)
    return found[min(int(share * len(found)), len(found) - 1)]


def test_alone_nothing_is_given_away() -> None:
    target = Target(lambda _now: 0.0, Polite())
    target.run(120)
    assert all(limit is None for _, limit in target.limits)
    assert between(target.copied, 0, 120) >= 0.99 * CAPACITY


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_who_comes_gets_what_he_wants(share: float) -> None:
    """And the copy most of the rest; afterwards all of it again."""

    def foreground(now: float) -> float:
        return share * CAPACITY if 30 <= now < 150 else 0.0

    target, bare = Target(foreground, Polite()), Target(foreground, None)
    target.run(240)
    bare.run(240)
    assert between(target.served, 30, 150) >= 0.98 * share * CAPACITY
    # Half of all the time their requests meet next to no queue, of which an impolite copy makes
    # a long one for every request.
    assert quantile(target.waits, 45, 150, 0.5) <= 50
    assert quantile(bare.waits, 45, 150, 0.5) >= 200
    rest = (1 - share) * CAPACITY
    assert between(target.copied, 45, 150) >= 0.7 * rest
    assert target.limits[-1][1] is None
    assert between(target.copied, 170, 240) >= 0.95 * CAPACITY


def test_a_quota_and_lagging_replicas_are_signs_too() -> None:
    """Halved at least while the sign stands, never below the floor, and back to full afterwards."""
    for sign in ("quota", "replicas"):
        target = Target(lambda _now: 0.0, Polite())
        if sign == "quota":
            target.throttle = lambda now: 50.0 if 20 <= now < 60 else 0.0
        else:
            target.under_replicated = lambda now: 5 if 20 <= now < 60 else 3
        target.run(120)
        assert between(target.copied, 24, 60) < 0.5 * CAPACITY
        limits = [limit for at, limit in target.limits if 21 <= at < 60]
        assert all(limit is not None and limit >= FLOOR for limit in limits)
        assert target.limits[-1][1] is None
        assert between(target.copied, 95, 120) >= 0.98 * CAPACITY


def test_replicas_that_lagged_before_are_not_our_doing() -> None:
    target = Target(lambda _now: 0.0, Polite(), under_replicated=lambda now: 7 if now < 50 else 4)
    target.run(100)
    assert all(limit is None for _, limit in target.limits)


def test_a_target_that_becomes_slower_for_good_is_learned() -> None:
    """It is no competitor: after a while the copy has most of what is there."""
    target = Target(
        lambda _now: 0.0, Polite(), capacity=lambda now: CAPACITY if now < 30 else CAPACITY / 2
    )
    target.run(600)
    assert between(target.copied, 500, 600) >= 0.8 * CAPACITY / 2


def test_without_answers_nothing_changes() -> None:
    controller = Polite()
    quiet = Sample(latencies=[], throttle_ms=0, under_replicated=0, achieved=0)
    busy = Sample(latencies=[10.0], throttle_ms=0, under_replicated=0, achieved=CAPACITY)
    assert [controller.observe(float(n), quiet) for n in range(5)] == [None] * 5
    assert controller.observe(5.0, busy) is None
    slow = Sample(latencies=[100.0], throttle_ms=0, under_replicated=0, achieved=CAPACITY / 2)
    assert controller.observe(6.0, slow) == pytest.approx(0.1 * CAPACITY)
    # Until it is clear that nothing is in the way any more.
    found = [controller.observe(float(n), quiet) for n in range(7, 11)]
    assert found == pytest.approx([0.1 * CAPACITY] * 2 + [0.14 * CAPACITY, 0.18 * CAPACITY])


def test_one_queue_is_one_sign() -> None:
    """What was sent before a decrease is answered late after it, too."""
    controller = Polite()
    fast = Sample(latencies=[10.0], throttle_ms=0, under_replicated=0, achieved=CAPACITY)
    quota = Sample(latencies=[10.0], throttle_ms=9, under_replicated=0, achieved=CAPACITY / 2)
    assert controller.observe(0.0, fast) is None
    # The latency at a low rate is looked for, and from there on each second look counts.
    found = [controller.observe(float(n), quota) for n in range(1, 10)]
    steps = [0.1] * 5 + [0.075] * 2 + [0.05625] * 2
    assert found == pytest.approx([step * CAPACITY for step in steps])


samples = st.builds(
    Sample,
    latencies=st.lists(st.floats(0.0, 1e6), max_size=5),
    throttle_ms=st.sampled_from([0.0, 0.0, 0.0, 40.0]),
    under_replicated=st.integers(0, 3),
    achieved=st.floats(0.0, 1e10),
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 5.0), samples), max_size=60))
def test_whatever_comes_the_answer_is_a_rate(looks: list[tuple[float, Sample]]) -> None:
    """At the floor at least, the same for the same, and after a quiet while no limit at all."""
    controller, twin, now = Polite(), Polite(), 0.0
    highest = 0.0
    for passed, sample in looks:
        now += passed
        rate = controller.observe(now, sample)
        assert rate == twin.observe(now, sample)
        assert rate is None or (rate >= FLOOR and math.isfinite(rate))
        highest = max(highest, sample.achieved)
    quiet = Sample(latencies=[], throttle_ms=0, under_replicated=0, achieved=highest)
    for _ in range(60):
        now += 1.0
        rate = controller.observe(now, quiet)
    assert rate is None
