"""Logs of real records, built slowly: what a consumer of the source sees, and one of the target.

Every log keeps the rows that it was built from, so the expected result of a copy is never read back
from the source's bytes. Compression is done by the libraries themselves.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cramjam
import lz4.frame
import zstandard

from copycore.partition import PartitionCopy
from kit.brokers.rig import Ends, Rig
from kit.brokers.scripted import SourceLog, batch
from kit.oracle import batches as oracle
from kit.oracle.packed import XERIAL_HEADER, xerial
from kit.oracle.records import body, read_payload, record, wrapped

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
LATER = 1_700_000_000_000  # ms


class Row(NamedTuple):
    """A record as a consumer sees it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[bytes, bytes | None], ...] = ()

    @property
    def seen(self) -> tuple[object, ...]:
        """What has to arrive; the offset may differ."""
        return self[1:]


def row(offset: int, value: bytes | None = b"value", timestamp: int | None = None) -> Row:
    moment = LATER + 10 * offset if timestamp is None else timestamp
    return Row(offset, moment, b"k%d" % offset, value, ((b"h", b"%d" % offset), (b"n", None)))


def rows(first: int, *offsets: int) -> list[Row]:
    """At these offsets, or the first ``n`` from one on when called as ``rows(first, -n)``."""
    if len(offsets) == 1 and offsets[0] < 0:
        return [row(first + number) for number in range(-offsets[0])]
    return [row(offset) for offset in (first, *offsets)]


# --- compression ----------------------------------------------------------------------------------


def packed(codec: int, data: bytes) -> bytes:
    """Compresses as clients do: snappy in snappy-java's frame, lz4 with independent blocks."""
    if codec == GZIP:
        return gzip.compress(data, 1)
    if codec == SNAPPY:
        return xerial(data, 1000)
    if codec == LZ4:
        frame: bytes = lz4.frame.compress(data, block_size=4, block_linked=False, store_size=False)
        return frame
    if codec == ZSTD:
        return zstandard.ZstdCompressor(write_content_size=False).compress(data)
    return data


def unpacked(codec: int, data: bytes) -> bytes:
    if codec == GZIP:
        return gzip.decompress(data)
    if codec == SNAPPY:
        if not data.startswith(XERIAL_HEADER[:8]):
            return bytes(cramjam.snappy.decompress_raw(data))
        plain, at = b"", len(XERIAL_HEADER)
        while at < len(data):
            (size,) = struct.unpack_from(">i", data, at)
            plain += bytes(cramjam.snappy.decompress_raw(data[at + 4 : at + 4 + size]))
            at += 4 + size
        return plain
    if codec == LZ4:
        decompressed: bytes = lz4.frame.decompress(data)
        return decompressed
    if codec == ZSTD:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


# --- batches of the source ------------------------------------------------------------------------


def records_of(
    content: Sequence[Row], base: int, base_time: int, deltas: Sequence[int] | None = None
) -> bytes:
    """The payload before compression; ``deltas`` replace the offset deltas."""
    return b"".join(
        record(
            one.offset - base if deltas is None else deltas[number],
            wrapped(one.timestamp - base_time),
            body(one.key, one.value, one.headers),
        )
        for number, one in enumerate(content)
    )


def made(
    content: Sequence[Row],
    codec: int = NONE,
    *,
    base: int | None = None,
    last: int | None = None,
    append_time: int | None = None,
    horizon: int | None = None,
    deltas: Sequence[int] | None = None,
    payload: bytes | None = None,
    **fields: int,
) -> bytes:
    """A batch v2 of the rows. ``base`` and ``last`` are its first and last offset where cleaning
    has taken records at its ends, ``horizon`` its delete horizon; ``payload`` travels instead.
    """
    base = content[0].offset if base is None else base
    last = content[-1].offset if last is None else last
    base_time = content[0].timestamp if horizon is None else horizon
    greatest = max(one.timestamp for one in content)
    attributes = codec | fields.pop("attributes", 0)
    if append_time is not None:
        attributes |= oracle.LOG_APPEND_TIME
        greatest = append_time
    if horizon is not None:
        attributes |= oracle.DELETE_HORIZON
    if payload is None:
        payload = packed(codec, records_of(content, base, base_time, deltas))
    header = {
        "last_offset_delta": last - base,
        "base_timestamp": base_time,
        "max_timestamp": greatest,
        "attributes": attributes,
        "leader_epoch": 3,
    }
    return batch(base, len(content), payload, **header | fields)


def message(
    magic: int, offset: int, timestamp: int, key: bytes | None, value: bytes | None, flags: int = 0
) -> bytes:
    """One entry of a message set v0 or v1, its CRC-32 right."""
    content = struct.pack(">bb", magic, flags)
    if magic == 1:
        content += struct.pack(">q", timestamp)
    for part in (key, value):
        content += struct.pack(">i", -1) if part is None else struct.pack(">i", len(part)) + part
    content = struct.pack(">I", zlib.crc32(content)) + content
    return struct.pack(">qi", offset, len(content)) + content


def wrapper(
    magic: int, content: Sequence[Row], codec: int, *, append_time: int | None = None
) -> bytes:
    """A compressed message set. Inner offsets are absolute in v0 and relative in v1 (KIP-31)."""
    first, last = content[0].offset, content[-1].offset
    inner = b"".join(
        message(
            magic,
            one.offset - (first if magic == 1 else 0),
            one.timestamp,
            one.key,
            one.value,
        )
        for one in content
    )
    compressed = packed(codec, inner)
    if codec == LZ4 and magic == 0:
        # Producers of magic 0 hashed the frame's magic along with the header (KAFKA-3160).
        assert compressed[:7] == bytes.fromhex("04224d18604082")
        compressed = compressed[:6] + b"\x1a" + compressed[7:]
    flags = codec | (0 if append_time is None else oracle.LOG_APPEND_TIME)
    greatest = max(one.timestamp for one in content) if append_time is None else append_time
    return message(magic, last, greatest, None, compressed, flags)


@dataclass
class RecordLog(SourceLog):
    """A source whose rows are known, batch by batch. Batches are added after the last one."""

    topic: bytes = b"t"
    partition: int = 0
    batches: list[bytes] = field(default_factory=list)
    content: list[list[Row]] = field(default_factory=list)  # of each batch
    producers: list[int] = field(default_factory=list)  # −1 where it is in no transaction

    @property
    def start(self) -> int:
        """A wrapper of old messages only tells the offset of its last one."""
        first = self.content[0][0].offset if self.content and self.content[0] else super().start
        return min(first, super().start)

    def _put(self, whole: bytes, content: Sequence[Row], producer: int = -1) -> RecordLog:
        self.batches.append(whole)
        self.content.append(list(content))
        self.producers.append(producer)
        return self

    def add(
        self,
        content: Sequence[Row],
        codec: int = NONE,
        *,
        append_time: int | None = None,
        producer: int = -1,
        base: int | None = None,
        last: int | None = None,
        horizon: int | None = None,
        deltas: Sequence[int] | None = None,
        payload: bytes | None = None,
        attributes: int = 0,
    ) -> RecordLog:
        """A batch v2; of a ``producer`` in a transaction if there is one. ``payload`` are the same
        rows in another form."""
        whole = made(
            content,
            codec,
            base=base,
            last=last,
            append_time=append_time,
            horizon=horizon,
            deltas=deltas,
            payload=payload,
            producer_id=producer,
            attributes=attributes | (oracle.TRANSACTIONAL if producer >= 0 else 0),
        )
        if append_time is not None:
            content = [one._replace(timestamp=append_time) for one in content]
        return self._put(whole, content, producer)

    def messages(
        self,
        magic: int,
        content: Sequence[Row],
        codec: int = NONE,
        *,
        append_time: int | None = None,
    ) -> RecordLog:
        """Messages v0 or v1, each by itself or in one wrapper; they have no headers, and those of
        v0 no time."""
        plain = [one._replace(headers=()) for one in content]
        shown = [one._replace(timestamp=-1) for one in plain] if magic == 0 else plain
        if append_time is not None:
            shown = [one._replace(timestamp=append_time) for one in shown]
        if codec:
            return self._put(wrapper(magic, plain, codec, append_time=append_time), shown)
        flags = 0 if append_time is None else oracle.LOG_APPEND_TIME
        for one in shown:
            whole = message(magic, one.offset, one.timestamp, one.key, one.value, flags)
            self._put(whole, [one])
        return self

    def marker(self, offset: int, producer: int, *, commit: bool) -> RecordLog:
        whole = oracle.control_batch(int(commit), base_offset=offset, producer_id=producer)
        return self._put(whole, [])

    def empty(self, first: int, span: int) -> RecordLog:
        """What the cleaner leaves of a producer's last batch."""
        return self._put(batch(first, 0, b"", last_offset_delta=span - 1, producer_id=3), [])

    def seen(self, start: int, end: int, *, committed: bool) -> list[Row]:
        """What a consumer gets from ``start`` up to ``end``."""
        found: list[Row] = []
        for content, producer in zip(self.content, self.producers, strict=True):
            for one in content:
                gone = committed and any(
                    producer == aborted and first <= one.offset <= last
                    for aborted, first, last in self.aborted
                )
                if start <= one.offset < end and not gone:
                    found.append(one)
                    # Where batches overlap, the records of the first one count.
                    start = one.offset + 1
        return found

    def clean(self, gone: set[int]) -> None:
        """What the cleaner does: the records at these offsets are gone. Batches keep their spans,
        and those without records vanish. Message sets stay as they are."""
        entries = list(zip(self.batches, self.content, self.producers, strict=True))
        self.batches, self.content, self.producers = [], [], []
        for whole, content, producer in entries:
            kept = [one for one in content if one.offset not in gone]
            if len(kept) == len(content) or whole[16] != 2:
                self._put(whole, content, producer)
            elif kept:
                h = oracle.parse(whole)
                appended = h["attributes"] & oracle.LOG_APPEND_TIME
                left = made(
                    kept,
                    h["attributes"] & 7,
                    base=h["base_offset"],
                    last=h["base_offset"] + h["last_offset_delta"],
                    append_time=h["max_timestamp"] if appended else None,
                    attributes=h["attributes"] & oracle.TRANSACTIONAL,
                    producer_id=h["producer_id"],
                )
                self._put(left, kept, producer)


# --- batches of the target ------------------------------------------------------------------------


def arrived(batches: Sequence[bytes], first: int = 0) -> list[Row]:
    """The rows of produced batches, numbered from ``first`` on. Each batch has to be what a broker
    takes; its CRC, sequence and count are checked where it is stored."""
    found: list[Row] = []
    for whole in batches:
        h = oracle.parse(whole)
        payload = unpacked(h["attributes"] & 7, whole[oracle.HEADER :])
        content = [plain for plain, _ in read_payload(payload, h["count"])]
        times = [wrapped(h["base_timestamp"] + plain.timestamp_delta) for plain in content]
        assert [plain.offset_delta for plain in content] == list(range(h["count"]))
        assert h["max_timestamp"] == max(times)
        for plain, time in zip(content, times, strict=True):
            found.append(
                Row(first + len(found), time, plain.key, plain.value, tuple(plain.headers))
            )
    return found


class DurableMap:
    """The stored segments put together: a chunk voids what was there from its first counter on."""

    def __init__(self, source: int, counter: int, known: Sequence[tuple[int, int]] = ()) -> None:
        self.segments = [(source, counter), *known]

    def report(self, chunk: Sequence[tuple[int, int]]) -> None:
        first = chunk[0][1]
        self.segments = [one for one in self.segments if one[1] < first] + list(chunk)

    def source_of(self, counter: int) -> int:
        source, begin = [one for one in self.segments if one[1] <= counter][-1]
        return source + counter - begin


def holes(seen: Sequence[Row], mapped: int, counter: int) -> list[tuple[int, int]]:
    """The segments that a copy owes the map, as (source, counter)."""
    found, goes_on = [], mapped
    for number, one in enumerate(seen, counter):
        if one.offset != goes_on:
            found.append((one.offset, number))
        goes_on = one.offset + 1
    return found


def check_pieces(
    stored: Sequence[bytes],
    seen: Sequence[Row],
    log: RecordLog,
    *,
    batch_limit: int,
    apart_until: int,
    single_until: int,
    unpack: bool,
) -> None:
    """Checks that no batch is larger than asked for. The stored ones have the rows that are
    ``seen``.
    """
    came_in = {
        one.offset: number
        for number, content in reversed(list(enumerate(log.content)))
        for one in content
    }
    left = list(seen)
    for whole in stored:
        h = oracle.parse(whole)
        content, left = left[: h["count"]], left[h["count"] :]
        if h["count"] == 1:
            continue
        assert len(whole) <= batch_limit
        first = content[0].offset
        assert first >= single_until, "several records before single_until"
        if first < apart_until:
            sources = {came_in[one.offset] for one in content}
            assert len(sources) == 1, "records of several batches before apart_until"
        if unpack and h["attributes"] & 7:
            records = unpacked(h["attributes"] & 7, whole[oracle.HEADER :])
            assert oracle.HEADER + len(records) <= batch_limit


def outcome(log: SourceLog, start: int, end: int, *, committed: bool) -> tuple[str, int]:
    """How a bounded copy ends, and where at least: not at ``end`` if the last offsets before it are
    in no batch, unless a batch after them shows that they are gone.
    """
    position, readable = start, log.stable if committed else log.end
    for number in range(len(log.batches)):
        first, after = log.place(number)
        if first >= readable or position >= end:
            break
        if after > position:
            position = end if first >= end else after
    return "done" if position >= end else "empty", position


def check_delivered(
    rig: Rig,
    ends: Ends,
    part: PartitionCopy,
    log: RecordLog,
    *,
    start: int | None = None,
    end: int | None = None,
    mapped: int | None = None,
    counter: int = 0,
    known: Sequence[tuple[int, int]] = (),
    batch_limit: int = 128 << 20,
    apart_until: int = 0,
    single_until: int = 0,
    unpack: bool = False,
    **_epochs: Any,
) -> list[bytes]:
    """Every record once and in order, in batches that a broker takes, and the map true of each."""
    start = log.start if start is None else start
    mapped = start if mapped is None else mapped
    if end is None:
        end = log.stable if rig.read_committed else log.end
    seen = log.seen(start, end, committed=rig.read_committed)
    stored = list(rig.stored(ends, part))
    assert [one.seen for one in arrived(stored)] == [one.seen for one in seen]
    durable = DurableMap(mapped, counter, known)
    for chunk in rig.chunks[part]:
        durable.report(chunk)
    for number, one in enumerate(seen, counter):
        assert durable.source_of(number) == one.offset, f"of record {number}"
    if not known:
        assert rig.segments(part) == holes(seen, mapped, counter)
    check_pieces(
        stored,
        seen,
        log,
        batch_limit=batch_limit,
        apart_until=apart_until,
        single_until=single_until,
        unpack=unpack,
    )
    ending, position = outcome(log, start, end, committed=rig.read_committed)
    assert (part.ending, part.end_message) == (ending, None)
    assert part.records == len(seen)
    assert part.acked_counter == counter + len(seen)
    assert part.acked == part.position
    assert part.position >= end if ending == "done" else part.position == position
    assert (part.batches, part.bytes) == (len(stored), sum(map(len, stored)))
    return stored
