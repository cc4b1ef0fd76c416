"""Which partitions, from where and up to where: the typed answers the copy is built from.

As in ``quantities``, each kind has ``parse_*`` and an exact ``print_*``; parsers raise
``ValueError`` without repeating what they were given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from replicator.errors import UsageError
from replicator.options.quantities import MAX_OFFSET, parse_timestamp, print_timestamp
from replicator.terms import valid_topic_name

Range = tuple[int, int]  # partitions from the first to the second, both included

_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")
_MAX_PARTITION = 2**31 - 1


class Partitions(Struct, frozen=True):
    """A choice of partitions: for every topic, and for single topics in its place.

    ``everywhere`` None and a topic not in ``topics`` means all partitions of that topic.
    """

    everywhere: tuple[Range, ...] | None = None
    topics: Mapping[str, tuple[Range, ...]] = {}

    def select(self, topic: str, count: int) -> list[int]:
        """The chosen partitions of a topic that has ``count`` of them, ascending.

        A choice for every topic takes what is there. One that names the topic must exist:
        ``UsageError`` otherwise, since a partition asked for by name is a partition expected.
        """
        ranges = self.topics.get(topic)
        if ranges is None:
            ranges = ((0, count - 1),) if self.everywhere is None else self.everywhere
        elif ranges[-1][1] >= count:
            raise UsageError(
                f"topic {topic} has no partition {max(ranges[-1][0], count)}: it has {count}",
                hint="name existing partitions in --partitions, counted from 0",
            )
        return [p for low, high in ranges for p in range(low, min(high, count - 1) + 1)]


def parse_partitions(text: str) -> Partitions:
    """``0-3,7`` for every topic; ``orders:0-3,7`` from there on for that topic alone."""
    everywhere: list[Range] = []
    topics: dict[str, list[Range]] = {}
    current = everywhere
    for item in text.split(","):
        topic, colon, numbers = item.strip().rpartition(":")
        if colon:
            if not valid_topic_name(topic):
                raise ValueError("the part before ':' is not a topic name")
            current = topics.setdefault(topic, [])
        match = _RANGE.fullmatch(numbers.strip())
        if match is None:
            raise ValueError("expected partitions such as 0-3,7 or orders:0-3,payments:5")
        low = int(match[1])
        high = int(match[2]) if match[2] else low
        if low > high or high > _MAX_PARTITION:
            raise ValueError("a range of partitions goes from the lower to the higher number")
        current.append((low, high))
    return Partitions(
        everywhere=_merged(everywhere) or None,
        topics={topic: _merged(ranges) for topic, ranges in topics.items()},
    )


def print_partitions(partitions: Partitions) -> str:
    items = [_print_ranges(partitions.everywhere)] if partitions.everywhere else []
    items += [f"{topic}:{_print_ranges(ranges)}" for topic, ranges in partitions.topics.items()]
    return ",".join(items)


def _merged(ranges: list[Range]) -> tuple[Range, ...]:
    merged: list[Range] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def _print_ranges(ranges: tuple[Range, ...]) -> str:
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


class Earliest(Struct, frozen=True, tag="earliest"):
    """From the oldest record the source still has."""


class Latest(Struct, frozen=True, tag="latest"):
    """From the end as it is when the copy starts: only what arrives later."""


class AtTime(Struct, frozen=True, tag="time"):
    """The first offset whose record is at or after this time; as an end it is exclusive."""

    timestamp: int  # milliseconds since 1970


class AtOffsets(Struct, frozen=True, tag="offsets"):
    """From the offsets of a file, each the first to be copied."""

    path: str
    offsets: Mapping[str, Mapping[int, int]]

    def offset(self, topic: str, partition: int) -> int:
        """``UsageError`` for a partition the file leaves out: a guess would lose or repeat data."""
        try:
            return self.offsets[topic][partition]
        except KeyError:
            raise UsageError(
                f"offsets file {self.path} has no offset for {topic}-{partition}",
                hint="add it to the file, or leave that partition out with --partitions",
            ) from None


class Current(Struct, frozen=True, tag="current"):
    """Up to the high watermarks seen at start: transactions open then are waited for."""


class Stable(Struct, frozen=True, tag="stable"):
    """Up to the last stable offsets seen at start: open transactions are left out."""


class Forever(Struct, frozen=True, tag="forever"):
    """Never done: goes on with what arrives until it is stopped."""


Start = Earliest | Latest | AtTime | AtOffsets
Until = Current | Stable | AtTime | Forever


def parse_start(text: str) -> Start:
    """A word, a time, or else the path of an offsets file (``./2024`` if it looks like a time)."""
    if text == "earliest":
        return Earliest()
    if text == "latest":
        return Latest()
    try:
        return AtTime(parse_timestamp(text))
    except ValueError as not_a_time:
        path = Path(text)
        if path.is_file():
            return read_offsets(path)
        if "/" in text or path.suffix in (".json", ".txt"):
            raise ValueError("no such offsets file") from None
        raise ValueError(f"expected earliest, latest, a time or a file: {not_a_time}") from None


def print_start(start: Start) -> str:
    match start:
        case Earliest():
            return "earliest"
        case Latest():
            return "latest"
        case AtTime():
            return print_timestamp(start.timestamp)
        case AtOffsets():
            return start.path


def parse_until(text: str) -> Until:
    if text == "current":
        return Current()
    if text == "stable":
        return Stable()
    if text == "forever":
        return Forever()
    try:
        return AtTime(parse_timestamp(text))
    except ValueError as error:
        raise ValueError(f"expected current, stable, forever or a time: {error}") from None


def print_until(until: Until) -> str:
    match until:
        case Current():
            return "current"
        case Stable():
            return "stable"
        case Forever():
            return "forever"
        case AtTime():
            return print_timestamp(until.timestamp)


def read_offsets(path: Path) -> AtOffsets:
    """Reads ``TOPIC PARTITION OFFSET`` lines (rpk's ``--to-file``) or JSON.

    JSON is either kafka-delete-records' ``{"partitions": [{"topic", "partition", "offset"}]}`` or
    ``{topic: {partition: offset}}``. ``ValueError`` names the line or entry that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"the offsets file cannot be read: {reason}") from None
    entries = _json_entries(text) if text.lstrip().startswith("{") else _line_entries(text)
    offsets: dict[str, dict[int, int]] = {}
    for where, topic, partition, offset in entries:
        if not valid_topic_name(topic):
            raise ValueError(f"{where}: not a topic name")
        if not 0 <= partition <= _MAX_PARTITION or not 0 <= offset <= MAX_OFFSET:
            raise ValueError(f"{where}: partition and offset are counted from 0")
        if partition in offsets.setdefault(topic, {}):
            raise ValueError(f"{where}: {topic}-{partition} is there a second time")
        offsets[topic][partition] = offset
    if not offsets:
        raise ValueError("the offsets file names no partition")
    return AtOffsets(str(path), offsets)


def _line_entries(text: str) -> Iterator[tuple[str, str, int, int]]:
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        if len(fields) != 3 or not all(f.isascii() and f.isdigit() for f in fields[1:]):
            raise ValueError(f"line {number} of the offsets file: expected TOPIC PARTITION OFFSET")
        yield f"line {number} of the offsets file", fields[0], int(fields[1]), int(fields[2])


def _json_entries(text: str) -> Iterator[tuple[str, str, int, int]]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the offsets file is not JSON: {error}") from None
    listed = document.get("partitions")
    rows: list[tuple[object, object, object]] = []
    if isinstance(listed, list):
        for entry in listed:
            known = entry if isinstance(entry, dict) else {}
            rows.append((known.get("topic"), known.get("partition"), known.get("offset")))
    else:
        for topic, partitions in document.items():
            if not isinstance(partitions, dict):
                raise ValueError(f"offsets file, {topic}: expected {{partition: offset}}")
            for key, offset in partitions.items():
                rows.append((topic, int(key) if key.isascii() and key.isdigit() else None, offset))
    for number, (topic, partition, offset) in enumerate(rows, start=1):
        if not isinstance(topic, str) or type(partition) is not int or type(offset) is not int:
            raise ValueError(f"offsets file, entry {number}: expected topic, partition and offset")
        yield f"offsets file, entry {number}", topic, partition, offset
