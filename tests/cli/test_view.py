"""Rates, views and the texts made of them, with time passed in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.fakes.snapshots import partition, snapshot
from replicator.cli.units import clock, count, plural, short
from replicator.cli.view import Observer, View, live_block, plain_line
from replicator.cli.window import RateWindow
from replicator.report.model import Snapshot


def test_a_rate_needs_two_samples() -> None:
    window: RateWindow[str] = RateWindow(10)
    assert window.rate("bytes") is None
    window.add(0, {"bytes": 100})
    assert window.rate("bytes") is None
    window.add(2, {"bytes": 300})
    assert window.rate("bytes") == 100
    assert window.rate("records") is None


def test_a_rate_forgets_what_lies_before_the_window() -> None:
    window: RateWindow[str] = RateWindow(10)
    for second in range(21):
        window.add(second, {"bytes": 1000 if second < 10 else 1000 + (second - 10) * 7})
    assert window.rate("bytes") == 7


def test_samples_further_apart_than_the_window_still_give_a_rate() -> None:
    window: RateWindow[str] = RateWindow(10)
    window.add(0, {"bytes": 0})
    window.add(60, {"bytes": 600})
    assert window.rate("bytes") == 10
    window.add(120, {"bytes": 1800})
    assert window.rate("bytes") == 20


def test_a_counter_that_appears_later_and_one_that_goes_back() -> None:
    window: RateWindow[str] = RateWindow(10)
    window.add(0, {"a": 50})
    window.add(1, {"a": 40, "b": 0})
    window.add(2, {"a": 30, "b": 8})
    assert window.rate("a") == 0
    assert window.rate("b") == 8


def test_two_samples_of_one_moment_do_not_divide_by_zero() -> None:
    window: RateWindow[str] = RateWindow(10)
    window.add(1, {"a": 1})
    window.add(1, {"a": 5})
    assert window.rate("a") is None
    window.add(2, {"a": 9})
    assert window.rate("a") == 4


@given(
    st.integers(0, 10**6),
    st.lists(st.floats(0.01, 20, allow_nan=False), min_size=1, max_size=60),
)
def test_a_steady_counter_has_its_rate_however_it_is_sampled(rate: int, steps: list[float]) -> None:
    window: RateWindow[str] = RateWindow(10)
    time = 0.0
    window.add(0, {"x": 0})
    for step in steps:
        time += step
        window.add(time, {"x": round(rate * time)})
    measured = window.rate("x")
    assert measured is not None
    assert abs(measured - rate) <= 1 / min(time, 0.01) + 1e-6 * rate


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.4, "999 B"),
        (1000, "1.00 kB"),
        (1050, "1.05 kB"),
        (23_400_000, "23.4 MB"),
        (234_000_000, "234 MB"),
        (999_950, "1.00 MB"),
        (9_996_000, "10.0 MB"),
        (99_960_000, "100 MB"),
        (1.05e9, "1.05 GB"),
        (5e15, "5.00 PB"),
    ],
)
def test_short_numbers(number: float, text: str) -> None:
    assert short(number, "B") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (4.24, "4.2s"),
        (9.96, "10s"),
        (59.6, "1m00s"),
        (100, "1m40s"),
        (11_220, "3h07m"),
        (187_200, "2d04h"),
    ],
)
def test_clocks(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_counts() -> None:
    assert count(1_234_567) == "1,234,567"
    assert plural(1, "topic") == "1 topic"
    assert plural(2000, "topic") == "2,000 topics"


def views(*snapshots: Snapshot, following: bool = False) -> View:
    observer = Observer(following=following)
    for one in snapshots[:-1]:
        observer.see(one)
    return observer.see(snapshots[-1])


def test_a_view_of_a_steady_copy() -> None:
    view = views(snapshot(0, 0), snapshot(1, 1000, logical_bytes=500_000), snapshot(2, 2000))
    assert view.percent == 50
    assert view.bytes_per_second == 100_000
    assert view.records_per_second == 1000
    assert view.logical_bytes_per_second is None
    assert view.seconds_left == 2
    assert plain_line(view) == (
        "2.0s · 50.0 % · 100 kB/s · 1.00 k records/s · 200 kB · lag 2,000 · 2.0s left"
    )


def test_the_time_left_goes_by_bytes_where_they_are_known() -> None:
    first, later = snapshot(0, 0, bytes_total=10**6), snapshot(1, 1000, bytes_total=10**6)
    assert views(first, later).seconds_left == 9
    # The estimate is used up although offsets remain: these decide.
    first, later = snapshot(0, 0, bytes_total=50_000), snapshot(1, 1000, bytes_total=50_000)
    assert views(first, later).seconds_left == 3


def test_the_time_left_is_unknown_at_a_standstill_and_zero_at_the_end() -> None:
    assert views(snapshot(0, 500), snapshot(1, 500)).seconds_left is None
    assert views(snapshot(0, 0), snapshot(1, 4000)).seconds_left == 0
    assert views(snapshot(0, 0, offsets_total=0)).seconds_left is None


def test_following_has_a_lag_but_no_end() -> None:
    view = views(snapshot(0, 0), snapshot(1, 4000, lag=17), following=True)
    assert view.percent is None
    assert view.seconds_left is None
    assert "lag 17" in plain_line(view)
    assert "%" not in plain_line(view)


def test_the_slowest_partitions_come_first_and_finished_ones_not_at_all() -> None:
    def seen(second: int) -> Snapshot:
        return snapshot(
            second,
            1000 * second,
            partitions=[
                partition(0, 100 * second),
                partition(1, 10 * second),
                partition(2, 0),
                partition(3, 50 * second),
                partition(4, 1000, state="done"),
                partition(5, 3, state="failed"),
                partition(6, 2, state="stopped"),
                partition(6, 1000),
            ],
        )

    view = views(seen(0), seen(1))
    assert [p.partition for p in view.slowest] == [2, 1, 3]
    assert [p.seconds_left for p in view.slowest] == [None, 99, 19]


def texts(view: View, **changes: Any) -> list[str]:
    fields: dict[str, Any] = {"title": "a → b", "width": 80}
    block = live_block(view, **{**fields, **changes})
    return ["".join(text for text, _ in line) for line in block]


def test_the_live_block() -> None:
    def seen(second: int) -> Snapshot:
        return snapshot(
            second,
            1000 * second,
            logical_bytes=300_000 * second,
            bytes_total=400_000,
            throttle="20MB/s",
            throttle_ms=1500 * second,
            throttled_by="limit",
            partitions_failed=1,
            partitions_done=1,
            partitions=[partition(0, 100 * second), partition(1, 0), partition(2, 7)],
            recoveries=2,
        )

    lines = texts(views(seen(0), seen(1)))
    assert lines == [
        "copying 1.0s  a → b",
        "█" * 12 + "░" * 38 + "  25.0 %  3.0s left",
        "100 kB/s  300 kB/s uncompressed  1.00 k records/s",
        "100 kB of 400 kB · 1,000 records · lag 3,000 · 1 of 3 partitions done · recovered 2×",
        "held back 1.5s so far, now by --throttle · limit 20MB/s",
        "1 partition failed; the others go on",
        "  slow: 1,000 offsets behind, standing still, orders-1",
        "  slow: 993 offsets behind, standing still, orders-2",
        "  slow: 900 offsets behind, 9.0s left, orders-0",
    ]


@given(st.integers(0, 4000), st.integers(20, 300))
def test_the_bar_fits_and_fills(done: int, width: int) -> None:
    bar = texts(views(snapshot(0, 0), snapshot(1, done)), width=width)[1].split(" ")[0]
    assert len(bar) == max(min(width - 30, 60), 10)
    assert bar == "█" * bar.count("█") + "░" * bar.count("░")
    assert (bar.count("░") == 0) == (done == 4000)


def test_a_block_before_the_first_number() -> None:
    start = [snapshot(at, 0, phase="starting", offsets_total=0, lag=0) for at in (0, 1)]
    lines = texts(views(*start))
    assert lines == [
        "starting 1.0s  a → b",
        "waiting for the first batch",
        "0 B · 0 records · lag 0 · 0 of 0 partitions done",
    ]


def test_quotas_are_told_from_the_limit() -> None:
    for throttled_by, words in (
        ("source quota", "the source's quota"),
        ("target quota", "the target's quota"),
        ("limit", "--throttle"),
    ):
        view = views(snapshot(0, 0), snapshot(1, 10, throttled_by=throttled_by, throttle_ms=100))
        assert f"held back by {words}" in plain_line(view)
        assert any(f"now by {words}" in line for line in texts(view))


def test_a_throttle_of_long_ago_is_told_as_such() -> None:
    past = {"throttle": "1MB/s", "throttled_by": "limit", "throttle_ms": 2000}
    view = views(snapshot(0, 0, **past), snapshot(5, 10, **past), snapshot(20, 20, **past))
    assert "held back" not in plain_line(view)
    assert "held back 2.0s so far, not now · limit 1MB/s" in texts(view)


def test_a_limit_is_shown_before_it_holds_anything_back() -> None:
    view = views(snapshot(0, 0), snapshot(1, 10, throttle="50k records/s"))
    assert "limit 50k records/s" in texts(view)
    assert "records/s · " in plain_line(view) and "50k" not in plain_line(view)


def test_auto_is_shown_with_the_rate_it_sets() -> None:
    held = {"throttle": "auto", "throttled_by": "limit", "throttle_bytes": 12_345_678}
    view = views(snapshot(0, 0), snapshot(1, 10, throttle_ms=100, **held))
    assert plain_line(view).endswith("held back by --throttle auto, now 12.3 MB/s")
    assert "held back 0.1s so far, now by --throttle · limit auto, now 12.3 MB/s" in texts(view)
    view = views(snapshot(0, 0), snapshot(1, 10, throttle="auto"))
    assert "limit auto" in texts(view)
    assert "auto" not in plain_line(view)
