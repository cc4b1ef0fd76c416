"""The one table of options. Flags, ``COPYSTREAM_*`` twins, settings and the docs are made from it.

A default written anywhere else is a bug, and so is a limit outside the value types (``types``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from msgspec import Struct

from replicator.options.types import (
    BATCH_SIZE,
    BOOTSTRAP,
    COMPRESSION,
    DURATION,
    FACTOR,
    FILE,
    KEEP,
    LANES,
    LINGER,
    OPTIONS_FILE,
    OVERRIDE,
    PARTITIONER,
    PARTITIONS,
    PATTERN,
    RATE,
    RECORDS,
    SIZE,
    START,
    SWITCH,
    TOPIC_RATE,
    TOPIC_WEIGHT,
    UNTIL,
    VERBOSITY,
    VOLUME,
    Isolation,
    Merge,
    ValueType,
    one_of,
)

ENV_PREFIX = "COPYSTREAM_"


class Option(Struct, frozen=True, kw_only=True):
    """One row. ``name`` is the key everything else is derived from."""

    name: str
    flag: str = ""  # where it is not ``--name``
    short: str = ""
    variable: str = ""  # where it is not ``COPYSTREAM_NAME``
    argument: bool = False  # of the command, without a flag
    value: ValueType
    default: str | None = None  # as a user would type it
    default_note: str = ""  # what happens without a value, where no default can be typed
    repeat: bool = False
    required: bool = False
    secret: bool = False  # never repeated in messages, logs or JSON
    reread: bool = False  # SIGHUP reads it again from the file of --config
    field: str = ""  # of the settings; empty for what only concerns the command line
    help: str

    @property
    def flags(self) -> tuple[str, ...]:
        if self.argument:
            return ()
        flag = self.flag or f"--{self.name}"
        return (flag, self.short) if self.short else (flag,)

    @property
    def env(self) -> str:
        return self.variable or ENV_PREFIX + self.name.upper().replace("-", "_")

    @property
    def dest(self) -> str:
        """The key of the parsed value in what a command receives."""
        return self.name.replace("-", "_")

    @property
    def parsed_default(self) -> Any:
        if self.repeat:
            return ()
        return None if self.default is None else self.value.parse(self.default)


class Group(Struct, frozen=True):
    """Options that commands take together; groups with one heading are shown as one."""

    heading: str
    options: tuple[Option, ...]


def _group(heading: str, *options: Option) -> Group:
    return Group(heading, options)


CONFIG = "config"  # the option that names the file with others

CLUSTERS = _group(
    "Clusters",
    Option(
        name="source",
        value=BOOTSTRAP,
        default_note="bootstrap.servers of --source-config",
        field="source",
        help="Cluster to read from.",
    ),
    Option(
        name="target",
        value=BOOTSTRAP,
        default_note="bootstrap.servers of --target-config",
        field="target",
        help="Cluster to write to.",
    ),
    Option(
        name="source-config",
        value=FILE,
        field="source",
        help="client.properties for the source.",
    ),
    Option(
        name="target-config",
        value=FILE,
        field="target",
        help="client.properties for the target.",
    ),
    Option(
        name="source-x",
        flag="--source-X",
        value=OVERRIDE,
        repeat=True,
        secret=True,
        field="source",
        help="One client property of the source. Other users of this machine can read command "
        "lines: give secrets in the file or the environment.",
    ),
    Option(
        name="target-x",
        flag="--target-X",
        value=OVERRIDE,
        repeat=True,
        secret=True,
        field="target",
        help="One client property of the target.",
    ),
    Option(
        name="same-cluster-id",
        value=SWITCH,
        field="same_cluster_id",
        help="Source and target are two clusters although they have one cluster id, as those that "
        "were made from one image or snapshot. The copy is then known by the addresses of the "
        "source too: give the same ones to go on.",
    ),
)

SELECTION = _group(
    "What to copy",
    Option(
        name="topics",
        argument=True,
        value=PATTERN,
        repeat=True,
        required=True,
        field="topics",
        help="Topics to copy: names, or regular expressions that match a whole name.",
    ),
    Option(
        name="exclude",
        value=PATTERN,
        repeat=True,
        field="exclude",
        help="Topics to leave out; wins over TOPIC.",
    ),
    Option(
        name="partitions",
        value=PARTITIONS,
        default_note="all",
        field="partitions",
        help="Only these partitions, such as 0-3,7 or orders:0-3.",
    ),
    Option(
        name="from",
        value=START,
        default="earliest",
        field="start",
        help="Where a first copy begins: earliest, latest, a time or an offsets file. A copy begun "
        "earlier goes on where it stopped instead.",
    ),
    Option(
        name="until",
        value=UNTIL,
        default="current",
        field="until",
        help="Where it ends: current (the end seen at start, waiting for open transactions), "
        "stable (before the first open transaction), a time, or forever.",
    ),
    Option(
        name="isolation",
        value=one_of(*get_args(Isolation)),
        default="read_committed",
        field="isolation",
        help="read_committed leaves out aborted and open transactions; read_uncommitted copies "
        "their records as ordinary ones.",
    ),
)

ENGINE = _group(
    "How to copy",
    Option(
        name="lanes",
        value=LANES,
        default="auto",
        field="lanes",
        help="Worker threads, each with its own connections and partitions.",
    ),
    Option(
        name="memory",
        value=SIZE,
        default="64MiB",
        field="memory",
        help="Budget for data fetched but not yet acknowledged by the target, all lanes together.",
    ),
    Option(
        name="throttle",
        value=RATE,
        default="auto",
        reread=True,
        field="throttle",
        help="Highest rate of bytes or records written to the target, for good or by the time of "
        "day. auto is full speed while no other client writes there, and gives way to others: when "
        "they get less done, when requests take longer, when a quota makes the copy wait, when "
        "replicas fall behind; off is full speed whatever comes. Topics have equal parts of the "
        "rate, and so have a topic's partitions.",
    ),
    Option(
        name="throttle-topic",
        value=TOPIC_RATE,
        repeat=True,
        reread=True,
        field="throttle_topics",
        help="Highest rate of each of these topics, within --throttle. The first pattern "
        "that fits a topic counts.",
    ),
    Option(
        name="weight",
        value=TOPIC_WEIGHT,
        repeat=True,
        reread=True,
        field="weights",
        help="Give each of these topics N parts of --throttle where others have one.",
    ),
    Option(
        name="partitioner",
        value=PARTITIONER,
        default=KEEP,
        field="partitioner",
        help="Which partition of the target topic a record goes to: keep leaves it in its own; "
        "murmur2 is Java's choice by key, consistent and fnv1a are librdkafka's; modulo takes the "
        "source's partition modulo their number; module:function asks Python. The order of the "
        "records of a source partition is kept in each.",
    ),
    Option(
        name="target-partitions",
        value=FACTOR,
        default_note="the source's",
        field="target_partitions",
        help="Partitions of a target topic that is created; needs another --partitioner than keep.",
    ),
    Option(
        name="merge",
        value=one_of(*get_args(Merge)),
        default="auto",
        field="merge",
        help="Whether small batches become larger ones: auto where that costs less than what it "
        "saves the target. Other batches go through unchanged, unless they cannot.",
    ),
    Option(
        name="linger",
        value=LINGER,
        default="5ms",
        field="linger",
        help="How long a record that is followed may wait for others, so that small batches come "
        "together; 0s sends each at once. Copies with an end wait for nothing.",
    ),
    Option(
        name="batch-bytes",
        value=BATCH_SIZE,
        default="512KiB",
        field="batch_bytes",
        help="Size of the batches made here, before compression; never above the target's "
        "max.message.bytes.",
    ),
    Option(
        name="compression",
        value=COMPRESSION,
        default="source",
        field="compression",
        help="Compress everything anew with this codec. source keeps each batch's own, so that "
        "most batches need not be opened.",
    ),
    Option(
        name="check-crc",
        value=SWITCH,
        field="check_crc",
        help="Verify every batch here too and name a damaged one. Without it the target's own "
        "check still refuses damage.",
    ),
)

REPLICAS = _group(
    "How to copy",
    Option(
        name="replication-factor",
        value=FACTOR,
        default_note="the source's, at most what the target has brokers for",
        field="replication_factor",
        help="Of the topics that are created.",
    ),
    Option(
        name="accept-target-configs",
        value=SWITCH,
        field="accept_target_configs",
        help="Copy into a target topic whose configs would change or delete the records "
        "(LogAppendTime, compaction, a shorter retention than the source's), which is refused "
        "otherwise.",
    ),
)

STATE = _group(
    "How to copy",
    Option(
        name="restart",
        value=SWITCH,
        field="restart",
        help="Forget where an earlier copy of these topics stopped and begin anew; their target "
        "topics must be missing or empty.",
    ),
    Option(
        name="append",
        value=SWITCH,
        field="append",
        help="Begin copies of topics whose target topics hold records already, and write after "
        "those; needs --from, since nothing tells what of the source they are. For a target that "
        "was filled by other means, or a copy whose state is lost.",
    ),
    Option(
        name="accept-gap",
        value=SWITCH,
        field="accept_gap",
        help="Where the source has deleted records before they were copied, go on with the first "
        "one it still has, and tell which offsets are missing; else that partition stops.",
    ),
)

LIMITS = _group(
    "How to copy",
    Option(
        name="max-bytes",
        value=VOLUME,
        default_note="no limit",
        field="max_bytes",
        help="End this run before it writes more bytes than that; the same command then goes on. "
        "Exit code 8.",
    ),
    Option(
        name="max-records",
        value=RECORDS,
        default_note="no limit",
        field="max_records",
        help="End this run before it writes more records than that. Exit code 8.",
    ),
    Option(
        name="max-duration",
        value=DURATION,
        default_note="no limit",
        field="max_duration",
        help="End this run after that time: what is in flight is finished. Exit code 10.",
    ),
)

RUN = _group(
    "How to copy",
    Option(
        name="dry-run",
        short="-n",
        value=SWITCH,
        help="Show the plan and change nothing: topics, records, bytes, what would be created, "
        "conflicts.",
    ),
    Option(
        name=CONFIG,
        value=OPTIONS_FILE,
        help='Options in TOML, by their names, as throttle = "20MB/s"; flags and variables win. On '
        "SIGHUP a running copy reads throttle, throttle-topic and weight from it again.",
    ),
)

OUTPUT = _group(
    "Output",
    Option(
        name="progress",
        value=one_of("auto", "live", "plain", "none"),
        default="auto",
        help="On stderr: a live block, a line every 5 seconds, or nothing. auto is live on a "
        "terminal, else plain.",
    ),
    Option(
        name="output",
        short="-o",
        value=one_of("text", "json"),
        default="text",
        help="Of the result on stdout; json is one document, for errors too.",
    ),
    Option(
        name="verbose",
        short="-v",
        value=VERBOSITY,
        help="More in the log: -v what is done, -vv every decision.",
    ),
    Option(
        name="log-format",
        value=one_of("text", "json"),
        default="text",
        help="Of everything on stderr; json is one object a line.",
    ),
    Option(
        name="no-color",
        value=SWITCH,
        help="Plain text only. NO_COLOR in the environment does the same.",
    ),
)

# The groups that each command takes, in the order of its help.
COMMANDS: Mapping[str, tuple[Group, ...]] = {
    "copy": (CLUSTERS, SELECTION, ENGINE, REPLICAS, STATE, LIMITS, RUN, OUTPUT),
}


def options_of(command: str) -> list[Option]:
    return [option for group in COMMANDS[command] for option in group.options]


OPTIONS: Sequence[Option] = tuple(
    {option.name: option for command in COMMANDS for option in options_of(command)}.values()
)
