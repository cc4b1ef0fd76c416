"""Numbered records that prove by themselves what became of them.

Each record says in its value which run, partition and place it belongs to and carries a checksum
of its own content. ``read_ledger`` can therefore tell loss, doubling, reordering and damage on the
target without a source at hand: after the source was deleted, say, or cut short.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Collection
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from replicator.lab.seed import Payload, SeedError, Text, Writer


def ledger_value(run: str, partition: int, seq: int, body: bytes) -> bytes:
    """A value that names its place in the run and carries the checksum of its body."""
    return b"%s|%d|%d|%08x|%s" % (run.encode(), partition, seq, zlib.crc32(body), body)


class Ledger:
    """Writes numbered records into a topic: the next number of each partition is kept."""

    def __init__(self, topic: str, run: str, rng: random.Random) -> None:
        self.topic = topic
        self.run = run
        self.next: dict[int, int] = {}
        self._text = Text(rng)

    def write(
        self,
        writer: Writer,
        partitions: Collection[int],
        records: int,
        *,
        size: int = 200,
        timestamp: int | None = None,
    ) -> None:
        """Send ``records`` to each partition in turn, values of about ``size`` bytes."""
        for _ in range(records):
            for partition in partitions:
                seq = self.next.get(partition, 0)
                self.next[partition] = seq + 1
                value = ledger_value(self.run, partition, seq, self._text.take(size))
                writer.send(self.topic, partition, Payload(b"%d" % seq, value, [], timestamp))


def read_ledger(bootstrap: str, topic: str, run: str) -> dict[int, list[int]]:
    """The ledger numbers that a read-committed consumer sees, by partition, in log order.

    Raises ``SeedError`` for a record that is not of this run, lies in another partition than it
    was written to, or does not match its own checksum.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "copystream-ledger",
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
        found: dict[int, list[int]] = {partition: [] for partition in partitions}
        waiting = set(partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        deadline = time.monotonic() + 120
        while waiting:
            if time.monotonic() > deadline:
                raise SeedError(f"{topic} on {bootstrap} is not read to its end after 120 s")
            for message in consumer.consume(num_messages=2000, timeout=0.05):
                partition = cast("int", message.partition())
                error = message.error()
                if error is None:
                    found[partition].append(_ledger_seq(message.value() or b"", run, partition))
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(partition)
                else:
                    raise KafkaException(error)
        return found
    finally:
        consumer.close()


def _ledger_seq(value: bytes, run: str, partition: int) -> int:
    try:
        owner, place, seq, checksum, body = value.split(b"|", 4)
        right = int(checksum, 16) == zlib.crc32(body)
    except ValueError:
        right, owner, place, seq = False, b"", b"", b"-1"
    if not right or owner != run.encode() or int(place) != partition:
        raise SeedError(
            f"partition {partition} holds a record that is not of {run}: {value[:80]!r}"
        )
    return int(seq)
