"""Everything on the source is on the target afterwards: codecs, sizes, names, odd records."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.clusters.flow import Flow
from kit.clusters.peers import producer
from kit.clusters.segments import batches, payload
from replicator.lab.compare import compare
from replicator.lab.logs import log_ranges
from replicator.lab.seed import (
    BATCH_SHAPES,
    CODECS,
    KEEP,
    YEAR_2001_MS,
    Codec,
    Payload,
    Writer,
    codecs_and_sizes,
    delete_records,
    varied,
)


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_and_batch_size_passes_through_unchanged(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random, codec: Codec
) -> None:
    topic = topic_name(codec)
    flow.create(topic, len(BATCH_SHAPES))
    codecs_and_sizes(flow.source.bootstrap, topic, codec, rng, megabytes=1)
    summary = flow.copy(topic, "--merge", "never").expect(0).summary
    verdict = flow.verify(topic)
    assert summary.records == verdict.records
    stored = 0
    for partition in range(len(BATCH_SHAPES)):
        ours = list(batches(flow.source.log_dir(), topic, partition))
        theirs = list(batches(flow.target.log_dir(), topic, partition))
        # Producers leave a batch as it is where the codec would make it larger.
        assert codec in {batch.codec for batch in ours} <= {codec, "none"}
        assert [(b.codec, b.count, b.size) for b in ours] == [
            (b.codec, b.count, b.size) for b in theirs
        ]
        assert [payload(b) for b in ours] == [payload(b) for b in theirs]
        stored += sum(batch.size for batch in ours)
    assert summary.bytes == stored


def test_null_empty_and_repeated_parts_of_records(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("varied")
    flow.create(topic, 3)
    for partition, records in enumerate((1, 7, 500)):
        with Writer(flow.source.bootstrap, batch_records=records, codec="lz4") as writer:
            for record in varied(rng, 600):
                writer.send(topic, partition, record)
    flow.copy(topic).expect(0)
    assert flow.verify(topic).records == 1800


def test_timestamps_of_0_2001_and_now(flow: Flow, topic_name: Callable[[str], str]) -> None:
    topic = topic_name("times")
    flow.create(topic, config=KEEP)
    with producer(flow.source.bootstrap) as client:
        for index in range(300):
            stamp = (0, 1, YEAR_2001_MS, YEAR_2001_MS - index, None)[index % 5]
            client.send(topic, b"%d" % index, timestamp_ms=stamp)
    flow.copy(topic).expect(0)
    assert flow.verify(topic).records == 300


def test_an_empty_topic_is_created(flow: Flow, topic_name: Callable[[str], str]) -> None:
    topic = topic_name("empty")
    flow.create(topic, 4)
    flow.copy(topic).expect(0)
    verdict = flow.verify(topic)
    assert (verdict.partitions, verdict.records) == (4, 0)


def test_empty_partitions_between_full_ones(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    topic = topic_name("gaps")
    flow.create(topic, 5)
    with Writer(flow.source.bootstrap) as writer:
        for index, record in enumerate(varied(rng, 200)):
            writer.send(topic, (1, 3)[index % 2], record)
    flow.copy(topic).expect(0)
    assert flow.verify(topic).records == 200


def test_200_partitions(flow: Flow, topic_name: Callable[[str], str], rng: random.Random) -> None:
    topic = topic_name("wide")
    flow.create(topic, 200)
    with Writer(flow.source.bootstrap, codec="zstd", batch_records=20) as writer:
        for index, record in enumerate(varied(rng, 20_000)):
            writer.send(topic, index % 200, record)
    flow.copy(topic).expect(0)
    assert flow.verify(topic).records == 20_000


def test_long_and_dotted_names_copied_by_one_pattern(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    stem = topic_name("n.")
    names = [stem + "x" * (249 - len(stem)), stem + "a.b", stem + "a-b_c", stem + "."]
    for name in names:
        flow.create(name, 2)
        with Writer(flow.source.bootstrap) as writer:
            for record in varied(rng, 50):
                writer.send(name, 1, record)
    summary = flow.copy(stem.replace(".", r"\.") + ".*").expect(0).summary
    assert sorted(topic.topic for topic in summary.topics) == sorted(names)
    flow.verify(*names)


def test_a_log_that_starts_above_0(flow: Flow, topic_name: Callable[[str], str]) -> None:
    topic = topic_name("late")
    flow.create(topic, 3)
    with Writer(flow.source.bootstrap, batch_records=10) as writer:
        for index in range(900):
            writer.send(topic, index % 3, Payload(None, b"%d" % index))
    border = list(batches(flow.source.log_dir(), topic, 0))[10].base_offset
    delete_records(flow.source.bootstrap, topic, {0: border, 1: 300})
    flow.copy(topic).expect(0)
    assert flow.verify(topic).records == 300 - border + 300
    ranges = log_ranges(flow.target.bootstrap, [topic])
    assert ranges[topic, 0] == (0, 300 - border)
    assert ranges[topic, 1] == (0, 0)


def test_partitions_and_exclude_narrow_the_choice(
    flow: Flow, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    chosen, left_out = topic_name("in"), topic_name("out")
    for name in (chosen, left_out):
        flow.create(name, 4)
        with Writer(flow.source.bootstrap) as writer:
            for index, record in enumerate(varied(rng, 80)):
                writer.send(name, index % 4, record)
    pattern = topic_name("") + "(in|out)"
    summary = flow.copy(pattern, "--exclude", left_out, "--partitions", "1,3").expect(0).summary
    assert [topic.topic for topic in summary.topics] == [chosen]
    assert flow.verify(chosen, partitions=[1, 3]).records == 40
    assert flow.arrived(chosen) == 40
    assert flow.arrived(left_out) == 0
    # the rest later
    flow.copy(chosen).expect(0)
    flow.verify(chosen)


def test_from_a_time_and_until_a_time(flow: Flow, topic_name: Callable[[str], str]) -> None:
    topic = topic_name("window")
    flow.create(topic, config=KEEP)
    with Writer(flow.source.bootstrap, batch_records=1, linger_ms=0) as writer:
        for index in range(100):
            writer.send(topic, 0, Payload(None, b"%d" % index, [], YEAR_2001_MS + index))
    flow.copy(topic, "--from", str(YEAR_2001_MS + 20), "--until", str(YEAR_2001_MS + 70)).expect(0)
    place = (topic, 0)
    assert flow.verify(topic, start={place: 20}, end={place: 70}).records == 50


def test_from_an_offsets_file(flow: Flow, topic_name: Callable[[str], str], tmp_path: Path) -> None:
    topic = topic_name("seek")
    flow.create(topic, 2)
    with Writer(flow.source.bootstrap, batch_records=10) as writer:
        for index in range(200):
            writer.send(topic, index % 2, Payload(None, b"%d" % index))
    offsets = tmp_path / "offsets.txt"
    offsets.write_text(f"{topic} 0 30\n{topic} 1 100\n")
    flow.copy(topic, "--from", str(offsets)).expect(0)
    verdict = flow.verify(topic, start={(topic, 0): 30, (topic, 1): 100})
    assert verdict.records == 70


def test_the_comparison_would_notice_a_record_too_many(
    flow: Flow, topic_name: Callable[[str], str]
) -> None:
    """Checks the comparison that this file uses, on the same clusters."""
    topic = topic_name("judged")
    flow.create(topic)
    with Writer(flow.source.bootstrap) as writer:
        for index in range(10):
            writer.send(topic, 0, Payload(None, b"%d" % index))
    flow.copy(topic).expect(0)
    flow.verify(topic)
    with Writer(flow.target.bootstrap) as writer:
        writer.send(topic, 0, Payload(None, b"9"))
    verdict = compare(flow.source.bootstrap, flow.target.bootstrap, {topic: topic})
    assert not verdict.ok
