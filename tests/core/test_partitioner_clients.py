"""Partitioners against the clients they are named after, which send keys to a real broker."""

from __future__ import annotations

import random
import subprocess
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from copycore.partitioner import KINDS, choose_all
from kit.clusters.fixtures import Clusters
from replicator.lab import KAFKA_3, QUICK_START, java_tool
from replicator.lab.seed import create_topic

pytestmark = pytest.mark.timeout(120)

PARTITIONS = 7


def expected(kind: str, keys: list[bytes]) -> list[int]:
    numbers = array("Q", range(len(keys)))
    return choose_all(KINDS.index(kind), keys, numbers, 0, PARTITIONS).tolist()


@pytest.fixture
def topic(clusters: Clusters, topic_name: Callable[[str], str]) -> str:
    name = topic_name("keys")
    create_topic(clusters.source.bootstrap, name, PARTITIONS)
    return name


@pytest.mark.parametrize(
    "partitioner",
    ["murmur2", "murmur2_random", "consistent", "consistent_random", "fnv1a", "fnv1a_random"],
)
def test_librdkafkas_partitioners(clusters: Clusters, topic: str, partitioner: str) -> None:
    rng = random.Random(partitioner)
    keys = [rng.randbytes(rng.randrange(1, 40)) for _ in range(500)]
    if partitioner != "consistent_random":  # to which an empty key is none
        keys.append(b"")
    arrived: dict[int, int] = {}
    failed: list[object] = []

    def note(number: int) -> Callable[[Any, Any], None]:
        def delivered(error: Any, message: Any) -> None:
            if error is not None:
                failed.append(error)
            arrived[number] = message.partition()

        return delivered

    producer = Producer(
        {"bootstrap.servers": clusters.source.bootstrap, "partitioner": partitioner}
    )
    for number, key in enumerate(keys):
        producer.produce(topic, b"value", key, on_delivery=note(number))
    assert producer.flush(60) == 0
    assert not failed
    kind = partitioner.removesuffix("_random")
    assert [arrived[number] for number in range(len(keys))] == expected(kind, keys)
    assert set(arrived.values()) == set(range(PARTITIONS))


def test_kafkas_own_producer(clusters: Clusters, topic: str, tmp_path: Path) -> None:
    keys = [f"key {'äß☃'[: n % 4]}{n}" for n in range(500)]
    bootstrap = clusters.source.bootstrap
    arguments = ["--bootstrap-server", bootstrap, "--topic", topic]
    with java_tool(
        KAFKA_3,
        "kafka.tools.ConsoleProducer",
        [*arguments, "--property", "parse.key=true"],
        config_dir=tmp_path,
        jvm=[*QUICK_START, "-Dfile.encoding=UTF-8"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        lines = "".join(f"{key}\tvalue\n" for key in keys)
        output, _ = process.communicate(lines.encode(), timeout=90)
    assert process.returncode == 0, output
    arrived = consume(bootstrap, topic, len(keys))
    wanted = [key.encode() for key in keys]
    assert arrived == dict(zip(wanted, expected("murmur2", wanted), strict=True))


def consume(bootstrap: str, topic: str, count: int) -> dict[bytes, int]:
    """The partition of each key."""
    found: dict[bytes, int] = {}
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        while len(found) < count:
            message = consumer.poll(30)
            assert message is not None, f"{len(found)} of {count} arrived"
            assert message.error() is None, message.error()
            key, partition = message.key(), message.partition()
            assert key is not None and partition is not None
            found[key] = partition
    finally:
        consumer.close()
    return found
