"""The token bucket under simulated time: never too much in any window, hardly ever too little."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copycore.bucket import Bucket

rates = st.floats(10.0, 1e9)
amounts = st.lists(st.floats(1.0, 1e7), min_size=1, max_size=60)


@settings(deadline=None, max_examples=200)
@given(
    rate=rates,
    burst=st.floats(1.0, 1e8),
    calls=st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(1.0, 1e7)), min_size=1, max_size=80),
)
def test_no_window_has_more_than_its_share(
    rate: float, burst: float, calls: list[tuple[float, float]]
) -> None:
    """Whenever and however often is asked: rate · t + burst + one request at the most."""
    bucket, now = Bucket(rate, burst), 100.0
    spent: list[tuple[float, float]] = []
    for pause, amount in calls:
        now += pause
        if bucket.take(now, amount) == 0:
            spent.append((now, amount))
    for i, (began, _) in enumerate(spent):
        total = 0.0
        for ended, amount in spent[i:]:
            total += amount
            assert total <= (rate * (ended - began) + burst + max(a for _, a in spent)) * (1 + 1e-9)


@settings(deadline=None, max_examples=200)
@given(rate=rates, burst=st.floats(1.0, 1e6), wanted=amounts)
def test_under_demand_nearly_all_of_the_rate_is_used(
    rate: float, burst: float, wanted: list[float]
) -> None:
    """Who sends as soon as allowed gets 95 % of the rate, the last request apart."""
    bucket, began = Bucket(rate, burst), 100.0
    now = began
    for amount in wanted:
        for _ in range(100):
            delay = bucket.take(now, amount)
            if delay == 0:
                break
            now += delay + 1e-6
        else:
            pytest.fail("the delay that is told is never long enough")
    sent_before = sum(wanted[:-1])
    # Each wait is one byte too long at the most, and a microsecond of this test's own.
    slack = len(wanted) * (2 / rate + 2e-6) * 2
    assert sent_before >= 0.95 * rate * (now - began - slack) - burst * 0.05


def test_it_starts_empty() -> None:
    """A restart is no burst."""
    bucket = Bucket(1000.0, 500.0)
    assert bucket.take(50.0, 10.0) > 0
    assert bucket.take(50.0, 10.0) > 0
    assert bucket.take(50.1, 10.0) == 0


def test_idleness_saves_up_the_burst_and_no_more() -> None:
    bucket = Bucket(1000.0, 500.0)
    bucket.take(0.0, 1.0)
    sent = 0
    while bucket.take(3600.0, 10.0) == 0:
        sent += 10
    assert 500 <= sent <= 510


def test_a_request_above_the_burst_goes_into_debt() -> None:
    bucket = Bucket(1000.0, 100.0)
    bucket.take(0.0, 1.0)
    assert bucket.take(1.0, 5000.0) == 0
    delay = bucket.take(1.0, 1.0)
    assert delay == pytest.approx((5000 - 100) / 1000, abs=0.01)
    assert bucket.take(1.0 + delay - 0.01, 1.0) > 0
    assert bucket.take(1.0 + delay + 0.01, 1.0) == 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = Bucket(1000.0, 500.0)
    bucket.take(100.0, 1.0)
    assert bucket.take(100.5, 500.0) == 0
    for now in (50.0, 0.0, 100.0, 100.5):
        assert bucket.take(now, 1.0) > 0
    assert bucket.take(100.6, 1.0) == 0


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_is_above_zero(rate: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        Bucket(rate, 10.0)


@pytest.mark.parametrize("burst", [0.0, -1.0, float("nan")])
def test_a_burst_is_above_zero(burst: float) -> None:
    """Without one the level never rises and nothing is ever sent."""
    with pytest.raises(ValueError, match="above zero"):
        Bucket(10.0, burst)


def test_lanes_share_one_bucket() -> None:
    """Threads that all want to send: together they get one rate, and a request each at the most."""
    bucket = Bucket(1e6, 1000.0)
    bucket.take(0.0, 1.0)
    sent = [0] * 4

    def lane(number: int) -> None:
        for turn in range(1, 2001):
            if bucket.take(turn / 1000, 1000.0) == 0:
                sent[number] += 1000

    threads = [threading.Thread(target=lane, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sent) <= 1e6 * 2 + 1000 + 4 * 1000
