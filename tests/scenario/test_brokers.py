"""Brokers that die, restart or hand over their partitions while a copy runs."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient

from kit.clusters.fixtures import ClusterFactory, Clusters
from kit.clusters.flow import Flow
from kit.clusters.loads import load_mixed
from kit.clusters.runner import Copier, wait_until
from kit.clusters.split import by_murmur2, verify_split
from replicator.lab import LabCluster
from replicator.lab.seed import YEAR_2001_MS

SLOW = ("--throttle", "700kB/s")


@pytest.fixture(scope="module")
def fragile(own_cluster: ClusterFactory) -> Flow:
    return Flow(own_cluster("fragile-source"), own_cluster("fragile-target"))


@pytest.fixture(scope="module")
def three(own_cluster: ClusterFactory) -> LabCluster:
    return own_cluster("three", nodes=3)


def crash(cluster: LabCluster, node: int = 0) -> None:
    cluster.kill(node)
    cluster.start_node(node)


def restart(cluster: LabCluster, node: int = 0) -> None:
    cluster.restart(node)


def finish(flow: Flow, copier: Copier, topic: str) -> None:
    """The run itself gets through, or says that a rerun helps; then a rerun does."""
    copier.wait(120).expect(0, 5)
    flow.copy(topic, timeout=120).expect(0)
    flow.verify(topic)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("break_it", [crash, restart], ids=["kill -9", "restart"])
def test_a_broker_goes_and_comes_back(
    fragile: Flow,
    topic_name: Callable[[str], str],
    rng: random.Random,
    side: str,
    break_it: Callable[[LabCluster], None],
) -> None:
    topic = topic_name("bounced")
    load_mixed(fragile, topic, rng, megabytes=3)
    with fragile.start(topic, *SLOW) as copier:
        fragile.wait_for_arrivals(copier, topic, rng.randrange(1000))
        break_it(getattr(fragile, side))
        copier.wait(120).expect(0)
    fragile.verify(topic)


def test_the_target_dies_again_and_again_under_old_records(
    fragile: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """After each crash it is open which requests were appended, and producers may be forgotten."""
    topic = topic_name("crashes")
    load_mixed(fragile, topic, rng, megabytes=4, stamp=YEAR_2001_MS)
    with fragile.start(topic, *SLOW) as copier:
        for _ in range(2):
            fragile.wait_for_arrivals(copier, topic, fragile.arrived(topic))
            crash(fragile.target)
        finish(fragile, copier, topic)


def test_a_target_that_stays_away_ends_the_run_and_a_rerun_completes(
    fragile: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("away")
    load_mixed(fragile, topic, rng, megabytes=2)
    with fragile.start(topic, *SLOW) as copier:
        fragile.wait_for_arrivals(copier, topic)
        fragile.target.kill()
        try:
            copier.interrupt()
            copier.wait(60).expect(130, 4, 5)
        finally:
            fragile.target.start_node()
    fragile.copy(topic).expect(0)
    fragile.verify(topic)


def test_a_target_broker_that_hangs_for_a_while(
    fragile: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("hangs")
    load_mixed(fragile, topic, rng, megabytes=3)
    with fragile.start(topic, *SLOW) as copier:
        fragile.wait_for_arrivals(copier, topic)
        fragile.target.pause()
        resumed = threading.Timer(3.0, fragile.target.resume)
        resumed.start()
        try:
            copier.wait(90).expect(0)
        finally:
            resumed.join()
    fragile.verify(topic)


def move_leaders(cluster: LabCluster, topic: str) -> None:
    """Restart a node that leads a partition, once the others have taken over from it."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})

    def leaders() -> set[int]:
        found = admin.list_topics(topic, timeout=30).topics[topic].partitions
        return {partition.leader for partition in found.values()}

    node = min(leaders())
    cluster.stop_node(node)
    wait_until(lambda: node not in leaders(), f"node {node} leads nothing")
    cluster.start_node(node)


@pytest.mark.parametrize("side", ["source", "target"])
def test_leaders_move_in_a_cluster_of_three(
    clusters: Clusters,
    three: LabCluster,
    topic_name: Callable[[str], str],
    rng: random.Random,
    side: str,
) -> None:
    flow = Flow(three, clusters.target) if side == "source" else Flow(clusters.source, three)
    topic = topic_name("moved")
    load_mixed(flow, topic, rng, megabytes=3)
    # the target's topic would have the source's one replica
    extra = ("--replication-factor", "3") if side == "target" else ()
    with flow.start(topic, *SLOW, *extra) as copier:
        flow.wait_for_arrivals(copier, topic)
        move_leaders(three, topic)
        copier.wait(120).expect(0)
    flow.verify(topic)


def test_a_node_of_three_is_killed_under_the_copy(
    clusters: Clusters, three: LabCluster, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    flow = Flow(clusters.source, three)
    topic = topic_name("killed")
    load_mixed(flow, topic, rng, megabytes=3)
    with flow.start(topic, *SLOW, "--replication-factor", "3") as copier:
        flow.wait_for_arrivals(copier, topic)
        node = random.Random(rng.random()).randrange(3)
        three.kill(node)
        try:
            copier.wait(120).expect(0)
        finally:
            three.start_node(node)
    flow.verify(topic)


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_broker_that_does_not_come_back_costs_its_own_partitions_only(
    clusters: Clusters, three: LabCluster, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """After two minutes; the message names it, and a rerun completes."""
    flow = Flow(clusters.source, three)
    topic = topic_name("gone")
    load_mixed(flow, topic, rng, megabytes=3)
    with flow.start(topic, *SLOW, "--replication-factor", "1") as copier:
        flow.wait_for_arrivals(copier, topic)
        admin = AdminClient({"bootstrap.servers": three.bootstrap, "log_level": 0})
        known = admin.list_topics(topic, timeout=30).topics[topic].partitions
        leaders = {number: found.leader for number, found in known.items()}
        node = min(leaders.values())
        three.kill(node)
        try:
            summary = copier.wait(200).expect(5).summary
        finally:
            three.start_node(node)
    assert {fault.partition for fault in summary.faults} == {
        number for number, leader in leaders.items() if leader == node
    }
    assert {fault.kind for fault in summary.faults} == {"unreachable"}
    assert all(f"missing broker: {node}" in fault.message for fault in summary.faults)
    others = [number for number, leader in leaders.items() if leader != node]
    flow.verify(topic, partitions=others)
    flow.copy(topic).expect(0)
    flow.verify(topic)


SPLIT = ("--partitioner", "murmur2", "--target-partitions", "7")


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_broker_goes_while_partitions_are_split(
    fragile: Flow, topic_name: Callable[[str], str], rng: random.Random, side: str
) -> None:
    topic = topic_name("split")
    load_mixed(fragile, topic, rng, megabytes=3)
    with fragile.start(topic, *SPLIT, *SLOW) as copier:
        fragile.wait_for_arrivals(copier, topic, rng.randrange(1000))
        crash(getattr(fragile, side))
        copier.wait(120).expect(0)
    verify_split(fragile, topic, by_murmur2)


def test_a_node_of_three_is_killed_while_partitions_are_split(
    clusters: Clusters, three: LabCluster, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """The others lead its partitions then: the same records go out through other connections."""
    flow = Flow(clusters.source, three)
    topic = topic_name("thirds")
    load_mixed(flow, topic, rng, megabytes=3)
    with flow.start(topic, *SPLIT, *SLOW, "--replication-factor", "3") as copier:
        flow.wait_for_arrivals(copier, topic)
        node = rng.randrange(3)
        three.kill(node)
        try:
            copier.wait(120).expect(0)
        finally:
            three.start_node(node)
    verify_split(flow, topic, by_murmur2)
