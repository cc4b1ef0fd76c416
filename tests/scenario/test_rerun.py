"""Running the same command again: nothing left, more data, after Ctrl-C, twice at once."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kit.clusters.flow import Flow, topic_names
from kit.clusters.runner import can_leave_the_pid_namespace, wait_until
from kit.clusters.segments import batches
from replicator.lab.ledger import Ledger, read_ledger
from replicator.lab.logs import log_end
from replicator.lab.seed import Writer

SLOW = ("--throttle", "1MB/s")


def load(flow: Flow, topic: str, rng: random.Random, *, partitions: int, records: int) -> Ledger:
    """About 500 bytes a record, in batches of some 10 kB, so that a slow copy moves in steps."""
    flow.create(topic, partitions)
    ledger = Ledger(topic, "run", rng)
    add(flow, ledger, range(partitions), records)
    return ledger


def add(flow: Flow, ledger: Ledger, partitions: range, records: int) -> None:
    with Writer(flow.source.bootstrap, batch_records=20) as writer:
        ledger.write(writer, partitions, records, size=500)


def test_a_finished_copy_has_nothing_left_and_says_so(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("done")
    load(flow, topic, rng, partitions=2, records=100)
    first = flow.copy(topic).expect(0).summary
    assert (first.status, first.records) == ("done", 200)
    again = flow.copy(topic).expect(0).summary
    assert (again.status, again.records) == ("nothing-left", 0)
    assert again.topics[0].status == "nothing-left"
    as_text = flow.copy(topic, "-o", "text").expect(0)
    assert "nothing" in as_text.stdout.lower()
    flow.verify(topic)


def test_a_rerun_goes_on_with_what_was_written_since(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("grows")
    ledger = load(flow, topic, rng, partitions=3, records=200)
    flow.copy(topic).expect(0)
    for round_number in range(2):
        add(flow, ledger, range(round_number + 1), 50)
        summary = flow.copy(topic).expect(0).summary
        assert summary.records == 50 * (round_number + 1)
        assert summary.topics[0].resumed
        flow.verify(topic)


def test_topics_join_a_copy_that_has_begun(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    one, two = topic_name("one"), topic_name("two")
    first = load(flow, one, rng, partitions=1, records=100)
    flow.copy(one).expect(0)
    load(flow, two, rng, partitions=2, records=100)
    add(flow, first, range(1), 10)
    summary = flow.copy(one, two).expect(0).summary
    assert summary.records == 210
    assert {t.topic: t.resumed for t in summary.topics} == {one: True, two: False}
    flow.verify(one, two)


def test_ctrl_c_saves_exits_130_and_a_rerun_completes(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("stopped")
    load(flow, topic, rng, partitions=3, records=3000)
    with flow.start(topic, *SLOW, "-o", "text") as copier:
        flow.wait_for_arrivals(copier, topic)
        copier.interrupt()
        told = copier.wait(20).expect(130)
    assert "same command" in told.stdout + told.stderr
    before = flow.arrived(topic)
    with flow.start(topic, *SLOW) as copier:
        flow.wait_for_arrivals(copier, topic, before)
        copier.interrupt()
        stopped = copier.wait(20).expect(130)
    assert stopped.summary.status == "interrupted"
    copied = flow.arrived(topic)
    assert 0 < before < copied < 9000
    assert stopped.summary.records == copied - before  # in flight means acknowledged or never sent
    rest = flow.copy(topic).expect(0).summary
    assert rest.records == 9000 - copied
    flow.verify(topic)


def test_a_second_ctrl_c_stops_at_once(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("twice")
    load(flow, topic, rng, partitions=3, records=3000)
    with flow.start(topic, *SLOW) as copier:
        flow.wait_for_arrivals(copier, topic)
        flow.target.pause()  # nothing in flight can finish
        try:
            copier.interrupt()
            wait_until(lambda: copier.outcome().stderr, "the first Ctrl-C is answered")
            copier.interrupt()
            assert copier.wait(10).exit_code in (130, -2)
        finally:
            flow.target.resume()
    flow.copy(topic).expect(0)
    flow.verify(topic)


def test_following_until_ctrl_c(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("follow")
    ledger = load(flow, topic, rng, partitions=2, records=100)
    with flow.start(topic, "--until", "forever") as copier:
        for total in (200, 240, 280):
            flow.wait_for_arrivals(copier, topic, total - 1)
            add(flow, ledger, range(2), 20)
        flow.wait_for_arrivals(copier, topic, 319)
        copier.interrupt()
        copier.wait(20).expect(130)
    assert flow.verify(topic).records == 320


def test_a_follower_joins_what_comes_one_by_one(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Batches have the records that arrive during ``--linger``; without it, those that arrived
    while it was busy.
    """
    stored = {}
    for linger in ("0s", "200ms"):
        topic = topic_name(f"linger-{linger}")
        flow.create(topic)
        ledger = Ledger(topic, "run", rng)
        following = ("--until", "forever", "--merge", "always", "--linger", linger)
        with (
            Writer(flow.source.bootstrap, batch_records=1, linger_ms=0) as writer,
            flow.start(topic, *following) as copier,
        ):
            ledger.write(writer, [0], 1)
            writer.flush()
            flow.wait_for_arrivals(copier, topic, 0)
            for _ in range(300):
                ledger.write(writer, [0], 1)
                writer.flush()
            flow.wait_for_arrivals(copier, topic, 300)
            copier.interrupt()
            copier.wait(20).expect(130)
        assert flow.verify(topic).records == 301
        stored[linger] = len(list(batches(flow.target.log_dir(), topic, 0)))
    assert stored["200ms"] < stored["0s"] / 3, stored


def test_a_dry_run_writes_nothing_on_the_target(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("dry")
    load(flow, topic, rng, partitions=2, records=100)
    before = topic_names(flow.target.bootstrap)
    plan = flow.copy(topic, "--dry-run").expect(0).plan
    assert topic_names(flow.target.bootstrap) == before
    (planned,) = plan.topics
    assert (planned.topic, planned.partitions, planned.records) == (topic, 2, 200)
    assert planned.create
    assert not planned.resume
    assert planned.bytes is not None and planned.bytes > 200 * 500
    flow.copy(topic).expect(0)
    state = {
        name: log_end(flow.target.bootstrap, name, committed=False)
        for name in topic_names(flow.target.bootstrap)
        if name.endswith(".internal")
    }
    (left,) = flow.copy(topic, "--dry-run").expect(0).plan.topics
    assert left.records == 0
    assert left.resume
    assert state == {name: log_end(flow.target.bootstrap, name, committed=False) for name in state}
    flow.verify(topic)


def test_two_copies_started_at_once_end_in_one_exact_copy(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("both")
    load(flow, topic, rng, partitions=4, records=1200)
    with flow.start(topic, *SLOW) as one, flow.start(topic, *SLOW) as two:
        outcomes = [one.wait(), two.wait()]
    # the other refuses, saying that a rerun helps
    assert sorted(o.exit_code for o in outcomes) == [0, 5], "\n".join(map(str, outcomes))
    flow.copy(topic).expect(0)
    flow.verify(topic)


def test_a_second_copy_while_the_first_is_under_way(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("second")
    load(flow, topic, rng, partitions=4, records=1200)
    with flow.start(topic, "--throttle", "100kB/s") as one:
        flow.wait_for_arrivals(one, topic)
        second = flow.copy(topic).expect(5)
        assert str(one.process.pid) in second.stderr
        flow.wait_for_arrivals(one, topic, flow.arrived(topic))  # undisturbed
        one.interrupt()
        one.wait(20).expect(130)
    flow.copy(topic).expect(0)
    flow.verify(topic)


def test_a_frozen_copy_keeps_others_of_its_machine_away(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """The frozen process is alive, so it may go on at any moment."""
    topic = topic_name("frozen")
    load(flow, topic, rng, partitions=3, records=1000)
    with flow.start(topic, *SLOW) as copier:
        flow.wait_for_arrivals(copier, topic)
        copier.freeze()
        flow.copy(topic).expect(5)
        copier.thaw()
        copier.wait().expect(0)
    flow.verify(topic)


@pytest.mark.parametrize(
    "thaws",
    ["under the next copy", pytest.param("after the next copy", marks=pytest.mark.soak)],
)
def test_a_frozen_copy_of_elsewhere_is_taken_over_and_adds_nothing(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random, thaws: str
) -> None:
    """A zombie: it cannot be told whether it is alive, and every request that it still sends is
    stale.
    """
    if not can_leave_the_pid_namespace():
        pytest.skip("no right to make a PID namespace")
    topic = topic_name("zombie")
    ledger = load(flow, topic, rng, partitions=3, records=2000)
    with flow.start_elsewhere(topic, *SLOW) as zombie:
        flow.wait_for_arrivals(zombie, topic)
        zombie.freeze()
        begun = flow.arrived(topic)
        with flow.start(topic, *SLOW) as heir:
            if thaws == "under the next copy":
                flow.wait_for_arrivals(heir, topic, begun)
                zombie.thaw()
                ended = zombie.wait().expect(5)
                assert {fault.kind for fault in ended.summary.faults} == {"superseded"}
                heir.wait().expect(0)
            else:
                heir.wait().expect(0)
                zombie.thaw()
                zombie.wait().expect(0, 5)  # it may find that all is there
    assert read_ledger(flow.target.bootstrap, topic, "run") == {
        partition: [*range(2000)] for partition in range(3)
    }
    add(flow, ledger, range(3), 10)
    flow.copy(topic).expect(0)
    flow.verify(topic)
