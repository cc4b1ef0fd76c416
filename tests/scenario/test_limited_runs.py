"""Runs that may only write so much or take so long; the same command then goes on to the end."""

from __future__ import annotations

import random
from collections.abc import Callable

from kit.clusters.flow import Flow
from kit.clusters.loads import load_mixed
from kit.clusters.runner import Outcome
from kit.clusters.segments import batches
from replicator.lab.ledger import Ledger
from replicator.lab.seed import Writer
from replicator.report.model import Limit

SLOW = ("--throttle", "1MB/s")
PARTITIONS = 4


def load(flow: Flow, topic: str, rng: random.Random, records: int = 1000) -> Ledger:
    """About 500 bytes a record, in batches of some 10 kB."""
    flow.create(topic, PARTITIONS)
    ledger = Ledger(topic, "run", rng)
    add(flow, ledger, records)
    return ledger


def add(flow: Flow, ledger: Ledger, records: int) -> None:
    with Writer(flow.source.bootstrap, batch_records=20) as writer:
        ledger.write(writer, range(PARTITIONS), records, size=500)


def stored(flow: Flow, topic: str, partitions: int = PARTITIONS) -> tuple[int, int]:
    """Records and bytes of the batches on the target's disk."""
    found = [b for p in range(partitions) for b in batches(flow.target.log_dir(), topic, p)]
    return sum(batch.count for batch in found), sum(batch.size for batch in found)


def limited(outcome: Outcome, exit_code: int, name: str) -> Limit:
    """The limit of that name, which ended the run."""
    summary = outcome.expect(exit_code).summary
    assert (summary.status, summary.exit_code) == ("limited", exit_code)
    assert summary.limit is not None and summary.limit.name == name
    assert summary.faults == []
    return summary.limit


def test_as_many_records_as_a_run_may_write(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Never more in any run, less by less than one batch, and the last run is simply done."""
    topic = topic_name("records")
    load(flow, topic, rng)
    step, runs, before = 1311, 0, 0
    while True:
        runs += 1
        outcome = flow.copy(topic, "--max-records", str(step), "--lanes", "4")
        after, _ = stored(flow, topic)
        assert outcome.summary.records == after - before <= step
        before = after
        if outcome.exit_code == 0:
            break
        limit = limited(outcome, 8, "max-records")
        assert (limit.value, limit.used) == (step, outcome.summary.records)
        assert limit.next is not None and limit.used + limit.next > step
        assert limit.next <= 20
        assert runs < 10
    assert runs == 4  # 4,000 records, up to 1,311 each
    assert outcome.summary.limit is None
    assert flow.verify(topic).records == 4000
    assert flow.copy(topic, "--max-records", "1").expect(0).summary.status == "nothing-left"


def test_as_many_bytes_as_a_run_may_write(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """The load has every kind of hole: transactions, aborts, batches of two records."""
    topic = topic_name("bytes")
    load_mixed(flow, topic, rng, megabytes=3)
    most, before, runs = 700_000, 0, 0
    while True:
        runs += 1
        outcome = flow.copy(topic, "--max-bytes", "700kB")
        _, after = stored(flow, topic, 5)
        assert outcome.summary.bytes == after - before <= most
        before = after
        if outcome.exit_code == 0:
            break
        limit = limited(outcome, 8, "max-bytes")
        assert limit.next is not None and most - limit.next < limit.used <= most
    assert runs >= 3
    verdict = flow.verify(topic)
    assert flow.arrived(topic) == verdict.records


def test_a_limit_of_all_there_is_is_no_limit(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("all")
    ledger = load(flow, topic, rng, records=100)
    outcome = flow.copy(topic, "--max-records", str(100 * PARTITIONS)).expect(0)
    assert (outcome.summary.status, outcome.summary.limit) == ("done", None)
    add(flow, ledger, 10)
    flow.copy(topic, "--max-records", str(10 * PARTITIONS), "--max-duration", "1h").expect(0)
    flow.verify(topic)


def test_a_limit_below_the_next_batch_copies_nothing_and_says_what_it_needs(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("below")
    load(flow, topic, rng, records=100)
    told = flow.copy(topic, "--max-records", "7", "-o", "text").expect(8)
    assert "stopped by --max-records 7 after 0, the next batch has 20" in told.stdout
    assert "raise --max-records to 20 at least" in told.stdout
    assert flow.arrived(topic) == 0
    small = flow.copy(topic, "--max-bytes", "1").expect(8).summary
    assert small.limit is not None and small.limit.next is not None
    limited(flow.copy(topic, "--max-bytes", str(small.limit.next)), 8, "max-bytes")
    assert flow.arrived(topic) == 20
    flow.copy(topic).expect(0)
    flow.verify(topic)


def test_small_batches_are_not_merged_into_one_that_is_too_much(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("small")
    flow.create(topic)
    with Writer(flow.source.bootstrap, batch_records=1, linger_ms=0) as writer:
        Ledger(topic, "run", rng).write(writer, (0,), 3000, size=20)
    limited(flow.copy(topic, "--max-records", "100"), 8, "max-records")
    assert flow.arrived(topic) == 100
    outcome = flow.copy(topic, "--max-bytes", "20kB")
    limited(outcome, 8, "max-bytes")
    few = outcome.summary
    assert few.records > 0 and few.bytes <= 20_000
    flow.copy(topic).expect(0)
    assert flow.verify(topic).records == 3000


def test_as_long_as_a_run_may_take(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """At 1 MB/s the 2 MB would take twice as long."""
    topic = topic_name("time")
    load(flow, topic, rng)
    outcome = flow.copy(topic, *SLOW, "--max-duration", "1s")
    limit, summary = limited(outcome, 10, "max-duration"), outcome.summary
    assert 1.0 <= limit.used <= summary.elapsed
    assert summary.records == flow.arrived(topic) < 4000
    told = flow.copy(topic, *SLOW, "--max-duration", "1s", "-o", "text").expect(10)
    assert "stopped by --max-duration 1s; copied" in told.stdout
    assert "same command" in told.stdout
    copied = flow.arrived(topic)
    assert flow.copy(topic, "--max-duration", "1h").expect(0).summary.records == 4000 - copied
    flow.verify(topic)


def test_one_that_follows_ends_too(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("follows")
    ledger = load(flow, topic, rng, records=50)
    following = ("--until", "forever")
    limited(flow.copy(topic, *following, "--max-records", "200"), 8, "max-records")
    assert flow.arrived(topic) == 200
    limited(flow.copy(topic, *following, "--max-duration", "1s"), 10, "max-duration")
    with flow.start(topic, *following, "--max-records", "100") as copier:
        add(flow, ledger, 30)
        limited(copier.wait(), 8, "max-records")
    assert 280 < flow.arrived(topic) <= 300
    flow.copy(topic).expect(0)
    assert flow.verify(topic).records == 320


def test_killed_under_limits_it_still_goes_on(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Each run begins with a full allowance, wherever the last one was killed."""
    topic = topic_name("killed")
    load(flow, topic, rng)
    for _ in range(3):
        before = flow.arrived(topic)
        with flow.start(topic, *SLOW, "--max-records", "1000") as copier:
            flow.wait_for_arrivals(copier, topic, before)
            copier.kill()
        assert before < flow.arrived(topic) <= before + 1000
    before = flow.arrived(topic)
    limited(flow.copy(topic, "--max-records", "500"), 8, "max-records")
    assert before + 480 < flow.arrived(topic) <= before + 500
    flow.copy(topic).expect(0)
    assert flow.verify(topic).records == 4000


def test_a_fault_is_told_before_a_limit(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic, other = topic_name("fault"), topic_name("other")
    load(flow, topic, rng, records=100)
    load(flow, other, rng)
    flow.copy(topic).expect(0)
    with Writer(flow.target.bootstrap) as writer:
        Ledger(topic, "intruder", rng).write(writer, (1,), 1)
    outcome = flow.copy(topic, other, *SLOW, "--max-records", "500").expect(7)
    assert (outcome.summary.status, outcome.fault().kind) == ("failed", "foreign-writer")
    assert outcome.summary.limit is not None
    assert outcome.summary.records <= 500


def test_a_plan_says_nothing_of_limits(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("plan")
    load(flow, topic, rng, records=100)
    limits = ("--max-bytes", "1kB", "--max-records", "5", "--max-duration", "1s")
    assert flow.copy(topic, "-n", *limits).expect(0).plan == flow.copy(topic, "-n").plan
