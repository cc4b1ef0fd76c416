"""Batches that the target refuses: the record at fault is named, what lies before it is copied, and
after the repair the same command goes on, also where the very first batch is refused.
"""

from __future__ import annotations

import random
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
from replicator.lab.seed import KEEP, YEAR_2001_MS, Codec, Payload, Text, Writer, create_topic

LIMIT = "max.message.bytes"


def set_config(bootstrap: str, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.incremental_alter_configs([resource])[resource].result(30)


def test_a_first_batch_that_is_refused_lets_no_later_one_in(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """A broker takes any first sequence of a producer id that it does not know yet."""
    topic = topic_name("first")
    flow.create(topic)
    text = Text(rng)
    with Writer(flow.source.bootstrap, batch_records=1) as writer:
        writer.send(topic, 0, Payload(b"large", text.take(60_000)))
        for index in range(80):
            writer.send(topic, 0, Payload(b"%d" % index, text.take(500)))
    create_topic(flow.target.bootstrap, topic, config={LIMIT: "40000"})
    outcome = flow.copy(topic, "--merge", "never")
    fault = expect_fault(
        outcome, "record-too-large", side="source", topic=topic, partition=0, offset=0,
        exit_codes=(7,),
    )  # fmt: skip
    assert LIMIT in fault.hint
    assert flow.arrived(topic) == outcome.summary.records == 0
    set_config(flow.target.bootstrap, topic, LIMIT, "1048588")
    flow.copy(topic, "--merge", "never").expect(0)
    flow.verify(topic)


@pytest.mark.parametrize("partitioner", ["keep", "murmur2"])
def test_a_record_without_a_key_in_the_middle_of_a_batch(
    flow: Flow, topic_name: Callable[[str], str], partitioner: str
) -> None:
    """The topic was made compacted later: its record 100 has no key."""
    topic = topic_name("keyless")
    flow.create(topic)
    with Writer(flow.source.bootstrap, batch_records=1000, codec="lz4", linger_ms=2000) as writer:
        for index in range(300):
            key = None if index == 100 else b"%d" % index
            writer.send(topic, 0, Payload(key, b"value %d" % index))
    set_config(flow.source.bootstrap, topic, "cleanup.policy", "compact")
    arguments = (topic, "--partitioner", partitioner)
    outcome = flow.copy(*arguments)
    expect_fault(
        outcome, "record-refused", side="source", topic=topic, partition=0, offset=100,
        exit_codes=(7,),
    )  # fmt: skip
    assert outcome.summary.records == flow.arrived(topic) == 100
    set_config(flow.target.bootstrap, topic, "cleanup.policy", "delete")
    flow.copy(*arguments, "--accept-target-configs").expect(0)
    assert flow.arrived(topic) == 300
    if partitioner == "keep":
        flow.verify(topic)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_target_that_compresses_anew_gets_smaller_batches(
    flow: Flow, topic_name: Callable[[str], str], codec: Codec
) -> None:
    """5 MB of records in a batch that is small on the wire; its largest record has 1,000 bytes."""
    topic = topic_name("anew")
    flow.create(topic, config=KEEP)
    with Writer(
        flow.source.bootstrap, batch_records=5000, batch_bytes=10 << 20, codec=codec, linger_ms=3000
    ) as writer:
        for index in range(5000):
            writer.send(topic, 0, Payload(b"%d" % index, (b"abc %d " % index) * 100))
    create_topic(flow.target.bootstrap, topic, config={**KEEP, "compression.type": "uncompressed"})
    outcome = flow.copy(topic).expect(0)
    assert outcome.summary.recoveries < 10
    flow.verify(topic)


def test_one_record_that_is_too_large_is_named_inside_its_batch(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("inside")
    flow.create(topic)
    text = Text(rng)
    with Writer(flow.source.bootstrap, batch_records=50, linger_ms=2000) as writer:
        for index in range(50):
            writer.send(topic, 0, Payload(b"%d" % index, text.take(60_000 if index == 20 else 500)))
    create_topic(flow.target.bootstrap, topic, config={LIMIT: "40000"})
    outcome = flow.copy(topic)
    expect_fault(
        outcome, "record-too-large", side="source", topic=topic, partition=0, offset=20,
        exit_codes=(7,),
    )  # fmt: skip
    assert flow.arrived(topic) == outcome.summary.records == 20
    flow.verify(topic, end={(topic, 0): 20})
    set_config(flow.target.bootstrap, topic, LIMIT, "1048588")
    flow.copy(topic).expect(0)
    flow.verify(topic)


def test_an_old_record_among_new_ones_is_named(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    topic = topic_name("old")
    flow.create(topic, config=KEEP)
    with Writer(flow.source.bootstrap, batch_records=200, codec="zstd", linger_ms=2000) as writer:
        for index in range(200):
            stamp = YEAR_2001_MS if index == 150 else None
            writer.send(topic, 0, Payload(None, b"%d" % index, [], stamp))
    create_topic(
        flow.target.bootstrap, topic, config={**KEEP, "message.timestamp.before.max.ms": "3600000"}
    )
    expect_fault(
        flow.copy(topic, "--accept-target-configs"), "timestamp-refused", side="source",
        topic=topic, partition=0, offset=150, exit_codes=(7,),
    )  # fmt: skip
    assert flow.arrived(topic) == 150
