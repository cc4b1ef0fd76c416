"""Limits as users write them: rates of bytes and of records, and timetables of rates.

As in ``quantities``, each kind has ``parse_*`` and an exact ``print_*``; parsers raise
``ValueError`` without repeating what they were given. A timetable reads as rclone's ``--bwlimit``
does, in local time; an entry without a weekday counts on each of them, and one with it wins over
it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from msgspec import Struct

from replicator.options.quantities import MAX_OFFSET, parse_size, print_size

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MINUTES_A_DAY = 24 * 60
MINUTES_A_WEEK = 7 * MINUTES_A_DAY

_RECORDS = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKMG]?)\s*records?(?:/s)?")
_THOUSANDS = ("", "k", "M", "G")
_ENTRY = re.compile(r"(?<!\S)(?:([A-Za-z]+)-)?([0-9]{1,2}):([0-9]{2}),")
_EXPECTED = (
    "expected a rate such as 20MB/s, 50k records/s or both with a comma between, or off or auto"
)
_EXPECTED_TIMES = (
    "expected a timetable such as 08:00,20MB/s 19:00,off Sat-00:00,200MB/s: entries of a time, "
    "with a weekday or without, and a rate"
)


class Rate(Struct, frozen=True):
    """A limit on what is written to the target; None is no limit."""

    bytes: int | None = None  # a second
    records: int | None = None  # a second
    auto: bool = False  # as much as slows no other client down, see ``pace.auto``; alone


class Entry(Struct, frozen=True):
    """From this time of the day on. ``weekday`` counts from Monday, 0; None is every day."""

    weekday: int | None
    minute: int  # of the day
    rate: Rate


class Timetable(Struct, frozen=True):
    """At least one entry. Before the first one of the week the last one holds."""

    entries: tuple[Entry, ...]

    def rate_at(self, moment: datetime) -> Rate:
        """The rate at a local time, of which only weekday, hour and minute count."""
        minute = _minute_of_week(moment)
        slots = self._slots()
        return next(
            (slot.rate for slot in reversed(slots) if slot.minute <= minute), slots[-1].rate
        )

    def next_change(self, moment: datetime) -> datetime | None:
        """When, after a local time, another rate begins; None when there is only one."""
        minute, rate = _minute_of_week(moment), self.rate_at(moment)
        waits = [
            (slot.minute - minute - 1) % MINUTES_A_WEEK + 1
            for slot in self._slots()
            if slot.rate != rate
        ]
        if not waits:
            return None
        return moment.replace(second=0, microsecond=0) + timedelta(minutes=min(waits))

    def _slots(self) -> list[_Slot]:
        """A week's changes in order."""
        found = {
            day * MINUTES_A_DAY + entry.minute: entry.rate
            for entry in self.entries
            if entry.weekday is None
            for day in range(7)
        }
        for entry in self.entries:
            if entry.weekday is not None:
                found[entry.weekday * MINUTES_A_DAY + entry.minute] = entry.rate
        return [_Slot(minute, found[minute]) for minute in sorted(found)]


class _Slot(NamedTuple):
    minute: int  # of the week
    rate: Rate


OFF = Rate()
AUTO = Rate(auto=True)


def always(rate: Rate) -> Timetable:
    return Timetable((Entry(None, 0, rate),))


def parse_rate(text: str) -> Rate:
    """Bytes a second as ``20MB/s`` (a size; ``/s`` may be left out), records as ``50k records/s``
    (k, M, G are powers of 1000), both kinds with a comma between them, ``auto`` or ``off``.
    """
    named = {"off": OFF, "auto": AUTO}.get(text.strip().lower())
    if named is not None:
        return named
    size = count = None
    for part in text.split(","):
        match = _RECORDS.fullmatch(part.strip())
        if match is None:
            if size is not None:
                raise ValueError(_EXPECTED)
            size = _parse_bytes(part.strip())
        else:
            if count is not None:
                raise ValueError(_EXPECTED)
            power = _THOUSANDS.index(match[2].replace("K", "k"))
            count = int(Decimal(match[1]) * 1000**power)
            if not 1 <= count <= MAX_OFFSET:
                raise ValueError("a rate of records is at least 1 records/s; off takes it away")
    return Rate(size, count)


def _parse_bytes(text: str) -> int:
    try:
        rate = parse_size(text.removesuffix("/s"))
    except ValueError:
        raise ValueError(_EXPECTED) from None
    if rate < 1000:
        raise ValueError("a rate below 1kB/s would never finish; off takes the limit away")
    return rate


def print_rate(rate: Rate) -> str:
    if rate.auto:
        return "auto"
    parts = []
    if rate.bytes is not None:
        parts.append(f"{print_size(rate.bytes)}/s")
    if rate.records is not None:
        count, power = rate.records, 0
        while count % 1000 == 0 and power + 1 < len(_THOUSANDS):
            count, power = count // 1000, power + 1
        parts.append(f"{count}{_THOUSANDS[power]} records/s")
    return ",".join(parts) or "off"


def parse_timetable(text: str) -> Timetable:
    """A rate for always, or entries ``[WEEKDAY-]HH:MM,RATE`` with blanks between them."""
    text = text.strip()
    starts = list(_ENTRY.finditer(text))
    if not starts:
        if ":" in text:
            raise ValueError(_EXPECTED_TIMES)
        return always(parse_rate(text))
    if starts[0].start() != 0:
        raise ValueError(_EXPECTED_TIMES)
    entries = tuple(_entries(text, starts))
    if len({(entry.weekday, entry.minute) for entry in entries}) != len(entries):
        raise ValueError("two entries of the timetable are for the same time")
    return Timetable(entries)


def _entries(text: str, starts: list[re.Match[str]]) -> Iterator[Entry]:
    for number, start in enumerate(starts):
        end = starts[number + 1].start() if number + 1 < len(starts) else len(text)
        hour, minute = int(start[2]), int(start[3])
        if hour > 23 or minute > 59:
            raise ValueError("a time of the timetable lies between 00:00 and 23:59")
        weekday = None if start[1] is None else _weekday(start[1])
        yield Entry(weekday, hour * 60 + minute, parse_rate(text[start.end() : end]))


def _weekday(text: str) -> int:
    if text.capitalize() not in WEEKDAYS:
        raise ValueError(f"a weekday of the timetable is one of {' '.join(WEEKDAYS)}")
    return WEEKDAYS.index(text.capitalize())


def print_timetable(timetable: Timetable) -> str:
    first = timetable.entries[0]
    if timetable == always(first.rate):
        return print_rate(first.rate)
    return " ".join(
        ("" if entry.weekday is None else f"{WEEKDAYS[entry.weekday]}-")
        + f"{entry.minute // 60:02d}:{entry.minute % 60:02d},{print_rate(entry.rate)}"
        for entry in timetable.entries
    )


def _minute_of_week(moment: datetime) -> int:
    return moment.weekday() * MINUTES_A_DAY + moment.hour * 60 + moment.minute
