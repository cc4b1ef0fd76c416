"""A broker of three hangs (SIGSTOP) under the copy: connections stay open and nothing answers.

What has no replica there goes on while it hangs; what has one waits for Kafka to elect another.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from kit.clusters.fixtures import ClusterFactory, Clusters
from kit.clusters.flow import Flow
from kit.clusters.runner import Copier, wait_until
from replicator.lab import LabCluster
from replicator.lab.logs import settle
from replicator.lab.seed import KEEP, Payload, Text, Writer
from replicator.state import OFFSET_MAP_TOPIC, REGISTRY_TOPIC

NODES = 3
PACE = ("--throttle", "400kB/s")


@pytest.fixture(scope="module")
def three(own_cluster: ClusterFactory) -> LabCluster:
    return own_cluster("three", nodes=NODES)


def leader(cluster: LabCluster, topic: str, partition: int = 0) -> int:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    found: int = admin.list_topics(topic, timeout=30).topics[topic].partitions[partition].leader
    return found


def load(flow: Flow, topic: str, rng: random.Random, *, records: int) -> None:
    """Partitions 0 to 2 are dense, 3 to 5 full of control batches, so of segments of the map."""
    flow.create(topic, 2 * NODES, config=KEEP)
    text = Text(rng)

    def record() -> Payload:
        return Payload(text.take(8), text.take(480), [], None)

    with Writer(flow.source.bootstrap, batch_records=20) as writer:
        for partition in range(NODES):
            for _ in range(records):
                writer.send(topic, partition, record())
    writer = Writer(flow.source.bootstrap, transactional_id=topic, batch_records=20, linger_ms=5)
    for start in range(0, records, 40):
        writer.begin()
        for partition in range(NODES, 2 * NODES):
            for _ in range(min(40, records - start)):
                writer.send(topic, partition, record())
        writer.commit()
    settle(flow.source.bootstrap, topic)


def place_on_nodes(cluster: LabCluster, topic: str, replicas: int) -> None:
    """Create it with partition p on node p mod 3 and those after it."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    nodes = [[(p + n) % NODES for n in range(replicas)] for p in range(2 * NODES)]
    config = {"min.insync.replicas": "1", **KEEP}
    new = NewTopic(topic, len(nodes), replica_assignment=nodes, config=config)
    admin.create_topics([new])[topic].result(30)


@contextmanager
def frozen(cluster: LabCluster, node: int) -> Iterator[None]:
    cluster.pause(node)
    try:
        yield
    finally:
        cluster.resume(node)
        cluster.wait_ready()


def wait_for_all_but(flow: Flow, copier: Copier, topic: str, node: int, records: int) -> None:
    """Until what is not on that node is complete, while it hangs."""
    consumer = Consumer(
        {
            "bootstrap.servers": flow.target.bootstrap,
            "group.id": "unused",
            "socket.timeout.ms": 2000,  # it may ask the one that hangs who leads
            "log_level": 0,
        }
    )

    def end(partition: int) -> int:
        try:
            place = TopicPartition(topic, partition)
            high: int = consumer.get_watermark_offsets(place, timeout=2)[1]
        except KafkaException:
            return -1
        return high

    def complete() -> bool:
        assert copier.running(), copier.outcome()
        return all(end(p) == records for p in range(2 * NODES) if p % NODES != node)

    wait_until(complete, f"all of {topic} but node {node}'s is there", timeout=25, pause=0.3)


@pytest.mark.parametrize("leads", ["the map", "the registry", "no state"])
def test_what_is_not_on_a_broker_that_hangs_goes_on(
    clusters: Clusters,
    three: LabCluster,
    topic_name: Callable[[str], str],
    rng: random.Random,
    leads: str,
) -> None:
    flow = Flow(clusters.source, three)
    topic = topic_name("frozen")
    load(flow, topic, rng, records=1500)
    place_on_nodes(three, topic, replicas=1)
    with flow.start(topic, *PACE) as copier:
        flow.wait_for_arrivals(copier, topic, 300)
        state = [leader(three, OFFSET_MAP_TOPIC), leader(three, REGISTRY_TOPIC)]
        node = {
            "the map": state[0],
            "the registry": state[1],
            "no state": next(node for node in range(NODES) if node not in state),
        }[leads]
        with frozen(three, node):
            wait_for_all_but(flow, copier, topic, node, 1500)
        copier.wait(90).expect(0)
    flow.verify(topic)


def test_what_another_broker_can_lead_goes_on_there(
    clusters: Clusters, three: LabCluster, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Everything is complete while the broker still hangs."""
    flow = Flow(clusters.source, three)
    topic = topic_name("taken-over")
    load(flow, topic, rng, records=1500)
    place_on_nodes(three, topic, replicas=2)
    with flow.start(topic, *PACE) as copier:
        flow.wait_for_arrivals(copier, topic, 300)
        with frozen(three, rng.randrange(NODES)):
            copier.wait(25).expect(0)
    flow.verify(topic)


def test_another_broker_of_the_source_takes_over(
    clusters: Clusters, three: LabCluster, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    flow = Flow(three, clusters.target)
    topic = topic_name("source")
    place_on_nodes(three, topic, replicas=2)
    text = Text(rng)
    with Writer(three.bootstrap, batch_records=20) as writer:
        for partition in range(2 * NODES):
            for _ in range(1000):
                writer.send(topic, partition, Payload(text.take(8), text.take(480), [], None))
    with flow.start(topic, *PACE, "--replication-factor", "1") as copier:
        flow.wait_for_arrivals(copier, topic, 300)
        with frozen(three, rng.randrange(NODES)):
            copier.wait(25).expect(0)
    flow.verify(topic)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_brokers_hang_in_turn_while_topics_are_followed(
    clusters: Clusters,
    own_cluster: ClusterFactory,
    topic_name: Callable[[str], str],
    rng: random.Random,
) -> None:
    """With Kafka's own session time-out of 9 s; each is frozen for half a minute."""
    target = own_cluster(
        "slow-to-elect", nodes=NODES, properties={"broker.session.timeout.ms": "9000"}
    )
    flow = Flow(clusters.source, target)
    topic = topic_name("in-turn")
    load(flow, topic, rng, records=200)
    place_on_nodes(target, topic, replicas=2)
    text = Text(rng)
    records = 2 * NODES * 200

    def all_arrived() -> bool:
        return flow.arrived(topic) == records

    with flow.start(topic, "--until", "forever") as copier:
        for node in range(NODES):
            with frozen(target, node):
                deadline = time.monotonic() + 30
                while time.monotonic() < deadline:
                    with Writer(flow.source.bootstrap, transactional_id=topic) as writer:
                        writer.begin()
                        for partition in range(2 * NODES):
                            writer.send(topic, partition, Payload(None, text.take(100), [], None))
                        writer.commit()
                    records += 2 * NODES
            wait_until(all_arrived, "all arrives", timeout=60)
        copier.interrupt()
        copier.wait(60).expect(130)
    flow.verify(topic)
