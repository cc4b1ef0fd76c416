"""Partitions without a leader: each is a fault of its own, the rest is copied."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient

from kit.clusters.fixtures import ClusterFactory, Clusters
from kit.clusters.flow import Flow
from kit.clusters.runner import Outcome, wait_until
from kit.clusters.topics import place_topic
from replicator.lab import LabCluster
from replicator.lab.seed import Payload, Writer, create_topic

LOST = 2  # the node that is taken away
PATIENCE = 25.0  # seconds for a whole run on a busy machine; it once took 31 to find one out


@pytest.fixture(scope="module")
def three(own_cluster: ClusterFactory) -> LabCluster:
    return own_cluster("three", nodes=3)


def load(flow: Flow, topic: str, partitions: int) -> None:
    with Writer(flow.source.bootstrap) as writer:
        for index in range(30 * partitions):
            writer.send(topic, index % partitions, Payload(b"%d" % index, b"value"))


def expect_lost(outcome: Outcome, topic: str, side: str) -> None:
    fault = outcome.expect(5).fault()
    assert (fault.kind, fault.side, fault.topic, fault.partition) == (
        "unreachable",
        side,
        topic,
        LOST,
    )
    assert f"broker {LOST}" in fault.message
    assert outcome.summary.elapsed < PATIENCE


@pytest.mark.parametrize("how", ["just-died", "gone", "frozen"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_partition_whose_broker_is_away(
    clusters: Clusters, three: LabCluster, topic_name: Callable[[str], str], side: str, how: str
) -> None:
    flow = Flow(three, clusters.target) if side == "source" else Flow(clusters.source, three)
    topic, other = topic_name("split"), topic_name("other")
    if side == "source":
        place_topic(three.bootstrap, topic, [[0], [1], [LOST]])
        place_topic(three.bootstrap, other, [[0], [1]])
    else:
        create_topic(flow.source.bootstrap, topic, 3)
        create_topic(flow.source.bootstrap, other, 2)
        place_topic(three.bootstrap, topic, [[0], [1], [LOST]])
        place_topic(three.bootstrap, other, [[0], [1]])
    load(flow, topic, 3)
    load(flow, other, 2)
    if how == "frozen":
        three.pause(LOST)
    else:
        three.kill(LOST)
    try:
        if how == "gone":
            wait_until(lambda: leader(three, topic, LOST) < 0, "the partition has no leader")
        began = time.monotonic()
        plan = flow.copy(topic, other, "--dry-run").expect(5).plan
        assert time.monotonic() - began < PATIENCE
        assert [(fault.topic, fault.partition) for fault in plan.faults] == [(topic, LOST)]
        expect_lost(flow.copy(topic, other), topic, side)
        flow.verify(other)
        # The comparing consumer needs all brokers, so the rest is compared below.
        assert flow.arrived(other) == 60
    finally:
        if how == "frozen":
            three.resume(LOST)
            three.wait_ready()
        else:
            three.start_node(LOST)
    flow.verify(topic, partitions=[0, 1])
    flow.copy(topic, other).expect(0)
    flow.verify(topic, other)


def test_a_topic_made_while_a_broker_is_down_has_all_its_replicas(
    three: LabCluster, own_cluster: ClusterFactory, topic_name: Callable[[str], str]
) -> None:
    """Otherwise it would keep too few."""
    topic = topic_name("replicas")
    flow = Flow(own_cluster("other-three", nodes=3), three)
    create_topic(flow.source.bootstrap, topic, 3, replication_factor=3)
    load(flow, topic, 3)
    three.stop_node(LOST)
    try:
        wait_until(lambda: len(brokers(three)) == 2, "the broker is missed")
        (planned,) = flow.copy(topic, "--dry-run").expect(0).plan.topics
        assert (planned.replication_factor, planned.warnings) == (3, [])
        flow.copy(topic, timeout=120).expect(0)
    finally:
        three.start_node(LOST)
    flow.verify(topic)
    admin = AdminClient({"bootstrap.servers": three.bootstrap, "log_level": 0})
    found = admin.list_topics(topic, timeout=30).topics[topic].partitions.values()
    assert {len(partition.replicas) for partition in found} == {3}


def brokers(cluster: LabCluster) -> set[int]:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    return set(admin.list_topics(timeout=30).brokers)


def leader(cluster: LabCluster, topic: str, partition: int) -> int:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    return admin.list_topics(topic, timeout=30).topics[topic].partitions[partition].leader
