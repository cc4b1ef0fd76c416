"""The one table of options. Flags, ``COPYSTREAM_*`` twins, settings and the docs are made from it.

A default or a limit written anywhere else is a bug.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from msgspec import Struct

from replicator.rates import Timetable, parse_timetable, print_timetable
from replicator.selection import (
    parse_partitions,
    parse_start,
    parse_until,
    print_partitions,
    print_start,
    print_until,
)
from replicator.values import (
    MAX_OFFSET,
    parse_compression,
    parse_duration,
    parse_size,
    print_compression,
    print_duration,
    print_size,
)

ENV_PREFIX = "COPYSTREAM_"


class ValueType(Struct, frozen=True, kw_only=True):
    """How one kind of value is written, checked and printed.

    ``parse`` raises ``ValueError`` saying what was expected, never what was given.
    ``parse(print(value)) == value`` for every value that ``parse`` returns.
    """

    metavar: str
    parse: Callable[[str], Any]
    print: Callable[[Any], str] = str
    grammar: str = ""  # for the docs page; empty where the metavar says it all
    choices: tuple[str, ...] = ()
    complete: Literal["", "file"] = ""
    separator: Literal["words", "lines"] = "words"  # of several values in one variable


class Option(Struct, frozen=True, kw_only=True):
    """One row. ``name`` is the key everything else is derived from."""

    name: str
    flags: tuple[str, ...] = ()  # none: the command's argument
    kind: Literal["value", "switch", "count"] = "value"
    value: ValueType
    default: str | None = None  # as a user would type it
    default_note: str = ""  # what happens without a value, where no default can be typed
    repeat: bool = False
    required: bool = False
    secret: bool = False  # never repeated in messages, logs or JSON
    reread: bool = False  # SIGHUP reads it again from the file of --config
    field: str = ""  # of the settings; empty for what only concerns the command line
    group: str
    commands: tuple[str, ...]
    help: str

    @property
    def env(self) -> str:
        return ENV_PREFIX + self.name.upper().replace("-", "_")

    @property
    def dest(self) -> str:
        """The key of the parsed value in what a command receives."""
        return self.name.replace("-", "_")

    @property
    def parsed_default(self) -> Any:
        if self.repeat:
            return ()
        return None if self.default is None else self.value.parse(self.default)


def options_of(command: str) -> list[Option]:
    return [option for option in OPTIONS if command in option.commands]


def _one_of(*choices: str) -> ValueType:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected {', '.join(choices[:-1])} or {choices[-1]}")
        return text

    return ValueType(metavar="|".join(choices), parse=parse, choices=choices)


def _at_least(lowest: int, parse: Callable[[str], int], shown: str) -> Callable[[str], int]:
    def checked(text: str) -> int:
        value = parse(text)
        if value < lowest:
            raise ValueError(f"the least is {shown}")
        return value

    return checked


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


MAX_WEIGHT = 1000
PARTITIONERS = ("keep", "murmur2", "consistent", "fnv1a", "modulo")
MAX_LANES = 64  # one lane is one thread; a broker serves one request per connection at a time

SIZE = ValueType(
    metavar="SIZE",
    parse=_at_least(8 << 20, parse_size, "8MiB"),
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
    grammar="`current`, `forever` or a TIME, which is exclusive. A TIME is ISO 8601 "
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
    "name is always meant as a name. Patterns never match internal topics.",
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
    grammar="`source`, `none`, `gzip`, `snappy`, `lz4` or `zstd`; behind a colon the level of gzip "
    "(1 to 9), lz4 (0 to 12) or zstd (1 to 22), as in `zstd:6`.",
)
BATCH_SIZE = ValueType(
    metavar="SIZE",
    parse=_at_least(1 << 10, parse_size, "1KiB"),
    print=print_size,
)
LANES = ValueType(metavar="N|auto", parse=_lanes, print=lambda n: str(n or "auto"))
VOLUME = ValueType(metavar="SIZE", parse=_at_least(1, parse_size, "1B"), print=print_size)
RECORDS = ValueType(metavar="N", parse=_at_least(1, _records, "1"))
DURATION = ValueType(
    metavar="DURATION",
    parse=_at_least(1000, _duration, "1s"),
    print=print_duration,
    grammar="Numbers with a unit, larger units first: `90s`, `15m`, `1h30m`, `2d`, `1w`.",
)
FACTOR = ValueType(metavar="N", parse=_at_least(1, _count, "1"))
PARTITIONER = ValueType(
    metavar="NAME",
    parse=_partitioner,
    grammar="`keep`, `murmur2`, `consistent`, `fnv1a`, `modulo`, or `module:function`: called for "
    "the records of a batch as `function(keys, offsets, source_partition, count)` with a list of "
    "bytes or None, an array of source offsets and the number of target partitions, it gives a "
    "sequence of as many partitions, and has to decide alike for ever. Records without a key are "
    "spread by their offsets, 1024 at a time.",
)
SWITCH = ValueType(metavar="", parse=str)
VERBOSITY = ValueType(metavar="N", parse=_count)

OPTIONS_FILE = ValueType(metavar="FILE", parse=str, complete="file")

CONFIG = "config"  # the option that names the file with others

CLUSTERS = "Clusters"
WHAT = "What to copy"
HOW = "How to copy"
OUTPUT = "Output"

OPTIONS: Sequence[Option] = (
    Option(
        name="topics",
        value=PATTERN,
        repeat=True,
        required=True,
        field="topics",
        group=WHAT,
        commands=("copy",),
        help="Topics to copy: names, or regular expressions that match a whole name.",
    ),
    Option(
        name="source",
        flags=("--source",),
        value=BOOTSTRAP,
        default_note="bootstrap.servers of --source-config",
        field="source",
        group=CLUSTERS,
        commands=("copy",),
        help="Cluster to read from.",
    ),
    Option(
        name="target",
        flags=("--target",),
        value=BOOTSTRAP,
        default_note="bootstrap.servers of --target-config",
        field="target",
        group=CLUSTERS,
        commands=("copy",),
        help="Cluster to write to.",
    ),
    Option(
        name="source-config",
        flags=("--source-config",),
        value=FILE,
        field="source",
        group=CLUSTERS,
        commands=("copy",),
        help="client.properties for the source.",
    ),
    Option(
        name="target-config",
        flags=("--target-config",),
        value=FILE,
        field="target",
        group=CLUSTERS,
        commands=("copy",),
        help="client.properties for the target.",
    ),
    Option(
        name="source-x",
        flags=("--source-X",),
        value=OVERRIDE,
        repeat=True,
        secret=True,
        field="source",
        group=CLUSTERS,
        commands=("copy",),
        help="One client property of the source. Other users of this machine can read command "
        "lines: give secrets in the file or the environment.",
    ),
    Option(
        name="target-x",
        flags=("--target-X",),
        value=OVERRIDE,
        repeat=True,
        secret=True,
        field="target",
        group=CLUSTERS,
        commands=("copy",),
        help="One client property of the target.",
    ),
    Option(
        name="exclude",
        flags=("--exclude",),
        value=PATTERN,
        repeat=True,
        field="exclude",
        group=WHAT,
        commands=("copy",),
        help="Topics to leave out; wins over TOPIC.",
    ),
    Option(
        name="partitions",
        flags=("--partitions",),
        value=PARTITIONS,
        default_note="all",
        field="partitions",
        group=WHAT,
        commands=("copy",),
        help="Only these partitions, such as 0-3,7 or orders:0-3.",
    ),
    Option(
        name="from",
        flags=("--from",),
        value=START,
        default="earliest",
        field="start",
        group=WHAT,
        commands=("copy",),
        help="Where a first copy begins: earliest, latest, a time or an offsets file. A copy begun "
        "earlier goes on where it stopped instead.",
    ),
    Option(
        name="until",
        flags=("--until",),
        value=UNTIL,
        default="current",
        field="until",
        group=WHAT,
        commands=("copy",),
        help="Where it ends: current (the end seen at start), a time, or forever.",
    ),
    Option(
        name="isolation",
        flags=("--isolation",),
        value=_one_of("read_committed", "read_uncommitted"),
        default="read_committed",
        field="isolation",
        group=WHAT,
        commands=("copy",),
        help="read_committed leaves out aborted and open transactions; read_uncommitted copies "
        "their records as ordinary ones.",
    ),
    Option(
        name="lanes",
        flags=("--lanes",),
        value=LANES,
        default="auto",
        field="lanes",
        group=HOW,
        commands=("copy",),
        help="Worker threads, each with its own connections and partitions.",
    ),
    Option(
        name="memory",
        flags=("--memory",),
        value=SIZE,
        default="64MiB",
        field="memory",
        group=HOW,
        commands=("copy",),
        help="Budget for data fetched but not yet acknowledged by the target, all lanes together.",
    ),
    Option(
        name="throttle",
        flags=("--throttle",),
        value=RATE,
        default="off",
        reread=True,
        field="throttle",
        group=HOW,
        commands=("copy",),
        help="Highest rate of bytes or records written to the target, for good or by the time of "
        "day. auto gives way to others who write there: when requests take longer, when a quota "
        "makes the copy wait, when replicas fall behind; off is full speed. Topics have equal "
        "parts of the rate, and so have a topic's partitions.",
    ),
    Option(
        name="throttle-topic",
        flags=("--throttle-topic",),
        value=TOPIC_RATE,
        repeat=True,
        reread=True,
        field="throttle_topics",
        group=HOW,
        commands=("copy",),
        help="Highest rate of each of these topics, within that of the whole. The first pattern "
        "that fits a topic counts.",
    ),
    Option(
        name="weight",
        flags=("--weight",),
        value=TOPIC_WEIGHT,
        repeat=True,
        reread=True,
        field="weights",
        group=HOW,
        commands=("copy",),
        help="Give each of these topics N parts of --throttle where others have one.",
    ),
    Option(
        name="partitioner",
        flags=("--partitioner",),
        value=PARTITIONER,
        default="keep",
        field="partitioner",
        group=HOW,
        commands=("copy",),
        help="Which partition of the target topic a record goes to: keep leaves it in its own; "
        "murmur2 is Java's choice by key, consistent and fnv1a are librdkafka's; modulo takes the "
        "source's partition modulo their number; module:function asks Python. The order of the "
        "records of a source partition is kept in each.",
    ),
    Option(
        name="target-partitions",
        flags=("--target-partitions",),
        value=FACTOR,
        default_note="the source's",
        field="target_partitions",
        group=HOW,
        commands=("copy",),
        help="Partitions of a target topic that is created; needs another --partitioner than keep.",
    ),
    Option(
        name="merge",
        flags=("--merge",),
        value=_one_of("auto", "always", "never"),
        default="auto",
        field="merge",
        group=HOW,
        commands=("copy",),
        help="Whether small batches become larger ones: auto where that costs less than what it "
        "saves the target. Other batches go through unchanged, unless they cannot.",
    ),
    Option(
        name="batch-bytes",
        flags=("--batch-bytes",),
        value=BATCH_SIZE,
        default="512KiB",
        field="batch_bytes",
        group=HOW,
        commands=("copy",),
        help="Size of the batches made here, before compression; never above the target's "
        "max.message.bytes.",
    ),
    Option(
        name="compression",
        flags=("--compression",),
        value=COMPRESSION,
        default="source",
        field="compression",
        group=HOW,
        commands=("copy",),
        help="Compress everything anew with this codec. source keeps each batch's own, so that "
        "most batches need not be opened.",
    ),
    Option(
        name="check-crc",
        flags=("--check-crc",),
        kind="switch",
        value=SWITCH,
        field="check_crc",
        group=HOW,
        commands=("copy",),
        help="Verify every batch here too and name a damaged one. Without it the target's own "
        "check still refuses damage.",
    ),
    Option(
        name="replication-factor",
        flags=("--replication-factor",),
        value=FACTOR,
        default_note="the source's, at most the target's brokers",
        field="replication_factor",
        group=HOW,
        commands=("copy",),
        help="Of the topics that are created.",
    ),
    Option(
        name="restart",
        flags=("--restart",),
        kind="switch",
        value=SWITCH,
        field="restart",
        group=HOW,
        commands=("copy",),
        help="Forget where an earlier copy of these topics stopped and begin anew; their target "
        "topics must be missing or empty.",
    ),
    Option(
        name="max-bytes",
        flags=("--max-bytes",),
        value=VOLUME,
        default_note="no limit",
        field="max_bytes",
        group=HOW,
        commands=("copy",),
        help="End this run before it writes more bytes than that; the same command then goes on. "
        "Exit code 8.",
    ),
    Option(
        name="max-records",
        flags=("--max-records",),
        value=RECORDS,
        default_note="no limit",
        field="max_records",
        group=HOW,
        commands=("copy",),
        help="End this run before it writes more records than that. Exit code 8.",
    ),
    Option(
        name="max-duration",
        flags=("--max-duration",),
        value=DURATION,
        default_note="no limit",
        field="max_duration",
        group=HOW,
        commands=("copy",),
        help="End this run after that time: what is in flight is finished. Exit code 10.",
    ),
    Option(
        name="dry-run",
        flags=("--dry-run", "-n"),
        kind="switch",
        value=SWITCH,
        group=HOW,
        commands=("copy",),
        help="Show the plan and change nothing: topics, records, bytes, what would be created, "
        "conflicts.",
    ),
    Option(
        name=CONFIG,
        flags=("--config",),
        value=OPTIONS_FILE,
        group=HOW,
        commands=("copy",),
        help='Options in TOML, by their names, as throttle = "20MB/s"; flags and variables win. On '
        "SIGHUP a running copy reads throttle, throttle-topic and weight from it again.",
    ),
    Option(
        name="progress",
        flags=("--progress",),
        value=_one_of("auto", "live", "plain", "none"),
        default="auto",
        group=OUTPUT,
        commands=("copy",),
        help="On stderr: a live block, a line every 5 seconds, or nothing. auto is live on a "
        "terminal, else plain.",
    ),
    Option(
        name="output",
        flags=("--output", "-o"),
        value=_one_of("text", "json"),
        default="text",
        group=OUTPUT,
        commands=("copy",),
        help="Of the result on stdout; json is one document, for errors too.",
    ),
    Option(
        name="verbose",
        flags=("--verbose", "-v"),
        kind="count",
        value=VERBOSITY,
        group=OUTPUT,
        commands=("copy",),
        help="More in the log: -v what is done, -vv every decision.",
    ),
    Option(
        name="log-format",
        flags=("--log-format",),
        value=_one_of("text", "json"),
        default="text",
        group=OUTPUT,
        commands=("copy",),
        help="Of everything on stderr; json is one object a line.",
    ),
    Option(
        name="no-color",
        flags=("--no-color",),
        kind="switch",
        value=SWITCH,
        group=OUTPUT,
        commands=("copy",),
        help="Plain text only. NO_COLOR in the environment does the same.",
    ),
)
