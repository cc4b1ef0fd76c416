"""Copies held to a rate, and to another one while they run."""

from __future__ import annotations

import itertools
import json
import random
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from kit.clusters.flow import Flow
from kit.clusters.quota import limit_producers
from kit.clusters.runner import wait_until
from replicator.lab.seed import Payload, Text, Writer, create_topic
from replicator.pace.auto import START

BATCH = 20_000  # bytes, about


def load(flow: Flow, topic: str, rng: random.Random, *, partitions: int, megabytes: int) -> None:
    """Records of 1 kB in batches of ten or twenty, by turns."""
    flow.create(topic, partitions)
    text = Text(rng)
    for batch_records in (10, 20):
        with Writer(flow.source.bootstrap, batch_records=batch_records) as writer:
            for number in range(megabytes * 500):
                writer.send(topic, number % partitions, Payload(None, text.take(980)))


def test_a_copy_keeps_to_its_rate(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Between two looks of the copy itself, 5 s apart, over 12 partitions and two lanes: ± 3 %."""
    topic = topic_name("rate")
    load(flow, topic, rng, partitions=12, megabytes=24)
    watched = ("--progress", "plain", "--log-format", "json")
    outcome = flow.copy(topic, "--throttle", "2MB/s", "--lanes", "2", "--merge", "never", *watched)
    assert outcome.expect(0).summary.records == 24_000
    events = [json.loads(line) for line in outcome.stderr.splitlines()]
    looks = [event for event in events if event["event"] == "progress" and event["bytes"]]
    assert {event["throttle"] for event in looks} == {"2MB/s"}
    assert {event["throttled_by"] for event in looks[1:]} == {"limit"}
    assert len(looks) >= 2
    for before, after in itertools.pairwise(looks):
        rate = (after["bytes"] - before["bytes"]) / (after["elapsed"] - before["elapsed"])
        assert 0.97 * 2e6 <= rate <= 1.03 * 2e6 + BATCH
    flow.verify(topic)


def test_weights_and_a_limit_on_records(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Three parts for one topic, one for the other, whatever their numbers of partitions."""
    heavy, light = topic_name("heavy"), topic_name("light")
    load(flow, heavy, rng, partitions=1, megabytes=6)
    load(flow, light, rng, partitions=5, megabytes=6)
    rate = ("--throttle", "1000 records/s", "--weight", f"{heavy}=3", "--merge", "never")
    flow.copy(heavy, light, "--max-records", "100").expect(8)  # new topics have no leader at once
    summary = flow.copy(heavy, light, *rate, "--max-records", "5000").expect(8).summary
    had = {topic.topic: topic.records for topic in summary.topics}
    assert had[heavy] / (had[heavy] + had[light]) > 0.75 - 0.04
    assert had[light] / (had[heavy] + had[light]) > 0.25 - 0.04
    assert summary.elapsed >= (summary.records - 20) / 1000 - 0.25
    flow.copy(heavy, light).expect(0)
    flow.verify(heavy, light)


def test_a_topic_s_own_limit_is_its_own(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    slow, quick = topic_name("slow"), topic_name("quick")
    load(flow, slow, rng, partitions=3, megabytes=4)
    load(flow, quick, rng, partitions=1, megabytes=12)
    limit = ("--throttle-topic", f"{slow}=100kB/s", "--merge", "never", "--memory", "8MiB")
    with flow.start(slow, quick, *limit) as copier:
        flow.wait_for_arrivals(copier, quick, 11_999)
        copier.interrupt()
        summary = copier.wait().expect(130).summary
    had = {topic.topic: topic.bytes for topic in summary.topics}
    assert had[slow] <= 100_000 * (summary.elapsed + 0.25) + BATCH
    flow.copy(slow, quick).expect(0)
    flow.verify(slow, quick)


def test_auto_gives_way_to_a_quota(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """The broker would make the copy wait; so it takes less than the quota allows."""
    topic, client = topic_name("quota"), topic_name("client")
    load(flow, topic, rng, partitions=4, megabytes=16)
    limit_producers(flow.target, client, 1e6)
    watched = (
        "--throttle",
        "auto",
        "--progress",
        "plain",
        "--log-format",
        "json",
        "--target-X",
        f"client.id={client}",
    )
    summary = (outcome := flow.copy(topic, *watched)).expect(0).summary
    assert (summary.throttle, summary.records) == ("auto", 16_000)
    assert summary.throttle_ms > 0
    assert summary.throttled_by in ("limit", "target quota")
    events = [json.loads(line) for line in outcome.stderr.splitlines()]
    looks = [event for event in events if event["event"] == "progress" and event["bytes"]]
    assert {event["throttle"] for event in looks} == {"auto"}
    assert min(event["throttle_bytes"] or START for event in looks) < START / 4
    flow.verify(topic)


def test_auto_sees_who_else_writes_and_leaves_a_follower_alone(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """The default. A follower that has caught up is not held back."""
    ours, theirs = topic_name("ours"), topic_name("theirs")
    load(flow, ours, rng, partitions=4, megabytes=64)
    create_topic(flow.target.bootstrap, theirs)
    done = threading.Event()

    def write() -> None:
        with Writer(flow.target.bootstrap, linger_ms=5) as writer:
            while not done.wait(0.005):
                for _ in range(20):
                    writer.send(theirs, 0, Payload(None, b"theirs"))

    writing = threading.Thread(target=write)
    writing.start()
    try:
        with flow.start(ours, "--until", "forever", "-vv") as copier:
            flow.wait_for_arrivals(copier, ours, 63_999)
            for total in (64_050, 64_100, 64_150):
                with Writer(flow.source.bootstrap) as writer:
                    for number in range(50):
                        writer.send(ours, number % 4, Payload(None, b"%d" % total))
                flow.wait_for_arrivals(copier, ours, total - 1)
            copier.interrupt()
            outcome = copier.wait().expect(130)
    finally:
        done.set()
        writing.join()
    looks = re.findall(r"auto: at most (\S+) MB/s .* others: (\d+) records", outcome.stderr)
    assert looks and max(int(records) for _, records in looks) > 100
    rates = [float(rate) for rate, _ in looks]
    assert rates[-1] == float("inf"), rates
    flow.verify(ours)


def test_sighup_takes_new_limits_from_the_file(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random, tmp_path: Path
) -> None:
    """At 50 kB/s the copy would take minutes: a wrong file does not change that, a right one
    does.
    """
    topic = topic_name("faster")
    load(flow, topic, rng, partitions=4, megabytes=10)
    path = tmp_path / "copy.toml"
    path.write_text(f'throttle = "50kB/s"\ntopics = ["{topic}"]\nmerge = "never"\n')
    with flow.start("--config", str(path)) as copier:
        flow.wait_for_arrivals(copier, topic)
        path.write_text('throttle = "very fast"\n')
        copier.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "not reloaded" in copier.outcome().stderr, "the wrong file is told")
        seen = flow.arrived(topic)
        flow.wait_for_arrivals(copier, topic, seen)
        assert flow.arrived(topic) < 5000
        path.write_text('throttle = "100MB/s"\n')
        copier.process.send_signal(signal.SIGHUP)
        outcome = copier.wait(30).expect(0)
    assert "throttle: 50kB/s → 100MB/s" in outcome.stderr
    flow.verify(topic)
