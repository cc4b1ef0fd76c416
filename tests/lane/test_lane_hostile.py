"""Brokers that break the protocol: the connection is dropped with a reason, and nothing else.

Each case must end: no crash, no endless loop, no memory allocated because of a claimed size, no
offset moved, and other pipes go on (reliability facts H1, H2, H4, H16).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from copycore.partition import PartitionCopy
from kit.brokers.rig import Ends, Rig
from kit.brokers.scripted import FetchRequest, ProduceRequest, SourceLog, batch, framed
from kit.logs.expected import expect
from kit.oracle import batches as oracle

COUNT = 12


def log_of(topic: bytes, partition: int = 0) -> SourceLog:
    return SourceLog(topic, partition, [batch(n, 1, b"%d" % n) for n in range(COUNT)])


def resident() -> int:
    """Bytes of memory this process has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


class Case:
    """A victim pipe with two partitions, and a second pipe that has to come through."""

    def __init__(self, rig: Rig, *, fetch: int = 13, produce: int = 9) -> None:
        self.rig = rig
        self.logs = [log_of(b"one"), log_of(b"two", 3)]
        self.ends: Ends = rig.pipe(*self.logs, fetch=fetch, produce=produce)
        self.parts = [rig.assign(self.ends, log) for log in self.logs]
        self.other_log = log_of(b"other")
        self.other: Ends = rig.pipe(self.other_log)
        self.other_part: PartitionCopy = rig.assign(self.other, self.other_log)

    def check(self, side: str, reason: str, *, records: int = 0) -> None:
        """The victim lost its ``side`` for ``reason``; the other pipe did not notice."""
        before = resident()
        self.rig.run()
        assert resident() - before < 8 << 20
        assert [(entry[0], entry[1]) for entry in self.rig.closed] == [(self.ends.pipe, side)]
        assert reason in self.rig.closed[0][2], self.rig.closed[0][2]
        for part, log in zip(self.parts, self.logs, strict=True):
            assert (part.ending, part.end_side) == ("lost", side)
            assert part.end_message == self.rig.closed[0][2]
            assert part.records == part.acked == records
            stored = list(self.rig.stored(self.ends, part))
            assert stored == expect(log).produced[: len(stored)]
        assert self.other_part.ending == "done"
        assert list(self.rig.stored(self.other, self.other_part)) == expect(self.other_log).produced


@pytest.fixture
def case(rig: Rig) -> Case:
    return Case(rig)


# --- frames ---------------------------------------------------------------------------------------


LENGTHS = {-1: "length -1", -(2**31): "length -2147483648", 0: "length 0", 3: "length 3"}


@pytest.mark.parametrize("length", LENGTHS)
def test_impossible_frame_lengths_from_the_source(case: Case, length: int) -> None:
    case.ends.source.hook = lambda *_: struct.pack(">i", length) + bytes(50)
    case.check("source", LENGTHS[length])


@pytest.mark.parametrize("length", LENGTHS)
def test_impossible_frame_lengths_from_the_target(case: Case, length: int) -> None:
    case.ends.target.hook = lambda _: struct.pack(">i", length) + bytes(50)
    case.check("target", LENGTHS[length])


@pytest.mark.parametrize("length", [2**31 - 1, 1 << 30, (160 << 20) + 1])
def test_huge_frames_from_the_source(case: Case, length: int) -> None:
    case.ends.source.hook = lambda *_: struct.pack(">i", length) + bytes(50)
    case.check("source", f"{length} bytes is beyond any request")


@pytest.mark.parametrize("length", [2**31 - 1, 1 << 30, (16 << 20) + 1])
def test_huge_frames_from_the_target(case: Case, length: int) -> None:
    case.ends.target.hook = lambda _: struct.pack(">i", length) + bytes(50)
    case.check("target", f"{length} bytes is beyond any request")


def test_a_large_frame_that_never_comes_takes_no_memory(make_rig: Callable[..., Rig]) -> None:
    """Within the limit, so it is waited for; memory is touched only by bytes that arrive."""
    rig = make_rig(request_timeout=2000)
    log = log_of(b"t")
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    before = resident()
    ends.source.hook = lambda *_: struct.pack(">i", 160 << 20) + bytes(50)
    rig.step(20)
    assert resident() - before < 8 << 20
    rig.tick = 100
    rig.run()
    assert part.ending == "lost"
    assert rig.borrowed == 0


def test_a_response_without_a_request_from_the_target(case: Case) -> None:
    case.rig.run(lambda: all(part.ending for part in case.parts))
    rig = case.rig
    late = log_of(b"late")
    case.ends.source.logs[b"late", 0] = late
    case.parts = [rig.assign(case.ends, late)]
    case.logs = [late]
    case.ends.source.hold = True
    case.ends.target.say(framed(77, bytes(20)))
    case.ends.target.transmit()
    rig.step(2)
    assert [entry[2] for entry in rig.closed] == ["the broker sent a response nobody asked for"]
    case.ends.source.hold = False
    case.check("target", "nobody asked for")


def test_two_answers_to_one_fetch(case: Case) -> None:
    """The second is read as the answer to the next fetch, which it is not."""

    def twice(request: FetchRequest, answer: dict[str, Any]) -> bytes:
        return framed(request.correlation, oracle.fetch_response(13, answer)) * 2

    case.ends.source.limit = lambda: 300
    case.ends.source.once.append(twice)
    case.rig.run(lambda: bool(case.rig.closed))
    records = [part.records for part in case.parts]
    case.rig.run()
    assert case.rig.closed[0][2] == "the broker answered another request than the one asked"
    for part, log, least in zip(case.parts, case.logs, records, strict=True):
        assert part.ending == "lost"
        assert part.records == part.acked >= least
        stored = list(case.rig.stored(case.ends, part))
        assert stored == expect(log).produced[: len(stored)]
        assert len(stored) == part.records
    assert case.other_part.ending == "done"


def test_two_answers_to_one_produce(case: Case) -> None:
    def twice(request: ProduceRequest) -> bytes:
        answer = case.ends.target.encode(request, case.ends.target.take(request))
        return answer * 2

    case.rig.fill(case.ends)
    case.ends.target.once.append(twice)
    case.ends.target.hold = False
    case.check("target", "another request than the oldest one", records=2)


@pytest.mark.parametrize("shift", [1, -1, 2**31 - 2])
def test_a_wrong_correlation_id_from_the_source(case: Case, shift: int) -> None:
    def other(request: FetchRequest, answer: dict[str, Any]) -> bytes:
        return framed(request.correlation + shift, oracle.fetch_response(13, answer))

    case.ends.source.hook = other
    case.check("source", "another request")


def test_a_wrong_correlation_id_from_the_target(case: Case) -> None:
    """The id of another request in flight is wrong too, since answers come in order."""
    case.rig.fill(case.ends)
    case.ends.target.pending.reverse()
    case.ends.target.hook = lambda request: _answer(case.ends, request, offset=0)
    case.ends.target.hold = False
    case.check("target", "another request than the oldest one", records=1)


def _answer(ends: Ends, request: ProduceRequest, *, offset: int) -> bytes:
    """A good-looking answer; nothing is written."""
    topics: dict[bytes, list[dict[str, Any]]] = {}
    for name, partition in request.batches:
        topics.setdefault(name, []).append(entry_of(partition, offset))
    answer = {"throttle_ms": 0, "topics": list(topics.items())}
    return ends.target.encode(request, answer)


def entry_of(partition: int, offset: int = 0) -> dict[str, Any]:
    return {
        "partition": partition,
        "error": 0,
        "base_offset": offset,
        "log_start_offset": 0,
        "record_errors": [],
        "error_message": None,
    }


# --- what is inside a Fetch response --------------------------------------------------------------


def tamper(case: Case, change: Callable[[dict[str, Any]], None]) -> None:
    def hook(_request: FetchRequest, answer: dict[str, Any]) -> dict[str, Any]:
        change(answer)
        return answer

    case.ends.source.hook = hook


@pytest.mark.parametrize("version", [11, 12, 13])
def test_a_partition_twice_in_a_fetch_response(rig: Rig, version: int) -> None:
    case = Case(rig, fetch=version)

    def change(answer: dict[str, Any]) -> None:
        answer["topics"].append(answer["topics"][0])

    tamper(case, change)
    rig.run()
    assert [entry[1] for entry in rig.closed] == ["source"]
    assert "comes twice" in rig.closed[0][2]
    for part, log in zip(case.parts, case.logs, strict=True):
        assert part.ending == "lost"
        stored = list(rig.stored(case.ends, part))
        assert len(stored) == part.records == part.acked
        assert stored == expect(log).produced[: len(stored)]
    assert case.other_part.ending == "done"


@pytest.mark.parametrize("version", [11, 12, 13])
def test_a_partition_that_was_not_asked_for(rig: Rig, version: int) -> None:
    case = Case(rig, fetch=version)
    tamper(case, lambda answer: answer["topics"][0][1][0].update(partition=4))
    case.check("source", "was not asked for")


@pytest.mark.parametrize("version", [11, 12, 13])
def test_a_topic_that_was_not_asked_for(rig: Rig, version: int) -> None:
    case = Case(rig, fetch=version)

    def change(answer: dict[str, Any]) -> None:
        answer["topics"][0] = (b"?" * 16, answer["topics"][0][1])

    tamper(case, change)
    case.check("source", "was not asked for")


def test_a_partition_left_out_of_a_fetch_response(case: Case) -> None:
    """Otherwise it would be fetched again without end (L3)."""
    tamper(case, lambda answer: answer["topics"].pop(1))
    case.rig.run()
    assert [entry[1:] for entry in case.rig.closed] == [
        ("source", "a Fetch response leaves partitions out")
    ]
    assert case.parts[1].records == 0
    assert case.other_part.ending == "done"


def test_a_throttled_fetch_response_may_leave_partitions_out(case: Case) -> None:
    """A sessionless Fetch that is throttled is answered with nothing in it."""
    throttled = {"throttle_ms": 20, "error": 0, "topics": []}
    case.ends.source.once.extend([lambda *_: dict(throttled)] * 5)
    case.rig.run()
    assert [part.ending for part in case.parts] == ["done", "done"]
    assert case.rig.closed == []


@pytest.mark.parametrize("code", [-1, 35, 58, 103])
def test_an_error_for_the_whole_fetch(case: Case, code: int) -> None:
    case.ends.source.hook = lambda *_: {"throttle_ms": 0, "error": code, "topics": []}
    case.check("source", f"refused a Fetch with error {code}")


@pytest.mark.parametrize("version", [11, 12, 13])
@pytest.mark.parametrize("rest", [0, 3, 10, 40, -1], ids=lambda r: f"{r} bytes")
def test_a_truncated_fetch_response(rig: Rig, version: int, rest: int) -> None:
    """The frame has the right length, but the response in it ends too early."""
    case = Case(rig, fetch=version)

    def cut(request: FetchRequest, answer: dict[str, Any]) -> bytes:
        body = oracle.fetch_response(version, answer)
        # From the end: the tags after the last record are part of it.
        return framed(request.correlation, body[:rest] if rest >= 0 else body[:-9])

    case.ends.source.hook = cut
    rig.run()
    assert [entry[1] for entry in rig.closed] == ["source"]
    assert "Fetch response" in rig.closed[0][2] or "response" in rig.closed[0][2]
    assert case.other_part.ending == "done"
    assert all(part.ending == "lost" for part in case.parts)


# --- what is inside a Produce response ------------------------------------------------------------


def produced(case: Case, change: Callable[[dict[str, Any]], None]) -> None:
    """Nothing is written; the answer is good but for ``change``."""

    def hook(request: ProduceRequest) -> dict[str, Any]:
        topics: dict[bytes, list[dict[str, Any]]] = {}
        for name, partition in request.batches:
            topics.setdefault(name, []).append(entry_of(partition))
        answer = {"throttle_ms": 0, "topics": list(topics.items())}
        change(answer)
        return answer

    case.ends.target.hook = hook


@pytest.mark.parametrize("version", [7, 8, 9])
def test_a_partition_left_out_of_a_produce_response(rig: Rig, version: int) -> None:
    case = Case(rig, produce=version)
    produced(case, lambda answer: answer["topics"].pop())
    case.check("target", "leaves partitions out")


def test_an_empty_produce_response(case: Case) -> None:
    produced(case, lambda answer: answer["topics"].clear())
    case.check("target", "leaves partitions out")


def test_a_partition_twice_in_a_produce_response(case: Case) -> None:
    produced(case, lambda answer: answer["topics"].append(answer["topics"][0]))
    case.check("target", "answered twice")


def test_a_partition_twice_instead_of_another(case: Case) -> None:
    def change(answer: dict[str, Any]) -> None:
        answer["topics"][1] = answer["topics"][0]

    produced(case, change)
    case.check("target", "answered twice")


@pytest.mark.parametrize("version", [7, 8, 9])
def test_a_partition_that_was_not_sent(rig: Rig, version: int) -> None:
    case = Case(rig, produce=version)
    produced(case, lambda answer: answer["topics"][0][1].append(entry_of(77)))
    case.check("target", "was not sent")


def test_a_topic_that_was_not_sent(case: Case) -> None:
    produced(case, lambda answer: answer["topics"].append((b"secret", [entry_of(0)])))
    case.check("target", "was not sent")


@pytest.mark.parametrize("version", [7, 8, 9])
@pytest.mark.parametrize("rest", [0, 3, 10, 30, -1], ids=lambda r: f"{r} bytes")
def test_a_truncated_produce_response(rig: Rig, version: int, rest: int) -> None:
    case = Case(rig, produce=version)

    def cut(request: ProduceRequest) -> bytes:
        body = _answer(case.ends, request, offset=0)[8:]
        return framed(request.correlation, body[:rest] if rest >= 0 else body[:-3])

    case.ends.target.hook = cut
    case.check("target", "response")


# --- slowly ---------------------------------------------------------------------------------------


def test_answers_that_come_byte_by_byte_are_answers(rig: Rig) -> None:
    case = Case(rig)
    case.ends.source.window = case.ends.target.window = lambda: 1
    rig.run(turns=20_000)
    for part, log in zip(case.parts, case.logs, strict=True):
        assert part.ending == "done"
        assert list(rig.stored(case.ends, part)) == expect(log).produced


# --- anything -------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    side=st.sampled_from(["source", "target"]),
    fetch=st.sampled_from([11, 12, 13]),
    produce=st.sampled_from([7, 8, 9]),
    which=st.integers(0, 3),
)
def test_damaged_answers(seed: int, side: str, fetch: int, produce: int, which: int) -> None:
    """A few wrong bytes in one answer: what is on the target is a beginning of the truth.

    Damage inside a batch is for the CRC to find, at the target, and a wrong base offset in an
    answer or a wrong watermark cannot be told from a true one: so the stored batches are compared,
    and what is acknowledged must be stored unless the answer itself lied.
    """
    rng = random.Random(seed)
    note(f"seed {seed}")
    rig = Rig(request_timeout=2000)
    case = Case(rig, fetch=fetch, produce=produce)

    def damage(frame: bytes) -> bytes:
        data = bytearray(frame)
        for _ in range(rng.choice([1, 1, 2, 5])):
            place = rng.randrange(len(data))
            edit = rng.randrange(4)
            if edit == 0:
                data[place] ^= 1 << rng.randrange(8)
            elif edit == 1:
                data[place : place + 4] = rng.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4)])
            elif edit == 2:
                del data[place : place + rng.randrange(1, 9)]
            else:
                data[place:place] = rng.randbytes(rng.randrange(1, 9))
        return bytes(data)

    asked = 0

    def source_hook(request: FetchRequest, answer: dict[str, Any]) -> Any:
        nonlocal asked
        asked += 1
        if asked - 1 != which:
            return answer
        return damage(framed(request.correlation, oracle.fetch_response(fetch, answer)))

    def target_hook(request: ProduceRequest) -> Any:
        nonlocal asked
        asked += 1
        answer = case.ends.target.take(request)
        return answer if asked - 1 != which else damage(case.ends.target.encode(request, answer))

    case.ends.source.limit = lambda: 400
    if side == "source":
        case.ends.source.hook = source_hook
    else:
        case.ends.target.hook = target_hook
    before = resident()
    try:
        rig.tick = 2500  # a damaged throttle time is waited for
        rig.run()
        assert resident() - before < 16 << 20
        for part, log in zip(case.parts, case.logs, strict=True):
            stored = list(rig.stored(case.ends, part))
            truth = expect(log).produced
            payloads = [whole[oracle.HEADER :] for whole in truth]
            # A wrong offset in a batch may move it or drop others, but never change its records.
            assert all(whole[oracle.HEADER :] in payloads for whole in stored)
            if side == "target":
                assert stored == truth[: len(stored)]
        assert case.other_part.ending == "done"
        assert list(rig.stored(case.other, case.other_part)) == expect(case.other_log).produced
    finally:
        rig.finish()
