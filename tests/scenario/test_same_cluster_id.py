"""Two clusters that were made from one image have one id; one cluster has two addresses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.clusters.fixtures import ClusterFactory
from kit.clusters.flow import Flow
from kit.clusters.runner import copy_arguments, copystream
from replicator.lab import QUICK_START, LabCluster
from replicator.lab.ledger import Ledger
from replicator.lab.ports import free_ports
from replicator.lab.seed import Writer

OPTION = "--same-cluster-id"


@pytest.fixture(scope="module")
def twins(own_cluster: ClusterFactory) -> Iterator[Flow]:
    one = own_cluster("twin-one")
    other = LabCluster(name="twin-other", jvm=QUICK_START)
    other.cluster_id = one.cluster_id
    with other:
        yield Flow(one, other)


def load(flow: Flow, topic: str, rng: random.Random) -> Ledger:
    flow.create(topic, 2)
    ledger = Ledger(topic, "run", rng)
    add(flow, ledger, 100)
    return ledger


def add(flow: Flow, ledger: Ledger, records: int) -> None:
    with Writer(flow.source.bootstrap) as writer:
        ledger.write(writer, (0, 1), records)


def test_two_clusters_with_one_id_in_both_directions(
    twins: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    there, back = topic_name("there"), topic_name("back")
    return_ = Flow(twins.target, twins.source)
    ledgers = {there: load(twins, there, rng), back: load(return_, back, rng)}
    refused = twins.copy(there).expect(2)
    assert OPTION in refused.stderr
    flows = set()
    for flow, topic in ((twins, there), (return_, back)):
        flows.add(flow.copy(topic, OPTION).expect(0).summary.flow)
        add(flow, ledgers[topic], 10)
        assert flow.copy(topic, OPTION, "--dry-run").expect(0).plan.topics[0].resume
        assert flow.copy(topic, OPTION).expect(0).summary.records == 20
        flow.verify(topic)
    assert len(flows) == 2


def test_a_cluster_onto_itself_is_refused_with_the_option_too(
    twins: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("t")
    load(twins, topic, rng)
    for option in ((), (OPTION,)):
        outcome = Flow(twins.source, twins.source).copy(topic, *option).expect(2)
        assert "the same cluster" in outcome.stderr
        assert "both have the broker" in outcome.stderr


def test_a_cluster_by_another_listener_is_itself(
    topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Its advertised addresses differ, as those for inside and outside of a network do."""
    (port,) = free_ports(1)
    outside = f"127.0.0.1:{port}"
    with LabCluster(name="listeners", jvm=QUICK_START) as cluster:
        topic = topic_name("t")
        load(Flow(cluster, cluster), topic, rng)
        cluster.stop_node()
        add_listener(cluster, outside)
        cluster.start_node()
        outcome = copystream(*copy_arguments(cluster.bootstrap, outside, topic, OPTION))
        outcome.expect(2)
        assert "same ids and ends by both addresses" in outcome.stderr


def add_listener(cluster: LabCluster, address: str) -> None:
    inside = cluster.bootstrap
    (found,) = Path(cluster.log_dir()).parent.glob("**/server.properties")
    found.write_text(
        found.read_text().replace(f"PLAINTEXT://{inside}", f"PLAINTEXT://{inside},OUT://{address}")
        + "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,OUT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
        + "inter.broker.listener.name=PLAINTEXT\n"
    )
