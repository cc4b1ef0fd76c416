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
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        described = client.describe_producers([TopicPartition(topic, n) for n in partitions])
        return sum(len(state.active_producers) for state in described.values())
    finally:
        client.close()
