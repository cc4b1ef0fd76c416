"""The expected result of copying a fetched slice, worked out slowly: which records arrive, which
batches go through as they are, and how the copy ends.

The broker of a case always answers with the same slice, whatever offset it is asked for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from copycore.codec import decompress_bytes
from kit.brokers.scripted import checksum
from kit.logs.truth import Row, unpacked
from kit.oracle import batches as oracle
from kit.oracle import legacy as legacy_oracle
from kit.oracle.records import read_record, wrapped

LIMIT = 1 << 20  # bytes that a batch may decompress to
CORRUPT_MESSAGE = 2


@dataclass(frozen=True)
class Through:
    """A batch that goes through: its records, unread, at these source offsets."""

    first: int
    count: int
    payload: bytes


class Ends(Exception):
    """The copy ends here. ``ending`` as ``PartitionCopy.ending``."""

    def __init__(self, ending: str, offset: int) -> None:
        super().__init__(ending, offset)
        self.ending = ending
        self.offset = offset


@dataclass
class Model:
    """One partition from ``start`` to ``end``. ``opened`` says whether even what could go through
    is taken apart."""

    start: int
    end: int
    opened: bool
    compression: int
    batch_limit: int
    aborted: list[tuple[int, int]]  # none where it is not read committed
    arrives: list[Row | Through] = field(default_factory=list)
    ending: str = "done"
    offset: int = -1  # of what ended it, −1 where it is done

    def __post_init__(self) -> None:
        self.position = self.start
        self.open: set[int] = set()
        self.pending = sorted(self.aborted, key=lambda entry: entry[1])

    def read(self, data: bytes) -> None:
        try:
            self._read(data)
            if self.position < self.end:
                raise Ends("malformed", self.position)  # nothing more is ever sent
        except Ends as reason:
            self.ending, self.offset = reason.ending, reason.offset

    def _read(self, data: bytes) -> None:
        at = 0
        while self.position < self.end and len(data) - at >= oracle.OVERHEAD:
            (length,) = struct.unpack_from(">i", data, at + 8)
            if length < 14:
                raise Ends("malformed", self.position)
            if at + oracle.OVERHEAD + length > len(data):
                return
            self._take(data[at : at + oracle.OVERHEAD + length])
            at += oracle.OVERHEAD + length

    def _take(self, whole: bytes) -> None:
        kind = oracle.kind(whole)
        (base,) = struct.unpack_from(">q", whole)
        if kind == "malformed":
            raise Ends("malformed", max(self.position, base))
        h = oracle.parse(whole) if kind != "old-magic" else {}
        after = base + (h["last_offset_delta"] + 1 if h else 1)
        if after <= self.position:
            return
        if not h:
            self._messages(whole, base)
        elif base >= self.end:
            self.position = self.end
        elif self._left_out(h, kind, after):
            if not crc_holds(whole):
                raise Ends("corrupt", base)
            if kind == "control" and marker_type(whole) == 0:
                self.open.discard(h["producer_id"])
            self.position = after
        elif kind == "unknown-codec":
            raise Ends("unknown-codec", base)
        elif self._passes(h, kind, whole, after):
            if not crc_holds(whole):
                raise Ends("target-error", base)
            self.arrives.append(Through(base, h["count"], whole[oracle.HEADER :]))
            self.position = after
        else:
            self._records(whole, h, after)

    def _left_out(self, h: dict[str, int], kind: str, after: int) -> bool:
        while self.pending and self.pending[0][1] < after:
            self.open.add(self.pending.pop(0)[0])
        if kind in ("control", "empty"):
            return True
        return bool(h["attributes"] & oracle.TRANSACTIONAL) and h["producer_id"] in self.open

    def _passes(self, h: dict[str, int], kind: str, whole: bytes, after: int) -> bool:
        return (
            not self.opened
            and kind == "dense"
            and len(whole) <= self.batch_limit
            and h["base_offset"] >= self.position
            and after <= self.end
            and self.compression in (-1, h["attributes"] & 7)
        )

    def _records(self, whole: bytes, h: dict[str, int], after: int) -> None:
        base = h["base_offset"]
        if not crc_holds(whole):
            raise Ends("corrupt", base)
        plain = opened(h["attributes"] & 7, whole[oracle.HEADER :])
        if plain is None:
            raise Ends("malformed", base)
        dense = h["count"] == h["last_offset_delta"] + 1
        r, least = oracle.In(plain, False), base
        for number in range(h["count"]):
            try:
                one, _ = read_record(r)
            except ValueError:
                raise Ends("malformed", least) from None
            if number == h["count"] - 1 and r.position < len(plain):
                raise Ends("malformed", least)
            offset = base + (number if dense else one.offset_delta)
            if not least <= offset <= after - (h["count"] - number):
                raise Ends("malformed", least)
            if offset >= self.end:
                self.position = self.end
                return
            least = offset + 1
            if offset >= self.position:
                moment = wrapped(h["base_timestamp"] + one.timestamp_delta)
                if h["attributes"] & oracle.LOG_APPEND_TIME:
                    moment = h["max_timestamp"]
                self.arrives.append(Row(offset, moment, one.key, one.value, tuple(one.headers)))
        self.position = after

    def _messages(self, whole: bytes, base: int) -> None:
        try:
            seen = legacy_oracle.read(whole)
        except Exception:  # each library has its own
            raise Ends("malformed", max(self.position, base)) from None
        if seen[-1][0] > base:
            raise Ends("malformed", max(self.position, base))
        for offset, timestamp, key, value in seen:
            if offset >= self.end:
                self.position = self.end
                return
            if offset >= self.position:
                self.arrives.append(Row(offset, timestamp, key, value))
        self.position = base + 1


def crc_holds(whole: bytes) -> bool:
    covered, payload = whole[oracle.COVERED : oracle.HEADER], whole[oracle.HEADER :]
    crc = oracle.shift(oracle.crc32c(covered), len(payload)) ^ checksum(payload)
    return bool(crc == oracle.parse(whole)["crc"])


def marker_type(whole: bytes) -> int:
    """0 abort, 1 commit, −1 for what is no marker."""
    h = oracle.parse(whole)
    r = oracle.In(whole[oracle.HEADER :], False)
    if h["count"] != 1 or h["attributes"] & 7:
        return -1
    try:
        one, _ = read_record(r)
    except ValueError:
        return -1
    if r.position != len(r.data) or one.key is None or len(one.key) < 4:
        return -1
    version, kind = struct.unpack_from(">hh", one.key)
    return int(kind) if version >= 0 and kind in (0, 1) else -1


def opened(codec: int, payload: bytes) -> bytes | None:
    """The records as the codec's own library unpacks them; None for damage.

    On damaged data libraries and the core may disagree, for each has rules of its own for headers
    and what follows the end. There the core's decision is accepted, and only its records are
    checked.
    """
    try:
        ours: bytes | None = decompress_bytes(codec, payload, LIMIT)
    except ValueError:
        ours = None
    try:
        theirs: bytes | None = unpacked(codec, payload)
    except Exception:  # each library has its own
        theirs = None
    if ours is not None and theirs is not None and len(theirs) <= LIMIT:
        assert ours == theirs, f"codec {codec} reads {payload.hex()} in two ways"
    return ours
