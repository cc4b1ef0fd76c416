"""A target whose configs would change or delete records: made right, or refused before a write."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from kit.clusters.fixtures import ClusterFactory, Clusters
from kit.clusters.flow import Flow
from kit.clusters.topics import topic_configs
from replicator.lab.seed import KEEP, YEAR_2001_MS, Payload, Writer, create_topic

DAY = 86_400_000
HARSH = {
    "log.message.timestamp.type": "LogAppendTime",
    "log.message.timestamp.before.max.ms": "3600000",
    "log.cleanup.policy": "compact",
    "log.cleaner.backoff.ms": "100",
    "log.retention.ms": "60000",
    "log.retention.check.interval.ms": "500",
    "compression.type": "gzip",
    "message.max.bytes": "200000",
}


@pytest.fixture(scope="module")
def harsh(clusters: Clusters, own_cluster: ClusterFactory) -> Flow:
    """To a target whose defaults stamp, compact, delete and recompress."""
    return Flow(clusters.source, own_cluster("harsh-target", properties=HARSH))


def load(
    flow: Flow, topic: str, *, partitions: int = 1, age: int = 2 * DAY, count: int = 200
) -> None:
    """Few keys, many records, all as old as ``age`` in ms."""
    flow.create(topic, partitions)
    stamp = int(time.time() * 1000) - age
    with Writer(flow.source.bootstrap, batch_records=20) as writer:
        for index in range(count):
            payload = Payload(b"%d" % (index % 3), b"value %d" % index, [], stamp + index)
            writer.send(topic, index % partitions, payload)


def test_a_created_topic_keeps_what_the_targets_defaults_would_not(
    harsh: Flow, topic_name: Callable[[str], str]
) -> None:
    """Another time, compaction, retention, refused ages, another codec, smaller batches."""
    topic, large = topic_name("kept"), topic_name("large")
    load(harsh, topic, partitions=2)
    harsh.create(large)
    with Writer(harsh.source.bootstrap, batch_records=1) as writer:
        writer.send(large, 0, Payload(None, b"x" * 500_000))
    (planned, _) = harsh.copy(topic, large, "--dry-run").expect(0).plan.topics
    assert (
        planned.pinned.items()
        >= {
            "message.timestamp.type": "CreateTime",
            "cleanup.policy": "delete",
            "retention.ms": "604800000",
            "compression.type": "producer",
            "max.message.bytes": "1048588",
        }.items()
    )
    outcome = harsh.copy(topic, large).expect(0)
    assert outcome.summary.topics[0].pinned == planned.pinned
    assert "retention.ms=604800000" in outcome.stderr, "told before the first record"
    time.sleep(1.5)  # two rounds of retention, which has nothing to delete
    harsh.verify(topic, large)
    assert topic_configs(harsh.target.bootstrap, topic).items() >= planned.configs.items()


@pytest.mark.parametrize(
    ("config", "age"),
    [
        ({"message.timestamp.type": "LogAppendTime"}, 0),
        ({"cleanup.policy": "compact"}, 0),
        ({"cleanup.policy": "compact,delete"}, 0),
        ({"retention.ms": str(DAY)}, 2 * DAY),
        ({"retention.bytes": "1000"}, 0),
    ],
    ids=["time", "compact", "both", "age", "size"],
)
def test_an_existing_topic_that_would_change_records_is_refused(
    flow: Flow, topic_name: Callable[[str], str], config: dict[str, str], age: int
) -> None:
    topic, fine = topic_name("refused"), topic_name("fine")
    load(flow, topic, partitions=3, age=age)
    load(flow, fine)
    create_topic(flow.target.bootstrap, topic, 3, config=config)
    plan = flow.copy(topic, fine, "--dry-run").expect(7).plan
    assert [bool(t.conflict) for t in plan.topics] == [False, True], plan
    outcome = flow.copy(topic, fine).expect(7)
    fault = outcome.fault()
    assert (fault.kind, fault.topic, fault.side) == ("refused", topic, "target")
    assert next(iter(config)) in fault.message
    assert "--accept-target-configs" in fault.hint
    assert flow.arrived(topic) == 0
    flow.verify(fine)

    accepted = flow.copy(topic, "--accept-target-configs").expect(0)
    (copied,) = accepted.summary.topics
    assert any(next(iter(config)) in warning for warning in copied.warnings)
    assert next(iter(config)) in accepted.stderr
    assert copied.records == 200


def test_one_old_partition_is_enough(flow: Flow, topic_name: Callable[[str], str]) -> None:
    topic = topic_name("one-old")
    flow.create(topic, 3, config=KEEP)
    create_topic(flow.target.bootstrap, topic, 3)
    with Writer(flow.source.bootstrap, batch_records=1) as writer:
        for number, stamp in enumerate([None, None, YEAR_2001_MS]):
            writer.send(topic, number, Payload(b"k", b"v", [], stamp))
            writer.send(topic, number, Payload(b"k", b"v", [], None))
    outcome = flow.copy(topic).expect(7)
    assert "retention.ms" in outcome.fault().message
    assert flow.arrived(topic) == 0
    # What is too old is no longer to be copied.
    flow.copy(topic, "--partitions", "0,1").expect(0)


def test_what_the_source_deletes_as_well_is_no_reason_to_refuse(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    """A segment lives until its last record is too old: many records are older than retention."""
    topic = topic_name("aged")
    config = {"retention.ms": str(DAY)}
    flow.create(topic, config=config)
    create_topic(flow.target.bootstrap, topic, config=config)
    stamp = int(time.time() * 1000) - 2 * DAY
    with Writer(flow.source.bootstrap, batch_records=1) as writer:
        writer.send(topic, 0, Payload(b"k", b"old", [], stamp))
        writer.send(topic, 0, Payload(b"k", b"new"))
    outcome = flow.copy(topic).expect(0)
    assert any("retention" in warning for warning in outcome.summary.topics[0].warnings)
    flow.verify(topic)
