"""Token buckets under simulated time: never too much in any window, hardly ever too little."""

from __future__ import annotations

import threading
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copycore.bucket import BURST, CHUNK, Bucket

START = 100.0  # of the simulated clock
rates = st.floats(10.0, 1e9)


def limited(rate: float, records: float = 0.0, parent: Bucket | None = None) -> Bucket:
    bucket = Bucket(parent)
    bucket.set_rates(START, rate, records)
    return bucket


def send(bucket: Bucket, now: float, amount: float, records: float = 0.0) -> float:
    """Sends as soon as that is allowed; returns when."""
    for _ in range(1000):
        delay = bucket.take(now, amount, records)
        if delay == 0:
            return now
        now += delay + 1e-9
    raise AssertionError("the delay that is told is never long enough")


# --- amounts --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    rate=rates,
    calls=st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(1.0, 1e7)), min_size=1, max_size=80),
)
def test_no_window_has_more_than_its_share(rate: float, calls: list[tuple[float, float]]) -> None:
    """However often the bucket is asked: rate · t + burst + one batch at the most."""
    bucket, now = limited(rate), START
    spent: list[tuple[float, float]] = []
    for pause, amount in calls:
        now += pause
        if bucket.take(now, amount) == 0:
            spent.append((now, amount))
    for i, (began, _) in enumerate(spent):
        total = 0.0
        for ended, amount in spent[i:]:
            total += amount
            largest = max(a for _, a in spent)
            assert total <= (rate * (ended - began + BURST) + largest) * (1 + 1e-9)


changes = st.tuples(st.just("rate"), st.floats(0.0, 1e6) | st.just(0.0), st.floats(0.0, 1e4))
pauses = st.tuples(st.just("pause"), st.floats(0.0, 3.0), st.just(0.0))
sends = st.tuples(st.just("send"), st.floats(1.0, 1e6), st.floats(1.0, 1e4))


@settings(deadline=None, max_examples=200)
@given(steps=st.lists(st.tuples(st.integers(0, 3), changes | pauses | sends), max_size=120))
def test_every_level_holds_its_limits_while_they_change(
    steps: list[tuple[int, tuple[str, float, float]]],
) -> None:
    """Process > cluster > flow > topic, each with limits that come and go: between two changes
    each of them lets no more pass in bytes and in records than it may.
    """
    tree = [Bucket()]
    for _ in range(3):
        tree.append(Bucket(tree[-1]))
    now = START
    since: list[list[tuple[float, float, float]]] = [[] for _ in tree]
    for level, (what, first, second) in steps:
        if what == "pause":
            now += first
        elif what == "rate":
            tree[level].set_rates(now, first, second)
            since[level].clear()
        elif tree[level].take(now, first, second) == 0:
            for above in range(level + 1):
                since[above].append((now, first, second))
            for above in range(level + 1):
                for unit, rate in enumerate(tree[above].rates):
                    if rate:
                        amounts = [sent[1 + unit] for sent in since[above]]
                        for i, (began, *_) in enumerate(since[above]):
                            most = rate * (now - began + BURST) + max(amounts)
                            assert sum(amounts[i:]) <= most * (1 + 1e-9)


@settings(deadline=None, max_examples=200)
@given(rate=rates, wanted=st.lists(st.floats(1.0, 1e7), min_size=1, max_size=60))
def test_under_demand_nearly_all_of_the_rate_is_used(rate: float, wanted: list[float]) -> None:
    """A sender that always sends as soon as it may gets 95 % of the rate, apart from what is saved
    up for a chunk and the last batch.
    """
    bucket, now = limited(rate), START
    for amount in wanted:
        now = send(bucket, now, amount)
    slack = CHUNK + len(wanted) * 2e-8
    assert sum(wanted[:-1]) >= 0.95 * rate * (now - START - slack) * (1 - 1e-9)


@pytest.mark.parametrize("late", [0.0, 0.001, 0.02, 0.15])
@pytest.mark.parametrize(("rate", "records"), [(5e6, 0.0), (1e8, 0.0), (0.0, 7e3), (1e7, 1e3)])
def test_a_lane_that_comes_late_still_gets_the_rate(
    late: float, rate: float, records: float
) -> None:
    """Half a minute, ± 1 %: the tokens of the time by which a lane is late are not lost."""
    bucket, now = limited(rate, records), START
    sent = count = 0.0
    while now < START + 30:
        delay = bucket.take(now, 16_384, 10)
        if delay:
            now += delay + late
        else:
            sent += 16_384
            count += 10
    allowed = min([rate * 30 / 16_384] * (rate > 0) + [records * 30 / 10] * (records > 0))
    assert sent / 16_384 == count / 10 == pytest.approx(allowed, rel=0.01)


def test_there_is_no_drift() -> None:
    """A hundred thousand small steps add up to the rate, to a millionth."""
    rate, step = 1_234_567.8, 0.0007
    bucket = limited(rate)
    sent, now = 0, Fraction(START)
    for turn in range(1, 100_001):
        now = Fraction(START) + turn * Fraction(step)
        while bucket.take(float(now), 100.0) == 0:
            sent += 100
    assert float(Fraction(sent) / (Fraction(rate) * (now - 100))) == pytest.approx(
        1.0, abs=2 * CHUNK / 70
    )
    level = 0.0
    while bucket.take(float(now) + BURST, 1.0) == 0:
        level += 1
    left = rate * (float(now) + BURST - START) - sent
    assert level == pytest.approx(min(left, rate * BURST), abs=2)


def test_it_starts_empty() -> None:
    """A restart is no burst."""
    bucket = limited(1000.0)
    assert bucket.take(START, 10.0) > 0
    assert bucket.take(START, 10.0) > 0
    assert bucket.take(START + CHUNK, 10.0) == 0


def test_what_ran_out_opens_with_a_chunk() -> None:
    """Requests stay large: an empty bucket waits until a chunk has accumulated."""
    bucket = limited(1000.0)
    now = START + CHUNK
    while bucket.take(now, 10.0) == 0:
        pass
    assert bucket.take(now + CHUNK / 2, 10.0) == pytest.approx(CHUNK / 2)
    sent = 0
    while bucket.take(now + CHUNK, 10.0) == 0:
        sent += 10
    assert sent == 50


def test_idleness_saves_up_the_burst_and_no_more() -> None:
    bucket = limited(1000.0)
    sent = 0
    while bucket.take(START + 3600.0, 10.0) == 0:
        sent += 10
    assert sent == 1000 * BURST


def test_a_batch_above_the_burst_goes_into_debt() -> None:
    bucket = limited(1000.0)
    assert bucket.take(START + 1, 5000.0) == 0
    delay = bucket.take(START + 1, 1.0)
    assert delay == pytest.approx(5.0 - BURST + CHUNK)
    assert bucket.take(START + 1 + delay - 0.01, 1.0) > 0
    assert bucket.take(START + 1 + delay + 0.01, 1.0) == 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = limited(1000.0)
    assert bucket.take(START + 0.5, 500.0) == 0
    for now in (50.0, 0.0, START, START + 0.5):
        assert bucket.take(now, 1.0) > 0
    assert bucket.take(START + 0.5 + 0.25 + CHUNK, 1.0) == 0


def test_a_send_needs_bytes_and_records() -> None:
    bucket = limited(1000.0, 10.0)
    now = START + 10
    assert bucket.take(now, 1.0, 100) == 0  # 100 records at 10 a second
    assert bucket.take(now + 5, 1.0, 1) > 0
    now = send(bucket, now + 5, 9000.0, 1)
    assert now == pytest.approx(START + 10 + 10 - BURST + CHUNK)
    assert bucket.take(now + 8, 1.0, 1) > 0


def test_a_new_rate_counts_from_now_on() -> None:
    bucket = limited(1000.0)
    assert bucket.take(START + 1, 1000.0) == 0  # in debt by 750 bytes
    bucket.set_rates(START + 1, 100.0, 0.0)
    assert bucket.take(START + 1, 1.0) == pytest.approx(7.5 + CHUNK)
    bucket.set_rates(START + 2, 10_000.0, 0.0)
    assert bucket.take(START + 2, 1.0) == pytest.approx(0.065 + CHUNK)
    bucket.set_rates(START + 2, 0.0, 0.0)
    assert bucket.take(START + 2, 1e12) == 0
    bucket.set_rates(START + 3, 1000.0, 0.0)
    assert bucket.take(START + 3, 1.0) == pytest.approx(CHUNK)  # empty, and without old debts


def test_saved_up_under_a_high_rate_is_not_spent_under_a_low_one() -> None:
    bucket = limited(1e6)
    bucket.take(START + 10, 1.0)
    bucket.set_rates(START + 10, 100.0, 0.0)
    sent = 0
    while bucket.take(START + 10, 1.0) == 0:
        sent += 1
    assert sent == 100 * BURST


@pytest.mark.parametrize("rate", [-1.0, float("nan")])
def test_a_rate_is_not_negative(rate: float) -> None:
    for pair in ((rate, 0.0), (0.0, rate)):
        with pytest.raises(ValueError, match="not negative"):
            Bucket().set_rates(START, *pair)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        Bucket(None, weight)


def test_lanes_share_one_bucket() -> None:
    """Threads that all want to send: together they get one rate, and one batch more at most."""
    bucket = limited(1e6)
    leaves = [Bucket(bucket) for _ in range(4)]
    sent = [0] * 4

    def lane(number: int) -> None:
        for turn in range(1, 20_001):
            if leaves[number].take(START + turn / 10_000, 1000.0) == 0:
                sent[number] += 1000

    threads = [threading.Thread(target=lane, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sent) <= 1e6 * 2 + 1000
    assert sum(sent) >= 1e6 * (2 - BURST - CHUNK)
