"""The usual copy: whole batches, byte for byte, in order, within Kafka's limits."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from copycore.partition import PartitionCopy
from kit.brokers.rig import EPOCH, PRODUCER, Ends, Rig
from kit.brokers.scripted import SourceLog, batch, rewritten
from kit.logs.expected import expect
from kit.oracle import batches as oracle


def dense(topic: bytes, partition: int, sizes: list[int], *, base: int = 0) -> SourceLog:
    """A log without holes; ``sizes`` are the batches' record counts."""
    batches = []
    for number, count in enumerate(sizes):
        payload = b"%s-%d-%d " % (topic, partition, number) * count
        codec = number % 5
        batches.append(
            batch(base, count, payload, attributes=codec, leader_epoch=2, base_timestamp=number)
        )
        base += count
    return SourceLog(topic, partition, batches)


def check_done(rig: Rig, ends: Ends, part: PartitionCopy, log: SourceLog) -> None:
    whole = expect(log)
    assert (part.ending, part.end_message) == ("done", None)
    assert list(rig.stored(ends, part)) == whole.produced
    assert part.acked == part.position == whole.position == part.end
    assert part.acked_counter == part.records == whole.counter
    assert part.batches == len(whole.produced)
    assert part.bytes == sum(map(len, whole.produced))
    assert part.skipped == whole.skipped
    assert rig.segments(part) == whole.segments


def test_quick_rewrite_is_the_oracles_rewrite() -> None:
    rng = random.Random(4)
    for size in (0, 1, 40, 127, 128, 129, 300, 1000):
        payload = rng.randbytes(size)
        whole = batch(77, 3, payload, attributes=0x5C, producer_id=5)
        assert whole == oracle.build(
            payload, base_offset=77, count=3, attributes=0x5C, producer_id=5
        )
        assert rewritten(whole, 9, 1, 2**31 + 4) == oracle.rewrite(whole, 9, 1, 4)


@pytest.mark.parametrize("fetch", [11, 12, 13])
@pytest.mark.parametrize("produce", [7, 8, 9])
@pytest.mark.parametrize("tcp", [False, True], ids=["pair", "tcp"])
def test_partitions_of_several_topics_through_two_pipes(
    make_rig: Callable[..., Rig], fetch: int, produce: int, tcp: bool
) -> None:
    rig = make_rig(tcp=tcp)
    logs = [
        dense(b"one", 0, [1, 3, 2, 40], base=100),
        dense(b"one", 1, [5]),
        dense(b"two", 0, [1] * 9, base=7),
        dense(b"two", 8, [2, 2, 2]),
    ]
    first = rig.pipe(*logs[:2], fetch=fetch, produce=produce)
    second = rig.pipe(*logs[2:], fetch=fetch, produce=produce)
    pipes = [first, first, second, second]
    parts = [rig.assign(ends, log) for ends, log in zip(pipes, logs, strict=True)]
    rig.run(turns=100_000 if tcp else 3000)
    for ends, part, log in zip(pipes, parts, logs, strict=True):
        check_done(rig, ends, part, log)
    assert rig.closed == []
    assert rig.lane.idle


def test_a_fetch_asks_for_what_is_wanted(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(read_committed=False)
    log = dense(b"t", 4, [2, 2], base=10)
    ends = rig.pipe(log)
    rig.assign(ends, log, leader_epoch=6)
    rig.run()
    request = ends.source.requests[0]
    assert (request.version, request.client, request.read_committed) == (13, b"test", False)
    assert request.min_bytes == 1
    assert request.max_wait_ms == rig.poll_wait
    (asked,) = request.partitions.values()
    assert (asked.offset, asked.leader_epoch) == (10, 6)
    assert list(request.partitions) == [(log.topic_id, 4)]
    assert ends.target.requests[0].acks == -1
    assert ends.target.requests[0].timeout_ms == rig.request_timeout


def test_one_batch_of_a_partition_a_request_and_five_in_flight(rig: Rig) -> None:
    logs = [dense(b"t", p, [1] * 12) for p in range(3)]
    ends = rig.pipe(*logs)
    parts = [rig.assign(ends, log) for log in logs]
    rig.fill(ends)
    rig.step(50)
    # The broker fails the test on a sixth request and on two batches of a partition in one.
    assert len(ends.target.pending) == 5
    assert all(len(request.batches) == 3 for request in ends.target.pending)
    assert rig.ended == []
    ends.target.hold = False
    rig.run()
    for part, log in zip(parts, logs, strict=True):
        check_done(rig, ends, part, log)
    assert ends.target.most_pending == 5


def test_requests_stay_below_their_size(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(request_bytes=1000)
    logs = [SourceLog(b"t", p, [batch(0, 1, bytes(400)), batch(1, 1, bytes(3000))])
            for p in range(7)]  # fmt: skip
    ends, _ = rig.copy(*logs)
    for request in ends.target.requests:
        payloads = [len(whole) - oracle.HEADER for whole in request.batches.values()]
        # One batch alone may be larger: it has to go somehow.
        assert len(payloads) == 1 or sum(payloads) <= 1000
    assert max(len(request.batches) for request in ends.target.requests) == 2


def test_several_hundred_partitions_in_one_request(rig: Rig) -> None:
    """More pieces than one sendmsg takes."""
    logs = [SourceLog(b"t%d" % (p % 9), p, [batch(3, 2, b"p%d" % p)]) for p in range(700)]
    ends, parts = rig.copy(*logs)
    assert [part.ending for part in parts] == ["done"] * 700
    for part, log in zip(parts, logs, strict=True):
        assert list(rig.stored(ends, part)) == expect(log).produced
    assert max(len(request.batches) for request in ends.target.requests) > 300


@pytest.mark.parametrize(
    "counter", [2**31 - 3, 2**31 - 1, 2**31, 5 * 2**31 - 2, 2**40], ids=lambda c: f"{c:#x}"
)
def test_sequences_wrap(rig: Rig, counter: int) -> None:
    log = dense(b"t", 0, [1, 1, 3, 1, 1], base=1000)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, counter=counter, base=50)
    rig.run()
    assert part.ending == "done"
    sequences = [oracle.parse(whole)["base_sequence"] for whole in rig.stored(ends, part)]
    assert sequences == [(counter + n) % 2**31 for n in (0, 1, 2, 5, 6)]
    assert list(rig.stored(ends, part)) == expect(log, counter=counter).produced
    assert part.acked_counter == counter + 7


def test_a_batch_across_the_wrap(rig: Rig) -> None:
    log = dense(b"t", 0, [10, 10])
    ends = rig.pipe(log)
    part = rig.assign(ends, log, counter=2**31 - 4)
    rig.run()
    first, second = (oracle.parse(whole) for whole in rig.stored(ends, part))
    assert first["base_sequence"] == 2**31 - 4
    assert second["base_sequence"] == 6
    assert part.records == 20


def test_an_end_between_batches_takes_nothing_after_it(rig: Rig) -> None:
    log = dense(b"t", 0, [4, 4, 4])
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=8)
    rig.run()
    assert (part.ending, part.records, part.acked) == ("done", 8, 8)


def test_nothing_to_copy_ends_without_a_request(rig: Rig) -> None:
    log = dense(b"t", 0, [4], base=20)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, start=24, end=24)
    rig.run()
    assert (part.ending, part.acked, part.records) == ("done", 24, 0)
    assert ends.source.requests == []


def test_following_goes_on_until_it_is_stopped(rig: Rig) -> None:
    log = dense(b"t", 0, [2, 2])
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=-1)
    rig.run(lambda: part.records == 4)
    rig.step(20)
    assert rig.ended == []
    assert part.readable == 4
    log.batches.append(batch(4, 3, b"later"))
    rig.run(lambda: part.records == 7)
    rig.lane.stop(part)
    rig.run()
    assert (part.ending, part.acked, part.acked_counter) == ("stopped", 7, 7)
    assert list(rig.stored(ends, part)) == expect(log).produced


def test_partitions_join_and_leave_a_running_pipe(rig: Rig) -> None:
    logs = [dense(b"t", p, [1] * 6) for p in range(3)]
    ends = rig.pipe(*logs)
    parts = [rig.assign(ends, logs[0])]
    rig.step(2)
    parts.append(rig.assign(ends, logs[1]))
    rig.run(lambda: parts[0] in rig.ended)
    parts.append(rig.assign(ends, logs[2]))
    assert parts[2] in ends.pipe.partitions
    rig.run()
    for part, log in zip(parts, logs, strict=True):
        check_done(rig, ends, part, log)
    assert ends.pipe.partitions == []
    assert ends.pipe.open


def test_an_assignment_serves_once(rig: Rig) -> None:
    ends, (part,) = rig.copy(dense(b"t", 0, [1]))
    with pytest.raises(ValueError, match="once"):
        rig.lane.assign(ends.pipe, part)


def test_fetches_take_turns_when_an_answer_has_no_room_for_all(rig: Rig) -> None:
    """The broker gives data to the first partition only: all partitions still make progress."""
    logs = [dense(b"t", p, [1] * 30) for p in range(4)]
    ends = rig.pipe(*logs, limit=lambda: 1)
    parts = [rig.assign(ends, log) for log in logs]
    rig.run(lambda: min(part.position for part in parts) >= 5)
    # With the same partition first in every fetch, one would be done before the next begins.
    assert max(part.position for part in parts) <= 20
    rig.run()
    for part, log in zip(parts, logs, strict=True):
        check_done(rig, ends, part, log)


def test_the_identity_is_the_partitions_own(rig: Rig) -> None:
    log = dense(b"t", 0, [2])
    ends, (part,) = rig.copy(log)
    header = oracle.parse(rig.stored(ends, part)[0])
    assert (header["producer_id"], header["producer_epoch"]) == (PRODUCER, EPOCH)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": -1, "mapped": -1},
        {"mapped": 1},
        {"mapped": -1},
        {"counter": -1},
        {"base_target": -1},
        {"producer_id": -1},
        {"source_id": b"short"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_impossible_assignments_are_refused(wrong: dict[str, object]) -> None:
    values: dict[str, Any] = {
        "source_name": b"t",
        "source_id": bytes(16),
        "target_name": b"t",
        "leader_epoch": 0,
        "start": 0,
        "mapped": 0,
        "end": 1,
        "counter": 0,
        "base_target": 0,
        "producer_id": 1,
        "producer_epoch": 0,
    }
    with pytest.raises(ValueError, match=r"negative|16 bytes|ahead of the copy"):
        PartitionCopy("t", 0, **(values | wrong))
