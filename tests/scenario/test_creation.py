"""Topics that are created or widened: no config costs a topic, and no topic the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from kit.clusters.fixtures import ClusterFactory, Clusters
from kit.clusters.flow import Flow, topic_names
from kit.clusters.topics import add_partitions, partition_count, topic_configs
from replicator.lab.jars import KAFKA_3
from replicator.lab.seed import Payload, Writer, create_topic

SMALL_SEGMENTS = {"log.segment.bytes": "30000"}


@pytest.fixture(scope="module")
def upgrade(clusters: Clusters, own_cluster: ClusterFactory) -> Flow:
    """From a cluster of Kafka 3.9 to one of 4.x."""
    return Flow(own_cluster("old-source", version=KAFKA_3), clusters.target)


def load(flow: Flow, topic: str, partitions: int = 1, count: int = 100, size: int = 10) -> None:
    with Writer(flow.source.bootstrap, batch_records=20) as writer:
        for index in range(count):
            writer.send(topic, index % partitions, Payload(b"%d" % index, b"x" * size))


def test_configs_that_the_target_refuses_cost_no_topic(
    upgrade: Flow, topic_name: Callable[[str], str]
) -> None:
    """Each config is named with the reason: left out, or adjusted to what the target takes."""
    topic, plain = topic_name("odd"), topic_name("plain")
    config = {
        "local.retention.ms": "1000",
        "segment.bytes": "20000",
        "message.format.version": "2.8",
        "retention.ms": "-1",
        "remote.log.copy.disable": "true",
    }
    upgrade.create(topic, config=config)
    upgrade.create(plain)
    load(upgrade, topic)
    load(upgrade, plain)
    (planned, _) = upgrade.copy(topic, plain, "--dry-run").expect(0).plan.topics
    assert planned.conflict is None
    assert planned.adjusted["segment.bytes"].startswith("20000 on the source")
    assert planned.configs["segment.bytes"] == "1048576"
    assert planned.held_back == {"message.format.version": "2.8"}
    assert topic not in topic_names(upgrade.target.bootstrap)
    outcome = upgrade.copy(topic, plain).expect(0)
    copied = outcome.summary.topics[0]
    assert (copied.left_out, copied.adjusted) == (planned.left_out, planned.adjusted)
    for word in ("segment.bytes", "message.format.version"):
        assert word in outcome.stderr, "told before the first record"
    made = topic_configs(upgrade.target.bootstrap, topic)
    assert made["retention.ms"] == "-1"
    assert made["segment.bytes"] == "1048576"
    upgrade.verify(topic, plain)


@pytest.mark.parametrize("exists", [False, True])
def test_a_target_with_small_segments(
    clusters: Clusters, own_cluster: ClusterFactory, topic_name: Callable[[str], str], exists: bool
) -> None:
    flow = Flow(clusters.source, own_cluster("small", version=KAFKA_3, properties=SMALL_SEGMENTS))
    topic = topic_name("small")
    flow.create(topic)
    if exists:
        create_topic(flow.target.bootstrap, topic)
    with Writer(flow.source.bootstrap, batch_records=200) as writer:
        for index in range(5000):
            writer.send(topic, 0, Payload(b"%d" % index, b"x" * 100))
    summary = flow.copy(topic).expect(0).summary
    assert summary.recoveries == 0
    flow.verify(topic)


def test_a_topic_that_grew_is_widened(flow: Flow, topic_name: Callable[[str], str]) -> None:
    topic, other = topic_name("grown"), topic_name("other")
    flow.create(topic, 2)
    load(flow, topic, 2)
    flow.copy(topic).expect(0)
    add_partitions(flow.source.bootstrap, topic, 5)
    load(flow, topic, 5)
    (planned,) = flow.copy(topic, "--dry-run").expect(0).plan.topics
    assert (planned.widen, planned.target_partitions, planned.conflict) == (3, 5, None)
    assert partition_count(flow.target.bootstrap, topic) == 2
    outcome = flow.copy(topic).expect(0)
    assert outcome.summary.topics[0].widened == 3
    assert "gets 3 partitions more" in outcome.stderr
    flow.verify(topic)
    # Only what this copy made itself, and never to fewer.
    flow.create(other, 2)
    create_topic(flow.target.bootstrap, other, 1)
    assert "has 1 partitions" in flow.copy(other).expect(7).fault().message
    add_partitions(flow.target.bootstrap, topic, 6)
    assert "has 6 partitions" in flow.copy(topic).expect(7).fault().message


def test_a_topic_that_was_empty_when_it_was_copied_is_widened(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    topic = topic_name("empty")
    flow.create(topic, 1)
    flow.copy(topic).expect(0)
    add_partitions(flow.source.bootstrap, topic, 3)
    load(flow, topic, 3)
    flow.copy(topic, "--partitions", "2").expect(0)
    flow.copy(topic).expect(0)
    flow.verify(topic)


@pytest.fixture
def churn(flow: Flow, topic_name: Callable[[str], str]) -> Iterator[str]:
    """Topics that come and go on the source all the time; the beginning of their names."""
    stem, done = topic_name("tmp"), threading.Event()
    admin = AdminClient({"bootstrap.servers": flow.source.bootstrap, "log_level": 0})

    def run(number: int) -> None:
        life = 0
        while not done.is_set():
            life += 1
            name = f"{stem}-{number}-{life}"
            admin.create_topics([NewTopic(name, 3, 1)])[name].result(30)
            done.wait(0.3)
            admin.delete_topics([name])[name].result(30)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    yield stem
    done.set()
    for thread in threads:
        thread.join(60)


def test_topics_that_come_and_go_while_a_pattern_is_planned(
    flow: Flow, topic_name: Callable[[str], str], churn: str
) -> None:
    keep = topic_name("keep")
    flow.create(keep)
    for round_ in range(8):
        load(flow, keep, count=10)
        outcome = flow.copy(f"{keep}|{churn}-.*")
        # Deleted while it was being copied, it is a fault of that topic.
        outcome.expect(0, 11)
        summary = outcome.summary
        kept = next(topic for topic in summary.topics if topic.topic == keep)
        assert (kept.status, kept.records) == ("done", 10), f"round {round_}: {outcome}"
        assert {fault.kind for fault in summary.faults} <= {"source-deleted"}, outcome
        gone = [topic for topic in summary.skipped if topic.startswith(churn)]
        assert all(topic in outcome.stderr for topic in gone), outcome
    flow.verify(keep)
