"""Tests of the comparison itself: every kind of damage on a real target is found and named."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from kit.clusters.fixtures import Clusters
from replicator.lab.compare import BLOCK_RECORDS, CompareError, Verdict, compare
from replicator.lab.errors import LabError
from replicator.lab.ledger import Ledger, ledger_value, read_ledger
from replicator.lab.logs import settle
from replicator.lab.seed import (
    KEEP,
    YEAR_2001_MS,
    Headers,
    Payload,
    SeedError,
    Writer,
    create_topic,
    delete_records,
    open_transaction,
    transactions,
)

RECORDS = 300


def original(index: int) -> Payload:
    headers: Headers = [("h", b"1"), ("h", b"2"), ("null", None), ("empty", b"")]
    return Payload(b"k%d" % index, b"v%d" % index, headers, YEAR_2001_MS + index)


Damage = Callable[[list[Payload]], object]


def change(index: int, **fields: object) -> Damage:
    def apply(records: list[Payload]) -> None:
        for name, value in fields.items():
            setattr(records[index], name, value)

    return apply


def swap(records: list[Payload]) -> None:
    records[7], records[8] = records[8], records[7]


def lose_one_and_double_one(records: list[Payload]) -> None:
    records.pop(200)
    records.insert(9, records[9])


def rotate(records: list[Payload]) -> None:
    records[:] = records[1:] + records[:1]


DAMAGES: dict[str, tuple[Damage, dict[str, int], tuple[str, ...]]] = {
    "none": (lambda records: None, {}, ()),
    "first missing": (lambda records: records.pop(0), {"missing": 1}, ()),
    "middle missing": (lambda records: records.pop(150), {"missing": 1}, ()),
    "last missing": (lambda records: records.pop(), {"missing": 1}, ()),
    "all missing": (lambda records: records.clear(), {"missing": RECORDS}, ()),
    "one doubled": (lambda records: records.insert(20, records[20]), {"doubled": 1}, ()),
    "run doubled": (lambda records: records.extend(records[-50:]), {"doubled": 50}, ()),
    "early run again": (lambda records: records.extend(records[:9]), {"doubled": 9}, ()),
    "neighbours swapped": (swap, {"reordered": 1}, ()),
    "first moved to the end": (rotate, {"reordered": 1}, ()),
    "key": (change(4, key=b"other"), {"altered": 1}, ("key",)),
    "key null": (change(4, key=None), {"altered": 1}, ("key",)),
    "value": (change(4, value=b"v5"), {"altered": 1}, ("value",)),
    "value empty": (change(4, value=b""), {"altered": 1}, ("value",)),
    "timestamp": (change(4, timestamp=YEAR_2001_MS + 5), {"altered": 1}, ("timestamp",)),
    "headers gone": (change(4, headers=[]), {"altered": 1}, ("headers",)),
    "header order": (
        change(4, headers=[("h", b"2"), ("h", b"1"), ("null", None), ("empty", b"")]),
        {"altered": 1},
        ("headers",),
    ),
    "repeated header lost": (
        change(4, headers=[("h", b"2"), ("null", None), ("empty", b"")]),
        {"altered": 1},
        ("headers",),
    ),
    "null header empty": (
        change(4, headers=[("h", b"1"), ("h", b"2"), ("null", b""), ("empty", b"")]),
        {"altered": 1},
        ("headers",),
    ),
    "stranger at the end": (lambda r: r.append(Payload(None, b"x")), {"foreign": 1}, ()),
    "stranger within": (lambda r: r.insert(30, Payload(None, b"x")), {"foreign": 1}, ()),
    "two at once": (
        lose_one_and_double_one,
        {"missing": 1, "doubled": 1},
        (),
    ),
}


@pytest.fixture(scope="module")
def damaged(clusters: Clusters) -> str:
    """A topic whose target is damaged in every partition but the first, each in its way."""
    topic = "compare-damaged"
    for cluster in clusters:
        create_topic(cluster.bootstrap, topic, len(DAMAGES), config=KEEP)
    with (
        Writer(clusters.source.bootstrap, batch_records=40) as good,
        Writer(clusters.target.bootstrap, batch_records=70) as bad,
    ):
        for partition, (damage, _, _) in enumerate(DAMAGES.values()):
            records = [original(index) for index in range(RECORDS)]
            for record in records:
                good.send(topic, partition, record)
            damage(records)
            for record in records:
                bad.send(topic, partition, record)
    return topic


def counts(verdict: Verdict) -> dict[str, int]:
    kinds = ("missing", "doubled", "reordered", "altered", "foreign")
    return {kind: n for kind in kinds if (n := getattr(verdict, kind))}


@pytest.mark.parametrize(("partition", "name"), list(enumerate(DAMAGES)))
def test_each_damage_is_found_and_named(
    clusters: Clusters, damaged: str, partition: int, name: str
) -> None:
    _, expected, fields = DAMAGES[name]
    verdict = compare(
        clusters.source.bootstrap,
        clusters.target.bootstrap,
        {damaged: damaged},
        partitions=[partition],
    )
    assert counts(verdict) == expected
    assert verdict.ok == (not expected)
    assert verdict.records == RECORDS
    assert all(d.partition == partition and d.topic == damaged for d in verdict.details)
    assert all(d.fields == fields for d in verdict.details)


def test_one_comparison_adds_up_all_partitions(clusters: Clusters, damaged: str) -> None:
    verdict = compare(clusters.source.bootstrap, clusters.target.bootstrap, {damaged: damaged})
    for kind in ("missing", "doubled", "reordered", "altered", "foreign"):
        total = sum(expected.get(kind, 0) for _, expected, _ in DAMAGES.values())
        assert getattr(verdict, kind) == total
    assert not verdict.ok
    assert str(verdict).startswith("DIFFERENT: ")


def load(bootstrap: str, topic: str, numbers: Sequence[int]) -> None:
    with Writer(bootstrap, codec="lz4", batch_records=500) as writer:
        for number in numbers:
            writer.send(topic, 0, original(number))


@pytest.mark.parametrize("lost", [3 * BLOCK_RECORDS + 17, 3 * BLOCK_RECORDS - 1])
def test_damage_far_into_a_partition_is_placed_by_offset(
    clusters: Clusters, topic_name: Callable[[str], str], lost: int
) -> None:
    topic = topic_name("far")
    everything = range(3 * BLOCK_RECORDS + 100)
    for cluster in clusters:
        create_topic(cluster.bootstrap, topic, config=KEEP)
    load(clusters.source.bootstrap, topic, everything)
    load(clusters.target.bootstrap, topic, [n for n in everything if n != lost])
    verdict = compare(clusters.source.bootstrap, clusters.target.bootstrap, {topic: topic})
    assert counts(verdict) == {"missing": 1}
    assert verdict.details[0].source_offset == lost


def test_a_broker_that_stamps_records_itself_alters_them(
    clusters: Clusters, topic_name: Callable[[str], str]
) -> None:
    topic = topic_name("stamped")
    create_topic(clusters.source.bootstrap, topic, config=KEEP)
    create_topic(
        clusters.target.bootstrap, topic, config={"message.timestamp.type": "LogAppendTime"}
    )
    for cluster in clusters:
        load(cluster.bootstrap, topic, range(3))
    verdict = compare(clusters.source.bootstrap, clusters.target.bootstrap, {topic: topic})
    assert counts(verdict) == {"altered": 3}
    assert verdict.details[0].fields == ("timestamp",)


def test_offsets_may_differ_and_aborted_records_are_not_there(
    clusters: Clusters, topic_name: Callable[[str], str]
) -> None:
    topic = topic_name("tx")
    rng = random.Random(11)
    for cluster in clusters:
        create_topic(cluster.bootstrap, topic, 2, config=KEEP)
    visible = transactions(clusters.source.bootstrap, topic, [0], rng, rounds=4)
    load(clusters.source.bootstrap, topic, range(50))
    load(clusters.target.bootstrap, topic, range(50))
    delete_records(clusters.target.bootstrap, topic, {0: 10})
    held = open_transaction(clusters.target.bootstrap, topic, [0], rng, records=5)
    verdict = compare(clusters.source.bootstrap, clusters.target.bootstrap, {topic: topic})
    assert verdict.records == visible + 50
    assert counts(verdict) == {"missing": visible + 10}
    held.commit()
    settle(clusters.target.bootstrap, topic)
    verdict = compare(clusters.source.bootstrap, clusters.target.bootstrap, {topic: topic})
    assert counts(verdict) == {"missing": visible + 10, "foreign": 5}


def test_start_and_end_narrow_what_the_target_must_hold(
    clusters: Clusters, topic_name: Callable[[str], str]
) -> None:
    topic = topic_name("narrow")
    for cluster in clusters:
        create_topic(cluster.bootstrap, topic, config=KEEP)
    load(clusters.source.bootstrap, topic, range(100))
    load(clusters.target.bootstrap, topic, range(20, 90))
    place = (topic, 0)
    verdict = compare(
        clusters.source.bootstrap,
        clusters.target.bootstrap,
        {topic: topic},
        start={place: 20},
        end={place: 90},
    )
    assert verdict.ok
    assert verdict.records == 70


def test_names_may_differ_and_both_sides_must_have_the_partitions(
    clusters: Clusters, topic_name: Callable[[str], str]
) -> None:
    here, there = topic_name("here"), topic_name("there")
    create_topic(clusters.source.bootstrap, here, 2)
    with pytest.raises(LabError, match="there"):
        compare(clusters.source.bootstrap, clusters.target.bootstrap, {here: there})
    create_topic(clusters.target.bootstrap, there, 3)
    with pytest.raises(CompareError, match="partition 2 is on one side only"):
        compare(clusters.source.bootstrap, clusters.target.bootstrap, {here: there})
    both = compare(
        clusters.source.bootstrap,
        clusters.target.bootstrap,
        {here: there},
        partitions=[0, 1],
    )
    assert both.ok
    assert both.records == 0


def test_a_ledger_reads_back_and_refuses_what_is_not_its_own(
    clusters: Clusters, topic_name: Callable[[str], str]
) -> None:
    topic = topic_name("ledger")
    bootstrap = clusters.source.bootstrap
    create_topic(bootstrap, topic, 2)
    ledger = Ledger(topic, "run-1", random.Random(3))
    with Writer(bootstrap) as writer:
        ledger.write(writer, [0, 1], 20)
        ledger.write(writer, [1], 5)
    assert read_ledger(bootstrap, topic, "run-1") == {0: [*range(20)], 1: [*range(25)]}
    with pytest.raises(SeedError, match="not of run-2"):
        read_ledger(bootstrap, topic, "run-2")
    with Writer(bootstrap) as writer:
        damaged = ledger_value("run-1", 0, 20, b"body")[:-1] + b"?"
        writer.send(topic, 0, Payload(None, damaged))
    with pytest.raises(SeedError, match="partition 0 holds a record"):
        read_ledger(bootstrap, topic, "run-1")
