"""Which configs a replica needs so that its records stay as they are on the source.

Pure functions over the configs of both sides. A config that is missing is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Configs = Mapping[str, str]

# MirrorMaker 2's config.properties.exclude (``DefaultConfigPropertyFilter``) and the limit on a
# record's age: they belong to the cluster a topic lives on, or would change or refuse records.
_CLUSTER_BOUND = frozenset(
    {
        "follower.replication.throttled.replicas",
        "leader.replication.throttled.replicas",
        "message.timestamp.before.max.ms",
        "message.timestamp.difference.max.ms",
        "message.timestamp.type",
        "min.insync.replicas",
        "unclean.leader.election.enable",
    }
)

# Gone in Kafka 4.0 (KIP-724), which refuses a topic that asks for them; a replica made of
# record batches v2 needs neither.
_RETIRED = frozenset({"message.format.version", "message.downconversion.enable"})

HELD_BACK = _CLUSTER_BOUND | _RETIRED

_NO_LIMIT = str(2**63 - 1)

# What every replica needs, whatever the source has: records keep the times that consumers saw,
# and old ones are welcome.
_ALWAYS = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": _NO_LIMIT,
}

# What decides whether records stay as they are; where the target's default differs from what the
# source has, its value is set on the topic.
_KEPT = ("cleanup.policy", "compression.type", "retention.bytes", "retention.ms")
_KEPT_COMPACTED = ("delete.retention.ms", "max.compaction.lag.ms", "min.compaction.lag.ms")

# The same for limits on what is taken: a larger one is never lowered.
_AT_LEAST = ("max.message.bytes", "message.timestamp.after.max.ms")

DEFAULT_BATCH_LIMIT = 1048588  # bytes: Kafka's own, where a topic's configs may not be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a source topic holds of records still to copy; None is not known."""

    records: int = 0  # offsets: an upper bound
    following: bool = False  # without an end, so that there may be more
    largest_partition: int | None = None  # bytes on disk
    oldest_timestamp: int | None = None  # ms


@dataclass(slots=True)
class Effects:
    """What a topic's configs would do to records that reach it."""

    harm: list[str] = field(default_factory=list)  # they would be changed or deleted
    notes: list[str] = field(default_factory=list)  # what is worth knowing


def batch_limit(configs: Configs) -> int:
    """Bytes of the largest batch that a topic with these configs takes (``UnifiedLog.append``)."""
    limit = number(configs, "max.message.bytes")
    segment = number(configs, "segment.bytes")
    return min(DEFAULT_BATCH_LIMIT if limit is None else limit, segment or 2**31 - 1)


def age_limit(configs: Configs) -> int | None:
    """Ms from which on a topic with these configs deletes or refuses records; None is no limit."""
    limits = [number(configs, "message.timestamp.before.max.ms")]
    if "delete" in configs.get("cleanup.policy", "delete"):
        limits.append(number(configs, "retention.ms"))
    return min((n for n in limits if n is not None and 0 <= n < int(_NO_LIMIT)), default=None)


def pinned(source: Configs | None, overrides: Configs, defaults: Configs) -> dict[str, str]:
    """What is set on a topic to be created since the target's default would be another.

    ``source`` has the effective values of the source topic, None where they may not be read;
    ``overrides`` are those that the new topic gets anyway. A default that is not known is taken
    for another one.
    """
    found = {key: value for key, value in _ALWAYS.items() if defaults.get(key) != value}
    if source is None:
        return found
    keys: tuple[str, ...] = _KEPT
    if "compact" in source.get("cleanup.policy", ""):
        keys += _KEPT_COMPACTED
    for key in keys:
        if key in source and not _same(source[key], defaults.get(key)):
            found[key] = source[key]
    for key in _AT_LEAST:
        wanted, given = number(source, key), number(defaults, key)
        if wanted is not None and (given is None or wanted > given):
            found[key] = source[key]
    # A record as large as the source may take must fit into a segment.
    segment = number(source, "segment.bytes")
    if segment is not None and batch_limit({**defaults, **found, **overrides}) < min(
        number(source, "max.message.bytes") or 0, segment
    ):
        found["segment.bytes"] = source["segment.bytes"]
    return {key: value for key, value in sorted(found.items()) if key not in overrides}


def safe(defaults: Configs, stored: Stored, now_ms: int) -> dict[str, str]:
    """What is set on a topic to be created while the source's configs may not be read, so that the
    target deletes nothing of what is copied.
    """
    found: dict[str, str] = {}
    if defaults.get("cleanup.policy") != "delete":
        found["cleanup.policy"] = "delete"
    keep = number(defaults, "retention.ms")
    age = _age(stored, now_ms)
    if keep is None or (keep >= 0 and (age is None or age > keep)):
        found["retention.ms"] = "-1"
    room = number(defaults, "retention.bytes")
    size = stored.largest_partition
    if room is None or (room >= 0 and (size is None or size > room)):
        found["retention.bytes"] = "-1"
    return found


def effects(source: Configs | None, target: Configs, stored: Stored, now_ms: int) -> Effects:
    """What ``target``, the configs in force on the target topic, would do to the source's records.

    Deleting what the source deletes as well is no harm.
    """
    found = Effects()
    if target.get("message.timestamp.type") == "LogAppendTime":
        found.harm.append(
            "the target stamps records with its own time (message.timestamp.type="
            "LogAppendTime): the records' timestamps would be lost"
        )
    _compaction(found, source, target)
    policy = target.get("cleanup.policy", "delete")
    if "delete" in policy:
        _retention(found, source, target, stored, now_ms)
        _room(found, source, target, stored)
    limit, largest = batch_limit(target), batch_limit(source or {})
    if limit < largest and source is not None and target:
        found.notes.append(
            f"the target takes batches of up to {limit} bytes (max.message.bytes, segment.bytes), "
            f"the source up to {largest}: larger ones are taken apart, a larger record is refused"
        )
    codec = target.get("compression.type", "producer")
    if codec not in ("producer", (source or {}).get("compression.type")):
        found.notes.append(
            f"the target recompresses every batch (compression.type={codec}), which costs it CPU"
        )
    _too_old(found, target, stored, now_ms)
    return found


def number(configs: Configs, key: str) -> int | None:
    """A config as a number; None where it is missing or is none."""
    try:
        return int(configs[key])
    except (KeyError, ValueError):
        return None


def _same(value: str, default: str | None) -> bool:
    """Lists are in any order, as in cleanup.policy."""
    return default is not None and set(value.split(",")) == set(default.split(","))


def _compaction(found: Effects, source: Configs | None, target: Configs) -> None:
    if "compact" not in target.get("cleanup.policy", ""):
        return
    text = (
        "older records of each key will go, and records without a key are refused "
        f"(cleanup.policy={target['cleanup.policy']})"
    )
    if source is None or "cleanup.policy" not in source:
        found.notes.append(f"the target compacts this topic: {text}")
    elif "compact" not in source["cleanup.policy"]:
        found.harm.append(f"the target compacts this topic and the source does not: {text}")


def _retention(
    found: Effects, source: Configs | None, target: Configs, stored: Stored, now_ms: int
) -> None:
    keep = number(target, "retention.ms")
    if keep is None or keep < 0:
        return
    of_source = _kept(source, "retention.ms")
    shorter = of_source is not None and (of_source < 0 or of_source > keep)
    age = _age(stored, now_ms)
    if age is not None and age > keep:
        text = (
            f"the target's retention ({_time(keep)}) would delete the oldest records at "
            f"once: they are {_time(age)} old; raise retention.ms there to keep them"
        )
        (found.harm if shorter or source is None else found.notes).append(text)
    elif shorter and of_source is not None:
        longer = "without a limit" if of_source < 0 else f"for {_time(of_source)}"
        found.notes.append(
            f"the target keeps records for {_time(keep)} (retention.ms), the source {longer}"
        )


def _room(found: Effects, source: Configs | None, target: Configs, stored: Stored) -> None:
    room = number(target, "retention.bytes")
    if room is None or room < 0:
        return
    of_source = _kept(source, "retention.bytes")
    smaller = of_source is not None and (of_source < 0 or of_source > room)
    size = stored.largest_partition
    if size is not None and size > room and (stored.records or stored.following):
        text = (
            f"the target keeps {room} bytes of each partition (retention.bytes), the largest "
            f"has {size}: its oldest records would be deleted at once"
        )
        (found.harm if smaller or source is None else found.notes).append(text)
    elif smaller and of_source is not None:
        more = "all" if of_source < 0 else str(of_source)
        found.notes.append(
            f"the target keeps {room} bytes of each partition (retention.bytes), the source {more}"
        )


def _kept(source: Configs | None, key: str) -> int | None:
    """A limit of the source's retention, −1 for none; None where that is not known."""
    if source is None:
        return None
    if "delete" not in source.get("cleanup.policy", "delete"):
        return -1
    return number(source, key)


def _too_old(found: Effects, target: Configs, stored: Stored, now_ms: int) -> None:
    limit = number(target, "message.timestamp.before.max.ms")
    age = _age(stored, now_ms)
    if limit is not None and age is not None and age > limit:
        found.notes.append(
            f"the target refuses records older than {_time(limit)} "
            f"(message.timestamp.before.max.ms), the oldest are {_time(age)} old"
        )


def _age(stored: Stored, now_ms: int) -> int | None:
    """Of the oldest record still to copy, in ms; None where there is none, or it has no time."""
    oldest = stored.oldest_timestamp
    return None if oldest is None or oldest < 0 else now_ms - oldest


def _time(milliseconds: int) -> str:
    for unit, size in (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if milliseconds >= 2 * size:
            return f"{milliseconds // size} {unit}"
    return f"{milliseconds / 1000:g} s"
