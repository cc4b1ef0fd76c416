"""The kinds of values that options take: how each is written, checked and printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

from copycore.partitioner import KINDS as PARTITIONERS
from replicator.options.quantities import (
    MAX_OFFSET,
    parse_compression,
    parse_duration,
    parse_size,
    print_compression,
    print_duration,
    print_size,
)
from replicator.options.rates import Timetable, parse_timetable, print_timetable
from replicator.options.selection import (
    parse_partitions,
    parse_start,
    parse_until,
    print_partitions,
    print_start,
    print_until,
)

Isolation = Literal["read_committed", "read_uncommitted"]
Merge = Literal["auto", "always", "never"]

KEEP = PARTITIONERS[0]  # by which records stay in their partition

# The limits. One lane is one thread; a broker serves one request per connection at a time.
MAX_LANES = 64
MAX_WEIGHT = 1000
MAX_LINGER = 60_000  # ms
LEAST_DURATION = 1000  # ms
LEAST_MEMORY = 8 << 20  # bytes
LEAST_BATCH = 1 << 10  # bytes


class ValueType(Struct, frozen=True, kw_only=True):
    """How one kind of value is written, checked and printed.

    ``parse`` raises ``ValueError`` saying what was expected, never what was given.
    ``parse(print(value)) == value`` for every value that ``parse`` returns.
    """

    metavar: str
    kind: Literal["value", "switch", "count"] = "value"  # a switch is given or not
    parse: Callable[[str], Any]
    print: Callable[[Any], str] = str
    grammar: str = ""  # for the docs page; empty where the metavar says it all
    choices: tuple[str, ...] = ()
    complete: Literal["", "file"] = ""
    separator: Literal["words", "lines"] = "words"  # of several values in one variable


def one_of(*choices: str) -> ValueType:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected {', '.join(choices[:-1])} or {choices[-1]}")
        return text

    return ValueType(metavar="|".join(choices), parse=parse, choices=choices)


def _at_least(
    lowest: int, parse: Callable[[str], int], show: Callable[[int], str]
) -> Callable[[str], int]:
    def checked(text: str) -> int:
        value = parse(text)
        if value < lowest:
            raise ValueError(f"the least is {show(lowest)}")
        return value

    return checked


def _at_most(
    highest: int, parse: Callable[[str], int], show: Callable[[int], str]
) -> Callable[[str], int]:
    def checked(text: str) -> int:
        value = parse(text)
        if value > highest:
            raise ValueError(f"the most is {show(highest)}")
        return value

    return checked


def between(lowest: int, highest: int) -> ValueType:
    """Whole numbers, both ends included."""

    def parse(text: str) -> int:
        number = _count(text)
        if not lowest <= number <= highest:
            raise ValueError(f"expected a number from {lowest} to {highest}")
        return number

    return ValueType(metavar="N", parse=parse)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError("expected a whole number")
    return int(text)


def _records(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_OFFSET):
        raise ValueError("expected a whole number")
    return int(text)


def _duration(text: str) -> int:
    duration = parse_duration(text)
    if duration > MAX_OFFSET:
        raise ValueError("the duration is longer than Kafka has milliseconds for")
    return duration


def _lanes(text: str) -> int:
    if text == "auto":
        return 0
    lanes = _count(text)
    if not 1 <= lanes <= MAX_LANES:
        raise ValueError(f"expected auto or a number from 1 to {MAX_LANES}")
    return lanes


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a topic name, and as a regular expression: {error}") from None
    if not text:
        raise ValueError("expected a topic name or a regular expression")
    return text


def _partitioner(text: str) -> str:
    if text in PARTITIONERS or re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
        return text
    raise ValueError(f"expected {', '.join(PARTITIONERS)} or module:function")


def _fixed_rates(text: str) -> Timetable:
    timetable = parse_timetable(text)
    if any(entry.rate.auto for entry in timetable.entries):
        raise ValueError("auto is for --throttle alone, which holds for all topics together")
    return timetable


def _weight(text: str) -> int:
    weight = _count(text)
    if not 1 <= weight <= MAX_WEIGHT:
        raise ValueError(f"expected a weight from 1 to {MAX_WEIGHT}")
    return weight


def _of_topics(value: ValueType) -> ValueType:
    """A value for the topics of a pattern."""

    def parse(text: str) -> tuple[str, Any]:
        pattern, equals, rest = text.rpartition("=")
        if not equals:
            raise ValueError(f"expected TOPIC={value.metavar}")
        return _pattern(pattern), value.parse(rest)

    def show(pair: tuple[str, Any]) -> str:
        return f"{pair[0]}={value.print(pair[1])}"

    # A rate may have blanks in it.
    return ValueType(metavar=f"TOPIC={value.metavar}", parse=parse, print=show, separator="lines")


def _override(text: str) -> str:
    key, equals, _ = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9._-]+", key.strip()):
        raise ValueError("expected KEY=VALUE with a Kafka client property as KEY")
    return text


SIZE = ValueType(
    metavar="SIZE",
    parse=_at_least(LEAST_MEMORY, parse_size, print_size),
    print=print_size,
    grammar="A number with a unit: `kB`, `MB`, `GB` (powers of 1000), `KiB`, `MiB`, `GiB` or a "
    "bare `K`, `M`, `G` (powers of 1024). Without a unit: bytes.",
)
RATE = ValueType(
    metavar="RATE",
    parse=parse_timetable,
    print=print_timetable,
    grammar="A SIZE a second, as `20MB/s` or `1.5GiB/s` (`/s` may be left out); records a second, "
    "as `50k records/s` (`k`, `M`, `G` are powers of 1000); both with a comma between them; `off`; "
    "or, for all topics together, `auto`. Or a timetable, in local time: "
    "`08:00,auto 19:00,off Sat-00:00,200MB/s`. An entry "
    "counts from its time on until the next one, on every day unless it names a weekday (`Mon` to "
    "`Sun`); before the first one of the week the last one holds.",
)
TOPIC_RATE = _of_topics(ValueType(metavar="RATE", parse=_fixed_rates, print=print_timetable))
TOPIC_WEIGHT = _of_topics(ValueType(metavar="N", parse=_weight))
START = ValueType(
    metavar="START",
    parse=parse_start,
    print=print_start,
    complete="file",
    grammar="`earliest`, `latest`, a TIME, or an offsets file: lines of `TOPIC PARTITION OFFSET` "
    "(as rpk writes them; `#` starts a comment) or JSON, either `{topic: {partition: offset}}` or "
    'the `{"partitions": [{"topic": …, "partition": …, "offset": …}]}` of kafka-delete-records. '
    "Each offset is the first to be copied, and every selected partition must be in the file.",
)
UNTIL = ValueType(
    metavar="UNTIL",
    parse=parse_until,
    print=print_until,
    grammar="`current`, `stable`, `forever` or a TIME, which is exclusive. A TIME is ISO 8601 "
    "(`2024-05-01T12:00:00Z`; UTC unless it says otherwise), milliseconds since 1970, `now`, or "
    "`-2h`, `-1h30m`, `-7d` before now.",
)
PARTITIONS = ValueType(
    metavar="LIST",
    parse=parse_partitions,
    print=print_partitions,
    grammar="Numbers and ranges, both ends included: `0-3,7` for every topic; after `orders:` for "
    "that topic alone, as in `0-3,orders:5,7`. A topic not covered is copied whole.",
)
PATTERN = ValueType(
    metavar="TOPIC",
    parse=_pattern,
    grammar="A topic's name, or a regular expression that must match the whole name. An existing "
    "name is always meant as a name. Internal topics are never copied: those that begin with `__` "
    "or `.`, `copystream-*.internal`, and MirrorMaker 2's `mm2*.internal` and "
    "`*.checkpoints.internal`.",
)
BOOTSTRAP = ValueType(
    metavar="HOST:PORT[,…]",
    parse=str,
    grammar="Any brokers of the cluster; the others are found through them.",
)
FILE = ValueType(metavar="FILE", parse=str, complete="file")
OVERRIDE = ValueType(
    metavar="KEY=VALUE",
    parse=_override,
    separator="lines",
    grammar="A Kafka client property under its Java name, as in `client.properties`. "
    "It wins over the file; `--source` and `--target` win over both.",
)
COMPRESSION = ValueType(
    metavar="CODEC[:LEVEL]",
    parse=parse_compression,
    print=print_compression,
    grammar="`source`, `none`, `gzip`, `snappy`, `lz4` or `zstd`; after a colon the level of gzip "
    "(1 to 9), lz4 (-64 to 12) or zstd (-64 to 22), as in `zstd:6`; below 0 they are faster and "
    "compress less.",
)
BATCH_SIZE = ValueType(
    metavar="SIZE",
    parse=_at_least(LEAST_BATCH, parse_size, print_size),
    print=print_size,
)
LANES = ValueType(metavar="N|auto", parse=_lanes, print=lambda n: str(n or "auto"))
VOLUME = ValueType(metavar="SIZE", parse=_at_least(1, parse_size, print_size), print=print_size)
RECORDS = ValueType(metavar="N", parse=_at_least(1, _records, str))
DURATION = ValueType(
    metavar="DURATION",
    parse=_at_least(LEAST_DURATION, _duration, print_duration),
    print=print_duration,
    grammar="Numbers with a unit, larger units first: `5ms`, `90s`, `15m`, `1h30m`, `2d`, `1w`.",
)
LINGER = ValueType(
    metavar="DURATION", parse=_at_most(MAX_LINGER, _duration, print_duration), print=print_duration
)
FACTOR = ValueType(metavar="N", parse=_at_least(1, _count, str))
PARTITIONER = ValueType(
    metavar="NAME",
    parse=_partitioner,
    grammar=f"{', '.join(f'`{name}`' for name in PARTITIONERS)}, or `module:function`: called for "
    "the records of a batch as `function(keys, offsets, source_partition, count)` with a list of "
    "bytes or None, an array of source offsets and the number of target partitions, it gives a "
    "sequence of as many partitions, and has to decide alike at every run. Records without a key "
    "are spread by their offsets, 1024 at a time.",
)
SWITCH = ValueType(metavar="", kind="switch", parse=str)
VERBOSITY = ValueType(metavar="N", kind="count", parse=_count)

OPTIONS_FILE = ValueType(metavar="FILE", parse=str, complete="file")
