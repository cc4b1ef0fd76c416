"""Kafka 3.9 and 4.1, each as source and as target."""

from __future__ import annotations

import pytest

from kit.flow import Flow
from replicator.lab import KAFKA_3, KAFKA_4, default_version
from replicator.lab.logs import settle
from replicator.lab.seed import (
    BATCH_SHAPES,
    CODECS,
    Writer,
    codecs_and_sizes,
    delete_records,
    open_transaction,
    transactions,
    varied,
)


@pytest.mark.parametrize("target_version", [KAFKA_3, KAFKA_4])
@pytest.mark.parametrize("source_version", [KAFKA_3, KAFKA_4])
def test_every_pair_of_versions(cluster_factory, topic_name, rng, source_version, target_version):
    def cluster(name: str, version: str):
        return cluster_factory(name, version=None if version == default_version() else version)

    flow = Flow(cluster("source", source_version), cluster("target", target_version))
    bootstrap = flow.source.bootstrap
    sized = [topic_name(codec) for codec in CODECS]
    for codec, topic in zip(CODECS, sized, strict=True):
        flow.create(topic, len(BATCH_SHAPES))
        codecs_and_sizes(bootstrap, topic, codec, rng, megabytes=0.5)
    odd, mixed = topic_name("odd"), topic_name("mixed")
    flow.create(odd, 2)
    with Writer(bootstrap, batch_records=1, linger_ms=0) as writer:
        for record in varied(rng, 300):
            writer.send(odd, 0, record)
    delete_records(bootstrap, odd, {0: 17})
    flow.create(mixed, 2)
    transactions(bootstrap, mixed, [0, 1], rng, rounds=6)
    held = open_transaction(bootstrap, mixed, [1], rng, records=10)

    everything = (*sized, odd, mixed)
    flow.copy(*everything).expect(0)
    flow.verify(*everything)
    held.commit()
    settle(bootstrap, mixed)
    assert flow.copy(*everything).expect(0).summary.records == 10
    flow.verify(*everything)
