"""Abort lists and markers that break the rules (reliability facts H15): aborted records do not
arrive, committed ones do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from kit.clusters.hostile import Hostile, Input, Sides, two_clusters
from kit.fakebroker import FETCH, Answered
from kit.logs.truth import LZ4, RecordLog, made, rows
from kit.oracle import batches as oracle

Aborts = list[tuple[int, int]]  # producer id and first offset
PARTITIONS = 6


def transactions(partition: int, rng: random.Random) -> RecordLog:
    """Three producers whose transactions overlap, the same one aborting more than once."""
    log = RecordLog(b"t", partition).add(rows(0, -2))
    open_since: dict[int, int] = {}
    offset = 2
    for _ in range(60):
        producer = rng.randrange(7, 10)
        if producer in open_since and rng.random() < 0.4:
            commit = rng.random() < 0.4
            if not commit:
                log.aborted.append((producer, open_since[producer], offset))
            del open_since[producer]
            log.marker(offset, producer, commit=commit)
            offset += 1
        else:
            open_since.setdefault(producer, offset)
            count = rng.randrange(1, 4)
            log.add(rows(offset, -count), rng.choice([0, LZ4]), producer=producer)
            offset += count
    for producer, since in open_since.items():
        log.aborted.append((producer, since, offset))
        log.marker(offset, producer, commit=False)
        offset += 1
    return log.add(rows(offset, -2))


def with_aborts(change: Callable[[Aborts], Aborts]) -> Answered:
    """Correct answers to Fetch, but for the abort lists."""

    def make(_request: Any, body: dict[str, Any]) -> dict[str, Any]:
        for _, partitions in body["topics"]:
            for entry in partitions:
                if entry["aborted"] is not None:
                    entry["aborted"] = change(entry["aborted"])
        return body

    return Answered(make)


def check(sides: Sides, logs: list[RecordLog]) -> None:
    sides.copy("--merge", "never").expect(0)
    for log in logs:
        seen = log.seen(0, log.end, committed=True)
        assert len(log.aborted) > 3
        assert [r.seen for r in sides.stored(log.partition)] == [r.seen for r in seen]


@pytest.mark.parametrize(
    "change",
    [
        lambda aborts: sorted(aborts, key=lambda entry: -entry[1]),
        lambda aborts: random.Random(len(aborts)).sample(aborts, len(aborts)),
        lambda aborts: [entry for entry in aborts for _ in range(3)],
        lambda aborts: aborts + aborts[::-1],
        lambda aborts: [*aborts, (7, 10_000), (8, 2**63 - 1), (55, 0), (-1, 3)],
    ],
    ids=["reversed", "shuffled", "tripled", "twice", "of-others"],
)
def test_abort_lists(change: Callable[[Aborts], Aborts]) -> None:
    """The answers are small, so that a list belongs to some transactions of a log only."""
    logs = [transactions(number, random.Random(number)) for number in range(PARTITIONS)]
    with two_clusters(*logs) as sides:
        sides.source.fetch_limit = 2000
        sides.source.answer(FETCH, with_aborts(change))
        check(sides, logs)


MARKERS: dict[str, Callable[[int], bytes]] = {
    "of nobody's transaction": lambda at: oracle.control_batch(0, base_offset=at, producer_id=7),
    "of nobody": lambda at: oracle.control_batch(0, base_offset=at, producer_id=-1),
    "with a short key": lambda at: oracle.control_batch(0, base_offset=at, key=b"\0\0\0"),
    "without a key": lambda at: oracle.control_batch(0, base_offset=at, key=b""),
    "of an unknown type": lambda at: oracle.control_batch(77, base_offset=at, producer_id=7),
    "of a negative type": lambda at: oracle.control_batch(-1, base_offset=at, producer_id=7),
    "of an odd version": lambda at: oracle.control_batch(1, base_offset=at, version=9),
    "compressed": lambda at: oracle.control_batch(
        1, base_offset=at, attributes=oracle.CONTROL | LZ4
    ),
    "with many records": lambda at: made(rows(at, -3), attributes=oracle.CONTROL),
    "twice": lambda at: (
        oracle.control_batch(0, base_offset=at, producer_id=9)
        + oracle.control_batch(0, base_offset=at + 1, producer_id=9)
    ),
}


def test_markers() -> None:
    """A marker of each kind in a partition of its own, where no transaction is open."""
    logs = []
    for number, (name, marker) in enumerate(MARKERS.items()):
        log = RecordLog(b"t", number).add(rows(0, -2))
        log.add(rows(2, -2), producer=9).marker(4, 9, commit=False)
        log.aborted.append((9, 2, 4))
        log.batches.append(marker(5))
        log.content.append([])
        log.producers.append(-1)
        log.add(rows(9, -2), producer=9).marker(11, 9, commit=True)
        log.add(rows(12, -2))
        assert oracle.kind(log.batches[3]) == "control", name
        logs.append(log)
    with two_clusters(*logs) as sides:
        sides.copy().expect(0)
        for log in logs:
            seen = log.seen(0, log.end, committed=True)
            assert [one.offset for one in seen] == [0, 1, 9, 10, 12, 13]
            assert [r.seen for r in sides.stored(log.partition)] == [r.seen for r in seen]


def test_damage_in_what_was_aborted_is_named() -> None:
    """The target never sees these batches, so the copy must find it: the record may have been
    committed.
    """
    aborted = made(rows(2, -4), producer_id=9, attributes=oracle.TRANSACTIONAL)
    damaged = bytearray(made(rows(2, -4), producer_id=8, attributes=oracle.TRANSACTIONAL))
    damaged[43:51] = aborted[43:51]
    case = Hostile([Input("another's batch", bytes(damaged), "does not match its CRC-32C")])
    case.logs[1].aborted.append((9, 2, 20))
    case.run("--merge", "never")
