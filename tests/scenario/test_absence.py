"""Records that are not readable: empty answers, open transactions, a log that was cut off."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.clusters.faults import expect_fault
from kit.clusters.fixtures import ClusterFactory, Clusters
from kit.clusters.flow import Flow
from kit.clusters.runner import wait_until
from kit.clusters.tiered import TIERED_TOPIC, tiered_properties
from replicator.lab.ledger import Ledger, read_ledger
from replicator.lab.logs import log_end
from replicator.lab.seed import KEEP, Payload, Writer, delete_records, open_transaction

ONE_REMOTE_READ_MS = {"remote.fetch.max.wait.ms": "1"}
REMOTE_QUOTA = {"remote.log.manager.fetch.max.bytes.per.second": "200000"}


# --- remote storage -------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [ONE_REMOTE_READ_MS, REMOTE_QUOTA], ids=["wait", "quota"])
@pytest.mark.timeout(240)
def test_a_log_in_remote_storage_is_copied_whole(
    clusters: Clusters,
    own_cluster: ClusterFactory,
    topic_name: Callable[[str], str],
    rng: random.Random,
    tmp_path: Path,
    limits: dict[str, str],
) -> None:
    """Remote reads that are not done in time answer empty, without an error or a throttle."""
    source = own_cluster("tiered", properties={**tiered_properties(tmp_path), **limits})
    flow = Flow(source, clusters.target)
    topic = topic_name("tiered")
    flow.create(topic, config=TIERED_TOPIC)
    ledger = Ledger(topic, "run", rng)
    with Writer(source.bootstrap, batch_bytes=50_000) as writer:
        ledger.write(writer, (0,), 6000, size=1000)
    wait_until(lambda: _local_segments(source.log_dir(), topic) == 1, "only remote", timeout=90)
    flow.copy(topic, timeout=150).expect(0)
    flow.verify(topic)
    assert flow.copy(topic).expect(0).summary.status == "nothing-left"


def _local_segments(log_dir: Path, topic: str) -> int:
    return len(list((log_dir / f"{topic}-0").glob("*.log")))


# --- open transactions ----------------------------------------------------------------------------


def with_open_transaction(flow: Flow, topic: str, rng: random.Random) -> Writer:
    """A topic of two partitions: in partition 0 all records follow an open transaction."""
    flow.create(topic, 2)
    held = open_transaction(flow.source.bootstrap, topic, [0], rng, records=1)
    with Writer(flow.source.bootstrap) as writer:
        for index in range(1000):
            writer.send(topic, 0, Payload(None, b"behind %d" % index))
        for index in range(10):
            writer.send(topic, 1, Payload(None, b"beside %d" % index))
    return held


def test_records_after_an_open_transaction_are_told(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("open")
    held = with_open_transaction(flow, topic, rng)
    outcome = flow.copy(topic)
    fault = expect_fault(
        outcome, "open-transaction", side="source", topic=topic, partition=0, offset=0,
        exit_codes=(5,), status="incomplete",
    )  # fmt: skip
    assert "1,001 offsets from 0 on" in fault.message
    assert "of producer " in fault.message and "open since " in fault.message
    assert "1,001 offsets from 0 on" in outcome.stderr, "before the first record"
    (summary,) = outcome.summary.topics
    (told,) = summary.open_transactions
    assert (told.partition, told.offset, told.records) == (0, 0, 1001)
    assert told.producer_id is not None and told.since is not None
    flow.verify(topic)  # what a reader of committed records sees now
    held.commit()
    flow.copy(topic).expect(0)
    flow.verify(topic)
    assert flow.arrived(topic) == 1011


def test_a_dry_run_tells_of_open_transactions(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("open")
    held = with_open_transaction(flow, topic, rng)
    (planned,) = flow.copy(topic, "--dry-run").expect(0, 5).plan.topics
    assert [one.records for one in planned.open_transactions] == [1001]
    assert any("1,001 offsets from 0 on" in warning for warning in planned.warnings)
    held.abort()


def test_a_transaction_that_ends_meanwhile_is_copied(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("ends")
    held = with_open_transaction(flow, topic, rng)
    with flow.start(topic) as copier:
        flow.wait_for_arrivals(copier, topic, 5)
        held.commit()
        copier.wait().expect(0)
    flow.verify(topic)
    assert flow.arrived(topic) == 1011


@pytest.mark.parametrize(
    "meant",
    [("--until", "stable"), ("--isolation", "read_uncommitted")],
    ids=["until", "isolation"],
)
def test_an_option_says_that_it_is_meant(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random, meant: tuple[str, ...]
) -> None:
    topic = topic_name("meant")
    held = with_open_transaction(flow, topic, rng)
    flow.copy(topic, *meant).expect(0)
    assert flow.arrived(topic) == (10 if meant[1] == "stable" else 1011)
    held.abort()


def test_a_follower_shows_the_lag_of_an_open_transaction(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("follows")
    held = with_open_transaction(flow, topic, rng)
    watched = ("--progress", "plain", "--log-format", "json")
    with flow.start(topic, "--until", "forever", *watched) as copier:
        wait_until(lambda: '"lag":1001' in copier.outcome().stderr, "the lag is shown", timeout=60)
        wait_until(
            lambda: copier.outcome().stderr.count("1,001 offsets from 0 on") > 1,
            "the transaction is named once more while it is followed",
            timeout=60,
        )
        held.commit()
        flow.wait_for_arrivals(copier, topic, 1010)
        copier.interrupt()
        copier.wait(20)
    flow.verify(topic)


# --- a source that lost its end -------------------------------------------------------------------


def test_a_source_restored_from_a_backup_is_noticed(
    clusters: Clusters,
    own_cluster: ClusterFactory,
    topic_name: Callable[[str], str],
    rng: random.Random,
) -> None:
    """Offsets that were copied now hold other records: 100 were written after the backup."""
    source = own_cluster("restored")
    flow = Flow(source, clusters.target)
    topic, fine = topic_name("again"), topic_name("fine")
    backup = _restored(flow, topic, fine, rng)
    _put_back(flow, topic, backup)
    with Writer(source.bootstrap) as writer:
        for index in range(300):
            writer.send(topic, 0, Payload(None, b"c %d" % index))
        for index in range(50):
            writer.send(fine, 0, Payload(None, b"c %d" % index))
    plan = flow.copy(topic, fine, "--dry-run")
    outcome = flow.copy(topic, fine)
    fault = expect_fault(
        outcome, "source-truncated", side="source", topic=topic, partition=0, offset=1000,
        exit_codes=(11,),
    )  # fmt: skip
    assert "1100" in fault.message
    assert flow.arrived(topic) == 1100, "nothing of the new records"
    flow.verify(fine)
    assert plan.exit_code == outcome.exit_code


def test_a_source_that_ends_before_what_was_copied_is_noticed(
    clusters: Clusters,
    own_cluster: ClusterFactory,
    topic_name: Callable[[str], str],
    rng: random.Random,
) -> None:
    source = own_cluster("restored")
    flow = Flow(source, clusters.target)
    topic, fine = topic_name("short"), topic_name("fine")
    backup = _restored(flow, topic, fine, rng)
    _put_back(flow, topic, backup)
    outcome = flow.copy(topic)
    expect_fault(
        outcome, "source-truncated", side="source", topic=topic, partition=0, exit_codes=(11,)
    )
    assert flow.arrived(topic) == 1100


def _restored(flow: Flow, topic: str, fine: str, rng: random.Random) -> Path:
    """Two copied topics; the directory of the first one before its last 100 records."""
    for name in (topic, fine):
        flow.create(name, config=KEEP)
    with Writer(flow.source.bootstrap) as writer:
        for index in range(1000):
            writer.send(topic, 0, Payload(None, b"a %d" % index))
    flow.source.stop_node()
    place = flow.source.log_dir() / f"{topic}-0"
    backup = flow.source.log_dir().parent / f"backup-{topic}"
    shutil.copytree(place, backup)
    flow.source.start_node()
    with Writer(flow.source.bootstrap) as writer:
        for index in range(100):
            writer.send(topic, 0, Payload(None, b"b %d" % index))
    flow.copy(topic, fine).expect(0)
    return backup


def _put_back(flow: Flow, topic: str, backup: Path) -> None:
    flow.source.stop_node()
    place = flow.source.log_dir() / f"{topic}-0"
    shutil.rmtree(place)
    backup.rename(place)
    flow.source.start_node()
    assert log_end(flow.source.bootstrap, topic) == 1000


# --- records that were deleted before they were copied ------------------------------------------


def test_a_gap_is_accepted_when_it_is_asked_for(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("gap")
    flow.create(topic, 3, config=KEEP)
    ledger = Ledger(topic, "run", rng)
    with Writer(flow.source.bootstrap, batch_bytes=20_000) as writer:
        ledger.write(writer, (0, 1, 2), 100, size=1000)
    flow.copy(topic).expect(0)
    with Writer(flow.source.bootstrap, batch_bytes=20_000) as writer:
        ledger.write(writer, (0, 1, 2), 50, size=1000)
    delete_records(flow.source.bootstrap, topic, {1: 120})
    refused = flow.copy(topic)
    fault = expect_fault(refused, "data-loss", side="source", topic=topic, partition=1, offset=100)
    assert "--accept-gap" in fault.hint
    dry = flow.copy(topic, "--dry-run")
    assert dry.exit_code == refused.exit_code
    outcome = flow.copy(topic, "--accept-gap").expect(0)
    (gap,) = outcome.summary.topics[0].gaps
    assert (gap.partition, gap.start, gap.end) == (1, 100, 120)
    assert "100 to 119" in outcome.stderr
    found = read_ledger(flow.target.bootstrap, topic, "run")
    full = [*range(150)]
    assert found == {0: full, 1: [*range(100), *range(120, 150)], 2: full}
    assert flow.copy(topic).expect(0).summary.status == "nothing-left"
