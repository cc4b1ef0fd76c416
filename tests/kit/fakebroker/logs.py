"""Logs of a fake cluster: those that take what is produced, and those that hold anything."""

from __future__ import annotations

import struct
from collections import defaultdict, deque
from dataclasses import dataclass, field

from kit.brokers.scripted import IN_FLIGHT, SourceLog, checksum
from kit.oracle import batches as oracle
from kit.oracle.records import read_payload

CORRUPT_MESSAGE = 2
INVALID_TIMESTAMP = 32
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
INVALID_RECORD = 87


@dataclass
class PlacedLog(SourceLog):
    """A source whose bytes are anything: where each piece lies is said, not read from it."""

    batches: list[bytes] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)

    def put(self, first: int, after: int, data: bytes) -> None:
        """``data`` is what the broker takes for the offsets ``first`` to ``after`` − 1."""
        self.batches.append(data)
        self.places.append((first, after))

    def place(self, index: int) -> tuple[int, int]:
        return self.places[index]


@dataclass
class StoredLog(SourceLog):
    """A log that producers write: it refuses what a broker refuses (``LogValidator``), but does
    not open compressed batches. What is stored has its offsets."""

    batches: list[bytes] = field(default_factory=list)
    # By producer: sequences and offset of its last batches, by which one that comes again is known.
    latest: defaultdict[int, deque[tuple[int, int, int]]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=IN_FLIGHT))
    )

    def append(self, whole: bytes) -> tuple[int, int]:
        """Kafka's error code and the base offset given."""
        h = oracle.parse(whole)
        covered, payload = whole[oracle.COVERED : oracle.HEADER], whole[oracle.HEADER :]
        if h["crc"] != oracle.shift(oracle.crc32c(covered), len(payload)) ^ checksum(payload):
            return CORRUPT_MESSAGE, -1
        if h["attributes"] & oracle.LOG_APPEND_TIME:
            return INVALID_TIMESTAMP, -1
        if not _is_valid(h, payload):
            return INVALID_RECORD, -1
        producer, first = h["producer_id"], h["base_sequence"]
        last = (first + h["last_offset_delta"]) % 2**31
        known = self.latest[producer]
        for begin, end, offset in known:
            if (begin, end) == (first, last):
                return 0, offset
        if first != ((known[-1][1] + 1) % 2**31 if known else first):
            return OUT_OF_ORDER_SEQUENCE_NUMBER, -1
        offset = self.end
        known.append((first, last, offset))
        self.batches.append(struct.pack(">q", offset) + whole[8:])
        return 0, offset


def _is_valid(h: dict[str, int], payload: bytes) -> bool:
    if h["magic"] != 2 or h["attributes"] & oracle.CONTROL:
        return False
    if h["count"] < 1 or h["count"] != h["last_offset_delta"] + 1:
        return False
    if h["producer_id"] >= 0 and h["base_sequence"] < 0:
        return False
    if h["attributes"] & 7:
        return True
    try:
        records = [plain for plain, _ in read_payload(payload, h["count"])]
    except ValueError:
        return False
    return [plain.offset_delta for plain in records] == list(range(h["count"]))
