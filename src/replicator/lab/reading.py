"""A topic as an ordinary consumer sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from replicator.lab.seed import SeedError

DEADLINE = 120  # seconds


def partitions_of(bootstrap: str, topic: str) -> list[int]:
    """Raises ``KafkaException``."""
    consumer = _consumer(bootstrap)
    try:
        return sorted(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
    finally:
        consumer.close()


def read_to_end(bootstrap: str, topic: str) -> Iterator[Message]:
    """Every record that a read-committed consumer sees, those of a partition in log order.

    Raises ``SeedError`` if it takes too long, and ``KafkaException``.
    """
    consumer = _consumer(bootstrap)
    try:
        waiting = set(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in waiting])
        deadline = time.monotonic() + DEADLINE
        while waiting:
            if time.monotonic() > deadline:
                raise SeedError(f"{topic} on {bootstrap} is not read to its end after {DEADLINE} s")
            for message in consumer.consume(num_messages=2000, timeout=0.05):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(cast("int", message.partition()))
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()


def _consumer(bootstrap: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "copystream-lab",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "check.crcs": True,
            "log_level": 0,
        }
    )
