"""A dry run predicts what the run then does: the same topics, reasons and exit code."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient

from kit.clusters.flow import Flow, topic_names
from kit.clusters.runner import wait_until
from kit.clusters.topics import add_partitions
from replicator.lab.seed import Payload, Writer, create_topic

DAY = 86_400_000


def load(flow: Flow, topic: str, partitions: int = 1, *, age: int = 0) -> None:
    stamp = int(time.time() * 1000) - age
    with Writer(flow.source.bootstrap) as writer:
        for index in range(30):
            payload = Payload(b"%d" % (index % 3), b"value", [], stamp)
            writer.send(topic, index % partitions, payload)


def delete(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in topic_names(bootstrap), f"{topic} is gone")


def fine(flow: Flow, topic: str) -> None:
    flow.create(topic)
    load(flow, topic)


def grown(flow: Flow, topic: str) -> None:
    fine(flow, topic)
    flow.copy(topic).expect(0)
    add_partitions(flow.source.bootstrap, topic, 3)
    load(flow, topic, 3)


def foreign(flow: Flow, topic: str) -> None:
    fine(flow, topic)
    create_topic(flow.target.bootstrap, topic)
    with Writer(flow.target.bootstrap) as writer:
        writer.send(topic, 0, Payload(None, b"somebody else's"))


def other_count(flow: Flow, topic: str) -> None:
    fine(flow, topic)
    create_topic(flow.target.bootstrap, topic, 2)


def stamped(flow: Flow, topic: str) -> None:
    fine(flow, topic)
    config = {"message.timestamp.type": "LogAppendTime"}
    create_topic(flow.target.bootstrap, topic, config=config)


def short(flow: Flow, topic: str) -> None:
    flow.create(topic)
    load(flow, topic, age=2 * DAY)
    create_topic(flow.target.bootstrap, topic, config={"retention.ms": str(DAY)})


def compacted(flow: Flow, topic: str) -> None:
    fine(flow, topic)
    create_topic(flow.target.bootstrap, topic, config={"cleanup.policy": "compact"})


def taken_name(flow: Flow, topic: str) -> None:
    fine(flow, topic)
    create_topic(flow.target.bootstrap, topic.replace("-", "_").replace(".", "_"))


def recreated(flow: Flow, topic: str) -> None:
    fine(flow, topic)
    flow.copy(topic).expect(0)
    delete(flow.source.bootstrap, topic)
    fine(flow, topic)


def target_gone(flow: Flow, topic: str) -> None:
    fine(flow, topic)
    flow.copy(topic).expect(0)
    delete(flow.target.bootstrap, topic)


def repartitioned(flow: Flow, topic: str) -> None:
    fine(flow, topic)
    flow.copy(topic, "--partitioner", "murmur2", "--target-partitions", "2").expect(0)


def done(flow: Flow, topic: str) -> None:
    fine(flow, topic)
    flow.copy(topic).expect(0)


SITUATIONS: dict[Callable[[Flow, str], None], int] = {
    fine: 0,
    done: 0,
    grown: 0,
    foreign: 7,
    other_count: 7,
    stamped: 7,
    short: 7,
    compacted: 7,
    taken_name: 7,
    recreated: 11,
    target_gone: 11,
    repartitioned: 11,
}


@pytest.mark.timeout(300)
def test_a_dozen_topics_with_different_troubles(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    topics = {}
    for make, code in SITUATIONS.items():
        topic = topic_name(make.__name__).replace("-", "_") + ".x"
        make(flow, topic)
        topics[topic] = code
    for chosen in ([*topics], [t for t, code in topics.items() if code in (0, 7)]):
        code = max(topics[topic] for topic in chosen)
        plan = flow.copy(*chosen, "--dry-run").expect(code).plan
        outcome = flow.copy(*chosen).expect(code)
        predicted = {t.topic: (t.conflict_kind, t.conflict) for t in plan.topics if t.conflict}
        assert set(predicted) == {topic for topic in chosen if topics[topic]}
        faults = {fault.topic: fault for fault in outcome.summary.faults}
        assert set(faults) == set(predicted)
        for topic, (kind, text) in predicted.items():
            assert faults[topic].kind == kind
            assert text in faults[topic].message
            assert faults[topic].exit_code == topics[topic]
    good = [topic for topic, code in topics.items() if code == 0]
    flow.verify(*good)
