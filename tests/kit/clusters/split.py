"""Judging a copy whose records went to other partitions, by an ordinary consumer on both sides."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

from kit.clusters.flow import Flow
from replicator.lab.logs import log_ranges
from replicator.lab.reading import read_records

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka.partitioner.default import murmur2

# The target partition of a record, by its key, source partition, offset and the partitions' count.
Choice = Callable[[bytes | None, int, int, int], int]


class Seen(NamedTuple):
    """A record without its place; the loads give no two of the same."""

    timestamp: tuple[int, int]
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def by_murmur2(key: bytes | None, source: int, offset: int, count: int) -> int:
    """Java's producer for records with a key; those without go to the next partition every 1024."""
    if key is None:
        return (source + offset // 1024) % count
    return int((murmur2(key) & 0x7FFFFFFF) % count)


def read_all(bootstrap: str, topic: str) -> dict[int, list[tuple[int, Seen]]]:
    """Offset and content of every record that a read-committed consumer sees, by partition."""
    ranges = log_ranges(bootstrap, [topic])
    found: dict[int, list[tuple[int, Seen]]] = {partition: [] for _, partition in ranges}
    for message in read_records(bootstrap, ranges):
        headers = tuple(message.headers() or ())
        seen = Seen(message.timestamp(), message.key(), message.value(), headers)
        found[message.partition()].append((message.offset(), seen))
    return found


def verify_split(flow: Flow, topic: str, choice: Choice) -> int:
    """Fail unless every record of the source is in the target partition that ``choice`` says, once,
    and those of a source partition in their order; returns how many there are.
    """
    source = read_all(flow.source.bootstrap, topic)
    target = read_all(flow.target.bootstrap, topic)
    wanted: dict[tuple[int, int], list[Seen]] = {}
    owners: dict[Seen, int] = {}
    for partition, records in source.items():
        for offset, seen in records:
            assert seen not in owners, f"{topic}-{partition} at {offset}: the load is ambiguous"
            owners[seen] = partition
            chosen = choice(seen.key, partition, offset, len(target))
            wanted.setdefault((partition, chosen), []).append(seen)
    found: dict[tuple[int, int], list[Seen]] = {}
    for partition, records in target.items():
        for offset, seen in records:
            assert seen in owners, f"{topic}-{partition} at {offset} of the target: a stranger"
            found.setdefault((owners[seen], partition), []).append(seen)
    for pair in sorted(wanted.keys() | found.keys()):
        ours, theirs = wanted.get(pair, []), found.get(pair, [])
        assert len(theirs) == len(ours), f"{pair}: {len(theirs)} records instead of {len(ours)}"
        assert theirs == ours, f"{pair}: other records, or in another order"
    return len(owners)
