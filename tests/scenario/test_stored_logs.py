"""Logs as brokers leave them: compacted, damaged, stamped by the broker, ending in a hole.

What cannot be passed through unchanged is recognised and refused by name, never copied wrongly.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kit.clusters.cleaner import COMPACTED, QUICK_CLEANER, clean_until, stored
from kit.clusters.faults import expect_fault
from kit.clusters.fixtures import ClusterFactory, Clusters
from kit.clusters.flow import Flow
from kit.clusters.runner import wait_until
from kit.clusters.segments import add_tail_hole, batches, flip_bit
from replicator.lab.ledger import Ledger, read_ledger
from replicator.lab.logs import log_end
from replicator.lab.seed import (
    KEEP,
    YEAR_2001_MS,
    Payload,
    Text,
    Writer,
    create_topic,
    delete_records,
)


@pytest.fixture(scope="module")
def workshop(clusters: Clusters, own_cluster: ClusterFactory) -> Flow:
    """A source whose cleaner is quick and whose files are worked on while it is stopped."""
    source = own_cluster("workshop", properties=QUICK_CLEANER)
    return Flow(source, clusters.target)


def load(flow: Flow, topic: str, rng: random.Random, records: int = 100) -> Ledger:
    flow.create(topic, 3)
    ledger = Ledger(topic, "run", rng)
    with Writer(flow.source.bootstrap, batch_records=10, codec="lz4") as writer:
        ledger.write(writer, range(3), records, size=300)
    return ledger


def test_a_batch_damaged_on_the_source_is_refused(
    workshop: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """The target's own check of the transformed CRC refuses it, and the copy's with
    ``--check-crc``.
    """
    flow = workshop
    topics = {topic_name("rotten"): (), topic_name("checked"): ("--check-crc",)}
    for topic in topics:
        load(flow, topic, rng)
    damaged = {topic: list(batches(flow.source.log_dir(), topic, 1))[5] for topic in topics}
    flow.source.stop_node()
    try:
        for batch in damaged.values():
            flip_bit(batch, batch.size - 20)
    finally:
        flow.source.start_node()
    for topic, extra in topics.items():
        expect_fault(
            flow.copy(topic, *extra),
            "corrupt-batch",
            side="source",
            topic=topic,
            partition=1,
            offset=damaged[topic].base_offset,
            exit_codes=(7,),
        )
        found = read_ledger(flow.target.bootstrap, topic, "run")
        assert found[0] == found[2] == [*range(100)]
        assert found[1] == [*range(damaged[topic].base_offset)]


def test_a_log_that_ends_in_a_hole(
    workshop: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    flow, topic = workshop, topic_name("hole")
    ledger = load(flow, topic, rng)
    flow.source.stop_node()
    try:
        end = add_tail_hole(flow.source.log_dir(), topic, 1, 50)
    finally:
        flow.source.start_node()
    assert log_end(flow.source.bootstrap, topic, 1) == end == 150
    assert flow.copy(topic).expect(0).summary.records == 300
    flow.verify(topic, end={(topic, 1): 100})
    assert flow.copy(topic).expect(0).summary.status == "nothing-left"
    with Writer(flow.source.bootstrap) as writer:
        ledger.write(writer, range(3), 10)
    assert flow.copy(topic).expect(0).summary.records == 30
    flow.verify(topic)


def compact(flow: Flow, topic: str, *, batch_records: int, keys: int) -> None:
    """Records of a few keys and some lone ones, until the cleaner has left gaps between them."""
    create_topic(flow.source.bootstrap, topic, 2, config=COMPACTED)

    def write(count: int) -> None:
        with Writer(flow.source.bootstrap, batch_records=batch_records) as writer:
            for index in range(count):
                key = b"once %d" % index if index % 10 == 3 else b"%d" % (index % keys)
                writer.send(topic, 0, Payload(key, b"v%d" % index))

    def cleaned() -> bool:
        write(1)  # old segments are only closed when something is written
        stored = list(batches(flow.source.log_dir(), topic, 0))
        return sum(batch.count for batch in stored) < written // 2

    with Writer(flow.source.bootstrap) as writer:
        writer.send(topic, 1, Payload(b"key", b"value"))
    written = 400
    write(written)
    wait_until(cleaned, "the cleaner has been there", pause=0.1)


def test_gaps_inside_batches_are_closed(workshop: Flow, topic_name: Callable[[str], str]) -> None:
    flow, topic = workshop, topic_name("gaps")
    compact(flow, topic, batch_records=10, keys=3)
    assert any(not batch.dense for batch in stored(flow, topic, 0))
    create_topic(flow.target.bootstrap, topic, 2)
    summary = flow.copy(topic).expect(0).summary
    assert summary.rebatched_batches > 0
    flow.verify(topic)
    assert all(batch.dense for batch in batches(flow.target.log_dir(), topic, 0))


def test_gaps_between_batches_are_copied(workshop: Flow, topic_name: Callable[[str], str]) -> None:
    flow, topic = workshop, topic_name("between")
    compact(flow, topic, batch_records=1, keys=7)
    kept = stored(flow, topic, 0)
    assert all(batch.dense for batch in kept)
    assert kept[-1].base_offset - kept[0].base_offset > len(kept)
    create_topic(flow.target.bootstrap, topic, 2)
    flow.copy(topic).expect(0)
    flow.verify(topic)


def test_times_set_by_the_source_broker_are_kept(
    workshop: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Passed through, consumers would see the producers' times instead of the broker's."""
    flow, topic, other = workshop, topic_name("stamped"), topic_name("other")
    create_topic(flow.source.bootstrap, topic, config={"message.timestamp.type": "LogAppendTime"})
    load(flow, other, rng)
    with Writer(flow.source.bootstrap) as writer:
        for index in range(10):
            writer.send(topic, 0, Payload(None, b"%d" % index, [], YEAR_2001_MS))
    flow.copy(topic, other).expect(0)
    flow.verify(topic, other)


@pytest.mark.parametrize("stamp", [False, True], ids=["gapped", "stamped"])
def test_large_lz4_batches_stay_compressed_as_they_were(
    workshop: Flow, topic_name: Callable[[str], str], rng: random.Random, stamp: bool
) -> None:
    """What an ordinary producer made, read by an ordinary consumer, and no larger than before."""
    flow, topic = workshop, topic_name("retraced")
    config = {"message.timestamp.type": "LogAppendTime"} if stamp else COMPACTED
    create_topic(flow.source.bootstrap, topic, 2, config=config)
    create_topic(flow.target.bootstrap, topic, 2)
    text = Text(rng)
    with Writer(flow.source.bootstrap, batch_records=300, codec="lz4") as writer:
        for index in range(9000):
            key = index if stamp or rng.random() < 0.5 else index % 10
            writer.send(topic, index % 2, Payload(b"%d" % key, text.take(300)))
    if not stamp:
        clean_until(flow, topic, range(2), lambda found: sum(batch.count for batch in found) < 3500)
    flow.copy(topic).expect(0)
    flow.verify(topic)
    for partition in range(2):
        old = stored(flow, topic, partition)
        new = list(batches(flow.target.log_dir(), topic, partition))
        assert len(new) < len(old)
        assert sum(b.size for b in new) < 1.03 * sum(b.size for b in old)


def test_a_log_that_starts_inside_a_batch(
    workshop: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    flow, topic = workshop, topic_name("inside")
    load(flow, topic, rng)
    cut = list(batches(flow.source.log_dir(), topic, 1))[4].base_offset + 5
    delete_records(flow.source.bootstrap, topic, {1: cut})
    flow.copy(topic).expect(0)
    flow.verify(topic)


def test_tombstones_with_a_delete_horizon(workshop: Flow, topic_name: Callable[[str], str]) -> None:
    """The cleaner stamps a batch that has tombstones with the time at which they may go (KIP-534),
    and counts its records' times from there. A target's cleaner has a horizon of its own to set.
    """
    flow, topic = workshop, topic_name("tombstones")
    kept = COMPACTED | {"delete.retention.ms": "86400000"}
    create_topic(flow.source.bootstrap, topic, 2, config=kept)
    with Writer(flow.source.bootstrap, batch_records=10, codec="lz4") as writer:
        for index in range(300):
            value = None if index % 3 == 0 else b"v%d" % index
            # Every key once: nothing goes, and the batches stay dense. Or every other one often.
            for partition, key in enumerate((index, index if index % 2 else index % 40)):
                record = Payload(b"%d" % key, value, [], YEAR_2001_MS + index)
                writer.send(topic, partition, record)
    clean_until(
        flow,
        topic,
        range(2),
        lambda found: len([batch for batch in found if batch.delete_horizon]) > 10,
    )
    for partition, dense in ((0, True), (1, False)):
        marked = [b for b in stored(flow, topic, partition) if b.delete_horizon]
        assert any(batch.dense == dense for batch in marked)
        assert all(batch.max_timestamp < 2 * YEAR_2001_MS for batch in marked)
    create_topic(flow.target.bootstrap, topic, 2, config=KEEP)
    summary = flow.copy(topic, "--merge", "never").expect(0).summary
    assert min(summary.passed_batches, summary.rebatched_batches) > 10
    verdict = flow.verify(topic)
    assert verdict.records == summary.records > 300
    theirs = [b for p in (0, 1) for b in batches(flow.target.log_dir(), topic, p)]
    assert not any(batch.delete_horizon for batch in theirs)
