"""Record numbers beyond 2^31: a producer's sequences begin again at 0, and brokers follow."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kit.clusters.fixtures import ClusterFactory
from kit.clusters.flow import Flow
from kit.clusters.peers import last_sequences
from kit.clusters.runner import wait_until
from kit.clusters.segments import StoredBatch, age, batches, forget_clean_stop
from replicator.lab import LabCluster
from replicator.lab.ledger import Ledger, read_ledger
from replicator.lab.logs import log_ranges
from replicator.lab.seed import Writer

WRAP = 2**31
PARTITIONS = (0, 1)
RECORDS = 2500  # of each partition
APART = ("--merge", "never")  # where its batches begin and end is what this is about
SLOW = ("--throttle", "60kB/s", *APART)


@pytest.fixture(scope="module")
def veterans(own_cluster: ClusterFactory) -> Flow:
    """Two clusters whose files are worked on while they are stopped."""
    return Flow(own_cluster("old-source"), own_cluster("old-target"))


def stored(cluster: LabCluster, topic: str, partition: int) -> list[StoredBatch]:
    return list(batches(cluster.log_dir(), topic, partition))


def ends(flow: Flow, topic: str) -> dict[int, int]:
    ranges = log_ranges(flow.target.bootstrap, [topic], committed=False)
    return {partition: high for (_, partition), (_, high) in ranges.items()}


def guarded(flow: Flow, topic: str) -> dict[int, list[int]]:
    """The last sequences that the target's broker knows of."""
    found = last_sequences(flow.target.bootstrap, topic, PARTITIONS)
    return {partition: [*sequences.values()] for partition, sequences in found.items()}


def implied(flow: Flow, topic: str) -> dict[int, list[int]]:
    """The same, computed from the log: its offsets are our record numbers."""
    return {partition: [(end - 1) % WRAP] for partition, end in ends(flow, topic).items()}


def copy_some(flow: Flow, topic: str, records: int) -> None:
    """At most so many of each partition."""
    for partition in PARTITIONS:
        only = ("--partitions", str(partition))
        flow.copy(topic, *only, *APART, "--max-records", str(records)).expect(8)


def grow_old(flow: Flow, topic: str) -> dict[int, int]:
    """Move both sides' logs to where the wrap lies some 800 records ahead of what is copied.

    In partition 0 a batch begins with it, in partition 1 it is within a batch. Returns by how much
    each was moved. Nothing else is touched: the copy's own state on the target says that offset n
    of the source is record number n and offset n of the target, and so it is afterwards.
    """
    moved = {}
    copied = ends(flow, topic)
    for partition in PARTITIONS:
        ahead = stored(flow.source, topic, partition)
        first = next(b for b in ahead if b.base_offset >= copied[partition] + 800)
        moved[partition] = WRAP - first.base_offset - (first.count // 2 if partition else 0)
    for cluster in (flow.source, flow.target):
        cluster.stop_node()
    for partition, by in moved.items():
        age(flow.source.log_dir(), topic, partition, by)
        age(flow.target.log_dir(), topic, partition, by, ours=True)
    forget_clean_stop(flow.target.log_dir())
    for cluster in (flow.source, flow.target):
        cluster.start_node()
    return moved


def test_sequences_wrap_under_kills(
    veterans: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    flow, topic = veterans, topic_name("wrap")
    flow.create(topic, len(PARTITIONS))
    ledger = Ledger(topic, "run", rng)
    with Writer(flow.source.bootstrap, batch_records=20) as writer:
        ledger.write(writer, PARTITIONS, RECORDS, size=500)
    copy_some(flow, topic, 400)
    young = ends(flow, topic)
    moved = grow_old(flow, topic)
    assert {p: at - moved[p] for p, at in ends(flow, topic).items()} == young
    assert guarded(flow, topic) == implied(flow, topic)

    # The rest of the way to the wrap but for some batches, then across it with a kill before and
    # one after it.
    copy_some(flow, topic, 700)
    for partition in PARTITIONS:
        for wanted in (ends(flow, topic)[partition] + 1, WRAP + 50):
            killed_at = kill_at(flow, topic, partition, wanted) - WRAP
            print(f"partition {partition} killed at the wrap and {killed_at}")
            assert abs(killed_at) < 1000
    flow.copy(topic, *APART).expect(0)

    assert flow.verify(topic).records == RECORDS * len(PARTITIONS)
    whole = {partition: [*range(RECORDS)] for partition in PARTITIONS}
    assert read_ledger(flow.target.bootstrap, topic, "run") == whole
    check_sequences(flow, topic)
    assert flow.copy(topic).expect(0).summary.status == "nothing-left"
    with Writer(flow.source.bootstrap, batch_records=20) as writer:
        ledger.write(writer, PARTITIONS, 30)
    assert flow.copy(topic).expect(0).summary.records == 60
    flow.verify(topic)
    check_sequences(flow, topic)


def kill_at(flow: Flow, topic: str, partition: int, offset: int) -> int:
    """kill -9 as soon as the target's partition has come that far; where it is then."""
    with flow.start(topic, "--partitions", str(partition), *SLOW) as copier:
        wait_until(lambda: ends(flow, topic)[partition] >= offset, f"reaches {offset}")
        copier.kill()
    # What was on its way when it was killed may still arrive.
    wait_until(lambda: guarded(flow, topic) == implied(flow, topic), "nothing more arrives")
    return ends(flow, topic)[partition]


def check_sequences(flow: Flow, topic: str) -> None:
    """Every batch on the target's disk carries its record number, modulo 2^31."""
    producers = set()
    for partition in PARTITIONS:
        found = stored(flow.target, topic, partition)
        for batch in found:
            assert batch.base_sequence == batch.base_offset % WRAP
            producers.add(batch.producer_id)
        over = [b for b in found if b.base_sequence + b.count > WRAP]
        first = [b for b in found if b.base_offset == WRAP]
        # Partition 0 has a batch that begins with the wrap, partition 1 one around it.
        assert [len(over), len(first)] == ([0, 1] if partition == 0 else [1, 0])
        assert min(b.base_offset for b in found) < WRAP - 1000
        assert max(b.base_sequence for b in found) > WRAP - 100
        assert 100 < found[-1].base_sequence < RECORDS
    assert len(producers) == 1
