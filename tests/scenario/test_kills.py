"""kill -9 and SIGSTOP of the copier at any moment end, after a rerun, in an exact copy."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from kit.clusters.fixtures import ClusterFactory, Clusters
from kit.clusters.flow import Flow
from kit.clusters.loads import PARTITIONS, load_mixed
from kit.clusters.peers import known_producers
from kit.clusters.runner import Copier, wait_until
from replicator.lab.logs import log_ranges
from replicator.lab.seed import YEAR_2001_MS

Moment = Callable[[Flow, Copier, str], None]


def after(seconds: float) -> Moment:
    """A moment counted from the start of the process, whatever it is doing then."""

    def wait(flow: Flow, copier: Copier, topic: str) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and copier.running():
            time.sleep(0.002)

    return wait


def at_first_record(flow: Flow, copier: Copier, topic: str) -> None:
    """The moment when the target has one more record: before or around the first
    acknowledgement.
    """
    before = flow.arrived(topic)
    wait_until(
        lambda: flow.arrived(topic) > before or not copier.running(),
        f"{topic} grows",
        pause=0.001,
    )


def prefixes_only(flow: Flow, topic: str) -> None:
    """Checks that no target partition holds more records than are visible on the source."""
    if not flow.arrived(topic):
        return
    ours = log_ranges(flow.source.bootstrap, [topic])
    for place, (_, high) in log_ranges(flow.target.bootstrap, [topic]).items():
        assert high <= ours[place][1], f"{place} has {high} records, the source {ours[place][1]}"


def under_way(seconds: float) -> Moment:
    """A moment that long after the first record, however late that was."""

    def wait(flow: Flow, copier: Copier, topic: str) -> None:
        at_first_record(flow, copier, topic)
        after(seconds)(flow, copier, topic)

    return wait


def kill_rounds(
    flow: Flow, topic: str, rng: random.Random, *, rounds: int, limit: float, throttle: str
) -> list[int]:
    """Start and kill the copier ``rounds`` times; the records on the target after each.

    A quarter of the kills come within a second of the start, a quarter with the first record,
    the others up to ``limit`` seconds after it.
    """
    progress: list[int] = []
    for index in range(rounds):
        moment = (
            after(rng.uniform(0.02, 1.0)),
            at_first_record,
            under_way(rng.uniform(0.0, limit)),
            under_way(rng.uniform(0.0, limit)),
        )[index % 4]
        # Merged, a few batches would be all of the load, and a rate lets through one at a time.
        with flow.start(topic, "--throttle", throttle, "--merge", "never") as copier:
            moment(flow, copier, topic)
            assert copier.running(), f"round {index} ended before its kill: {copier.outcome()}"
            copier.kill()
        progress.append(flow.arrived(topic))
        prefixes_only(flow, topic)
    print("records after each kill:", progress)
    assert progress == sorted(progress)
    assert len(set(progress)) > rounds // 2, "kills at different stages"
    return progress


def test_kill_9_at_22_random_moments(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("killed")
    load_mixed(flow, topic, rng, megabytes=12)
    progress = kill_rounds(flow, topic, rng, rounds=22, limit=0.6, throttle="700kB/s")
    whole = flow.copy(topic).expect(0).summary
    verdict = flow.verify(topic)
    assert flow.arrived(topic) == verdict.records
    assert progress[0] < verdict.records  # the first kill came early
    assert whole.records == verdict.records - progress[-1]
    assert flow.copy(topic).expect(0).summary.status == "nothing-left"


def test_kill_9_around_the_first_record(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Around the creation of the topic, the first map segment and the first request."""
    topics = [topic_name("undisturbed"), topic_name("early")]
    for topic in topics:
        load_mixed(flow, topic, rng, megabytes=2)
    began = time.monotonic()
    with flow.start(topics[0], "--throttle", "200kB/s") as copier:
        flow.wait_for_arrivals(copier, topics[0])
        usual = time.monotonic() - began
        copier.kill()
    for _ in range(12):
        with flow.start(topics[1], "--throttle", "200kB/s") as copier:
            after(usual * rng.uniform(0.3, 1.2))(flow, copier, topics[1])
            assert copier.running(), copier.outcome()
            copier.kill()
        prefixes_only(flow, topics[1])
    flow.copy(*topics).expect(0)
    flow.verify(*topics)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_kill_9_at_200_random_moments(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("killed")
    load_mixed(flow, topic, rng, megabytes=120)
    kill_rounds(flow, topic, rng, rounds=200, limit=1.0, throttle="1MB/s")
    flow.copy(topic, timeout=300).expect(0)
    flow.verify(topic)


def frozen(flow: Flow, topic: str, rng: random.Random, seconds: float) -> None:
    load_mixed(flow, topic, rng, megabytes=3)
    with flow.start(topic, "--throttle", "2MB/s") as copier:
        flow.wait_for_arrivals(copier, topic)
        copier.freeze()
        after(seconds)(flow, copier, topic)  # the length of the pause is what is tested
        copier.thaw()
        copier.wait().expect(0)
    flow.verify(topic)


def test_a_copier_stopped_for_three_seconds_goes_on(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    frozen(flow, topic_name("frozen"), rng, 3.0)


@pytest.mark.soak
def test_a_copier_stopped_for_over_a_minute_goes_on(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    frozen(flow, topic_name("frozen"), rng, 65.0)


@pytest.fixture(scope="module")
def forgetful(clusters: Clusters, own_cluster: ClusterFactory) -> Flow:
    """A target that forgets producers after a second, by the time of their records."""
    target = own_cluster(
        "forgetful",
        properties={
            "producer.id.expiration.ms": "1000",
            "producer.id.expiration.check.interval.ms": "500",
        },
    )
    return Flow(clusters.source, target)


def forgotten(flow: Flow, topic: str) -> bool:
    return known_producers(flow.target.bootstrap, topic, range(PARTITIONS)) == 0


def test_old_records_whose_producer_the_target_forgets_between_kills(
    forgetful: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """The broker no longer detects a record that is sent twice, so the copy must read the log."""
    flow, topic = forgetful, topic_name("old")
    load_mixed(flow, topic, rng, megabytes=4, stamp=YEAR_2001_MS)
    for index in range(4):
        with flow.start(topic, "--throttle", "1MB/s") as copier:
            flow.wait_for_arrivals(copier, topic, flow.arrived(topic))
            after(rng.uniform(0.0, 0.4))(flow, copier, topic)
            copier.kill()
        wait_until(lambda: forgotten(flow, topic), "the producer is forgotten")
        assert flow.arrived(topic) > 0, f"round {index} copied nothing"
    flow.copy(topic).expect(0)
    flow.verify(topic)


def test_old_records_and_a_copier_frozen_until_it_is_forgotten(
    forgetful: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    flow, topic = forgetful, topic_name("thaw")
    load_mixed(flow, topic, rng, megabytes=2, stamp=YEAR_2001_MS)
    with flow.start(topic, "--throttle", "1MB/s") as copier:
        flow.wait_for_arrivals(copier, topic)
        copier.freeze()
        wait_until(lambda: forgotten(flow, topic), "the producer is forgotten")
        copier.thaw()
        copier.wait().expect(0)
    flow.verify(topic)
