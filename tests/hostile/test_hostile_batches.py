"""Batches whose frame, header or records are wrong (reliability facts H10–H14): a fault names
partition and offset, and the other partitions are copied.
"""

from __future__ import annotations

import struct

from kit.brokers.scripted import batch
from kit.clusters.hostile import CONTENT, Hostile, Input, sound_piece, two_clusters
from kit.logs.truth import GZIP, LATER, LZ4, NONE, RecordLog, made, packed, records_of, row, rows
from kit.oracle import batches as oracle
from kit.oracle.records import body, record

CONTRADICTS = "header fields contradict each other"
BROKEN = "records do not come to what it says"
CRC = "does not match its CRC-32C"
SOUND = sound_piece()
TIME = CONTENT[0].timestamp


def patched(whole: bytes, position: int, code: str, value: int) -> bytes:
    """Some bytes overwritten; the CRC is what it was."""
    data = bytearray(whole)
    struct.pack_into(">" + code, data, position, value)
    return bytes(data)


def piece(payload: bytes | None = None, **fields: int) -> bytes:
    """A gapped batch at offsets 2 to 9 with a right CRC, whatever it holds."""
    content = records_of(CONTENT, 2, TIME) if payload is None else payload
    fields = {"last_offset_delta": 7, "base_timestamp": TIME, "max_timestamp": LATER} | fields
    return batch(fields.pop("base_offset", 2), fields.pop("count", 4), content, **fields)


# --- H10: lengths ---------------------------------------------------------------------------------


def test_lengths() -> None:
    def claims(length: int, *, rest: bytes = SOUND) -> bytes:
        return patched(rest, 8, "i", length)

    cut = SOUND[:-1]
    endless = "the broker keeps sending an incomplete batch"
    inputs = [
        Input(f"length {length}", claims(length), "a batch of an impossible length")
        for length in (-1, -(2**31), 0, 13)
    ]
    inputs += [
        Input(f"shorter than a header: {length}", claims(length)[: 12 + length], CONTRADICTS)
        for length in (14, 20, 48)
    ]
    inputs += [
        Input("never whole", cut, endless, last=True),
        Input("not even a length", SOUND[:11], endless, last=True),
        Input("100 MiB, never whole", claims(100 << 20), endless, last=True),
        Input("2 GiB", claims(2**31 - 1), "a batch that claims 2147483647 bytes", last=True),
        Input("above any limit", claims((128 << 20) + 1), "a batch that claims 134217729 bytes",
              last=True),
    ]  # fmt: skip
    Hostile(inputs).run()


# --- H11: counts and offsets ----------------------------------------------------------------------


def test_counts_and_offsets() -> None:
    inputs = [
        Input("count -1", piece(count=-1), CONTRADICTS),
        Input("count 2^31-1", piece(count=2**31 - 1), CONTRADICTS),
        Input("count above the span", piece(count=9), CONTRADICTS),
        Input("count too low", piece(count=3), BROKEN, offset=4),
        Input("count too high", piece(count=5), BROKEN, offset=8),
        Input("count 1 of none", piece(b"", count=1), BROKEN),
        Input("last delta -1", piece(last_offset_delta=-1), CONTRADICTS),
        Input("last delta -2^31", piece(last_offset_delta=-(2**31)), CONTRADICTS),
        Input("last delta below count - 1", piece(last_offset_delta=2), CONTRADICTS),
        Input("last delta below the records", piece(last_offset_delta=4), BROKEN, offset=4),
        Input("base offset -1", piece(base_offset=-1), CONTRADICTS),
        Input("base offset -2^63", piece(base_offset=-(2**63)), CONTRADICTS),
        Input("base offset 2^63-1", piece(base_offset=2**63 - 1), CONTRADICTS, offset=2**63 - 1),
        Input("next offset 2^63", piece(base_offset=2**63 - 8), CONTRADICTS, offset=2**63 - 8),
        Input("below the asked one for ever", made(rows(0, -2)),
              "the broker keeps sending an incomplete batch", last=True),
    ]  # fmt: skip
    Hostile(inputs).run("--merge", "never")


def test_lies_that_a_consumer_believes_too() -> None:
    """A right checksum over a count of 0, a span that reaches further, or offsets that leave
    others out: nothing contradicts them, and a consumer of the source sees no more either.
    """
    logs = [RecordLog(b"t", number).add(rows(0, -2)) for number in range(3)]
    logs[0].batches.append(piece(count=0))
    logs[1].batches.append(piece(last_offset_delta=20))
    logs[2].batches.append(made(CONTENT, base=2, last=9))
    for log in logs[:1]:
        log.content.append([])
    for log in logs[1:]:
        log.content.append(CONTENT)
    for log, first in zip(logs, (10, 23, 2**40), strict=True):
        log.producers.append(-1)
        log.add([row(first)])
    with two_clusters(*logs) as sides:
        sides.copy().expect(0)
        for log in logs:
            expected = log.seen(0, log.end, committed=True)
            assert [r.seen for r in sides.stored(log.partition)] == [r.seen for r in expected]


# --- H12: checksums and magic ---------------------------------------------------------------------


def damaged_inputs(passing: Input) -> list[Input]:
    dense = made(rows(2, -4))
    control = oracle.control_batch(1, base_offset=2)
    return [
        Input("CRC of a gapped batch", patched(SOUND, 17, "I", 7), CRC),
        Input("a byte of its records", patched(SOUND, 80, "b", SOUND[80] ^ 1), CRC),
        passing,
        Input("a bit makes it a control batch", patched(dense, 21, "h", oracle.CONTROL), CRC),
        Input("its count is lost", patched(dense, 57, "i", 0), CRC),
        Input("a marker of another type", patched(control, 69, "b", 0), CRC),
        Input("magic 3", patched(SOUND, 16, "b", 3), CONTRADICTS),
        Input("magic -1", patched(SOUND, 16, "b", -1), CONTRADICTS),
        Input("magic 0", patched(SOUND, 16, "b", 0), "a message does not match its CRC"),
        Input("magic 1", patched(SOUND, 16, "b", 1), "a message does not match its CRC"),
    ]


def test_checksums_and_magic() -> None:
    """The target's own check refuses batches that are passed through unopened."""
    dense = patched(made(rows(2, -4)), 17, "I", 7)
    # The target refuses it; taken apart then, it fails here.
    passing = Input("CRC of a dense batch", dense, "does not match its CRC-32C")
    Hostile(damaged_inputs(passing)).run("--merge", "never")


def test_checksums_and_magic_checked_here() -> None:
    dense = patched(made(rows(2, -4)), 17, "I", 7)
    passing = Input("CRC of a dense batch", dense, CRC)
    Hostile(damaged_inputs(passing)).run("--merge", "never", "--check-crc")


# --- H13: attributes ------------------------------------------------------------------------------


def test_attributes() -> None:
    def codec(number: int) -> Input:
        says = f"compressed with codec {number}, which Kafka has not"
        return Input(f"codec {number}", piece(attributes=number), says, kind="unknown-codec")

    transactional = piece(attributes=oracle.TRANSACTIONAL)
    inputs = [codec(number) for number in (5, 6, 7)]
    inputs.append(Input("a transaction of nobody", transactional, CONTRADICTS))
    Hostile(inputs).run()


# --- H14: records ---------------------------------------------------------------------------------


def broken_records() -> dict[str, tuple[bytes, int]]:
    """Payloads of four records, and the offset of the first one that is broken."""
    good = records_of(CONTENT[:1], 2, TIME)
    most, least = oracle.varint(2**31 - 1), oracle.varint(-(2**31))
    headed = b"\1\1\2"  # no key, no value, one header
    found: dict[str, tuple[bytes, int]] = {}
    for name, content in {
        "length 0": oracle.varint(0),
        "length -1": oracle.varint(-1),
        "length past the end": oracle.varint(100) + bytes(50),
        "length 2^31-1": most + bytes(50),
        "length of 11 bytes": b"\xff" * 10 + b"\1",
        "key length -2": record(1, 0, oracle.varint(-2) + b"\1\0"),
        "key length 2^31-1": record(1, 0, most + b"\1\0"),
        "value length -2": record(1, 0, b"\1" + oracle.varint(-2) + b"\0"),
        "value length -2^31": record(1, 0, b"\1" + least + b"\0"),
        "header count -1": record(1, 0, b"\1\1" + oracle.varint(-1)),
        "header count 2^31-1": record(1, 0, b"\1\1" + most),
        "header key null": record(1, 0, headed + oracle.varint(-1) + oracle.varint(-1)),
        "header value past the end": record(1, 0, headed + b"\2k" + most),
        "bytes behind the headers": record(1, 0, body(None, b"v") + b"\0"),
        "offset delta again": record(0, 0, body(None, b"v")),
        "offset delta 2^31-1": record(2**31 - 1, 0, body(None, b"v")),
    }.items():
        found[name] = (good + content + records_of(CONTENT[2:], 2, TIME), 3)
    found["bytes behind the last one"] = (records_of(CONTENT, 2, TIME) + b"\0", 7)
    return found


def test_records_that_are_taken_apart() -> None:
    inputs = [
        Input(f"{name} in {kind}", piece(packed(codec, payload), attributes=codec), BROKEN,
              offset=at)
        for name, (payload, at) in broken_records().items()
        for kind, codec in (("none", NONE), ("gzip", GZIP), ("lz4", LZ4))
    ]  # fmt: skip
    Hostile(inputs).run()


def test_records_that_go_through_are_named_once_the_target_refuses_them() -> None:
    """The target refuses the batch, which is then taken apart record by record. That corrects wrong
    offset deltas, since the header of a dense batch decides; the same holds for the last record's
    offset.
    """
    inputs = [
        Input(name, piece(payload, last_offset_delta=3), BROKEN, offset=at)
        for name, (payload, at) in broken_records().items()
        if not name.startswith("offset delta") and name != "bytes behind the last one"
    ]
    Hostile(inputs).run("--merge", "never")


def test_a_timestamp_delta_that_overflows_wraps_as_java_does() -> None:
    """Consumers get no error, so there is none here: the same time arrives."""
    moments = [2**63 - 1, -(2**63), 0, -1]
    content = [one._replace(timestamp=t) for one, t in zip(CONTENT, moments, strict=True)]
    log = RecordLog(b"t", 0).add(content, LZ4, last=9)
    with two_clusters(log) as sides:
        sides.copy().expect(0)
        assert [r.seen for r in sides.stored(0)] == [r.seen for r in content]
