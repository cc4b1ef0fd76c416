"""The rates of buckets that throttle options set: patterns, timetables, changes during a run."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from replicator.options.rates import AUTO, OFF, Rate, always, parse_rate, parse_timetable
from replicator.pace.auto import START, Sample
from replicator.pace.throttle import Buckets, Throttle

NOON = datetime(2024, 5, 3, 12)  # a Friday


class Rig:
    """A copy's buckets under clocks that only the test moves."""

    def __init__(self, throttle: Throttle) -> None:
        self.seconds = 1000.0
        self.wall = NOON
        self.buckets = Buckets(throttle, lambda: self.seconds, lambda: self.wall)

    def passed(self, topic: str, seconds: float, batch: int = 1000) -> float:
        """Bytes a second that a new partition of the topic gets through, alone."""
        bucket = self.buckets.partition(topic)
        began, sent = self.seconds, 0
        while self.seconds < began + seconds:
            delay = bucket.take(self.seconds, batch, 1)
            sent += batch * (delay == 0)
            self.seconds += max(delay, 0.001)
        return sent / seconds


def whole(text: str) -> Throttle:
    return Throttle(parse_timetable(text))


def test_the_limit_of_the_copy_covers_all_partitions_together() -> None:
    rig = Rig(whole("100kB/s"))
    assert rig.buckets.rate == Rate(100_000)
    left, right = rig.buckets.partition("a"), rig.buckets.partition("b")
    sent = 0
    for _ in range(20_000):
        rig.seconds += 0.001
        for bucket in (left, right):
            sent += 1000 * (bucket.take(rig.seconds, 1000, 1) == 0)
    assert sent == pytest.approx(20 * 100_000, rel=0.03)


def test_a_topic_has_the_limit_of_the_first_pattern_that_fits() -> None:
    rates = [("orders", "50kB/s"), ("pay.*", "20kB/s"), (".*s", "80kB/s"), ("a.b", "5kB/s")]
    throttle = Throttle(
        parse_timetable("100kB/s"), tuple((p, parse_timetable(r)) for p, r in rates)
    )
    rig = Rig(throttle)
    assert rig.passed("orders", 10) == pytest.approx(50_000, rel=0.03)
    assert rig.passed("payments", 10) == pytest.approx(20_000, rel=0.05)
    assert rig.passed("shops", 10) == pytest.approx(80_000, rel=0.03)
    assert rig.passed("shop", 10) == pytest.approx(100_000, rel=0.04)
    assert rig.passed("a.b", 10) == pytest.approx(5_000, rel=0.1)
    # Each topic of a pattern has the rate for itself.
    assert rig.passed("payouts", 10) == pytest.approx(20_000, rel=0.05)


def test_weights_are_those_of_the_first_pattern_that_fits() -> None:
    throttle = Throttle(always(OFF), (), (("orders", 3), ("or.*", 2)))
    assert [throttle.weight(topic) for topic in ("orders", "organs", "other")] == [3, 2, 1]
    rig = Rig(throttle)
    topic = rig.buckets.partition("organs").parent
    assert topic is not None and topic.weight == 2
    assert rig.buckets.partition("organs").parent is topic
    rig.buckets.tick(Throttle(always(OFF), (), (("organs", 7),)))
    assert topic.weight == 7


def test_a_timetable_is_followed() -> None:
    rig = Rig(whole("08:00,50kB/s 19:00,off Sat-00:00,200kB/s"))
    assert rig.buckets.rate == parse_rate("50kB/s")
    assert rig.passed("a", 10) == pytest.approx(50_000, rel=0.04)
    rig.wall = NOON.replace(hour=18, minute=59, second=59)
    assert not rig.buckets.tick()
    rig.wall += timedelta(seconds=1)
    assert rig.buckets.tick()
    assert not rig.buckets.tick()
    assert rig.buckets.rate == OFF
    assert rig.passed("a", 1) == pytest.approx(1_000_000, rel=0.01)  # as often as this test asks
    rig.wall += timedelta(hours=6)
    assert rig.buckets.tick()
    assert rig.passed("a", 10) == pytest.approx(200_000, rel=0.04)


def test_topics_follow_timetables_of_their_own() -> None:
    throttle = Throttle(always(OFF), (("night", parse_timetable("08:00,10kB/s 19:00,90kB/s")),))
    rig = Rig(throttle)
    assert rig.passed("night", 10) == pytest.approx(10_000, rel=0.05)
    rig.wall = NOON.replace(hour=20)
    assert rig.passed("night", 10) == pytest.approx(10_000, rel=0.05)
    assert rig.buckets.tick()
    assert rig.passed("night", 10) == pytest.approx(90_000, rel=0.04)


def test_new_options_replace_all_of_the_old() -> None:
    old = Throttle(parse_timetable("10kB/s"), (("a", parse_timetable("5kB/s")),))
    rig = Rig(old)
    assert rig.passed("a", 10) == pytest.approx(5_000, rel=0.1)
    new = Throttle(parse_timetable("100kB/s"), (("b", parse_timetable("20kB/s")),))
    rig.buckets.partition("b")
    assert rig.buckets.tick(new)
    assert rig.passed("a", 10) == pytest.approx(100_000, rel=0.04)
    assert rig.passed("b", 10) == pytest.approx(20_000, rel=0.05)
    assert rig.buckets.tick(whole("off"))
    assert rig.passed("b", 1) == pytest.approx(1_000_000, rel=0.01)


def test_records_are_limited_too() -> None:
    rig = Rig(whole("1MB/s,100 records/s"))
    assert rig.passed("a", 10) == pytest.approx(100_000, rel=0.06)
    assert rig.passed("a", 10, batch=50_000) == pytest.approx(1_000_000, rel=0.06)


# --- auto -----------------------------------------------------------------------------------------


def seen(achieved: float, *, throttle_ms: float = 0.0, latency: float = 5.0) -> Sample:
    return Sample(
        seconds=1.0,
        bytes=int(achieved),
        latencies=[latency] * 4,
        throttle_ms=throttle_ms,
        under_replicated=0,
    )


def test_auto_sets_the_rate_of_the_copy() -> None:
    """Careful at first; then full speed; then what a quota leaves."""
    rig = Rig(whole("auto"))
    assert (rig.buckets.asked, rig.buckets.rate) == (AUTO, Rate(int(START)))
    assert rig.passed("a", 2, batch=100_000) == pytest.approx(START, rel=0.1)
    assert [rig.buckets.observe(seen(START)) for _ in range(2)] == [True, False]
    assert rig.buckets.rate == OFF
    assert rig.buckets.observe(seen(400_000, throttle_ms=30))
    assert (rig.buckets.asked, rig.buckets.rate) == (AUTO, Rate(1_000_000))
    assert rig.passed("a", 10, batch=10_000) == pytest.approx(1_000_000, rel=0.03)


def test_a_fixed_rate_ignores_samples() -> None:
    rig = Rig(whole("2MB/s"))
    for sample in (seen(1e9), seen(1e9, throttle_ms=9), seen(1e3, latency=900)):
        assert not rig.buckets.observe(sample)
    assert rig.buckets.rate == rig.buckets.asked == Rate(2_000_000)


def test_auto_comes_and_goes() -> None:
    """By the time of day and by other options; it begins anew each time, and continues when only
    other options change.
    """
    rig = Rig(whole("08:00,auto 19:00,off"))
    assert rig.buckets.rate == Rate(int(START))
    for _ in range(3):
        rig.buckets.observe(seen(START))
    rig.buckets.observe(seen(4_000_000, throttle_ms=30))
    rig.buckets.tick(Throttle(parse_timetable("auto"), (), (("a", 3),)))
    assert rig.buckets.rate == Rate(3_000_000)
    rig.buckets.tick(whole("08:00,auto 19:00,off"))
    assert rig.buckets.rate == Rate(3_000_000)
    rig.wall = NOON.replace(hour=19)
    assert rig.buckets.tick()
    assert not rig.buckets.observe(seen(1000, throttle_ms=30))
    assert rig.buckets.rate == rig.buckets.asked == OFF
    assert rig.buckets.tick(whole("5MB/s"))
    assert rig.buckets.rate == Rate(5_000_000)
    assert rig.buckets.tick(whole("auto"))
    assert (rig.buckets.asked, rig.buckets.rate) == (AUTO, Rate(int(START)))
