"""The state topics on the target: made by hand, deleted, half deleted, or closed to this user."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from kit.clusters.faults import expect_fault
from kit.clusters.fixtures import ClusterFactory, Clusters
from kit.clusters.flow import Flow, topic_names
from kit.clusters.runner import wait_until
from replicator.lab.ledger import Ledger, read_ledger
from replicator.lab.logs import log_ranges
from replicator.lab.reading import Record, read_records
from replicator.lab.seed import Payload, Writer, create_topic, delete_records
from replicator.state import OFFSET_MAP_TOPIC, REGISTRY_TOPIC

STATE = (REGISTRY_TOPIC, OFFSET_MAP_TOPIC)
OPEN = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
Name = Callable[[str], str]


@pytest.fixture(scope="module")
def guarded(own_cluster: ClusterFactory, clusters: Clusters) -> Flow:
    return Flow(clusters.source, own_cluster("state-target", properties=OPEN))


@pytest.fixture
def fresh(guarded: Flow) -> Flow:
    """A target without state topics."""
    delete(guarded, *STATE)
    return guarded


def admin(flow: Flow) -> AdminClient:
    return AdminClient({"bootstrap.servers": flow.target.bootstrap, "log_level": 0})


def delete(flow: Flow, *topics: str) -> None:
    there = [name for name in topics if name in topic_names(flow.target.bootstrap)]
    client = admin(flow)
    for future in client.delete_topics(there).values() if there else ():
        future.result(30)
    wait_until(lambda: not set(topics) & topic_names(flow.target.bootstrap), "the topics are gone")


def make(flow: Flow, topics: tuple[str, ...], partitions: int, **config: str) -> None:
    configs = {key.replace("_", "."): value for key, value in config.items()}
    wanted = [NewTopic(name, partitions, 1, config=configs) for name in topics]
    client = admin(flow)
    for future in client.create_topics(wanted).values():
        future.result(30)


def config(flow: Flow, topic: str, key: str) -> str:
    resource, client = ConfigResource(ResourceType.TOPIC, topic), admin(flow)
    found = client.describe_configs([resource])[resource].result(30)
    return str(found[key].value)


@contextmanager
def denial(flow: Flow, kind: ResourceType, name: str, operation: AclOperation) -> Iterator[None]:
    """While the block runs this operation is denied, and all others are allowed."""
    place = (kind, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*")
    allow = AclBinding(*place, AclOperation.ALL, AclPermissionType.ALLOW)
    deny = AclBinding(*place, operation, AclPermissionType.DENY)
    both = AclBindingFilter(*place, AclOperation.ANY, AclPermissionType.ANY)
    client = admin(flow)
    try:
        for binding in (allow, deny):
            client.create_acls([binding])[binding].result(30)
        yield
    finally:
        client.delete_acls([both])[both].result(30)


def load(
    flow: Flow, topic: str, rng: random.Random, *, partitions: int = 2, records: int = 100
) -> Ledger:
    flow.create(topic, partitions)
    ledger = Ledger(topic, "run", rng)
    add(flow, ledger, records, partitions)
    return ledger


def add(flow: Flow, ledger: Ledger, records: int, partitions: int = 2) -> None:
    with Writer(flow.source.bootstrap, batch_records=10) as writer:
        ledger.write(writer, range(partitions), records)


def test_a_policy_that_deletes_state_is_put_right_and_told(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    make(fresh, STATE, 1, cleanup_policy="delete", retention_ms="5000", max_message_bytes="50000")
    topic = topic_name("t")
    ledger = load(fresh, topic, rng)
    planned = fresh.copy(topic, "--dry-run").expect(0)
    assert len(planned.plan.warnings) == 2
    assert config(fresh, REGISTRY_TOPIC, "cleanup.policy") == "delete", "a dry run changes nothing"
    outcome = fresh.copy(topic).expect(0)
    for name in STATE:
        assert config(fresh, name, "cleanup.policy") == "compact"
        assert int(config(fresh, name, "max.message.bytes")) >= 1_000_000
        told = f"the state topic {name} had cleanup.policy=delete, max.message.bytes=50000"
        assert told in outcome.stderr
        assert any(told in warning for warning in outcome.summary.warnings)
    add(fresh, ledger, 10)
    again = fresh.copy(topic).expect(0)
    assert again.summary.records == 20
    assert not again.summary.warnings
    fresh.verify(topic)


def test_a_policy_that_may_not_be_put_right_is_refused(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    make(fresh, STATE, 1, cleanup_policy="compact,delete")
    topic = topic_name("t")
    load(fresh, topic, rng)
    with denial(fresh, ResourceType.TOPIC, REGISTRY_TOPIC, AclOperation.ALTER_CONFIGS):
        outcome = fresh.copy(topic).expect(4)
    assert f"{REGISTRY_TOPIC} has cleanup.policy=compact,delete" in outcome.stderr
    assert f"grant ALTER_CONFIGS on Topic {REGISTRY_TOPIC}" in outcome.stderr
    assert "kafka-configs" in outcome.stderr
    assert topic not in topic_names(fresh.target.bootstrap)
    fresh.copy(topic).expect(0)
    fresh.verify(topic)


def test_configs_that_may_not_be_read_are_a_warning(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("t")
    load(fresh, topic, rng)
    fresh.copy(topic).expect(0)
    with denial(fresh, ResourceType.TOPIC, OFFSET_MAP_TOPIC, AclOperation.DESCRIBE_CONFIGS):
        summary = fresh.copy(topic).expect(0).summary
    (warning,) = summary.warnings
    assert f"DESCRIBE_CONFIGS on Topic {OFFSET_MAP_TOPIC}" in warning


def test_state_topics_with_several_partitions_are_refused_by_name(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    make(fresh, STATE, 3, cleanup_policy="delete", retention_ms="5000")
    topic = topic_name("t")
    load(fresh, topic, rng)
    for arguments in ([topic, "--dry-run"], [topic]):
        outcome = fresh.copy(*arguments).expect(4)
        for name in STATE:
            assert f"{name} has 3 partitions" in outcome.stderr
    assert topic not in topic_names(fresh.target.bootstrap)
    delete(fresh, *STATE)  # as the hint says
    fresh.copy(topic).expect(0)
    fresh.verify(topic)


def test_a_lost_map_is_told_and_the_copy_goes_on_after_what_is_there(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random, tmp_path: Path
) -> None:
    topic = topic_name("t")
    ledger = load(fresh, topic, rng)
    fresh.copy(topic).expect(0)
    delete(fresh, OFFSET_MAP_TOPIC)
    add(fresh, ledger, 50)
    assert fresh.copy(topic, "--dry-run").expect(11).plan.topics[0].conflict_kind == "state-lost"
    outcome = fresh.copy(topic)
    fault = expect_fault(outcome, "state-lost", side="target", topic=topic, exit_codes=(11,))
    assert "this copy wrote" in fault.message
    assert f"{OFFSET_MAP_TOPIC} was not there" in fault.message
    assert "--append" in fault.hint
    fresh.copy(topic, "--append").expect(2)  # from where?
    offsets = tmp_path / "next.txt"
    offsets.write_text(f"{topic} 0 100\n{topic} 1 100\n")
    assert fresh.copy(topic, "--append", "--from", str(offsets)).expect(0).summary.records == 100
    fresh.verify(topic)
    add(fresh, ledger, 10)
    fresh.copy(topic).expect(0)
    fresh.verify(topic)


def test_all_state_lost_is_told_from_a_stranger(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic, strange = topic_name("t"), topic_name("strange")
    load(fresh, topic, rng)
    load(fresh, strange, rng, partitions=1)
    create_topic(fresh.target.bootstrap, strange, 1)
    with Writer(fresh.target.bootstrap) as writer:  # idempotent, the only one, from the start
        writer.send(strange, 0, Payload(None, b"a stranger's"))
    fresh.copy(topic).expect(0)
    delete(fresh, *STATE)
    outcome = fresh.copy(topic, strange).expect(11)
    faults = {fault.topic: fault for fault in outcome.summary.faults}
    assert faults[topic].kind == "state-lost"
    assert f"{REGISTRY_TOPIC} was not there" in faults[topic].message
    assert faults[strange].kind == "refused"
    assert "did not write" in faults[strange].message


def test_a_lost_registry_is_made_anew_from_the_map(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic, later = topic_name("t"), topic_name("later")
    ledger = load(fresh, topic, rng)
    for _ in range(3):
        fresh.copy(topic).expect(0)
        add(fresh, ledger, 10)
    delete(fresh, REGISTRY_TOPIC)
    outcome = fresh.copy(topic).expect(0)
    assert outcome.summary.records == 20
    assert f"{REGISTRY_TOPIC} had lost its records" in outcome.stderr
    add(fresh, ledger, 10)
    load(fresh, later, rng)
    assert not fresh.copy(topic, later).expect(0).summary.warnings
    fresh.verify(topic, later)
    # The producer id has been entered again: the loss of the map is told for what it is.
    delete(fresh, OFFSET_MAP_TOPIC)
    assert "this copy wrote" in fresh.copy(topic).fault().message


def test_state_is_read_without_a_group(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("t")
    ledger = load(fresh, topic, rng)
    with denial(fresh, ResourceType.GROUP, "*", AclOperation.ALL):
        fresh.copy(topic).expect(0)
        add(fresh, ledger, 10)
        outcome = fresh.copy(topic).expect(0)
    assert outcome.summary.records == 20
    fresh.verify(topic)


def test_missing_rights_to_make_state_topics_name_all_that_is_needed(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("t")
    load(fresh, topic, rng)
    create_topic(fresh.target.bootstrap, topic, 2)
    cluster = (ResourceType.BROKER, "kafka-cluster")
    with denial(fresh, *cluster, AclOperation.CREATE), closed(fresh):
        outcome = fresh.copy(topic).expect(4)
        for name in STATE:
            assert name in outcome.stderr.splitlines()[0]
            assert f"--topic {name} --partitions 1 --replication-factor 1" in outcome.stderr
        assert "--config cleanup.policy=compact" in outcome.stderr
        assert "DESCRIBE, READ and WRITE" in outcome.stderr
    make(fresh, STATE, 1, cleanup_policy="compact")  # as an administrator does
    fresh.copy(topic).expect(0)
    fresh.verify(topic)


@contextmanager
def closed(flow: Flow) -> Iterator[None]:
    """The user has no CREATE on the state topics; everything else is allowed."""
    with (
        denial(flow, ResourceType.TOPIC, REGISTRY_TOPIC, AclOperation.CREATE),
        denial(flow, ResourceType.TOPIC, OFFSET_MAP_TOPIC, AclOperation.CREATE),
    ):
        yield


def test_a_right_to_write_state_that_is_missing_is_named(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("t")
    ledger = load(fresh, topic, rng)
    fresh.copy(topic).expect(0)
    add(fresh, ledger, 10)
    for name, operation in (
        (REGISTRY_TOPIC, AclOperation.WRITE),
        (OFFSET_MAP_TOPIC, AclOperation.WRITE),
        (REGISTRY_TOPIC, AclOperation.READ),
        (OFFSET_MAP_TOPIC, AclOperation.READ),
    ):
        with denial(fresh, ResourceType.TOPIC, name, operation):
            outcome = fresh.copy(topic).expect(4)
        assert f"grant {operation.name} on Topic {name}" in outcome.stderr, outcome
        assert "Traceback" not in outcome.stderr
    fresh.copy(topic).expect(0)
    fresh.verify(topic)


def test_what_follows_writes_into_a_topic_that_others_filled(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """--append writes after what is there, and a rerun goes on as always."""
    topic = topic_name("t")
    ledger = load(fresh, topic, rng, partitions=1)
    create_topic(fresh.target.bootstrap, topic, 1)
    with Writer(fresh.target.bootstrap) as writer:
        for _ in range(5):
            writer.send(topic, 0, Payload(None, b"of before"))
    refused = fresh.copy(topic)
    assert "--append" in expect_fault(refused, "refused", side="target", topic=topic).hint
    fresh.copy(topic, "--append", "--from", "earliest").expect(0)
    add(fresh, ledger, 7, partitions=1)
    assert fresh.copy(topic).expect(0).summary.records == 7
    delete_records(fresh.target.bootstrap, topic, {0: 5})
    assert read_ledger(fresh.target.bootstrap, topic, "run") == {0: [*range(107)]}


def test_after_another_writer_the_copy_goes_on_after_what_is_there(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random, tmp_path: Path
) -> None:
    """The fault's hint must offer a way on besides deleting the target topic."""
    topic = topic_name("t")
    ledger = load(fresh, topic, rng, partitions=1)
    fresh.copy(topic).expect(0)
    with Writer(fresh.target.bootstrap) as writer:
        writer.send(topic, 0, Payload(None, b"a stranger's"))
    add(fresh, ledger, 50, partitions=1)
    outcome = fresh.copy(topic)
    fault = expect_fault(outcome, "foreign-writer", side="target", topic=topic, partition=0)
    assert "--restart --append --from" in fault.hint
    offsets = tmp_path / "next.txt"
    offsets.write_text(f"{topic} 0 100\n")
    again = fresh.copy(topic, "--restart", "--append", "--from", str(offsets)).expect(0)
    assert again.summary.records == 50
    add(fresh, ledger, 7, partitions=1)
    assert fresh.copy(topic).expect(0).summary.records == 7
    values = [record.value() for record in read_all(fresh, topic)]
    assert values.pop(100) == b"a stranger's"
    assert len(values) == len(set(values)) == 157


def read_all(flow: Flow, topic: str) -> Iterator[Record]:
    ranges = log_ranges(flow.target.bootstrap, [topic])
    return read_records(flow.target.bootstrap, ranges)


def test_state_topics_deleted_under_a_follower(
    fresh: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """The follower still copies correctly; the next run tells what is lost."""
    topic = topic_name("t")
    ledger = load(fresh, topic, rng)
    with fresh.start(topic, "--until", "forever") as copier:
        fresh.wait_for_arrivals(copier, topic, 199)
        delete(fresh, *STATE)
        add(fresh, ledger, 10)
        fresh.wait_for_arrivals(copier, topic, 219)
        copier.interrupt()
        copier.wait(30).expect(130)
    fresh.verify(topic)
    expect_fault(fresh.copy(topic), "state-lost", side="target", topic=topic, exit_codes=(11,))
