"""Judging a copy whose records went to other partitions, by an ordinary consumer on both sides."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import NamedTuple, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from kit.flow import Flow

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
    """By partition, offset and content of every record that a read-committed consumer sees."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "copystream-split",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "check.crcs": True,
            "log_level": 0,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        found: dict[int, list[tuple[int, Seen]]] = {partition: [] for partition in partitions}
        waiting = set(partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        deadline = time.monotonic() + 120
        while waiting:
            assert time.monotonic() < deadline, f"{topic} is not read to its end after 120 s"
            for message in consumer.consume(num_messages=2000, timeout=0.05):
                partition = cast("int", message.partition())
                error = message.error()
                if error is None:
                    headers = tuple((name, value) for name, value in message.headers() or [])
                    seen = Seen(message.timestamp(), message.key(), message.value(), headers)  # type: ignore[arg-type]
                    found[partition].append((cast("int", message.offset()), seen))
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(partition)
                else:
                    raise KafkaException(error)
        return found
    finally:
        consumer.close()


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
