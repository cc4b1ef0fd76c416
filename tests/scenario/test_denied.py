"""A permission taken away in the middle of a copy stops what it hits, by name; the rest goes on."""

from __future__ import annotations

import random
from collections.abc import Iterator
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

from kit.faults import expect_fault
from kit.flow import Flow
from replicator.lab import LabCluster
from replicator.lab.ledger import Ledger, read_ledger
from replicator.lab.seed import Writer

SLOW = ("--memory", "8MiB", "--throttle", "2MB/s")
PARTITIONS = (0, 1, 2)
RECORDS = 6000  # of each partition: twice the memory, and some 10 seconds of a slow copy
AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@pytest.fixture(scope="module")
def guarded(own_cluster) -> Flow:
    """Clusters where a topic that has an ACL is closed but for that, and all others are open."""
    return Flow(
        own_cluster("guarded-source", properties=AUTHORIZER),
        own_cluster("guarded-target", properties=AUTHORIZER),
    )


@contextmanager
def denial(cluster: LabCluster, topic: str, operation: AclOperation) -> Iterator[None]:
    """While the block runs, everything but this operation is allowed on the topic; denials win."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    literal, everyone = ResourcePatternType.LITERAL, "User:ANONYMOUS"
    place = (ResourceType.TOPIC, topic, literal, everyone, "*")
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
    guarded, topic_name, rng, side, operation, exit_code
):
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
