"""The settings of one copy, built from the options table. Nothing here has a default of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from replicator.errors import UsageError
from replicator.options.quantities import Compression
from replicator.options.rates import Timetable
from replicator.options.selection import AtTime, Current, Latest, Partitions, Stable, Start, Until
from replicator.options.table import options_of
from replicator.options.types import KEEP, Isolation, Merge
from replicator.terms import Side

if TYPE_CHECKING:
    from replicator.cluster.config import ClientConfig


class CopySettings(Struct, frozen=True, kw_only=True):
    """One copy, as asked for. Each field is that of an option (``Option.field``), whose help in
    docs/options.md gives its meaning; sizes are bytes, ``linger`` and ``max_duration``
    milliseconds. Frozen, so any thread may read it.
    """

    source: ClientConfig
    target: ClientConfig
    same_cluster_id: bool  # two clusters may have one id
    topics: tuple[str, ...]  # names or patterns for the whole name
    exclude: tuple[str, ...]
    partitions: Partitions
    start: Start  # of a first copy; a resumed one goes on where it stopped
    until: Until
    isolation: Isolation
    lanes: int  # 0: chosen from the cores and partitions
    memory: int  # bytes fetched but not yet acknowledged, all lanes together
    throttle: Timetable  # of what is written to the target
    throttle_topics: tuple[tuple[str, Timetable], ...]  # by pattern
    weights: tuple[tuple[str, int], ...]  # by pattern
    partitioner: str
    target_partitions: int | None  # None: the source's
    merge: Merge
    linger: int  # ms
    batch_bytes: int
    compression: Compression
    check_crc: bool
    append: bool  # after records that the target topics hold already
    accept_gap: bool  # go on where the source has deleted what was not copied
    restart: bool  # forget what an earlier copy of these topics saved
    accept_target_configs: bool  # copy even where they would change or delete records
    replication_factor: int | None  # None: the source's, capped by the target's brokers
    max_bytes: int | None  # of batches written in this run
    max_records: int | None
    max_duration: int | None  # milliseconds
    given: frozenset[str]  # ``Option.dest`` of what was not left to its default


def copy_settings(values: Mapping[str, Any], given: Collection[str] = ()) -> CopySettings:
    """From parsed values keyed by ``Option.dest``, of which ``given`` are not defaults.

    Raises ``UsageError`` for values that contradict each other and ``ConfigError`` for client
    properties that cannot be used.
    """
    fields = {
        option.field: values[option.dest]
        for option in options_of("copy")
        if option.field not in ("", "source", "target")
    }
    if fields["partitions"] is None:
        fields["partitions"] = Partitions()
    _check_range(fields["start"], fields["until"])
    if fields["target_partitions"] is not None and fields["partitioner"] == KEEP:
        raise UsageError(
            "--target-partitions needs a --partitioner other than keep",
            hint="such as --partitioner murmur2, which puts keys where Java's producer would",
        )
    if fields["append"] and "from" not in given:
        raise UsageError(
            "--append needs --from: nothing tells what of the source the target topics hold",
            hint="--from FILE with the source offset of each partition, a time, or earliest for "
            "everything",
        )
    return CopySettings(
        source=_client("source", values),
        target=_client("target", values),
        given=frozenset(given),
        **fields,
    )


def _client(side: Side, values: Mapping[str, Any]) -> ClientConfig:
    # Imported here: `copystream copy --help` and completion do without the properties parser.
    from replicator.cluster.config import load_client_config  # noqa: PLC0415

    file = values[f"{side}_config"]
    return load_client_config(
        values[side], Path(file) if file else None, values[f"{side}_x"], side=side
    )


def _check_range(start: Start, until: Until) -> None:
    match start, until:
        case Latest(), Current() | Stable():
            raise UsageError(
                "--from latest copies only what arrives later, and --until ends before it",
                hint="add --until forever, or a time in the future",
            )
        case AtTime(timestamp=first), AtTime(timestamp=end) if first >= end:
            raise UsageError(
                "--from is not before --until: nothing lies between them",
                hint="--until is exclusive; give it a later time than --from",
            )
