"""Brokers that limit connections, and brokers that close those that are idle."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

import pytest

from kit.clusters.fixtures import ClusterFactory, Clusters
from kit.clusters.flow import Flow
from kit.clusters.loads import load_mixed
from kit.clusters.runner import Copier
from replicator.lab.seed import Payload, Writer

LIMIT = 5  # connections from one address; a copy opens 7 if it may, and needs these
IDLE_MS = 1000


@pytest.fixture(scope="module")
def limited(clusters: Clusters, own_cluster: ClusterFactory) -> Flow:
    properties = {"max.connections.per.ip": str(LIMIT)}
    return Flow(clusters.source, own_cluster("limited", properties=properties))


@pytest.fixture(scope="module")
def impatient(own_cluster: ClusterFactory) -> Flow:
    properties = {"connections.max.idle.ms": str(IDLE_MS)}
    return Flow(
        own_cluster("impatient-source", properties=properties),
        own_cluster("impatient-target", properties=properties),
    )


def test_fewer_connections_serve_when_more_cannot_be_had(
    limited: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("few")
    load_mixed(limited, topic, rng, megabytes=3)
    outcome = limited.copy(topic, "--throttle", "off", timeout=90).expect(0)
    assert "max.connections.per.ip" in outcome.stderr
    assert outcome.summary.recoveries <= 5
    limited.verify(topic)


def follow_in_silence(flow: Flow, topic: str, silence: float) -> Copier:
    """A running copy that has had nothing to do for so long and then got a record."""
    flow.create(topic, 3)
    copier = flow.start(topic, "--until", "forever", "--progress", "plain", "--log-format", "json")
    copier.__enter__()
    wrote = 0
    try:
        for _ in range(2):
            with Writer(flow.source.bootstrap) as writer:
                for partition in range(3):
                    writer.send(topic, partition, Payload(None, b"%d" % wrote))
                    wrote += 1
            flow.wait_for_arrivals(copier, topic, wrote - 1, timeout=10)
            # Being silent is what is tested; there is nothing to wait for.
            deadline = time.monotonic() + silence
            while time.monotonic() < deadline:
                assert copier.running(), copier.outcome()
                time.sleep(0.1)
    except BaseException:
        copier.__exit__(None, None, None)
        raise
    return copier


@pytest.mark.parametrize(
    "silence",
    [4, pytest.param(150, marks=[pytest.mark.soak, pytest.mark.timeout(600)])],
)
def test_a_silent_topic_is_followed_though_idle_connections_are_closed(
    impatient: Flow, topic_name: Callable[[str], str], silence: float
) -> None:
    topic = topic_name("silent")
    copier = follow_in_silence(impatient, topic, silence)
    with copier:
        copier.interrupt()
        outcome = copier.wait(20).expect(130)
    assert outcome.summary.faults == []
    events = [json.loads(line) for line in outcome.stderr.splitlines()]
    assert not [event for event in events if event["event"] == "log"]
    impatient.verify(topic)
