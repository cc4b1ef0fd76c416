"""Comparison of two clusters, record by record, with an ordinary consumer.

This is the judge of the tests, the demo and the benchmarks, so it shares nothing with the engine
it judges: records are read by librdkafka, read-committed and with CRC checks on, as an
application would read them. Offsets may differ between the sides; nothing else that a consumer
can see may: key, value, headers (order, repeats, null against empty), timestamp (but not who set
it: in a copy of append times it is a producer), the order in a partition, the number of records.

Both sides stream at full speed, each in a thread of its own, and fold their records into one
digest per block. Block borders depend on the records alone, so equal streams have equal blocks;
the first block that differs is where the detailed look starts. That look reads both sides again
from the border of that block, at most ``DETAIL_RECORDS`` records of each, and ``diff.classify``
says what became of every record. Memory: a digest per block, and one such window.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from replicator.lab.diff import Difference, Kind, Print, classify
from replicator.lab.errors import LabError
from replicator.lab.logs import Place, Range, log_ranges
from replicator.lab.reading import Record, read_records

BLOCK_RECORDS = 4096
BLOCK_BYTES = 4 << 20
DETAIL_RECORDS = 50_000
DETAILS_KEPT = 100
DETAILS_SHOWN = 12

_frame = struct.Struct(">qiii")
_header_frame = struct.Struct(">ii")


class CompareError(LabError):
    """The comparison itself could not be done: the sides do not pair up, or one changes."""


class Verdict(Struct, kw_only=True):
    """The outcome. Counts are records; ``records`` and ``bytes`` are what the source holds.

    ``details`` keeps the first hundred differences. ``truncated`` says that a partition differs
    after the detailed window too, so that the counts of differences are lower bounds.
    """

    partitions: int
    records: int
    target_records: int
    bytes: int  # keys, values and headers, uncompressed
    missing: int = 0
    doubled: int = 0
    reordered: int = 0
    altered: int = 0
    foreign: int = 0
    details: list[Difference] = []
    truncated: bool = False
    elapsed: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the target holds exactly the source's records, in order."""
        return not (self.missing or self.doubled or self.reordered or self.altered or self.foreign)

    def __str__(self) -> str:
        lines = [
            f"{'EQUAL' if self.ok else 'DIFFERENT'}: {self.records:,} records in "
            f"{self.partitions:,} partitions: {self.missing:,} missing, {self.doubled:,} doubled, "
            f"{self.reordered:,} reordered, {self.altered:,} altered, {self.foreign:,} foreign"
            + (" (at least)" if self.truncated else "")
        ]
        lines += [f"  {difference}" for difference in self.details[:DETAILS_SHOWN]]
        return "\n".join(lines)


def compare(
    source: str,
    target: str,
    topics: Mapping[str, str],
    *,
    partitions: Collection[int] | None = None,
    start: Mapping[Place, int] | None = None,
    end: Mapping[Place, int] | None = None,
) -> Verdict:
    """Compare ``topics`` (source name -> target name) of two clusters, given by bootstrap.

    Everything from each side's log start to its last stable offset at the call is read.
    ``partitions`` limits the look to these. ``start`` and ``end`` (exclusive) are
    source offsets by (source topic, partition) and narrow what the target must hold; the target
    is always read whole. Raises ``LabError`` when a topic is absent; of its kinds ``CompareError``
    when the partition counts differ, and ``ReadError`` when a side stops answering.
    """
    began = time.monotonic()
    start, end = start or {}, end or {}
    by_target = {theirs: ours for ours, theirs in topics.items()}
    if len(by_target) != len(topics):
        raise CompareError("two source topics have the same target topic")
    source_ranges = log_ranges(source, topics, partitions=partitions)
    target_ranges = {
        (by_target[topic], partition): bounds
        for (topic, partition), bounds in log_ranges(
            target, by_target, partitions=partitions
        ).items()
    }
    if source_ranges.keys() != target_ranges.keys():
        odd = sorted(source_ranges.keys() ^ target_ranges.keys())[0]
        raise CompareError(f"{odd[0]} partition {odd[1]} is on one side only")
    for place, (low, high) in source_ranges.items():
        source_ranges[place] = (max(low, start.get(place, low)), min(high, end.get(place, high)))

    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(
                _fold, source, {place: (place, bounds) for place, bounds in source_ranges.items()}
            ),
            pool.submit(
                _fold,
                target,
                {
                    (topics[place[0]], place[1]): (place, bounds)
                    for place, bounds in target_ranges.items()
                },
            ),
        ]
        ours, theirs = (job.result() for job in jobs)

    verdict = Verdict(
        partitions=len(ours),
        records=sum(chain.records for chain in ours.values()),
        target_records=sum(chain.records for chain in theirs.values()),
        bytes=sum(chain.bytes for chain in ours.values()),
    )
    for place in sorted(ours):
        block = _first_difference(ours[place], theirs[place])
        if block is not None:
            _look_closer(
                verdict,
                place[1],
                block,
                _Side(source, place[0], ours[place], source_ranges[place]),
                _Side(target, topics[place[0]], theirs[place], target_ranges[place]),
            )
    verdict.elapsed = time.monotonic() - began
    return verdict


class _Chain:
    """One partition of one side, folded: a digest and the first offset of every block."""

    def __init__(self) -> None:
        self.records = 0
        self.bytes = 0
        self.digests: list[bytes] = []
        self.first_offsets: list[int] = []
        self._hash = hashlib.blake2b(digest_size=16)
        self._parts: list[bytes] = []
        self._block_records = 0
        self._block_bytes = 0

    def add(self, message: Record) -> None:
        if not self._block_records:
            self.first_offsets.append(message.offset())
        size = _encode(message, self._parts)
        self.records += 1
        self.bytes += size
        self._block_records += 1
        self._block_bytes += size
        if len(self._parts) > 1024 or size > 1 << 16:
            self._drain()
        if self._block_records == BLOCK_RECORDS or self._block_bytes >= BLOCK_BYTES:
            self.close()

    def close(self) -> None:
        if self._block_records:
            self._drain()
            self.digests.append(self._hash.digest())
            self._hash = hashlib.blake2b(digest_size=16)
            self._block_records = self._block_bytes = 0

    def _drain(self) -> None:
        self._hash.update(b"".join(self._parts))
        self._parts.clear()


class _Side(Struct):
    bootstrap: str
    topic: str
    chain: _Chain
    bounds: Range


def _encode(message: Record, parts: list[bytes]) -> int:
    """Append the record, unambiguously, to ``parts``; the size of its key, value and headers."""
    key, value, headers = message.key(), message.value(), message.headers()
    _, stamp = message.timestamp()
    size = (0 if key is None else len(key)) + (0 if value is None else len(value))
    parts.append(
        _frame.pack(
            stamp,
            -1 if key is None else len(key),
            -1 if value is None else len(value),
            0 if headers is None else len(headers),
        )
    )
    if key:
        parts.append(key)
    if value:
        parts.append(value)
    if headers:
        size += _encode_headers(headers, parts)
    return size


def _encode_headers(headers: list[tuple[str, bytes | None]], parts: list[bytes]) -> int:
    size = 0
    for name, content in headers:
        raw = name.encode()
        parts.append(_header_frame.pack(len(raw), -1 if content is None else len(content)))
        parts.append(raw)
        size += len(raw)
        if content:
            parts.append(content)
            size += len(content)
    return size


def _print(message: Record) -> Print:
    def digest(parts: list[bytes]) -> bytes:
        return hashlib.blake2b(b"".join(parts), digest_size=12).digest()

    def nullable(content: bytes | None) -> bytes:
        return b"" if content is None else digest([content])

    headers: list[bytes] = []
    _encode_headers(message.headers() or [], headers)
    _, stamp = message.timestamp()
    return Print(
        offset=message.offset(),
        timestamp=_frame.pack(stamp, 0, 0, 0),
        key=nullable(message.key()),
        value=nullable(message.value()),
        headers=digest(headers),
    )


def _first_difference(ours: _Chain, theirs: _Chain) -> int | None:
    """Index of the first block that is not the same on both sides; None when all are."""
    for index, (mine, other) in enumerate(zip(ours.digests, theirs.digests, strict=False)):
        if mine != other:
            return index
    if len(ours.digests) != len(theirs.digests):
        return min(len(ours.digests), len(theirs.digests))
    return None


def _look_closer(verdict: Verdict, partition: int, block: int, ours: _Side, theirs: _Side) -> None:
    windows: list[list[Print]] = []
    for side in (ours, theirs):
        firsts, high = side.chain.first_offsets, side.bounds[1]
        low = firsts[block] if block < len(firsts) else high
        windows.append(_window(side.bootstrap, (side.topic, partition), (low, high)))
    whole = all(len(window) < DETAIL_RECORDS for window in windows)
    found = classify(
        windows[0],
        windows[1],
        topic=ours.topic,
        target_topic=theirs.topic,
        partition=partition,
        whole=whole,
    )
    if not found and whole:
        raise CompareError(
            f"{ours.topic} partition {partition} differed when it was read first and did not when "
            f"it was read again: a side is being changed"
        )
    counts: dict[Kind, int] = {}
    for difference in found:
        counts[difference.kind] = counts.get(difference.kind, 0) + 1
    verdict.missing += counts.get("missing", 0)
    verdict.doubled += counts.get("doubled", 0)
    verdict.reordered += counts.get("reordered", 0)
    verdict.altered += counts.get("altered", 0)
    verdict.foreign += counts.get("foreign", 0)
    verdict.truncated |= not whole
    verdict.details += found[: max(0, DETAILS_KEPT - len(verdict.details))]


def _window(bootstrap: str, place: Place, bounds: Range) -> list[Print]:
    prints: list[Print] = []
    for message in read_records(bootstrap, {place: bounds}):
        prints.append(_print(message))
        if len(prints) == DETAIL_RECORDS:
            break
    return prints


def _fold(bootstrap: str, places: Mapping[Place, tuple[Place, Range]]) -> dict[Place, _Chain]:
    """Read ``places`` (as named there -> (as named in the result, range)) into chains."""
    chains = {ours: _Chain() for ours, _ in places.values()}
    adders: dict[Place, Callable[[Record], None]] = {
        theirs: chains[ours].add for theirs, (ours, _) in places.items()
    }
    ranges = {theirs: bounds for theirs, (_, bounds) in places.items()}
    for message in read_records(bootstrap, ranges):
        adders[message.topic(), message.partition()](message)
    for chain in chains.values():
        chain.close()
    return chains
