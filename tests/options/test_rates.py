"""Rates and timetables: what is accepted, what is refused, and what holds when."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicator.options.rates import (
    AUTO,
    OFF,
    WEEKDAYS,
    Entry,
    Rate,
    Timetable,
    always,
    parse_rate,
    parse_timetable,
    print_rate,
    print_timetable,
)

MB = 1_000_000


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("off", OFF),
        (" OFF ", OFF),
        ("auto", AUTO),
        (" Auto ", AUTO),
        ("20MB/s", Rate(20 * MB)),
        ("20MB", Rate(20 * MB)),
        ("1k", Rate(1024)),
        ("1.5GiB/s", Rate(3 << 29)),
        ("50k records/s", Rate(None, 50_000)),
        ("50K records", Rate(None, 50_000)),
        ("1.5M records/s", Rate(None, 1_500_000)),
        ("1 record/s", Rate(None, 1)),
        ("7records", Rate(None, 7)),
        ("20MB/s,50k records/s", Rate(20 * MB, 50_000)),
        ("50k records/s , 20MB/s", Rate(20 * MB, 50_000)),
    ],
)
def test_rates(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        *("", "fast", "20MB/m", "20MB/s/s", "20Mbit/s", "20MB/s,", "1MB,2MB", "off,20MB/s"),
        *("auto,20MB/s", "20MB/s,auto", "automatic"),
        *("1 records,2 records", "50k rec/s", "1Ti records/s", "-1 records", "1 records/s 2MB/s"),
    ],
)
def test_rates_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a rate such as 20MB/s, 50k records/s or both"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["0", "999B/s", "0/s", "0 records/s", "1MB/s,0.1 records/s"])
def test_a_rate_that_never_finishes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="off takes"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (OFF, "off"),
        (AUTO, "auto"),
        (Rate(20 * MB), "20MB/s"),
        (Rate(1 << 20), "1MiB/s"),
        (Rate(None, 50_000), "50k records/s"),
        (Rate(None, 1500), "1500 records/s"),
        (Rate(20 * MB, 3 * MB), "20MB/s,3M records/s"),
        (Rate(None, 10**15), "1000000G records/s"),
    ],
)
def test_printed_rates(rate: Rate, text: str) -> None:
    assert print_rate(rate) == text


rates = st.builds(
    Rate,
    st.none() | st.integers(1000, 2**63 - 1),
    st.none() | st.integers(1, 2**63 - 1) | st.integers(1, 999).map(lambda n: n * 10**6),
) | st.just(AUTO)


@given(rates)
def test_rates_survive_printing(rate: Rate) -> None:
    assert parse_rate(print_rate(rate)) == rate


entries = st.builds(Entry, st.none() | st.integers(0, 6), st.integers(0, 1439), rates)
timetables = st.lists(
    entries, min_size=1, max_size=12, unique_by=lambda entry: (entry.weekday, entry.minute)
).map(lambda found: Timetable(tuple(found)))


@given(timetables)
def test_timetables_survive_printing(timetable: Timetable) -> None:
    assert parse_timetable(print_timetable(timetable)) == timetable


def test_a_timetable_as_users_write_it() -> None:
    text = "08:00,20MB/s 19:00,off Sat-00:00,200MB/s"
    timetable = parse_timetable(text)
    assert timetable.entries == (
        Entry(None, 480, Rate(20 * MB)),
        Entry(None, 1140, OFF),
        Entry(5, 0, Rate(200 * MB)),
    )
    assert print_timetable(timetable) == text
    spread = "  8:00,20MB/s,50k records/s   sat-00:00,1k records/s\tSUN-12:30,off "
    assert print_timetable(parse_timetable(spread)) == (
        "08:00,20MB/s,50k records/s Sat-00:00,1k records/s Sun-12:30,off"
    )


def test_a_rate_is_a_timetable_of_one() -> None:
    assert parse_timetable("20MB/s") == always(Rate(20 * MB)) == parse_timetable("00:00,20MB/s")
    assert print_timetable(parse_timetable("00:00,20MB/s")) == "20MB/s"
    assert parse_timetable("off") == always(OFF)
    assert print_timetable(parse_timetable("01:00,off")) == "01:00,off"
    assert print_timetable(parse_timetable("08:00,Auto 19:00,off")) == "08:00,auto 19:00,off"
    assert print_timetable(parse_timetable("Mon-00:00,off")) == "Mon-00:00,off"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("20MB/s 08:00,off", "expected a timetable such as"),
        ("08:00", "expected a timetable such as"),
        ("08:00 20MB/s", "expected a timetable such as"),
        ("08:00,20MB/s 19:00", "expected a rate such as"),
        ("08:00,20MB/s19:00,off", "expected a rate such as"),
        ("08:00,", "expected a rate such as"),
        ("24:00,off", "between 00:00 and 23:59"),
        ("08:60,off", "between 00:00 and 23:59"),
        ("Someday-08:00,off", "Mon Tue Wed Thu Fri Sat Sun"),
        ("08:00,off 08:00,1MB/s", "the same time"),
        ("Sat-08:00,off sat-8:00,off", "the same time"),
        ("08:00,1B/s", "off takes"),
    ],
)
def test_timetables_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_timetable(text)


def minute_by_minute(timetable: Timetable) -> list[Rate]:
    """The oracle: live through two weeks, minute by minute, and keep what the second one had."""
    present: Rate | None = None
    week: list[Rate] = []
    for minute in range(2 * 7 * 24 * 60):
        day, clock = divmod(minute % (7 * 24 * 60), 24 * 60)
        due = [entry for entry in timetable.entries if entry.minute == clock]
        for weekday in (None, day):
            for entry in due:
                if entry.weekday == weekday:
                    present = entry.rate
        if minute >= 7 * 24 * 60:
            assert present is not None
            week.append(present)
    return week


MONDAY = datetime(2024, 1, 1)


@settings(deadline=None, max_examples=50)
@given(timetables, st.lists(st.integers(0, 7 * 24 * 60 * 60 - 1), max_size=20))
def test_the_rate_and_its_next_change_at_any_time(timetable: Timetable, times: list[int]) -> None:
    week = minute_by_minute(timetable)
    corners = [e.minute * 60 + (e.weekday or 0) * 86400 for e in timetable.entries]
    for second in [*times, *corners]:
        moment = MONDAY + timedelta(seconds=second, days=7 * (second % 5))
        minute = second // 60
        assert timetable.rate_at(moment) == week[minute]
        found = timetable.next_change(moment)
        later = range(1, len(week))
        ahead = next((n for n in later if week[(minute + n) % len(week)] != week[minute]), None)
        if ahead is None:
            assert found is None
        else:
            assert found == moment.replace(second=0) + timedelta(minutes=ahead)


def test_before_the_first_entry_of_the_week_the_last_one_holds() -> None:
    timetable = parse_timetable("Wed-12:00,1MB/s Fri-18:00,9MB/s")
    assert timetable.rate_at(MONDAY) == Rate(9 * MB)
    assert timetable.next_change(MONDAY) == datetime(2024, 1, 3, 12)
    assert timetable.rate_at(datetime(2024, 1, 3, 12)) == Rate(1 * MB)
    assert timetable.next_change(datetime(2024, 1, 5, 18)) == datetime(2024, 1, 10, 12)


def test_an_entry_with_a_weekday_wins_over_one_without() -> None:
    timetable = parse_timetable("Sat-08:00,9MB/s 08:00,1MB/s 20:00,2MB/s")
    for day, name in enumerate(WEEKDAYS):
        moment = MONDAY + timedelta(days=day, hours=9)
        assert timetable.rate_at(moment) == Rate((9 if name == "Sat" else 1) * MB)
