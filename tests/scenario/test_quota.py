"""Quotas so low that a broker makes a client wait for longer than an answer may take."""

from __future__ import annotations

import random
from collections.abc import Callable

from kit.clusters.flow import Flow
from kit.clusters.quota import limit_producers
from replicator.lab.seed import Payload, Text, Writer

FULL_SPEED = ("--throttle", "off", "--merge", "never")
PARTITIONS = 4
RECORDS = 1000


def load(flow: Flow, topic: str, rng: random.Random) -> None:
    """1 MB in batches of 100 kB."""
    flow.create(topic, PARTITIONS)
    text = Text(rng)
    with Writer(flow.source.bootstrap, batch_records=100) as writer:
        for number in range(RECORDS):
            writer.send(topic, number % PARTITIONS, Payload(None, text.take(1000)))


def test_a_throttle_longer_than_a_request_is_waited_for(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Reconnecting would evade the quota, and each time the log would have to be asked."""
    topic, client = topic_name("quota"), topic_name("client")
    load(flow, topic, rng)
    limit_producers(flow.target, client, 20_000)
    outcome = flow.copy(topic, *FULL_SPEED, "--target-X", f"client.id={client}", timeout=150)
    summary = outcome.expect(0).summary
    assert (summary.records, summary.recoveries) == (RECORDS, 0)
    assert summary.throttled_by == "target quota"
    assert 30_000 < summary.throttle_ms <= summary.elapsed * 1000
    flow.verify(topic)


def test_a_run_ends_in_time_whatever_a_quota_holds_back(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic, client = topic_name("limited"), topic_name("client")
    load(flow, topic, rng)
    limit_producers(flow.target, client, 5_000)
    limited = ("--target-X", f"client.id={client}", "--max-duration", "5s")
    summary = flow.copy(topic, *FULL_SPEED, *limited, timeout=60).expect(10).summary
    assert summary.elapsed < 5 + 10
    assert summary.throttle_ms <= summary.elapsed * 1000
    assert summary.recoveries == 0
    flow.copy(topic).expect(0)
    flow.verify(topic)


def test_ctrl_c_does_not_wait_for_a_quota(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic, client = topic_name("interrupted"), topic_name("client")
    load(flow, topic, rng)
    limit_producers(flow.target, client, 5_000)
    with flow.start(topic, *FULL_SPEED, "--target-X", f"client.id={client}") as copier:
        flow.wait_for_arrivals(copier, topic)
        copier.interrupt()
        copier.wait(15).expect(130)
    flow.copy(topic).expect(0)
    flow.verify(topic)
