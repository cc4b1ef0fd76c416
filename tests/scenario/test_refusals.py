"""What is refused before anything is copied, and with which exit code."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kit.clusters.flow import Flow, topic_names
from kit.clusters.runner import copy_arguments, copystream
from replicator.lab.ports import free_ports
from replicator.lab.seed import Payload, Writer, create_topic


def load(flow: Flow, topic: str, *, partitions: int = 2) -> None:
    flow.create(topic, partitions)
    with Writer(flow.source.bootstrap) as writer:
        for index in range(100):
            writer.send(topic, index % partitions, Payload(b"%d" % index, b"value"))


def test_a_pattern_never_takes_internal_topics(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    stem = topic_name("own")
    internal = [f"mm2-{stem}.internal", f"{stem}.checkpoints.internal", f"__{stem}", f".{stem}"]
    for name in [stem, *internal]:
        load(flow, name)
    outcome = flow.copy(f".*{stem}.*").expect(0)
    assert [topic.topic for topic in outcome.summary.topics] == [stem]
    assert set(outcome.summary.skipped) == set(internal)
    assert set(flow.copy(f".*{stem}.*", "--dry-run").expect(0).plan.skipped) == set(internal)
    assert all(name in outcome.stderr for name in internal)
    assert not topic_names(flow.target.bootstrap) & set(internal)
    flow.verify(stem)
    outright = flow.copy(internal[0]).expect(2)
    assert "MirrorMaker 2's" in outright.stderr
    nothing = flow.copy(f"__{stem}.*").expect(2)
    assert "no topic is left to copy" in nothing.stderr


def test_topics_of_users_that_end_in_internal_are_copied(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    """Only MirrorMaker 2 before 4.0 treated them as internal (KIP-1074)."""
    stem = topic_name("own")
    users = [f"{stem}-internal", f"{stem}.internal"]
    for name in users:
        load(flow, name)
    summary = flow.copy(f"{stem}.*").expect(0).summary
    assert {topic.topic for topic in summary.topics} == set(users)
    assert not summary.skipped
    assert flow.copy(users[0]).expect(0).summary.status == "nothing-left"
    flow.verify(*users)


def test_a_name_wins_over_its_meaning_as_a_pattern(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    dotted, other = topic_name("a.b"), topic_name("axb")
    load(flow, dotted)
    load(flow, other)
    summary = flow.copy(dotted).expect(0).summary
    assert [topic.topic for topic in summary.topics] == [dotted]


def test_a_topic_that_is_not_there(flow: Flow, topic_name: Callable[[str], str]) -> None:
    missing = topic_name("nowhere")
    outcome = flow.copy(missing)
    assert outcome.exit_code == 2, outcome
    assert missing in outcome.stderr + outcome.stdout
    assert missing not in topic_names(flow.source.bootstrap)


def test_a_target_topic_with_records_of_others_is_refused_and_left_alone(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    topic, fine = topic_name("taken"), topic_name("fine")
    load(flow, topic)
    load(flow, fine)
    create_topic(flow.target.bootstrap, topic, 2)
    with Writer(flow.target.bootstrap) as writer:
        writer.send(topic, 0, Payload(None, b"somebody else's"))
    plan = flow.copy(topic, fine, "--dry-run")
    conflicts = {planned.topic: planned.conflict for planned in plan.plan.topics}
    assert conflicts[topic]
    assert conflicts[fine] is None
    outcome = flow.copy(topic)
    assert outcome.exit_code in (7, 11), outcome
    assert outcome.exit_code == plan.exit_code
    assert topic in outcome.stderr + outcome.stdout
    assert flow.arrived(topic) == 1


def test_records_of_others_are_found_beside_our_own(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    """Each partition is checked: our records in one do not excuse other clients' in another."""
    topic = topic_name("half")
    load(flow, topic)
    create_topic(flow.target.bootstrap, topic, 2)
    with Writer(flow.target.bootstrap) as writer:
        writer.send(topic, 0, Payload(None, b"somebody else's"))
    flow.copy(topic, "--partitions", "1").expect(0)
    outcome = flow.copy(topic).expect(7)
    assert "already holds records" in outcome.fault().message


def test_an_empty_target_topic_that_exists_is_used(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    topic = topic_name("ready")
    load(flow, topic)
    create_topic(flow.target.bootstrap, topic, 2)
    summary = flow.copy(topic).expect(0).summary
    assert not summary.topics[0].created
    flow.verify(topic)


@pytest.mark.parametrize("partitions", [1, 3])
def test_another_partition_count_is_refused(
    flow: Flow, topic_name: Callable[[str], str], partitions: int
) -> None:
    topic = topic_name("count")
    load(flow, topic)
    create_topic(flow.target.bootstrap, topic, partitions)
    outcome = flow.copy(topic)
    assert outcome.exit_code in (7, 11), outcome
    assert "partition" in outcome.stderr + outcome.stdout
    assert flow.arrived(topic) == 0


def test_settings_that_would_alter_records_are_held_back_and_named(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    """Topic configs that alter records are not carried over, and the user is told."""
    topic = topic_name("held")
    flow.create(
        topic,
        config={
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": "987654321",
            "follower.replication.throttled.replicas": "*",
        },
    )
    (planned,) = flow.copy(topic, "--dry-run").expect(0).plan.topics
    assert planned.configs == {"retention.ms": "987654321"}
    assert set(planned.held_back) == {
        "message.timestamp.type",
        "follower.replication.throttled.replicas",
    }
    (copied,) = flow.copy(topic).expect(0).summary.topics
    assert set(copied.held_back) == set(planned.held_back)


@pytest.mark.parametrize(("side", "exit_code"), [("source", 3), ("target", 4)])
def test_a_cluster_that_cannot_be_reached(flow: Flow, side: str, exit_code: int) -> None:
    (port,) = free_ports(1)
    addresses = {"source": flow.source.bootstrap, "target": flow.target.bootstrap}
    addresses[side] = f"127.0.0.1:{port}"
    outcome = copystream(*copy_arguments(addresses["source"], addresses["target"], "any"))
    assert outcome.exit_code == exit_code, outcome
    assert f"127.0.0.1:{port}" in outcome.stderr + outcome.stdout


def test_a_cluster_is_not_copied_onto_itself(flow: Flow, topic_name: Callable[[str], str]) -> None:
    topic = topic_name("self")
    load(flow, topic)
    outcome = copystream(*copy_arguments(flow.source.bootstrap, flow.source.bootstrap, topic))
    assert outcome.exit_code == 2, outcome


def test_nothing_is_written_on_the_source(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("untouched")
    load(flow, topic)
    before = topic_names(flow.source.bootstrap)
    flow.copy(topic).expect(0)
    assert topic_names(flow.source.bootstrap) == before


@pytest.mark.parametrize(("side", "exit_code"), [("source", 3), ("target", 4)])
def test_a_controller_is_named(
    flow: Flow, topic_name: Callable[[str], str], side: str, exit_code: int
) -> None:
    """Its port is easily confused with a broker's where one process has both roles."""
    broker = {"source": flow.source.bootstrap, "target": flow.target.bootstrap}
    (node,) = (flow.source if side == "source" else flow.target)._nodes
    broker[side] = f"127.0.0.1:{node.controller_port}"
    outcome = copystream(*copy_arguments(broker["source"], broker["target"], topic_name("t")))
    outcome.expect(exit_code)
    assert f"{broker[side]} is a KRaft controller" in outcome.stderr
    assert "a broker's listener" in outcome.stderr
