"""The one table of options. Flags, ``COPYSTREAM_*`` twins, settings and the docs are made from it.

A default or a limit written anywhere else is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

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
    ValueType,
    one_of,
)

ENV_PREFIX = "COPYSTREAM_"


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
        name="same-cluster-id",
        flags=("--same-cluster-id",),
        kind="switch",
        value=SWITCH,
        field="same_cluster_id",
        group=CLUSTERS,
        commands=("copy",),
        help="Source and target are two clusters although they have one cluster id, as those that "
        "were made from one image or snapshot. The copy is then known by the addresses of the "
        "source too: give the same ones to go on.",
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
        help="Where it ends: current (the end seen at start, waiting for open transactions), "
        "stable (before the first open transaction), a time, or forever.",
    ),
    Option(
        name="isolation",
        flags=("--isolation",),
        value=one_of("read_committed", "read_uncommitted"),
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
        default="auto",
        reread=True,
        field="throttle",
        group=HOW,
        commands=("copy",),
        help="Highest rate of bytes or records written to the target, for good or by the time of "
        "day. auto is full speed while nobody else writes there, and gives way to others: when "
        "they get less done, when requests take longer, when a quota makes the copy wait, when "
        "replicas fall behind; off is full speed whatever comes. Topics have equal parts of the "
        "rate, and so have a topic's partitions.",
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
        default=KEEP,
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
        value=one_of("auto", "always", "never"),
        default="auto",
        field="merge",
        group=HOW,
        commands=("copy",),
        help="Whether small batches become larger ones: auto where that costs less than what it "
        "saves the target. Other batches go through unchanged, unless they cannot.",
    ),
    Option(
        name="linger",
        flags=("--linger",),
        value=LINGER,
        default="5ms",
        field="linger",
        group=HOW,
        commands=("copy",),
        help="How long a record that is followed may wait for others, so that small batches come "
        "together; 0s sends each at once. Copies with an end wait for nothing.",
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
        default_note="the source's, at most what the target has brokers for",
        field="replication_factor",
        group=HOW,
        commands=("copy",),
        help="Of the topics that are created.",
    ),
    Option(
        name="accept-target-configs",
        flags=("--accept-target-configs",),
        kind="switch",
        value=SWITCH,
        field="accept_target_configs",
        group=HOW,
        commands=("copy",),
        help="Copy into a target topic whose configs would change or delete the records "
        "(LogAppendTime, compaction, a shorter retention than the source's), which is refused "
        "otherwise.",
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
        name="append",
        flags=("--append",),
        kind="switch",
        value=SWITCH,
        field="append",
        group=HOW,
        commands=("copy",),
        help="Begin copies of topics whose target topics hold records already, and write behind "
        "those; needs --from, since nothing tells what of the source they are. For a target that "
        "was filled by other means, or a copy whose state is lost.",
    ),
    Option(
        name="accept-gap",
        flags=("--accept-gap",),
        kind="switch",
        value=SWITCH,
        field="accept_gap",
        group=HOW,
        commands=("copy",),
        help="Where the source has deleted records before they were copied, go on with the first "
        "one it still has, and tell which offsets are missing; else that partition stops.",
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
        value=one_of("auto", "live", "plain", "none"),
        default="auto",
        group=OUTPUT,
        commands=("copy",),
        help="On stderr: a live block, a line every 5 seconds, or nothing. auto is live on a "
        "terminal, else plain.",
    ),
    Option(
        name="output",
        flags=("--output", "-o"),
        value=one_of("text", "json"),
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
        value=one_of("text", "json"),
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
