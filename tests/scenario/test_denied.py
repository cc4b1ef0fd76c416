"""A permission revoked during a copy ends the partitions that need it, by name; the rest goes
on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from kit.clusters.faults import expect_fault
from kit.clusters.fixtures import ClusterFactory
from kit.clusters.flow import Flow
from kit.clusters.topics import add_partitions
from replicator.lab import LabCluster
from replicator.lab.ledger import Ledger, read_ledger
from replicator.lab.seed import Writer, create_topic
from replicator.terms import Side

SLOW = ("--memory", "8MiB", "--throttle", "2MB/s")
PARTITIONS = (0, 1, 2)
RECORDS = 6000  # of each partition: twice the memory, and some 10 seconds of a slow copy
AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@pytest.fixture(scope="module")
def guarded(own_cluster: ClusterFactory) -> Flow:
    """Clusters where a topic that has an ACL is closed but for that, and all others are open."""
    return Flow(
        own_cluster("guarded-source", properties=AUTHORIZER),
        own_cluster("guarded-target", properties=AUTHORIZER),
    )


@contextmanager
def denial(
    cluster: LabCluster,
    topic: str,
    operation: AclOperation,
    kind: ResourceType = ResourceType.TOPIC,
) -> Iterator[None]:
    """While the block runs, everything but this operation is allowed on the topic, or on another
    kind of resource; denials win.
    """
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    literal, everyone = ResourcePatternType.LITERAL, "User:ANONYMOUS"
    place = (kind, topic, literal, everyone, "*")
    allow = AclBinding(*place, AclOperation.ALL, AclPermissionType.ALLOW)
    deny = AclBinding(*place, operation, AclPermissionType.DENY)
    both = AclBindingFilter(*place, AclOperation.ANY, AclPermissionType.ANY)
    try:
        for binding in (allow, deny):  # in this order, so that nothing else is denied in between
            admin.create_acls([binding])[binding].result(30)
        yield
    finally:
        admin.delete_acls([both])[both].result(30)


def load(flow: Flow, topic: str, rng: random.Random, records: int) -> None:
    flow.create(topic, len(PARTITIONS))
    with Writer(flow.source.bootstrap, batch_records=20) as writer:
        Ledger(topic, "run", rng).write(writer, PARTITIONS, records, size=500)


@pytest.mark.parametrize(
    ("side", "operation", "exit_code"),
    [
        ("source", AclOperation.READ, 3),
        ("target", AclOperation.WRITE, 4),
        ("source", AclOperation.ALL, 3),
        ("target", AclOperation.ALL, 4),
    ],
    ids=["read", "write", "all-of-source", "all-of-target"],
)
def test_a_permission_taken_away_under_a_running_copy(
    guarded: Flow,
    topic_name: Callable[[str], str],
    rng: random.Random,
    side: Side,
    operation: AclOperation,
    exit_code: int,
) -> None:
    flow, topic, other = guarded, topic_name("closed"), topic_name("other")
    load(flow, topic, rng, RECORDS)
    load(flow, other, rng, RECORDS)
    cluster = flow.source if side == "source" else flow.target
    with flow.start(topic, other, *SLOW) as copier:
        flow.wait_for_arrivals(copier, topic)
        with denial(cluster, topic, operation):
            outcome = copier.wait()
            again = flow.copy(topic, other)
    fault = expect_fault(outcome, "denied", side=side, topic=topic, exit_codes=(exit_code,))
    assert "TOPIC_AUTHORIZATION_FAILED" in fault.message or "is refused" in fault.message
    assert fault.hint == f"grant {permission(side)} on Topic {topic} to this client"
    stopped = {found.partition for found in outcome.summary.faults}
    assert stopped <= set(PARTITIONS)
    assert {t.topic: t.status for t in outcome.summary.topics} == {topic: "failed", other: "done"}
    flow.verify(other)

    # Denied from the start it is told too, and before anything is done.
    again.expect(exit_code)
    assert topic in again.stdout
    assert "TOPIC_AUTHORIZATION_FAILED" in again.stdout

    arrived = read_ledger(flow.target.bootstrap, topic, "run")
    assert all(found == [*range(len(found))] for found in arrived.values())
    assert 0 < sum(map(len, arrived.values())) < RECORDS * len(PARTITIONS)
    left = {p for p in PARTITIONS if len(arrived[p]) < RECORDS}
    assert stopped == left, "each partition that is not whole has its fault"
    rest = flow.copy(topic, other).expect(0).summary
    assert rest.records == sum(RECORDS - len(found) for found in arrived.values())
    flow.verify(topic, other)


def permission(side: str) -> str:
    return "READ" if side == "source" else "WRITE"


@pytest.mark.parametrize("exists", [False, True], ids=["made", "there"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_configs_that_may_not_be_read_are_a_warning(
    guarded: Flow, topic_name: Callable[[str], str], rng: random.Random, side: str, exists: bool
) -> None:
    flow, topic, other = guarded, topic_name("hidden"), topic_name("other")
    load(flow, topic, rng, 20)
    load(flow, other, rng, 20)
    if exists:
        create_topic(flow.target.bootstrap, topic, len(PARTITIONS))
    cluster = flow.source if side == "source" else flow.target
    with denial(cluster, topic, AclOperation.DESCRIBE_CONFIGS):
        (_, planned) = sorted(
            flow.copy(topic, other, "--dry-run").expect(0).plan.topics,
            key=lambda t: t.topic != other,
        )
        outcome = flow.copy(topic, other).expect(0)
    told = (side == "source" and not exists) or (side == "target" and exists)
    assert bool(planned.warnings) is told, planned
    for warning in planned.warnings:
        assert "grant DESCRIBE_CONFIGS" in warning
        assert warning in outcome.stderr
    flow.verify(topic, other)


def test_what_may_not_be_created_is_known_beforehand(
    guarded: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    flow, topic, other = guarded, topic_name("closed"), topic_name("other")
    load(flow, topic, rng, 20)
    load(flow, other, rng, 20)
    whole = (flow.target, "kafka-cluster", AclOperation.CREATE, ResourceType.BROKER)
    with denial(flow.target, topic, AclOperation.CREATE), denial(*whole):
        plan = flow.copy(topic, other, "--dry-run").expect(4).plan
        outcome = flow.copy(topic, other).expect(4)
    planned = {t.topic: t for t in plan.topics}
    assert (planned[topic].conflict_kind, planned[other].conflict) == ("denied", None)
    fault = outcome.fault()
    assert (fault.kind, fault.topic) == ("denied", topic)
    assert "CREATE on Topic" in fault.hint
    flow.verify(other)


@pytest.mark.parametrize("side", ["source", "target"])
def test_what_only_serves_estimates_and_defaults_may_be_denied(
    guarded: Flow, topic_name: Callable[[str], str], rng: random.Random, side: str
) -> None:
    """DESCRIBE_CONFIGS and DESCRIBE on Cluster: sizes and the defaults of new topics."""
    flow, topic = guarded, topic_name("estimates")
    load(flow, topic, rng, 20)
    cluster = flow.source if side == "source" else flow.target
    place = (cluster, "kafka-cluster")
    kind = ResourceType.BROKER
    with (
        denial(*place, AclOperation.DESCRIBE_CONFIGS, kind),
        denial(*place, AclOperation.DESCRIBE, kind),
    ):
        (planned,) = flow.copy(topic, "--dry-run").expect(0).plan.topics
        flow.copy(topic).expect(0)
    if side == "target":
        # What the target would do is not known, so all that matters is set.
        assert planned.configs.items() >= {"cleanup.policy": "delete"}.items()
        assert planned.configs["message.timestamp.type"] == "CreateTime"
    else:
        assert planned.bytes is None
    flow.verify(topic)


def test_a_topic_that_may_not_be_described_does_not_stop_the_others(
    guarded: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    flow, topic, other = guarded, topic_name("unseen"), topic_name("other")
    load(flow, topic, rng, 20)
    load(flow, other, rng, 20)
    with denial(flow.source, topic, AclOperation.DESCRIBE):
        plan = flow.copy(topic, other, "--dry-run").expect(3).plan
        outcome = flow.copy(topic, other).expect(3)
    assert [bool(t.conflict) for t in plan.topics].count(True) == 1
    fault = outcome.fault()
    assert (fault.kind, fault.side, fault.topic) == ("denied", "source", topic)
    flow.verify(other)


def test_a_topic_that_may_not_be_widened(
    guarded: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    flow, topic, other = guarded, topic_name("narrow"), topic_name("other")
    load(flow, topic, rng, 20)
    flow.copy(topic).expect(0)
    add_partitions(flow.source.bootstrap, topic, 5)
    load(flow, other, rng, 20)
    with denial(flow.target, topic, AclOperation.ALTER):
        flow.copy(topic, other, "--dry-run").expect(4)
        fault = flow.copy(topic, other).expect(4).fault()
    assert "ALTER on Topic" in fault.hint
    flow.verify(other)
    flow.copy(topic).expect(0)
    flow.verify(topic)
