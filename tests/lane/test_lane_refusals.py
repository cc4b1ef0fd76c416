"""Errors that end one partition only: bad batches, refusals by either broker."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from copycore.partition import PartitionCopy
from kit.brokers.rig import Ends, Rig
from kit.brokers.scripted import FetchRequest, ProduceRequest, SourceLog, batch
from kit.logs.expected import expect
from kit.oracle import batches as oracle


def with_neighbour(
    rig: Rig, log: SourceLog, **assign: Any
) -> tuple[Ends, PartitionCopy, PartitionCopy]:
    """Copy ``log`` beside a good partition, which has to come through whole."""
    good = SourceLog(b"good", 1, [batch(n, 1, b"good %d" % n) for n in range(30)])
    ends = rig.pipe(log, good)
    part = rig.assign(ends, log, **assign)
    neighbour = rig.assign(ends, good)
    rig.run()
    assert neighbour.ending == "done"
    assert list(rig.stored(ends, neighbour)) == expect(good).produced
    assert rig.closed == []
    return ends, part, neighbour


def outcome(part: PartitionCopy) -> tuple[str | None, str | None, int, str | None]:
    return part.ending, part.end_side, part.end_offset, part.end_message


def repaired(whole: bytes, **fields: int) -> bytes:
    """A batch with some header fields replaced and its CRC right again."""
    header = oracle.parse(whole) | fields
    del header["crc"]
    return oracle.build(whole[oracle.HEADER :], **header)


GOOD = [batch(10, 2, b"first"), batch(12, 1, b"second")]
FAR = 2**62

# Their headers are right, but they have to be taken apart, and what is in them is no records.
NO_RECORDS = {
    "gapped": batch(13, 2, b"x", last_offset_delta=4),
    "log-append-time": batch(13, 2, b"x", attributes=oracle.LOG_APPEND_TIME),
    **{
        f"log-append-time, codec {codec}": batch(
            13, 2, b"x" * 40, attributes=oracle.LOG_APPEND_TIME | codec
        )
        for codec in range(1, 5)
    },
    "nothing at all": batch(13, 2, b"", attributes=oracle.LOG_APPEND_TIME),
    "nothing at all, zstd": batch(13, 2, b"", attributes=oracle.LOG_APPEND_TIME | 4),
    "a message v1 with a wrong checksum": oracle.legacy(1, b"k", b"v", offset=13),
    "a message v0 with a wrong checksum": oracle.legacy(0, None, b"v", offset=13),
}

MALFORMED = {
    "count below zero": batch(13, -1, b"x", last_offset_delta=0),
    "count beyond the span": batch(13, 3, b"x", last_offset_delta=1),
    "largest count": batch(13, 2**31 - 1, b"x", last_offset_delta=0),
    "span below one": batch(13, 1, b"x", last_offset_delta=-2),
    "smallest span": batch(13, 1, b"x", last_offset_delta=-(2**31)),
    "offsets run past 2^63": batch(2**63 - 2, 5, b"x"),
    "last offset is 2^63 - 1": batch(2**63 - 1, 1, b"x"),
    "base below zero": batch(-1, 1, b"x"),
    "magic 3": batch(13, 1, b"x", magic=3),
    "magic -1": batch(13, 1, b"x", magic=-1),
    "transactional without a producer": batch(13, 1, b"x", attributes=oracle.TRANSACTIONAL),
    "a header cut short": struct.pack(">qiib", 13, 20, -1, 2) + bytes(15),
    "length 0": struct.pack(">qi", 13, 0) + bytes(60),
    "length -1": struct.pack(">qi", 13, -1) + bytes(60),
    "smallest length": struct.pack(">qi", 13, -(2**31)) + bytes(60),
}


@pytest.mark.parametrize("what", NO_RECORDS)
def test_a_batch_without_the_records_it_promises_ends_its_partition(rig: Rig, what: str) -> None:
    log = SourceLog(b"t", 0, [*GOOD, NO_RECORDS[what], batch(18, 1, b"behind")])
    ends, part, _ = with_neighbour(rig, log)
    assert outcome(part)[:3] == ("malformed", "source", 13)
    assert part.end_message
    assert list(rig.stored(ends, part)) == expect(log).produced, "all before it, nothing after it"
    assert (part.records, part.passed, part.rebatched) == (3, 2, 0)
    assert part.acked == part.position == 13


@pytest.mark.parametrize("codec", [5, 6, 7])
@pytest.mark.parametrize("flags", [0, oracle.LOG_APPEND_TIME], ids=["plain", "append-time"])
def test_an_unknown_codec_ends_its_partition(rig: Rig, codec: int, flags: int) -> None:
    log = SourceLog(b"t", 0, [*GOOD, batch(13, 2, b"x", attributes=codec | flags), batch(18)])
    ends, part, _ = with_neighbour(rig, log)
    assert outcome(part) == ("unknown-codec", "source", 13, str(codec))
    assert list(rig.stored(ends, part)) == expect(log).produced
    assert part.acked == part.position == 13


@pytest.mark.parametrize("what", MALFORMED)
def test_a_batch_that_contradicts_itself_ends_its_partition(rig: Rig, what: str) -> None:
    log = SourceLog(b"t", 0, [*GOOD])
    good = SourceLog(b"good", 1, [batch(0)])
    ends = rig.pipe(log, good)
    part, neighbour = rig.assign(ends, log, end=100), rig.assign(ends, good)

    def lie(_request: FetchRequest, answer: dict[str, Any]) -> dict[str, Any]:
        for _, entries in answer["topics"]:
            for entry in entries:
                if entry["partition"] == 0:
                    entry["high_watermark"] = entry["last_stable_offset"] = 100
                    entry["records"] += MALFORMED[what] + batch(14, 1, b"behind")
        return answer

    ends.source.hook = lie
    rig.run()
    assert neighbour.ending == "done"
    assert (part.ending, part.end_side) == ("malformed", "source")
    assert part.end_offset >= 13
    assert part.end_message
    assert list(rig.stored(ends, part)) == expect(log).produced
    assert part.acked == 13, "the offset never gets beyond what is on the target"


def test_a_start_inside_a_batch_that_holds_no_records(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [batch(0, 5), batch(5, 2)])
    ends, part, _ = with_neighbour(rig, log, start=3)
    assert outcome(part)[:3] == ("malformed", "source", 0)
    assert (part.records, part.acked) == (0, 3)
    assert list(rig.stored(ends, part)) == []


def test_an_overlapping_batch_that_holds_no_records(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [batch(0, 5), batch(3, 4)])
    _, part, _ = with_neighbour(rig, log)
    assert outcome(part)[:3] == ("malformed", "source", 3)
    assert part.records == part.acked == 5


# --- CRC ------------------------------------------------------------------------------------------


def damaged(whole: bytes, place: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :]


@pytest.mark.parametrize("place", [17, 27, 43, 61, -1], ids=lambda p: f"byte {p}")
def test_check_crc_names_the_batch(make_rig: Callable[..., Rig], place: int) -> None:
    rig = make_rig(check_crc=True)
    bad = batch(13, 2, b"damaged")
    log = SourceLog(b"t", 0, [*GOOD, damaged(bad, place % len(bad)), batch(15)])
    ends, part, _ = with_neighbour(rig, log)
    assert part.ending == "corrupt"
    assert (part.end_side, part.end_code, part.end_offset) == ("source", 2, 13)
    assert list(rig.stored(ends, part)) == expect(SourceLog(b"t", 0, GOOD)).produced


@pytest.mark.parametrize("place", [17, 27, 43, 61, -1], ids=lambda p: f"byte {p}")
def test_without_check_crc_the_target_refuses_damage(rig: Rig, place: int) -> None:
    """The CRC is transformed, never computed anew: damage before the lane is still detected after
    it.
    """
    bad = batch(13, 2, b"damaged")
    log = SourceLog(b"t", 0, [*GOOD, damaged(bad, place % len(bad)), batch(15)])
    _, part, _ = with_neighbour(rig, log)
    assert part.ending == "target-error"
    assert (part.end_side, part.end_code, part.end_offset) == ("target", 2, 13)
    assert part.acked == 13


@pytest.mark.parametrize("place", [17, 27, 43, 61, -1], ids=lambda p: f"byte {p}")
@pytest.mark.parametrize("checking", [False, True])
def test_what_is_taken_apart_is_checked_always(
    make_rig: Callable[..., Rig], place: int, checking: bool
) -> None:
    """Its records get a new checksum, so only the copy can find the damage."""
    rig = make_rig(check_crc=checking)
    bad = batch(13, 2, b"damaged", last_offset_delta=4)
    log = SourceLog(b"t", 0, [*GOOD, damaged(bad, place % len(bad)), batch(18)])
    ends, part, _ = with_neighbour(rig, log)
    assert (part.ending, part.end_side, part.end_code) == ("corrupt", "source", 2)
    assert (part.end_offset, part.acked) == (13, 13)
    assert list(rig.stored(ends, part)) == expect(SourceLog(b"t", 0, GOOD)).produced


def test_check_crc_passes_good_batches(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(check_crc=True)
    log = SourceLog(
        b"t", 0, [*GOOD, oracle.control_batch(1, base_offset=13), batch(14, 2, attributes=0x44)]
    )
    _, part, _ = with_neighbour(rig, log)
    assert part.ending == "done"
    assert part.records == 5


def test_check_crc_looks_at_what_is_skipped_too(make_rig: Callable[..., Rig]) -> None:
    """A damaged marker may be the end of a transaction."""
    rig = make_rig(check_crc=True)
    log = SourceLog(b"t", 0, [*GOOD, damaged(oracle.control_batch(1, base_offset=13), 70)])
    _, part, _ = with_neighbour(rig, log)
    assert (part.ending, part.end_offset) == ("corrupt", 13)


# --- incomplete batches ---------------------------------------------------------------------------


def test_a_batch_larger_than_the_fetch_is_asked_for_alone(rig: Rig) -> None:
    large = SourceLog(b"t", 0, [batch(0, 1, bytes(200_000)), batch(1, 1, b"small")])
    small = SourceLog(b"t", 1, [batch(n, 1, bytes(100)) for n in range(10)])
    ends = rig.pipe(small, large)
    parts = [rig.assign(ends, small), rig.assign(ends, large)]
    rig.run()
    assert [part.ending for part in parts] == ["done", "done"]
    assert list(rig.stored(ends, parts[1])) == expect(large).produced


@pytest.mark.parametrize("bytes_given", [1, 11, 12, 30, 60], ids=lambda n: f"{n} bytes")
def test_a_batch_that_never_comes_whole(rig: Rig, bytes_given: int) -> None:
    """H10: the partition is asked for alone, a few times, and then ends; no endless loop."""
    log = SourceLog(b"t", 0, [batch(0, 1, bytes(300))])
    good = SourceLog(b"good", 1, [batch(n) for n in range(3)])
    ends = rig.pipe(log, good)
    part, neighbour = rig.assign(ends, log), rig.assign(ends, good)

    def cut(_request: FetchRequest, answer: dict[str, Any]) -> dict[str, Any]:
        for _, entries in answer["topics"]:
            for entry in entries:
                if entry["partition"] == 0:
                    entry["records"] = log.batches[0][:bytes_given]
        return answer

    ends.source.hook = cut
    rig.run()
    assert neighbour.ending == "done"
    assert outcome(part)[:3] == ("malformed", "source", 0)
    assert "incomplete" in (part.end_message or "")
    asked_alone = [
        request for request in ends.source.requests if list(request.partitions) == [
            (log.topic_id, 0)]]  # fmt: skip
    assert 2 <= len(asked_alone) <= 6
    assert len(ends.source.requests) < 20


def test_a_partial_batch_of_an_absurd_length(rig: Rig) -> None:
    """Otherwise it would be fetched alone with a limit of its size; no broker has such a batch."""
    log = SourceLog(b"t", 0, [batch(0)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    ends.source.hook = lambda _request, answer: _with_records(
        answer, struct.pack(">qi", 0, 2**31 - 1) + bytes(40)
    )
    rig.run()
    assert part.ending == "malformed"
    assert str(2**31 - 1) in (part.end_message or "")
    assert len(ends.source.requests) == 1


def _with_records(answer: dict[str, Any], records: bytes) -> dict[str, Any]:
    answer["topics"][0][1][0]["records"] = records
    return answer


# --- refusals of the brokers ----------------------------------------------------------------------


@pytest.mark.parametrize("code", [1, 3, 6, 9, 29, 56, 74, 75, 76, 100, -1])
def test_a_source_error_ends_the_partition_after_the_batches_before_it(rig: Rig, code: int) -> None:
    log = SourceLog(b"t", 0, [batch(n) for n in range(40)])
    good = SourceLog(b"good", 1, [batch(n) for n in range(40)])
    ends = rig.pipe(log, good, limit=lambda: 300)
    part, neighbour = rig.assign(ends, log), rig.assign(ends, good)
    ends.target.hold = True
    rig.run(lambda: part.position >= 8)
    log.error = code
    rig.run(lambda: part.ending is not None)
    reached = part.position
    assert part not in rig.ended, "what was read before is delivered first"
    ends.target.hold = False
    rig.run()
    assert (part.ending, part.end_side, part.end_code) == ("source-error", "source", code)
    assert part.end_offset == reached
    assert part.records == part.acked == reached
    assert neighbour.ending == "done"


@pytest.mark.parametrize("code", [6, 45, 10, 7, 19, 29, 87, 32, -1])
@pytest.mark.parametrize("version", [7, 8, 9])
def test_a_target_error_ends_the_partition_at_once(rig: Rig, code: int, version: int) -> None:
    log = SourceLog(b"t", 0, [batch(n, 1, b"%d" % n) for n in range(12)])
    good = SourceLog(b"good", 1, [batch(n) for n in range(12)])
    ends = rig.pipe(log, good, produce=version)
    part, neighbour = rig.assign(ends, log), rig.assign(ends, good)

    def refuse(request: ProduceRequest) -> dict[str, Any]:
        errors = {}
        if log_batch := request.batches.get((b"to-t", 0)):
            sequence = oracle.parse(log_batch)["base_sequence"]
            if sequence >= 4:  # those sent ahead of the answer are refused as well
                errors[b"to-t", 0] = (code if sequence == 4 else 45, b"because \xff")
        return ends.target.take(request, errors)

    ends.target.hook = refuse
    rig.run()
    assert (part.ending, part.end_side, part.end_code) == ("target-error", "target", code)
    assert part.end_offset == 4, "the source offset of the refused batch"
    assert part.end_message == (None if version < 8 else "because �")
    assert (part.acked, part.acked_counter, part.records) == (4, 4, 4)
    assert len(rig.stored(ends, part)) == 4
    assert neighbour.ending == "done"


def test_an_error_in_between_counts_only_once(rig: Rig) -> None:
    """The first of several errors is the reason; later answers still count if they are good."""
    log = SourceLog(b"t", 0, [batch(n) for n in range(6)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.fill(ends)
    codes = iter([0, 7, 0, 45, 6])

    def answer(request: ProduceRequest) -> dict[str, Any]:
        # Code 7 is a time-out: the batch may be there, and here it is.
        code = next(codes)
        stored = ends.target.take(request)
        entry = stored["topics"][0][1][0]
        if code:
            entry |= {"error": code, "base_offset": -1}
        return stored

    ends.target.hook = answer
    ends.target.hold = False
    rig.run()
    assert (part.ending, part.end_code, part.end_offset) == ("target-error", 7, 2)
    assert (part.acked, part.acked_counter) == (4, 4)


@pytest.mark.parametrize("shift", [1, -1, 1000, -(2**40)])
def test_a_base_offset_other_than_expected_is_a_foreign_writer(rig: Rig, shift: int) -> None:
    log = SourceLog(b"t", 0, [batch(n) for n in range(10)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log, base=500)

    def moved(request: ProduceRequest) -> dict[str, Any]:
        answer = ends.target.take(request)
        entry = answer["topics"][0][1][0]
        entry["base_offset"] += shift if entry["base_offset"] >= 503 else 0
        return answer

    ends.target.hook = moved
    rig.run()
    assert outcome(part) == ("foreign-writer", "target", 503 + shift, "503")
    assert (part.records, part.acked) == (3, 3)


def test_a_foreign_writer_stops_only_its_partition(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [batch(n) for n in range(10)])
    good = SourceLog(b"good", 1, [batch(n) for n in range(40)])
    ends = rig.pipe(log, good)
    part, neighbour = rig.assign(ends, log), rig.assign(ends, good)
    ends.target.per_turn = lambda: 1
    rig.run(lambda: part.records > 2)
    ends.target.logs[b"to-t", 0].base += 3  # three records of another client
    rig.run()
    assert part.ending == "foreign-writer"
    assert neighbour.ending == "done"
