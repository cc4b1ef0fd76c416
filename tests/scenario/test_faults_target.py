"""Faults of the target end their partitions, with a name and an exit code; the rest goes on."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from kit.clusters.faults import expect_fault
from kit.clusters.flow import Flow
from kit.clusters.segments import batches
from replicator.lab.ledger import Ledger, read_ledger
from replicator.lab.seed import KEEP, YEAR_2001_MS, Payload, Writer, create_topic, delete_topic

SLOW = ("--memory", "8MiB", "--throttle", "2MB/s")


def load(flow: Flow, topic: str, rng: random.Random, records: int) -> Ledger:
    flow.create(topic, 3)
    ledger = Ledger(topic, "run", rng)
    add(flow, ledger, records)
    return ledger


def add(flow: Flow, ledger: Ledger, records: int) -> None:
    with Writer(flow.source.bootstrap, batch_bytes=20_000) as writer:
        ledger.write(writer, (0, 1, 2), records, size=1000)


def intrude(flow: Flow, topic: str, partition: int) -> None:
    with Writer(flow.target.bootstrap, linger_ms=0) as writer:
        writer.send(topic, partition, Payload(b"foreign", b"record"))


def test_another_client_wrote_into_the_target_between_runs(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("foreign")
    ledger = load(flow, topic, rng, 100)
    flow.copy(topic).expect(0)
    intrude(flow, topic, 1)
    add(flow, ledger, 50)
    outcome = flow.copy(topic)
    expect_fault(outcome, "foreign-writer", side="target", topic=topic, partition=1, offset=100)
    flow.verify(topic, partitions=[0, 2])
    assert flow.arrived(topic) == 150 + 101 + 150


def test_another_client_wrote_into_the_target_and_nothing_was_left_to_copy(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("foreign")
    load(flow, topic, rng, 100)
    flow.copy(topic).expect(0)
    intrude(flow, topic, 1)
    expect_fault(flow.copy(topic), "foreign-writer", side="target", topic=topic, partition=1)


def test_another_client_writes_into_the_target_during_a_copy(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("foreign")
    load(flow, topic, rng, 3000)
    with flow.start(topic, *SLOW) as copier:
        flow.wait_for_arrivals(copier, topic)
        intrude(flow, topic, 1)
        outcome = copier.wait()
    expect_fault(outcome, "foreign-writer", side="target", topic=topic, partition=1)
    flow.verify(topic, partitions=[0, 2])
    expect_fault(flow.copy(topic), "foreign-writer", side="target", topic=topic, partition=1)


def test_a_target_topic_deleted_between_runs(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic, other = topic_name("gone"), topic_name("other")
    load(flow, topic, rng, 100)
    bystander = load(flow, other, rng, 100)
    flow.copy(topic, other).expect(0)
    delete_topic(flow.target.bootstrap, topic)
    add(flow, bystander, 50)
    outcome = flow.copy(topic, other)
    expect_fault(outcome, "target-deleted", side="target", topic=topic)
    flow.verify(other)


def test_a_target_topic_recreated_between_runs(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic, other = topic_name("again"), topic_name("other")
    load(flow, topic, rng, 100)
    bystander = load(flow, other, rng, 100)
    flow.copy(topic, other).expect(0)
    delete_topic(flow.target.bootstrap, topic)
    create_topic(flow.target.bootstrap, topic, 3)
    add(flow, bystander, 50)
    outcome = flow.copy(topic, other)
    expect_fault(outcome, "target-recreated", side="target", topic=topic, exit_codes=(11,))
    assert flow.arrived(topic) == 0
    flow.verify(other)
    # what the hint says cures it
    flow.copy(topic, "--restart").expect(0)
    flow.verify(topic)
    assert flow.copy(topic).expect(0).summary.status == "nothing-left"


@pytest.mark.parametrize("back", [False, True], ids=["deleted", "recreated"])
def test_a_target_topic_deleted_under_a_running_copy(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random, back: bool
) -> None:
    topic, other = topic_name("gone"), topic_name("other")
    load(flow, topic, rng, 3000)
    load(flow, other, rng, 100)
    with flow.start(topic, other, *SLOW) as copier:
        flow.wait_for_arrivals(copier, topic)
        delete_topic(flow.target.bootstrap, topic)
        if back:
            create_topic(flow.target.bootstrap, topic, 3)
        outcome = copier.wait()
    kinds = ("target-recreated", "target-deleted") if back else ("target-deleted",)
    expect_fault(outcome, *kinds, side="target", topic=topic)
    flow.verify(other)


def test_a_record_too_large_for_the_target(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("large")
    ledger = load(flow, topic, rng, 50)
    with Writer(flow.source.bootstrap) as writer:
        ledger.write(writer, (1,), 1, size=60_000)
    add(flow, ledger, 50)
    create_topic(flow.target.bootstrap, topic, 3, config={"max.message.bytes": "40000"})
    large = next(b for b in batches(flow.source.log_dir(), topic, 1) if b.size > 60_000)
    outcome = flow.copy(topic)
    fault = expect_fault(
        outcome,
        "record-too-large",
        side="source",
        topic=topic,
        partition=1,
        offset=large.base_offset,
        exit_codes=(7,),
    )
    assert "max.message.bytes" in fault.message + fault.hint
    flow.verify(topic, partitions=[0, 2])
    flow.verify(topic, partitions=[1], end={(topic, 1): large.base_offset})


@pytest.mark.parametrize(
    ("stamp", "config"),
    [
        (lambda: YEAR_2001_MS, {"message.timestamp.before.max.ms": "3600000"}),
        (
            lambda: int(time.time() * 1000) + 86_400_000,
            {"message.timestamp.after.max.ms": "3600000"},
        ),
    ],
    ids=["past", "future"],
)
def test_timestamps_the_target_refuses(
    flow: Flow, topic_name: Callable[[str], str], stamp: Callable[[], int], config: dict[str, str]
) -> None:
    topic = topic_name("times")
    create_topic(
        flow.source.bootstrap,
        topic,
        3,
        config={**KEEP, "message.timestamp.after.max.ms": str(2**62)},
    )
    create_topic(flow.target.bootstrap, topic, 3, config={**KEEP, **config})
    with Writer(flow.source.bootstrap, linger_ms=0) as writer:
        for partition in range(3):
            for index in range(30):
                odd = partition == 1 and index == 20
                writer.send(
                    topic,
                    partition,
                    Payload(None, b"%d" % index, [], stamp() if odd else None),
                )
                if index in (19, 20):
                    writer.flush()  # the odd one has a batch of its own
    outcome = flow.copy(topic)
    expect_fault(
        outcome,
        "timestamp-refused",
        side="source",
        topic=topic,
        partition=1,
        offset=20,
        exit_codes=(7,),
    )
    flow.verify(topic, partitions=[0, 2])
    flow.verify(topic, partitions=[1], end={(topic, 1): 20})


def test_after_the_cause_is_gone_a_rerun_completes(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """The fault is final for this run only: once its cause is removed, a rerun completes."""
    topic = topic_name("cured")
    ledger = load(flow, topic, rng, 50)
    with Writer(flow.source.bootstrap) as writer:
        ledger.write(writer, (1,), 1, size=60_000)
    create_topic(flow.target.bootstrap, topic, 3, config={"max.message.bytes": "40000"})
    flow.copy(topic).expect(7)
    set_config(flow, topic, "max.message.bytes", "1048588")
    flow.copy(topic).expect(0)
    flow.verify(topic)
    found = read_ledger(flow.target.bootstrap, topic, "run")
    assert {len(seqs) for seqs in found.values()} == {50, 51}


def set_config(flow: Flow, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": flow.target.bootstrap, "log_level": 0})
    admin.incremental_alter_configs([resource])[resource].result(30)
