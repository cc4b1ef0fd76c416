"""Faults of the source end their partitions, with a name and an exit code; the rest goes on."""

from __future__ import annotations

import random
from collections.abc import Callable

from kit.clusters.faults import expect_fault
from kit.clusters.flow import Flow
from replicator.lab.ledger import Ledger, read_ledger
from replicator.lab.logs import log_ranges
from replicator.lab.seed import Writer, delete_records, delete_topic

# More than the least memory budget can hold, so that most of it is still to be fetched
# when the first records arrive.
LONG = 20_000
SLOW = ("--memory", "8MiB", "--throttle", "4MB/s")


def load(flow: Flow, topic: str, rng: random.Random, records: int, *, run: str = "run") -> Ledger:
    flow.create(topic, 3)
    ledger = Ledger(topic, run, rng)
    add(flow, ledger, records)
    return ledger


def add(flow: Flow, ledger: Ledger, records: int, partitions: tuple[int, ...] = (0, 1, 2)) -> None:
    with Writer(flow.source.bootstrap, batch_bytes=20_000) as writer:
        ledger.write(writer, partitions, records, size=1000)


def test_records_deleted_before_they_were_copied(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("lost")
    ledger = load(flow, topic, rng, 100)
    flow.copy(topic).expect(0)
    add(flow, ledger, 50)
    delete_records(flow.source.bootstrap, topic, {1: 120})
    outcome = flow.copy(topic)
    fault = expect_fault(outcome, "data-loss", side="source", topic=topic, partition=1, offset=100)
    assert "120" in fault.message  # the user learns which offsets are gone
    found = read_ledger(flow.target.bootstrap, topic, "run")
    assert found == {0: [*range(150)], 1: [*range(100)], 2: [*range(150)]}
    # and a rerun changes nothing until the user decides
    expect_fault(flow.copy(topic), "data-loss", side="source", topic=topic, partition=1)
    assert read_ledger(flow.target.bootstrap, topic, "run") == found


def test_records_deleted_under_a_running_copy(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("cut")
    ledger = load(flow, topic, rng, 10)
    add(flow, ledger, LONG, (1,))
    with flow.start(topic, *SLOW) as copier:
        flow.wait_for_arrivals(copier, topic, 40)
        delete_records(flow.source.bootstrap, topic, {1: LONG - 10})
        outcome = copier.wait()
    expect_fault(outcome, "data-loss", side="source", topic=topic, partition=1)
    found = read_ledger(flow.target.bootstrap, topic, "run")
    assert found[0] == found[2] == [*range(10)]
    assert found[1] == [*range(len(found[1]))]
    assert len(found[1]) < LONG - 10


def test_deleted_records_that_were_copied_do_not_matter(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("behind")
    ledger = load(flow, topic, rng, 100)
    flow.copy(topic).expect(0)
    add(flow, ledger, 50)
    delete_records(flow.source.bootstrap, topic, {0: 100, 1: 70, 2: 1})
    flow.copy(topic).expect(0)
    full = [*range(150)]
    assert read_ledger(flow.target.bootstrap, topic, "run") == {0: full, 1: full, 2: full}


def test_a_source_topic_recreated_between_runs(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic, other = topic_name("again"), topic_name("other")
    load(flow, topic, rng, 100)
    bystander = load(flow, other, rng, 100)
    flow.copy(topic, other).expect(0)
    delete_topic(flow.source.bootstrap, topic)
    load(flow, topic, rng, 150, run="new")  # longer than the old one: offsets alone look fine
    add(flow, bystander, 50)
    outcome = flow.copy(topic, other)
    expect_fault(outcome, "source-recreated", side="source", topic=topic, exit_codes=(11,))
    flow.verify(other)
    full = [*range(100)]
    assert read_ledger(flow.target.bootstrap, topic, "run") == {0: full, 1: full, 2: full}
    # what the hint says cures it
    assert "--restart" in outcome.fault().hint
    as_text = flow.copy(topic, "-o", "text").expect(11)
    assert topic in as_text.stdout and "--restart" in as_text.stdout + as_text.stderr
    delete_topic(flow.target.bootstrap, topic)
    flow.copy(topic, "--restart").expect(0)
    flow.verify(topic)


def test_a_source_topic_recreated_under_a_running_copy(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic, other = topic_name("again"), topic_name("other")
    load(flow, topic, rng, LONG // 2)
    load(flow, other, rng, 100)
    with flow.start(topic, other, *SLOW) as copier:
        flow.wait_for_arrivals(copier, topic)
        delete_topic(flow.source.bootstrap, topic)
        load(flow, topic, rng, LONG // 2, run="new")
        outcome = copier.wait()
    expect_fault(outcome, "source-recreated", "source-deleted", side="source", topic=topic)
    flow.verify(other)
    found = read_ledger(flow.target.bootstrap, topic, "run")  # nothing of the new run
    assert all(seqs == [*range(len(seqs))] for seqs in found.values())


def test_a_source_topic_deleted_under_a_running_copy(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic, other = topic_name("gone"), topic_name("other")
    load(flow, topic, rng, LONG // 2)
    load(flow, other, rng, 100)
    with flow.start(topic, other, *SLOW) as copier:
        flow.wait_for_arrivals(copier, topic)
        delete_topic(flow.source.bootstrap, topic)
        outcome = copier.wait()
    expect_fault(outcome, "source-deleted", side="source", topic=topic)
    flow.verify(other)
    found = read_ledger(flow.target.bootstrap, topic, "run")
    assert all(seqs == [*range(len(seqs))] for seqs in found.values())


def test_a_fault_of_one_topic_leaves_its_numbers_in_the_summary(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic, other = topic_name("lost"), topic_name("fine")
    ledger = load(flow, topic, rng, 100)
    load(flow, other, rng, 100)
    flow.copy(topic).expect(0)
    add(flow, ledger, 50)
    delete_records(flow.source.bootstrap, topic, {0: 110})
    summary = flow.copy(topic, other).expect(7, 11).summary
    by_name = {entry.topic: entry for entry in summary.topics}
    assert by_name[other].status == "done"
    assert by_name[other].records == 300
    assert by_name[topic].status == "failed"
    assert by_name[topic].records == 100
    assert summary.records == 400
    ranges = log_ranges(flow.target.bootstrap, [topic])
    assert [ranges[topic, p][1] for p in range(3)] == [100, 150, 150]
