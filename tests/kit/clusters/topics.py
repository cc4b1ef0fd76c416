"""Facts about a topic, asked of a cluster by another client."""

from __future__ import annotations

from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)


def topic_configs(bootstrap: str, topic: str) -> dict[str, str]:
    """Every config in force on a topic."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found = admin.describe_configs([resource])[resource].result(30)
    return {name: entry.value for name, entry in found.items()}


def partition_count(bootstrap: str, topic: str) -> int:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    return len(admin.list_topics(topic, timeout=30).topics[topic].partitions)


def add_partitions(bootstrap: str, topic: str, count: int) -> None:
    """Widen a topic to ``count`` partitions."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_partitions([NewPartitions(topic, count)])[topic].result(30)


def place_topic(bootstrap: str, topic: str, replicas: list[list[int]]) -> None:
    """Create a topic with these brokers for each of its partitions."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    new = NewTopic(topic, len(replicas), replica_assignment=replicas)
    admin.create_topics([new])[topic].result(30)
