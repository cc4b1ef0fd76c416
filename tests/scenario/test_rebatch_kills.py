"""kill -9 of the copier and crashes of brokers while records are put into new batches: every copy
ends exact, though each life of it cuts the same records into other batches.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from subprocess import TimeoutExpired

import pytest

from kit.clusters.cleaner import COMPACTED, QUICK_CLEANER, clean_until
from kit.clusters.fixtures import ClusterFactory
from kit.clusters.flow import Flow
from kit.clusters.runner import Copier, wait_until
from kit.clusters.segments import batches
from replicator.lab import LabCluster
from replicator.lab.seed import Payload, Text, Writer, create_topic

PARTITIONS = 2
RATE = "80kB/s"

Load = Callable[[Flow, str, random.Random, int], None]  # the size in kilobytes


@pytest.fixture(scope="module")
def shaken(own_cluster: ClusterFactory) -> Flow:
    """Brokers to crash; the source's cleaner is quick."""
    source = own_cluster("shaken-source", properties=QUICK_CLEANER)
    return Flow(source, own_cluster("shaken-target"))


def gapped(flow: Flow, topic: str, rng: random.Random, kilobytes: int) -> None:
    """Compacted: holes in most batches, of which some are large enough to be retraced."""
    create_topic(flow.source.bootstrap, topic, PARTITIONS, config=COMPACTED)
    text = Text(rng)
    written = kilobytes * 5
    with Writer(flow.source.bootstrap, batch_records=60, codec="lz4") as writer:
        for index in range(written):
            key = b"once %d" % index if rng.random() < 0.5 else b"%d" % rng.randrange(50)
            writer.send(topic, index % PARTITIONS, Payload(key, text.take(400)))
    clean_until(
        flow,
        topic,
        range(PARTITIONS),
        lambda found: sum(batch.count for batch in found) < 0.7 * written / PARTITIONS,
    )


def singles(flow: Flow, topic: str, rng: random.Random, kilobytes: int) -> None:
    """Batches of one record each, which are merged."""
    create_topic(flow.source.bootstrap, topic, PARTITIONS)
    text = Text(rng)
    with Writer(flow.source.bootstrap, batch_records=1, linger_ms=0) as writer:
        for index in range(kilobytes * 4):
            writer.send(topic, index % PARTITIONS, Payload(text.take(8), text.take(170)))


def stamped(flow: Flow, topic: str, rng: random.Random, kilobytes: int) -> None:
    """Times of the broker, which each record has to carry itself; batches are retraced."""
    config = {"message.timestamp.type": "LogAppendTime"}
    create_topic(flow.source.bootstrap, topic, PARTITIONS, config=config)
    text = Text(rng)
    with Writer(flow.source.bootstrap, batch_records=60, codec="lz4") as writer:
        for index in range(kilobytes * 4):
            writer.send(topic, index % PARTITIONS, Payload(text.take(8), text.take(400)))


LOADS: dict[str, Load] = {"gapped": gapped, "singles": singles, "stamped": stamped}


class Shaken:
    """One copy of some topics, disturbed again and again."""

    def __init__(self, flow: Flow, topics: list[str], rng: random.Random) -> None:
        self.flow = flow
        self.topics = topics
        self.rng = rng
        self.progress: list[int] = []

    def arrived(self) -> int:
        return sum(self.flow.arrived(topic) for topic in self.topics)

    def rounds(self, count: int) -> None:
        """All rounds kill the copier, every fifth a broker of either side before that."""
        for index in range(count):
            options = [f"--throttle={RATE}", f"--batch-bytes={self.rng.choice((4, 16, 64))}KiB"]
            with self.flow.start(*self.topics, *options) as copier:
                self._wait(copier, index)
                if index % 5 == 2:
                    self._crash(copier, self.rng.choice((self.flow.source, self.flow.target)))
                assert copier.running(), f"round {index}: {copier.outcome()}"
                copier.kill()
            self.progress.append(self.arrived())
        print("records after each round:", self.progress)
        assert self.progress == sorted(self.progress)
        assert len(set(self.progress)) > count // 2, "rounds at different stages"

    def _wait(self, copier: Copier, index: int) -> None:
        """Every fifth time until some moment of the start, else until a moment of the copying."""
        if index % 5 == 0:
            self._pause(copier, self.rng.uniform(0.1, 1.2))
            return
        before = self.arrived()
        wait_until(
            lambda: self.arrived() > before or not copier.running(), "records arrive", pause=0.001
        )
        self._pause(copier, self.rng.uniform(0.0, 0.6))

    @staticmethod
    def _pause(copier: Copier, seconds: float) -> None:
        """The length of the pause is what is tested."""
        with suppress(TimeoutExpired):
            copier.process.wait(seconds)

    def _crash(self, copier: Copier, cluster: LabCluster) -> None:
        """kill -9 of a broker; the copier goes on by itself once it is back."""
        cluster.kill()
        cluster.start_node()
        before = self.arrived()
        wait_until(
            lambda: self.arrived() > before or not copier.running(),
            "the copy goes on after a crash",
            timeout=60,
        )

    def finish(self) -> None:
        """Copies what is left, and compares the clusters."""
        summary = self.flow.copy(*self.topics, timeout=120).expect(0).summary
        verdict = self.flow.verify(*self.topics)
        assert self.arrived() == verdict.records
        assert summary.records == verdict.records - self.progress[-1] > 0, "kills came too late"
        assert summary.rebatched_batches > 0
        assert self.flow.copy(*self.topics).expect(0).summary.status == "nothing-left"

    def batch_sizes(self, topic: str) -> list[int]:
        """Records in each batch of the target."""
        return [
            batch.count
            for partition in range(PARTITIONS)
            for batch in batches(self.flow.target.log_dir(), topic, partition)
        ]


def shake(
    flow: Flow, names: dict[str, Load], rng: random.Random, *, rounds: int, size: int
) -> None:
    for topic, load in names.items():
        load(flow, topic, rng, size)
        # The target topic has configs of its own, unlike the source's: nothing is compacted here.
        create_topic(flow.target.bootstrap, topic, PARTITIONS)
    copy = Shaken(flow, list(names), rng)
    copy.rounds(rounds)
    copy.finish()
    for topic, load in names.items():
        if load is singles:
            sizes = copy.batch_sizes(topic)
            assert sum(sizes) > 5 * len(sizes), "nothing was merged"


@pytest.mark.parametrize("shape", LOADS)
def test_five_crashes_while_rebatching(
    shaken: Flow, topic_name: Callable[[str], str], rng: random.Random, shape: str
) -> None:
    shake(shaken, {topic_name(shape): LOADS[shape]}, rng, rounds=5, size=3000)


def test_five_crashes_while_rebatching_all_kinds(
    shaken: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """The merged batches of one partition, and the opened ones of another, in the same requests."""
    names = {topic_name(name): load for name, load in LOADS.items()}
    shake(shaken, names, rng, rounds=5, size=1200)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shape", LOADS)
def test_40_crashes_while_rebatching(
    shaken: Flow, topic_name: Callable[[str], str], rng: random.Random, shape: str
) -> None:
    shake(shaken, {topic_name(shape): LOADS[shape]}, rng, rounds=40, size=25_000)
