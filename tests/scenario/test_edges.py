"""Corners: ends inside batches, logs that were emptied, topics that grow, very large batches."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

from confluent_kafka.admin import AdminClient, NewPartitions

from kit.clusters.faults import expect_fault
from kit.clusters.fixtures import Clusters
from kit.clusters.flow import Flow
from kit.clusters.runner import wait_until
from kit.clusters.segments import batches
from replicator.lab.ledger import Ledger, read_ledger
from replicator.lab.logs import log_ranges
from replicator.lab.seed import (
    KEEP,
    YEAR_2001_MS,
    Payload,
    Text,
    Writer,
    create_topic,
    delete_records,
)


def numbered(
    flow: Flow, topic: str, rng: random.Random, *, partitions: int = 2, records: int = 100
) -> Ledger:
    flow.create(topic, partitions)
    ledger = Ledger(topic, "run", rng)
    more(flow, ledger, records)
    return ledger


def more(flow: Flow, ledger: Ledger, records: int, partitions: tuple[int, ...] = (0, 1)) -> None:
    with Writer(flow.source.bootstrap, batch_records=10) as writer:
        ledger.write(writer, partitions, records)


def test_a_time_inside_a_batch_as_end_and_the_rest_later(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    topic = topic_name("midway")
    flow.create(topic, config=KEEP)
    with Writer(flow.source.bootstrap, batch_records=10) as writer:
        for index in range(100):
            writer.send(topic, 0, Payload(None, b"%d" % index, [], YEAR_2001_MS + index))
    flow.copy(topic, "--until", str(YEAR_2001_MS + 45)).expect(0)
    assert flow.arrived(topic) == 45
    flow.verify(topic, end={(topic, 0): 45})
    flow.copy(topic).expect(0)
    assert flow.verify(topic).records == 100


def test_a_time_inside_a_batch_as_start(flow: Flow, topic_name: Callable[[str], str]) -> None:
    topic = topic_name("midway")
    flow.create(topic, config=KEEP)
    with Writer(flow.source.bootstrap, batch_records=10) as writer:
        for index in range(100):
            writer.send(topic, 0, Payload(None, b"%d" % index, [], YEAR_2001_MS + index))
    assert all(batch.base_offset != 45 for batch in batches(flow.source.log_dir(), topic, 0))
    flow.copy(topic, "--from", str(YEAR_2001_MS + 45)).expect(0)
    assert flow.verify(topic, start={(topic, 0): 45}).records == 55


def test_the_target_deletes_what_was_copied_and_the_copy_goes_on(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Retention deletes everything: the empty log's end still tells how far the copy came."""
    topic = topic_name("expired")
    ledger = numbered(flow, topic, rng)
    flow.copy(topic).expect(0)
    delete_records(flow.target.bootstrap, topic, {0: 100, 1: 42})
    more(flow, ledger, 50)
    assert flow.copy(topic).expect(0).summary.records == 100
    assert read_ledger(flow.target.bootstrap, topic, "run") == {
        0: [*range(100, 150)],
        1: [*range(42, 150)],
    }
    assert log_ranges(flow.target.bootstrap, [topic])[topic, 0] == (100, 150)


def test_a_target_topic_that_was_emptied_is_empty(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("emptied")
    ledger = numbered(flow, topic, rng)
    create_topic(flow.target.bootstrap, topic, 2)
    with Writer(flow.target.bootstrap) as writer:
        for partition in range(2):
            for _ in range(7):
                writer.send(topic, partition, Payload(None, b"of before"))
    delete_records(flow.target.bootstrap, topic, {0: 7, 1: 7})
    flow.copy(topic).expect(0)
    flow.verify(topic)
    more(flow, ledger, 10)
    flow.copy(topic).expect(0)
    flow.verify(topic)
    assert log_ranges(flow.target.bootstrap, [topic])[topic, 1] == (7, 117)
    with Writer(flow.target.bootstrap) as writer:
        writer.send(topic, 1, Payload(None, b"foreign"))
    expect_fault(
        flow.copy(topic), "foreign-writer", side="target", topic=topic, partition=1, offset=117
    )


def test_partitions_added_to_the_source_are_not_left_out(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("grown")
    ledger = numbered(flow, topic, rng)
    flow.copy(topic).expect(0)
    admin = AdminClient({"bootstrap.servers": flow.source.bootstrap, "log_level": 0})
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(30)
    wait_until(
        lambda: len(admin.list_topics(topic, timeout=30).topics[topic].partitions) == 3,
        "the third partition is there",
    )
    more(flow, ledger, 10, (0, 1, 2))
    assert "gets 1 partition more" in flow.copy(topic).expect(0).stderr
    flow.verify(topic)


def test_a_batch_larger_than_the_memory_budget(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("huge")
    flow.create(topic, 2, config={"max.message.bytes": "30000000"})
    text = Text(rng, 13 << 20)
    with Writer(flow.source.bootstrap, batch_bytes=25_000_000) as writer:
        for index in range(4):
            writer.send(topic, index % 2, Payload(b"small", b"before"))
            writer.send(topic, index % 2, Payload(b"huge", text.take(12_000_000)))
            writer.flush()
    flow.copy(topic, "--memory", "8MiB").expect(0)
    assert flow.verify(topic).records == 8


def test_a_throttle_below_one_batch_a_second(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("slow")
    flow.create(topic)
    text = Text(rng)
    with Writer(flow.source.bootstrap, batch_records=1) as writer:
        for _ in range(4):
            writer.send(topic, 0, Payload(None, text.take(900_000)))
    summary = flow.copy(topic, "--throttle", "700kB/s").expect(0).summary
    assert 2.0 < summary.elapsed < 20.0  # 3.6 MB, the first of them at once
    flow.verify(topic)


def test_two_copies_of_different_topics_at_once(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topics = [topic_name("left"), topic_name("right")]
    for topic in topics:
        numbered(flow, topic, rng, records=2000)
    with (
        flow.start(topics[0], "--throttle", "500kB/s") as left,
        flow.start(topics[1], "--throttle", "500kB/s") as right,
    ):
        left.wait().expect(0)
        right.wait().expect(0)
    flow.verify(*topics)


def test_both_directions_between_two_clusters(
    clusters: Clusters, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Two flows with other names: neither disturbs the other's state."""
    there, back = topic_name("there"), topic_name("back")
    forth = Flow(clusters.source, clusters.target)
    return_ = Flow(clusters.target, clusters.source)
    numbered(forth, there, rng)
    numbered(return_, back, rng)
    for _ in range(2):
        forth.copy(there).expect(0)
        return_.copy(back).expect(0)
    forth.verify(there)
    return_.verify(back)


def test_ctrl_c_at_any_moment_is_orderly(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("any")
    flow.create(topic, 2)
    with Writer(flow.source.bootstrap, batch_records=10) as writer:
        Ledger(topic, "run", rng).write(writer, (0, 1), 4000, size=1000)
    began = time.monotonic()
    with flow.start(topic, "--throttle", "100kB/s") as copier:
        flow.wait_for_arrivals(copier, topic)
        usual = time.monotonic() - began
    for _ in range(8):
        moment = usual * rng.uniform(0.3, 2.0)
        with flow.start(topic, "--throttle", "100kB/s") as copier:
            with suppress(subprocess.TimeoutExpired):
                copier.process.wait(moment)
            copier.interrupt()
            outcome = copier.wait(20)
        assert outcome.exit_code == 130, outcome
        assert "Traceback" not in outcome.stderr
    flow.copy(topic).expect(0)
    flow.verify(topic)
