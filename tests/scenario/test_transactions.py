"""Transactional sources: aborted records never arrive, open ones hold the copy at the LSO."""

from __future__ import annotations

import random
from collections.abc import Callable

from kit.clusters.flow import Flow
from kit.clusters.segments import batches
from replicator.lab.ledger import Ledger, read_ledger
from replicator.lab.logs import log_end, log_ranges, settle
from replicator.lab.reading import read_records
from replicator.lab.seed import (
    Payload,
    Text,
    Writer,
    create_topic,
    open_transaction,
    transactions,
)
from replicator.state import OFFSET_MAP_TOPIC


def test_interleaved_transactions_half_of_them_aborted(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("mixed")
    flow.create(topic, 4)
    visible = transactions(flow.source.bootstrap, topic, [0, 1, 2], rng, rounds=25)
    summary = flow.copy(topic).expect(0).summary
    assert summary.records == visible == flow.verify(topic).records
    assert summary.skipped_batches > 0
    assert flow.arrived(topic) == visible  # nothing invisible was written either
    theirs = [b for p in range(4) for b in batches(flow.target.log_dir(), topic, p)]
    assert not any(batch.transactional or batch.control for batch in theirs)


def test_an_aborted_transaction_longer_than_a_fetch(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Fetches that hold nothing but aborted batches must not look like an end or a fault."""
    topic = topic_name("long")
    flow.create(topic)
    ledger = Ledger(topic, "kept", rng)
    text = Text(rng)
    with (
        Writer(flow.source.bootstrap, linger_ms=0) as plain,
        Writer(
            flow.source.bootstrap, transactional_id=topic, batch_bytes=200_000, linger_ms=5
        ) as long,
    ):
        for _ in range(2):
            long.begin()
            for _ in range(15):
                for _ in range(100):
                    long.send(topic, 0, Payload(b"aborted", text.take(10_000)))
                long.flush()
                ledger.write(plain, [0], 2)
                plain.flush()
            long.abort()
    settle(flow.source.bootstrap, topic)
    summary = flow.copy(topic).expect(0).summary
    assert summary.records == 60
    assert summary.bytes < 60 * 1000  # of the 30 MB aborted nothing went out
    assert flow.verify(topic).records == 60
    assert read_ledger(flow.target.bootstrap, topic, "kept") == {0: [*range(60)]}


def test_the_copy_ends_at_an_open_transaction_and_goes_on_after_its_end(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("open")
    flow.create(topic, 3)
    with Writer(flow.source.bootstrap) as writer:
        for index in range(300):
            writer.send(topic, index % 3, Payload(None, b"before %d" % index))
    for finish in ("commit", "abort"):
        held = open_transaction(flow.source.bootstrap, topic, [0, 1], rng, records=40)
        stable = log_end(flow.source.bootstrap, topic, 0)
        with Writer(flow.source.bootstrap) as writer:
            for index in range(90):
                writer.send(topic, index % 3, Payload(None, b"behind %d" % index))
        faults = flow.copy(topic).expect(5).summary.faults
        assert {(one.kind, one.partition) for one in faults} == {
            ("open-transaction", 0),
            ("open-transaction", 1),
        }
        flow.verify(topic)  # both sides as a read-committed consumer sees them now
        assert log_end(flow.source.bootstrap, topic, 0) == stable
        again = flow.copy(topic, "--until", "stable").expect(0)
        assert again.summary.status == "nothing-left"
        getattr(held, finish)()
        settle(flow.source.bootstrap, topic)
        flow.copy(topic).expect(0)
        flow.verify(topic)
    assert flow.arrived(topic) == 300 + 2 * 90 + 40


def test_a_log_that_ends_with_an_aborted_transaction(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """The end offset is after the last record that a read-committed consumer sees."""
    topic = topic_name("tail")
    flow.create(topic)
    with Writer(flow.source.bootstrap) as writer:
        writer.send(topic, 0, Payload(None, b"only"))
    open_transaction(flow.source.bootstrap, topic, [0], rng, records=10).abort()
    settle(flow.source.bootstrap, topic)
    assert flow.copy(topic).expect(0).summary.records == 1
    assert flow.verify(topic).records == 1
    assert flow.copy(topic).expect(0).summary.status == "nothing-left"


def test_only_aborted_records(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("none")
    flow.create(topic)
    open_transaction(flow.source.bootstrap, topic, [0], rng, records=10).abort()
    settle(flow.source.bootstrap, topic)
    assert flow.copy(topic).expect(0).summary.records == 0
    assert flow.arrived(topic) == 0
    with Writer(flow.source.bootstrap) as writer:
        writer.send(topic, 0, Payload(None, b"later"))
    flow.copy(topic).expect(0)
    assert flow.verify(topic).records == 1


def test_read_uncommitted_takes_aborted_and_open_records_as_ordinary_ones(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("dirty")
    flow.create(topic)
    ledger = Ledger(topic, "all", rng)
    name = f"{topic}-writer"
    with Writer(flow.source.bootstrap, transactional_id=name, linger_ms=0) as writer:
        for index, finish in enumerate((writer.commit, writer.abort, writer.commit, None)):
            writer.begin()
            ledger.write(writer, [0], 10 + index)
            writer.flush()
            if finish is not None:
                finish()
        summary = flow.copy(topic, "--isolation", "read_uncommitted").expect(0).summary
        assert summary.records == 10 + 11 + 12 + 13
        assert read_ledger(flow.target.bootstrap, topic, "all") == {0: [*range(46)]}
        writer.abort()


def test_a_target_that_is_transactional_elsewhere_does_not_disturb(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Transactions of other topics on the target have nothing to do with ours."""
    topic, other = topic_name("ours"), topic_name("theirs")
    flow.create(topic)
    create_topic(flow.target.bootstrap, other)
    with Writer(flow.source.bootstrap) as writer:
        for index in range(100):
            writer.send(topic, 0, Payload(None, b"%d" % index))
    held = open_transaction(flow.target.bootstrap, other, [0], rng, records=5)
    flow.copy(topic).expect(0)
    flow.verify(topic)
    held.abort()


def test_many_small_transactions_that_were_followed_leave_few_records_of_the_map(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Each transaction leaves one record while the copy runs, and the next run merges them."""
    topic = topic_name("small")
    flow.create(topic)
    ledger = Ledger(topic, "run", rng)
    rounds = 300
    with (
        Writer(flow.source.bootstrap, transactional_id=topic, linger_ms=0) as writer,
        flow.start(topic, "--until", "forever") as copier,
    ):
        for number in range(rounds):
            writer.begin()
            ledger.write(writer, [0], 1)
            writer.commit()
            if number % 10 == 9:  # the copier takes few of them at once
                flow.wait_for_arrivals(copier, topic, number)
        copier.interrupt()
        copier.wait(20).expect(130)
    assert len(map_records(flow, topic)) > rounds / 20
    flow.copy(topic).expect(0)
    # The binding, the leader epochs, what was merged, the end.
    assert len(map_records(flow, topic)) <= 5
    with Writer(flow.source.bootstrap, linger_ms=0) as plain:
        ledger.write(plain, [0], 7)
    flow.copy(topic).expect(0)
    assert len(map_records(flow, topic)) <= 4
    assert flow.verify(topic).records == rounds + 7


def map_records(flow: Flow, topic: str) -> dict[bytes, bytes]:
    """The records of the topic's offset map that compaction would leave."""
    place = (OFFSET_MAP_TOPIC, 0)
    start, end = log_ranges(flow.target.bootstrap, [OFFSET_MAP_TOPIC])[place]
    latest: dict[bytes, bytes | None] = {}
    for record in read_records(flow.target.bootstrap, {place: (start, end)}):
        latest[record.key() or b""] = record.value()
    mine = f'"{topic}"'.encode()
    return {key: value for key, value in latest.items() if value is not None and mine in key}
