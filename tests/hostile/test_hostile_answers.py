"""Fetch and Produce responses that contradict the request or themselves (reliability facts H16).

A single one costs a connection and nothing else. A broker that keeps sending them loses its
partitions; those of the other brokers are copied. Data that a broker leaves out never counts as
copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kit.brokers.scripted import taken
from kit.clusters.hostile import TOPIC, Sides, good_log, two_clusters
from kit.clusters.runner import copy_arguments
from kit.fakebroker import (
    FETCH,
    PRODUCE,
    SPOKEN,
    Answered,
    Default,
    FakeBroker,
    FakeCluster,
    Patched,
)
from kit.logs.truth import RecordLog
from replicator.cli.copy import command
from replicator.copy import CopyJob
from replicator.engine import roster
from replicator.options.settings import copy_settings
from replicator.process import StopSignal
from replicator.report.model import Summary

PATIENCE = 2.0  # seconds, instead of two minutes
PARTITIONS = 4

Body = dict[str, Any]


def each(change: Callable[[Body], None]) -> Patched:
    """Correct answers to Fetch, but for something in each partition's part."""

    def apply(body: Body) -> Body:
        for _, partitions in body["topics"]:
            for entry in partitions:
                change(entry)
        return body

    return Patched(apply)


def whole(change: Callable[[list[Any]], None]) -> Patched:
    """Correct answers, but for something in their list of topics; throttled ones have none."""

    def apply(body: Body) -> Body:
        if body["topics"]:
            change(body["topics"])
        return body

    return Patched(apply)


def beside(topics: list[Any], **fields: Any) -> None:
    """One more partition, that of a topic's first one but for ``fields``."""
    topics[0][1].append(topics[0][1][0] | fields)


def emptied(entry: Body, **fields: Any) -> None:
    entry.update(records=b"", **fields)


MALFORMED: dict[str, Patched] = {
    "a partition twice": whole(beside),
    "a topic twice": whole(lambda topics: topics.append(topics[0])),
    "a partition not asked for": whole(lambda topics: beside(topics, partition=99)),
    "a partition of -1": whole(lambda topics: beside(topics, partition=-1)),
    "a topic not asked for": whole(lambda topics: topics.append((b"?" * 16, topics[0][1]))),
    "a partition left out": whole(lambda topics: topics[0][1].pop()),
}

EMPTY: dict[str, Patched] = {
    "readers are sent to an unknown replica": each(lambda e: emptied(e, preferred_replica=77)),
    "nothing, and the log ends before it began": each(lambda e: emptied(e, high_watermark=-1)),
    "nothing, and more is stable than there is": each(
        lambda e: emptied(e, high_watermark=0, last_stable_offset=2**62)
    ),
}

HARMLESS: dict[str, Patched] = {
    "an unknown preferred replica": each(lambda e: e.update(preferred_replica=77)),
    "the log ends before it starts": each(lambda e: e.update(high_watermark=0, log_start_offset=9)),
    "no watermarks": each(lambda e: e.update(high_watermark=-1, last_stable_offset=-1)),
    "more is stable than there is": each(lambda e: e.update(last_stable_offset=2**63 - 1)),
    "negative offsets": each(lambda e: e.update(high_watermark=-(2**63), log_start_offset=-7)),
}


def copied(sides: Sides, logs: list[RecordLog]) -> None:
    for log in logs:
        seen = log.seen(0, log.end, committed=True)
        assert [r.seen for r in sides.stored(log.partition)] == [r.seen for r in seen]


def to_lanes(answer: Patched) -> Answered:
    """Only for the requests of lanes: the plan, which asks first, sets a limit of one byte."""
    return Answered(
        lambda request, body: answer.change(body) if request.body.max_bytes > 1 else body
    )


@pytest.mark.parametrize("name", [*MALFORMED, *EMPTY])
def test_a_single_contradiction_costs_one_retry(name: str) -> None:
    logs = [good_log(number) for number in range(PARTITIONS)]
    bad = to_lanes((MALFORMED | EMPTY)[name])
    with two_clusters(*logs) as sides:
        sides.source.answer(FETCH, bad, bad, bad, Default())
        summary = sides.copy().expect(0).summary
        assert summary.recoveries > 0 or name in EMPTY
        copied(sides, logs)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_said_beside_the_records_does_not_matter(name: str) -> None:
    logs = [good_log(number) for number in range(PARTITIONS)]
    with two_clusters(*logs) as sides:
        sides.source.answer(FETCH, HARMLESS[name])
        sides.copy().expect(0)
        copied(sides, logs)


@contextmanager
def half_hostile(logs: list[RecordLog]) -> Iterator[tuple[Sides, FakeBroker]]:
    """The source has a second broker, which leads the odd partitions."""
    source, target = FakeCluster("fake-source"), FakeCluster("fake-target")
    for log in logs:
        source.put(log)
        source.leaders[TOPIC, log.partition] = log.partition % 2
    with (
        FakeBroker(source, versions=SPOKEN) as reading,
        FakeBroker(source, node=1, versions=SPOKEN) as hostile,
        FakeBroker(target, versions=SPOKEN) as writing,
    ):
        yield Sides(reading, writing), hostile


def copy_here(sides: Sides) -> Summary:
    """The job of the binary in this process, where its patience can be made short."""
    arguments = copy_arguments(sides.source.address, sides.target.address, TOPIC)[1:]
    params = command.make_context("copy", arguments).params
    return CopyJob(copy_settings(params), lambda: None).run(StopSignal(), lambda _plan: None)


@pytest.mark.parametrize("name", [*MALFORMED, *EMPTY])
def test_a_repeated_contradiction_costs_only_the_partitions_of_that_broker(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "PATIENCE", PATIENCE)
    logs = [good_log(number) for number in range(PARTITIONS)]
    with half_hostile(logs) as (sides, hostile):
        hostile.answer(FETCH, to_lanes((MALFORMED | EMPTY)[name]))
        summary = copy_here(sides)
        faults = {fault.partition: fault for fault in summary.faults}
        copied(sides, logs[::2])
        assert set(faults) == {1, 3}, summary
        for partition, fault in faults.items():
            assert partition is not None, fault
            assert (fault.side, fault.topic) == ("source", TOPIC), fault
            assert fault.kind in ("unreachable", "data-loss")
            begun = len(sides.stored(partition))
            seen = logs[partition].seen(0, logs[partition].end, committed=True)
            assert [r.seen for r in sides.stored(partition)] == [r.seen for r in seen[:begun]]
            assert begun < len(seen)
        assert summary.exit_code in (5, 7)
        hostile.answer(FETCH, Default())
        assert copy_here(sides).exit_code == 0
        copied(sides, logs)


def produced(change: Callable[[list[Any]], None]) -> Answered:
    """Answers to the lanes' requests that are wrong although everything was stored."""

    def make(request: Any, body: Body) -> Body:
        if any(name.endswith(b".internal") for name in dict(body["topics"])):
            return body
        change(body["topics"])
        return body

    return Answered(make)


PRODUCED: dict[str, Answered] = {
    "a partition twice": produced(beside),
    "a partition not sent": produced(lambda topics: topics[0][1].append(taken(99, 0, 0))),
    "a topic not sent": produced(lambda topics: topics.append((b"secret", [taken(0, 0, 0)]))),
    "a partition left out": produced(lambda topics: topics[0][1].pop()),
}


@pytest.mark.parametrize("name", PRODUCED)
def test_a_target_that_answers_wrongly_is_asked_what_it_has(name: str) -> None:
    logs = [good_log(number) for number in range(PARTITIONS)]
    with two_clusters(*logs) as sides:
        # A state record's answer in between may be the one that is left as it is.
        sides.target.answer(PRODUCE, *[PRODUCED[name]] * 12, Default())
        assert sides.copy().expect(0).summary.recoveries > 0
        copied(sides, logs)
