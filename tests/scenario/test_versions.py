"""Kafka 3.9 and 4.1, each as source and as target."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kit.clusters.fixtures import ClusterFactory, Clusters
from kit.clusters.flow import Flow
from kit.clusters.runner import copy_arguments, copystream
from kit.clusters.segments import batches
from replicator.lab import KAFKA_3, KAFKA_4, LabCluster, default_version
from replicator.lab.logs import settle
from replicator.lab.seed import (
    CODECS,
    Payload,
    Text,
    Writer,
    delete_records,
    open_transaction,
    transactions,
    varied,
)

PARTITIONS = len(CODECS)


@pytest.fixture(scope="module")
def clusters_of(
    clusters: Clusters, own_cluster: ClusterFactory
) -> dict[str, tuple[LabCluster, LabCluster]]:
    """Source and target of each version; the session's own where they have it."""
    found = {default_version(): (clusters.source, clusters.target)}
    for version in (KAFKA_3, KAFKA_4):
        if version not in found:
            sides = [own_cluster(f"{side}-{version}", version=version) for side in ("a", "b")]
            found[version] = (sides[0], sides[1])
    return found


@pytest.mark.parametrize("target_version", [KAFKA_3, KAFKA_4])
@pytest.mark.parametrize("source_version", [KAFKA_3, KAFKA_4])
def test_every_pair_of_versions(
    clusters_of: dict[str, tuple[LabCluster, LabCluster]],
    topic_name: Callable[[str], str],
    rng: random.Random,
    source_version: str,
    target_version: str,
) -> None:
    flow = Flow(clusters_of[source_version][0], clusters_of[target_version][1])
    bootstrap = flow.source.bootstrap
    plain, mixed = topic_name("plain"), topic_name("mixed")
    flow.create(plain, PARTITIONS)
    text = Text(rng)
    for partition, codec in enumerate(CODECS):
        with Writer(bootstrap, codec=codec, batch_records=30) as writer:
            for record in varied(rng, 300):
                writer.send(plain, partition, record)
            writer.send(plain, partition, Payload(None, text.take(900_000)))
    delete_records(bootstrap, plain, {0: next(batches(flow.source.log_dir(), plain, 0)).count})
    flow.create(mixed, 2)
    transactions(bootstrap, mixed, [0, 1], rng, rounds=5)
    held = open_transaction(bootstrap, mixed, [1], rng, records=10)

    (fault,) = flow.copy(plain, mixed).expect(5).summary.faults
    assert (fault.kind, fault.topic, fault.partition) == ("open-transaction", mixed, 1)
    flow.verify(plain, mixed)
    held.commit()
    settle(bootstrap, mixed)
    assert flow.copy(plain, mixed).expect(0).summary.records == 10
    flow.verify(plain, mixed)


@pytest.mark.parametrize("version", [KAFKA_3, KAFKA_4])
def test_the_controller_of_each_version_is_named(
    clusters_of: dict[str, tuple[LabCluster, LabCluster]], version: str
) -> None:
    source, target = clusters_of[version]
    address = f"127.0.0.1:{source._nodes[0].controller_port}"
    outcome = copystream(*copy_arguments(address, target.bootstrap, "t")).expect(3)
    assert f"{address} is a KRaft controller" in outcome.stderr
