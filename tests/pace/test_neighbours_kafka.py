"""What other clients write to a real broker, as a user with few permissions sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from kit.clusters.fixtures import ClusterFactory
from replicator.cluster import Cluster
from replicator.cluster.config import load_client_config
from replicator.lab import LabCluster
from replicator.lab.seed import Payload, Writer, create_topic
from replicator.pace.neighbours import Neighbours

AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@pytest.fixture(scope="module")
def guarded(own_cluster: ClusterFactory) -> LabCluster:
    return own_cluster("others", properties=AUTHORIZER)


@pytest.fixture
def target(guarded: LabCluster) -> Iterator[Cluster]:
    config = load_client_config(guarded.bootstrap, None, [], side="target")
    with closing(Cluster(config, "target")) as cluster:
        cluster.connect()
        yield cluster


def write(lab: LabCluster, topic: str, records: int) -> None:
    with Writer(lab.bootstrap, linger_ms=0) as writer:
        for _ in range(records):
            writer.send(topic, 0, Payload(b"k", b"v"))


def add_acl(lab: LabCluster, topic: str, user: str) -> None:
    admin = AdminClient({"bootstrap.servers": lab.bootstrap})
    place = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL)
    binding = AclBinding(*place, user, "*", AclOperation.ALL, AclPermissionType.ALLOW)
    admin.create_acls([binding])[binding].result(30)


def test_of_others_only_what_may_be_seen_is_known(
    guarded: LabCluster, target: Cluster, topic_name: Callable[[str], str]
) -> None:
    theirs, ours = topic_name("theirs"), topic_name("ours")
    create_topic(guarded.bootstrap, theirs)
    create_topic(guarded.bootstrap, ours)
    others = Neighbours(target, [ours])
    others.look()
    assert others.rate is None
    others.look()
    assert others.rate == 0.0
    write(guarded, ours, 100)
    others.look()
    assert others.rate == 0.0
    write(guarded, theirs, 100)
    others.look()
    assert others.rate is not None and others.rate > 0

    # From now on this user does not see topics without an ACL for User:ANONYMOUS.
    for topic, user in ((theirs, "User:ANONYMOUS"), ("*", "User:somebody")):
        add_acl(guarded, topic, user)
    others = Neighbours(target, [ours])
    for _ in range(2):
        others.look()
        assert others.rate is None
    write(guarded, theirs, 100)
    others.look()
    assert others.rate is not None and others.rate > 0
