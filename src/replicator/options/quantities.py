"""Quantities as users write them: sizes, durations and points in time.

Each kind has ``parse_*`` and ``print_*``. Printing is exact: parsing the printed text gives the
same value again. Parsers raise ``ValueError`` with a text that shows what would have been right;
they never repeat the text they were given, because the caller knows whether it may be shown.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from copycore.batch import CODECS
from copycore.codec import level_range

_PREFIXES = ["", "K", "M", "G", "T", "P"]
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKmMgGtTpP]?)(i?)(B?)")
_DURATION_UNITS = {
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[wdhms])")

MAX_OFFSET = 2**63 - 1  # Kafka offsets, sizes and times are int64


def parse_size(text: str) -> int:
    """Bytes. ``kB MB GB TB`` are powers of 1000, ``KiB MiB …`` and a bare ``K M G T`` of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a size such as 64MiB, 500kB or 1048576")
    number, prefix, binary, unit = match.groups()
    if binary and not prefix:
        raise ValueError("expected a size such as 64MiB, 500kB or 1048576")
    # `64M` is binary as in rclone, dd and the JVM's -Xmx; only an explicit MB is decimal.
    base = 1000 if prefix and unit and not binary else 1024
    power = _PREFIXES.index(prefix.upper())
    value = int(Decimal(number) * base**power)
    if value > MAX_OFFSET:
        raise ValueError("the size is larger than 8 EiB")
    return value


def print_size(size: int) -> str:
    """The shortest exact form: 67108864 is ``64MiB``, 20000000 is ``20MB``, 1001 is ``1001B``."""
    best = f"{size}B"
    for power, prefix in enumerate(_PREFIXES[1:], start=1):
        for base, infix in ((1024, "i"), (1000, "")):
            if size and size % base**power == 0:
                letter = prefix if infix else prefix.replace("K", "k")
                candidate = f"{size // base**power}{letter}{infix}B"
                best = min(best, candidate, key=lambda form: sum(map(str.isdigit, form)))
    return best


class Compression(NamedTuple):
    """A codec by its id in a batch's attributes, −1 for the source's; None is its own level."""

    codec: int
    level: int | None


def parse_compression(text: str) -> Compression:
    """``source``, a codec's name, or ``CODEC:LEVEL``."""
    name, colon, number = text.partition(":")
    names = ["source", *CODECS]
    if name not in names:
        raise ValueError(f"expected {', '.join(names[:-1])} or {names[-1]}")
    codec = names.index(name) - 1
    if not colon:
        return Compression(codec, None)
    levels = level_range(codec) if codec > 0 else None
    if levels is None:
        raise ValueError(f"{name} has no levels")
    low, high = levels
    if not (re.fullmatch("-?[0-9]{1,3}", number) and low <= int(number) <= high):
        raise ValueError(f"expected a level from {low} to {high} for {name}")
    return Compression(codec, int(number))


def print_compression(compression: Compression) -> str:
    name = "source" if compression.codec < 0 else CODECS[compression.codec]
    return name if compression.level is None else f"{name}:{compression.level}"


def parse_duration(text: str) -> int:
    """Milliseconds: ``90s``, ``1h30m``, ``1.5h``, ``250ms``, ``2d``, ``1w``; larger units first."""
    units = list(_DURATION_UNITS)
    position, smallest, total = 0, -1, Decimal(0)
    text = text.strip()
    while match := _DURATION_PART.match(text, position):
        rank = units.index(match[2])
        if rank <= smallest:
            break
        smallest, position = rank, match.end()
        total += Decimal(match[1]) * _DURATION_UNITS[match[2]]
    if not text or position != len(text):
        raise ValueError("expected a duration such as 90s, 15m, 1h30m or 2d")
    return int(total)


def print_duration(milliseconds: int) -> str:
    """The exact form in descending units: 5400000 is ``1h30m``, 0 is ``0s``."""
    parts = []
    for unit, size in _DURATION_UNITS.items():
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_timestamp(text: str, *, now: float | None = None) -> int:
    """Milliseconds since 1970, as in Kafka records.

    Takes ISO 8601 (without an offset it is UTC, as in Kafka's own ``--to-datetime``), epoch
    milliseconds, ``now``, and ``-2h`` for two hours before ``now`` (seconds, by default the clock).
    """
    text = text.strip()
    now_ms = int((time.time() if now is None else now) * 1000)
    if text == "now":
        return now_ms
    if text.startswith("-"):
        milliseconds = now_ms - parse_duration(text[1:])
    elif text.isascii() and text.isdigit():
        # 20240501 and 1714521600 are a day and epoch seconds; read as milliseconds both would
        # silently mean January 1970.
        if 8 <= len(text) <= 10:
            raise ValueError(
                "a plain number means milliseconds since 1970 (13 digits today); "
                "write 2024-05-01 for a day, and append 000 to seconds"
            )
        milliseconds = int(text)
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                "expected a time such as 2024-05-01T12:00:00Z, 1714564800000 (ms) or -2h"
            ) from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
        milliseconds = (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000
    if not 0 <= milliseconds <= MAX_OFFSET:
        raise ValueError("the time lies outside what Kafka can store (1970 and later)")
    return milliseconds


def print_timestamp(milliseconds: int) -> str:
    """ISO 8601 in UTC with milliseconds; plain milliseconds beyond the year 9999."""
    seconds, rest = divmod(milliseconds, 1000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}" + (f".{rest:03d}" if rest else "") + "Z"
