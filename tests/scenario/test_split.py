"""Target topics with other partitions: exact, in order, whatever happens on the way."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.clusters.flow import Flow
from kit.clusters.loads import PARTITIONS, load_mixed
from kit.clusters.runner import Copier, wait_until
from kit.clusters.split import by_murmur2, read_all, verify_split
from replicator.lab.seed import KEEP, Payload, Text, Writer, create_topic, delete_topic

EIGHT = ("--partitioner", "murmur2", "--target-partitions", "8")


def test_records_go_where_javas_producer_would_put_them(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("split")
    load_mixed(flow, topic, rng, megabytes=8)
    outcome = flow.copy(topic, *EIGHT).expect(0)
    assert verify_split(flow, topic, by_murmur2) == outcome.summary.records
    assert len(read_all(flow.target.bootstrap, topic)) == 8
    again = flow.copy(topic, *EIGHT).expect(0).summary
    assert (again.status, again.records) == ("nothing-left", 0)
    assert flow.arrived(topic) == outcome.summary.records


def test_what_is_added_follows_later(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("grows")
    load_mixed(flow, topic, rng, megabytes=1)
    flow.copy(topic, *EIGHT).expect(0)
    text = Text(rng)
    with Writer(flow.source.bootstrap) as writer:
        for number in range(900):
            writer.send(topic, number % PARTITIONS, Payload(text.take(8), text.take(300)))
    assert flow.copy(topic, *EIGHT).expect(0).summary.records == 900
    verify_split(flow, topic, by_murmur2)


def test_into_fewer_partitions_and_without_keys(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("fewer")
    flow.create(topic, 3, config=KEEP)
    text = Text(rng)
    with Writer(flow.source.bootstrap, batch_records=50, codec="zstd") as writer:
        for number in range(9000):
            key = None if number % 4 else text.take(6)
            writer.send(topic, number % 3, Payload(key, b"%d %s" % (number, text.take(20))))
    create_topic(flow.target.bootstrap, topic, 2, config=KEEP)
    flow.copy(topic, "--partitioner", "murmur2").expect(0)
    assert verify_split(flow, topic, by_murmur2) == 9000


def test_modulo_folds_partitions(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("folded")
    load_mixed(flow, topic, rng, megabytes=1)

    def fold(_key: bytes | None, source: int, _offset: int, count: int) -> int:
        return source % count

    flow.copy(topic, "--partitioner", "modulo", "--target-partitions", "3").expect(0)
    verify_split(flow, topic, fold)


def test_a_function_of_the_users(
    flow: Flow,
    topic_name: Callable[[str], str],
    rng: random.Random,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = topic_name("own")
    load_mixed(flow, topic, rng, megabytes=1)
    Path(tmp_path, "mine.py").write_text(
        "def choose(keys, offsets, source_partition, count):\n"
        "    return [(len(key or b'') + offset) % count for key, offset in zip(keys, offsets)]\n"
    )
    monkeypatch.chdir(tmp_path)

    def choose(key: bytes | None, _source: int, offset: int, count: int) -> int:
        return (len(key or b"") + offset) % count

    flow.copy(topic, "--partitioner", "mine:choose", "--target-partitions", "4").expect(0)
    verify_split(flow, topic, choose)
    refused = flow.copy(topic, "--partitioner", "mine:missing", "--target-partitions", "4")
    assert "mine:missing cannot be loaded" in refused.expect(2).stderr


@pytest.mark.parametrize(
    "rounds", [22, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_kill_9_at_random_moments(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random, rounds: int
) -> None:
    topic = topic_name("killed")
    load_mixed(flow, topic, rng, megabytes=max(10, rounds // 3))
    progress = []
    for index in range(rounds):
        with flow.start(topic, *EIGHT, "--throttle", "700kB/s") as copier:
            until_some_moment(flow, copier, topic, rng, index)
            assert copier.running(), f"round {index} ended before its kill: {copier.outcome()}"
            copier.kill()
        progress.append(flow.arrived(topic))
    print("records after each kill:", progress)
    assert progress == sorted(progress)
    assert len(set(progress)) > min(rounds, 22) // 2, "kills at different stages"
    flow.copy(topic, *EIGHT).expect(0)
    assert verify_split(flow, topic, by_murmur2) == flow.arrived(topic)


def until_some_moment(
    flow: Flow, copier: Copier, topic: str, rng: random.Random, index: int
) -> None:
    """Right after the first record of this run, or when some more are there."""
    more = 1 if index % 2 else rng.randrange(2, 200)
    before = flow.arrived(topic)
    wait_until(
        lambda: flow.arrived(topic) >= before + more or not copier.running(),
        f"{topic} grows",
        pause=0.001,
    )


def test_another_partitioner_than_before_is_refused(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    split, plain = topic_name("split"), topic_name("plain")
    for topic in (split, plain):
        load_mixed(flow, topic, rng, megabytes=1)
    flow.copy(split, *EIGHT).expect(0)
    flow.copy(plain).expect(0)
    for arguments in (
        (split,),
        (split, "--partitioner", "fnv1a"),
        (plain, "--partitioner", "murmur2"),
    ):
        refused = flow.copy(*arguments).expect(11)
        assert "an earlier copy was made with --partitioner" in refused.fault().message


def test_a_new_topic_ignores_the_state_of_the_old_one(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    """Only some partitions are copied again after the target was deleted."""
    topic = topic_name("anew")
    load_mixed(flow, topic, rng, megabytes=1)
    flow.copy(topic, *EIGHT).expect(0)
    delete_topic(flow.target.bootstrap, topic)
    assert flow.copy(topic, *EIGHT, "--partitions", "0").expect(11).fault().kind == "target-deleted"
    copied = flow.copy(topic, *EIGHT, "--partitions", "0", "--restart").expect(0).summary.records
    with Writer(flow.source.bootstrap) as writer:
        for number in range(300):
            writer.send(topic, 0, Payload(b"%d" % number, b"more"))
    again = flow.copy(topic, *EIGHT, "--partitions", "0").expect(0).summary
    assert (again.records, flow.arrived(topic)) == (300, copied + 300)
    refused = flow.copy(topic, *EIGHT).expect(11)
    assert refused.fault().kind == "target-recreated"


def test_a_count_needs_a_partitioner(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("count")
    flow.create(topic, 3, config=KEEP)
    assert "--partitioner" in flow.copy(topic, "--target-partitions", "4").expect(2).stderr
    create_topic(flow.target.bootstrap, topic, 2, config=KEEP)
    assert "--partitioner" in flow.copy(topic).expect(7).fault().hint


def test_another_client_in_the_target_is_noticed(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("stranger")
    load_mixed(flow, topic, rng, megabytes=1)
    flow.copy(topic, *EIGHT).expect(0)
    with Writer(flow.target.bootstrap) as writer:
        writer.send(topic, 5, Payload(b"k", b"not ours"))
    with Writer(flow.source.bootstrap) as writer:
        writer.send(topic, 1, Payload(b"k", b"one more"))
    refused = flow.copy(topic, *EIGHT).expect(7)
    assert {fault.kind for fault in refused.summary.faults} == {"foreign-writer"}
