"""Topics created and configs read on real brokers, with and without the permission to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

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
from replicator.cluster import Cluster, Denied, Unreachable
from replicator.cluster.admin import Admin, TopicConfigs, TopicSpec
from replicator.cluster.config import load_client_config
from replicator.cluster.configs import HELD_BACK
from replicator.cluster.errors import BrokerError
from replicator.lab import LabCluster
from replicator.lab.seed import create_topic

TopicName = Callable[[str], str]


def configs_of(admin: Admin, *topics: str) -> list[TopicConfigs]:
    found = admin.describe_topic_configs(topics)
    answers: list[TopicConfigs] = []
    for topic in topics:
        answer = found[topic]
        assert isinstance(answer, TopicConfigs), answer
        answers.append(answer)
    return answers


class Target(NamedTuple):
    cluster: Cluster
    admin: Admin


Connect = Callable[[LabCluster], Target]


@pytest.fixture
def connect_to() -> Iterator[Connect]:
    with ExitStack() as stack:

        def make(lab: LabCluster) -> Target:
            cluster = Cluster(load_client_config(lab.bootstrap, None, [], side="target"), "target")
            stack.callback(cluster.close)
            cluster.connect()
            return Target(cluster, Admin(cluster))

        yield make


@pytest.fixture
def lab(cluster_factory: ClusterFactory) -> LabCluster:
    return cluster_factory("target")


@pytest.fixture
def target(lab: LabCluster, connect_to: Connect) -> Target:
    return connect_to(lab)


def test_topics_are_created_with_their_configs_and_ready(
    target: Target, topic_name: TopicName
) -> None:
    configs = {"retention.ms": "5000", "cleanup.policy": "compact,delete"}
    specs = [
        TopicSpec(topic_name("plain"), 1, 1),
        TopicSpec(topic_name("wide"), 60, 1, configs),
        TopicSpec(topic_name("x" * (248 - len(topic_name("")))), 1, 1),
    ]
    assert target.admin.create_topics(specs) == {}
    found = configs_of(target.admin, *(spec.name for spec in specs))
    assert [dict(topic.overrides) for topic in found] == [{}, configs, {}]
    assert found[1].effective["retention.ms"] == "5000"
    assert found[0].effective["cleanup.policy"] == "delete"
    # Ready means that the leaders themselves answer, without any patience.
    places = [(spec.name, number) for spec in specs for number in range(spec.partitions)]
    ends = target.cluster.leader_end_offsets(places, timeout=0.0)
    assert all((end.offset, end.error) == (0, 0) for end in ends.values())


def test_one_topic_that_fails_does_not_stop_the_others(
    target: Target, topic_name: TopicName
) -> None:
    good, exists = topic_name("good"), topic_name("exists")
    wrong, greedy, named = topic_name("wrong"), topic_name("greedy"), topic_name("bad/name")
    assert target.admin.create_topics([TopicSpec(exists, 1, 1)]) == {}
    failed = target.admin.create_topics(
        [
            TopicSpec(good, 2, 1),
            TopicSpec(exists, 1, 1),
            TopicSpec(wrong, 1, 1, {"retention.ms": "soon"}),
            TopicSpec(greedy, 1, 3),
            TopicSpec(named, 1, 1),
        ]
    )
    expected = {
        exists: "TOPIC_ALREADY_EXISTS",
        wrong: "INVALID_CONFIG",
        greedy: "INVALID_REPLICATION_FACTOR",
        named: "INVALID_TOPIC_EXCEPTION",
    }
    assert set(failed) == set(expected)
    for name, error in failed.items():
        assert isinstance(error, BrokerError)
        assert error.side == "target"
        assert error.name == expected[name]
        assert name in error.message
        assert error.hint
    assert "retention.ms" in failed[wrong].message  # the broker's own words
    assert len(target.cluster.metadata([good])[good].partitions) == 2


@pytest.mark.parametrize("config", sorted(HELD_BACK))
def test_why_configs_are_held_back(target: Target, topic_name: TopicName, config: str) -> None:
    """Kafka 4 refuses what it has retired; the others it takes, and they bind or change."""
    values = {
        "message.timestamp.type": "LogAppendTime",
        "unclean.leader.election.enable": "true",
        "message.format.version": "2.8",
        "message.downconversion.enable": "true",
        "message.timestamp.difference.max.ms": "1000",
        "min.insync.replicas": "1",
        "message.timestamp.before.max.ms": "1000",
    }
    name = topic_name("a")
    failed = target.admin.create_topics([TopicSpec(name, 1, 1, {config: values.get(config, "*")})])
    retired = {
        "message.format.version",
        "message.downconversion.enable",
        "message.timestamp.difference.max.ms",
    }
    if config in retired:
        assert "Unknown topic config name" in failed[name].message
    else:
        assert failed == {}


def test_configs_are_changed_and_taken_away(target: Target, topic_name: TopicName) -> None:
    name = topic_name("a")
    target.admin.create_topics([TopicSpec(name, 1, 1, {"retention.ms": "5000"})])
    target.admin.alter_topic_configs(name, {"retention.ms": None, "cleanup.policy": "compact"})
    (found,) = configs_of(target.admin, name)
    assert found.overrides == {"cleanup.policy": "compact"}
    assert found.effective["retention.ms"] == "604800000"
    with pytest.raises(BrokerError, match=r"change configs of topic .* INVALID_CONFIG"):
        target.admin.alter_topic_configs(name, {"retention.ms": "soon"})


def test_a_creation_that_is_only_looked_at(target: Target, topic_name: TopicName) -> None:
    fine, wrong = topic_name("fine"), topic_name("wrong")
    specs = [TopicSpec(fine, 1, 1), TopicSpec(wrong, 1, 1, {"retention.ms": "soon"})]
    assert set(target.admin.request_topics(specs, validate_only=True)) == {wrong}
    assert target.cluster.metadata([fine])[fine].error == 3
    target.admin.create_topics([TopicSpec(fine, 2, 1)])
    assert target.admin.widen_topics({fine: 3}, validate_only=True) == {}
    assert len(target.cluster.metadata([fine])[fine].partitions) == 2
    assert target.admin.widen_topics({fine: 3}) == {}
    assert len(target.cluster.await_leaders({fine: 3})[0][fine].partitions) == 3
    narrower = target.admin.widen_topics({fine: 1})[fine]
    assert isinstance(narrower, BrokerError)
    assert narrower.name == "INVALID_PARTITIONS"


def test_more_partitions_than_a_controller_takes_at_once(
    target: Target, topic_name: TopicName
) -> None:
    """The controller refuses every topic of a request for more than 10,000 partitions."""
    specs = [TopicSpec(topic_name(f"wide-{number}"), 1500, 1) for number in range(8)]
    assert target.admin.request_topics(specs, validate_only=True) == {}


def test_a_topic_that_is_not_there(target: Target, topic_name: TopicName) -> None:
    gone, there = topic_name("gone"), topic_name("there")
    target.admin.create_topics([TopicSpec(there, 1, 1)])
    found = target.admin.describe_topic_configs([gone, there])
    error = found[gone]
    assert isinstance(error, BrokerError)
    assert error.name == "UNKNOWN_TOPIC_OR_PARTITION"
    assert gone in error.message
    assert isinstance(found[there], TopicConfigs)


DEFAULTS = {
    "log.retention.hours": "3",
    "message.max.bytes": "2000000",
    "log.cleanup.policy": "compact",
}


@pytest.fixture
def configured(own_cluster: ClusterFactory) -> LabCluster:
    """A broker whose defaults are not Kafka's."""
    return own_cluster("defaults", properties=DEFAULTS)


def test_what_a_new_topic_gets(
    configured: LabCluster, connect_to: Connect, topic_name: TopicName
) -> None:
    target = connect_to(configured)
    defaults = target.admin.topic_defaults()
    name = topic_name("a")
    assert target.admin.create_topics([TopicSpec(name, 1, 1)]) == {}
    effective = configs_of(target.admin, name)[0].effective
    assert defaults["retention.ms"] == "10800000"
    assert defaults["max.message.bytes"] == "2000000"
    assert {key: effective[key] for key in defaults} == defaults


def test_a_broker_that_does_not_answer(
    configured: LabCluster, connect_to: Connect, topic_name: TopicName
) -> None:
    target = connect_to(configured)
    configured.pause()
    try:
        name = topic_name("a")
        failed = target.admin.create_topics([TopicSpec(name, 1, 1)], timeout=1.0)
    finally:
        configured.resume()
        configured.wait_ready()
    assert isinstance(failed[name], Unreachable)
    assert failed[name].side == "target"
    assert configured.bootstrap in failed[name].message


# Permissions

AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@pytest.fixture
def guarded(own_cluster: ClusterFactory, connect_to: Connect) -> Target:
    """A cluster where a topic that has an ACL is closed but for that, and all others are open."""
    target = connect_to(own_cluster("guarded", properties=AUTHORIZER))
    allow, deny = AclPermissionType.ALLOW, AclPermissionType.DENY
    # The brokers are the same anonymous user as we are, and keep all they need.
    cluster = (ResourceType.BROKER, "kafka-cluster")
    add_acl(target, *cluster, AclOperation.ALL, allow)
    add_acl(target, *cluster, AclOperation.CREATE, deny)
    add_acl(target, *cluster, AclOperation.DESCRIBE, deny)
    add_acl(target, *cluster, AclOperation.DESCRIBE_CONFIGS, deny)
    return target


def add_acl(
    target: Target,
    kind: ResourceType,
    name: str,
    operation: AclOperation,
    permission: AclPermissionType = AclPermissionType.ALLOW,
) -> None:
    admin = AdminClient({**target.cluster.config.librdkafka()})
    literal = ResourcePatternType.LITERAL
    binding = AclBinding(kind, name, literal, "User:ANONYMOUS", "*", operation, permission)
    for future in admin.create_acls([binding]).values():
        future.result(30)


def test_a_denied_create_names_the_acl(guarded: Target, topic_name: TopicName) -> None:
    denied, free = topic_name("denied"), topic_name("free")
    add_acl(guarded, ResourceType.TOPIC, denied, AclOperation.DESCRIBE)
    failed = guarded.admin.create_topics([TopicSpec(denied, 1, 1), TopicSpec(free, 1, 1)])
    assert set(failed) == {denied}
    assert isinstance(failed[denied], Denied)
    assert failed[denied].side == "target"
    assert failed[denied].hint == f"grant CREATE on Topic {denied} to the user of this client"


def test_denied_configs_name_the_acl(guarded: Target, topic_name: TopicName) -> None:
    name = topic_name("a")
    create_topic(guarded.cluster.config.bootstrap_text, name)
    add_acl(guarded, ResourceType.TOPIC, name, AclOperation.DESCRIBE)
    error = guarded.admin.describe_topic_configs([name])[name]
    assert isinstance(error, Denied)
    assert "TOPIC_AUTHORIZATION_FAILED" in error.message
    assert error.hint == f"grant DESCRIBE_CONFIGS on Topic {name} to the user of this client"
    with pytest.raises(Denied) as caught:
        guarded.admin.alter_topic_configs(name, {"retention.ms": "1"})
    assert caught.value.hint == f"grant ALTER_CONFIGS on Topic {name} to the user of this client"


def test_a_topic_we_may_not_describe(guarded: Target, topic_name: TopicName) -> None:
    name = topic_name("a")
    create_topic(guarded.cluster.config.bootstrap_text, name)
    add_acl(guarded, ResourceType.TOPIC, name, AclOperation.CREATE)
    cluster = guarded.cluster
    assert cluster.metadata([name])[name].error == 29
    assert name not in cluster.metadata()
    assert cluster.list_offsets([(name, 0)], "latest")[name, 0].error == 29
    error = cluster.error(29, f"read {name}", acl=f"DESCRIBE on Topic {name}")
    assert isinstance(error, Denied)
    assert "TOPIC_AUTHORIZATION_FAILED (29)" in error.message


def test_estimates_do_without_what_is_denied(guarded: Target, topic_name: TopicName) -> None:
    name = topic_name("a")
    create_topic(guarded.cluster.config.bootstrap_text, name)
    assert guarded.cluster.partition_bytes([(name, 0)]) == {}
    assert guarded.admin.topic_defaults() == {}
