"""kafka-python, for what librdkafka cannot do: a timestamp of 0, and asking for producer state."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager

with warnings.catch_warnings():
    # it reads its schemas by a deprecated function of the standard library
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient, KafkaProducer, TopicPartition


@contextmanager
def producer(bootstrap: str) -> Iterator[KafkaProducer]:
    """Sends everything before the block is left."""
    client = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
    try:
        yield client
        client.flush(30)
    finally:
        client.close()


def known_producers(bootstrap: str, topic: str, partitions: Collection[int]) -> int:
    """Producers whose sequence numbers the leaders still guard in these partitions."""
    return sum(map(len, last_sequences(bootstrap, topic, partitions).values()))


def last_sequences(
    bootstrap: str, topic: str, partitions: Collection[int]
) -> dict[int, dict[int, int]]:
    """The last sequence number of each producer whose state the leader has, by partition."""
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        described = client.describe_producers([TopicPartition(topic, n) for n in partitions])
        return {
            place.partition: {p.producer_id: p.last_sequence for p in state.active_producers}
            for place, state in described.items()
        }
    finally:
        client.close()
