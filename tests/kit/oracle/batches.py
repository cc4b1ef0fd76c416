"""The oracle: what copycore does, done slowly and obviously, from Kafka's own descriptions.

Nothing here shares code or tricks with copycore. CRC-32C goes bit by bit, a rewritten batch's CRC
is computed again from its payload, and the frames follow the field order of Kafka's
``FetchRequest.json``, ``FetchResponse.json``, ``ProduceRequest.json`` and ``ProduceResponse.json``.
Integers are big-endian everywhere. Everything malformed or cut short raises ``ValueError``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

HEADER = 61
OVERHEAD = 12
COVERED = 21  # the CRC covers attributes … end

FIELDS = (
    ("base_offset", "q"),
    ("length", "i"),
    ("leader_epoch", "i"),
    ("magic", "b"),
    ("crc", "I"),
    ("attributes", "h"),
    ("last_offset_delta", "i"),
    ("base_timestamp", "q"),
    ("max_timestamp", "q"),
    ("producer_id", "q"),
    ("producer_epoch", "h"),
    ("base_sequence", "i"),
    ("count", "i"),
)
WIDTHS = {"b": 8, "h": 16, "i": 32, "I": 32, "q": 64}

LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
DELETE_HORIZON = 0x40


# --- CRC-32C ------------------------------------------------------------------------------------


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC-32C of ``data``, one bit at a time; ``crc`` is that of the bytes before it."""
    register = crc ^ 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def shift(register: int, nbytes: int) -> int:
    """The bare register after ``nbytes`` zero bytes: times x^(8·nbytes) in GF(2)[x] mod P."""

    def times(a: int, b: int) -> int:
        product = 0
        while b:
            if b & 1:
                product ^= a
            a <<= 1
            if a >> 32:
                a ^= 0x11EDC6F41
            b >>= 1
        return product

    def mirrored(value: int) -> int:
        return int(f"{value:032b}"[::-1], 2)

    power, result = 1 << 8, mirrored(register)
    while nbytes:
        if nbytes & 1:
            result = times(result, power)
        power = times(power, power)
        nbytes >>= 1
    return mirrored(result)


# --- record batches -----------------------------------------------------------------------------


def build(payload: bytes = b"", **fields: int) -> bytes:
    """A batch v2 around ``payload``; ``length`` and ``crc`` are right unless given."""
    values = {
        "base_offset": 0,
        "length": HEADER - OVERHEAD + len(payload),
        "leader_epoch": -1,
        "magic": 2,
        "crc": 0,
        "attributes": 0,
        "last_offset_delta": max(fields.get("count", 1), 0) - 1,
        "base_timestamp": 1_600_000_000_000,
        "max_timestamp": 1_600_000_000_000,
        "producer_id": -1,
        "producer_epoch": -1,
        "base_sequence": -1,
        "count": 1,
    } | fields
    pieces = [struct.pack(">" + code, values[name]) for name, code in FIELDS]
    if "crc" not in fields:
        pieces[4] = struct.pack(">I", crc32c(b"".join(pieces[5:]) + payload))
    return b"".join(pieces) + payload


def parse(batch: bytes) -> dict[str, int]:
    """Every header field of a batch v2."""
    values, position = {}, 0
    for name, code in FIELDS:
        (values[name],) = struct.unpack_from(">" + code, batch, position)
        position += WIDTHS[code] // 8
    return values


def kind(batch: bytes) -> str:
    """What can be done with a whole batch, by its header, the first matching rule winning."""
    (base_offset,) = struct.unpack_from(">q", batch)
    (magic,) = struct.unpack_from(">b", batch, 16)
    if not 0 <= base_offset < 2**63 - 1:
        return "malformed"
    if magic in (0, 1):
        return "old-magic"
    if magic != 2 or len(batch) < HEADER:
        return "malformed"
    h = parse(batch)
    span = h["last_offset_delta"] + 1
    rules = (
        (h["count"] < 0 or span < 1, "malformed"),
        (base_offset + span > 2**63 - 1, "malformed"),
        (h["count"] > span, "malformed"),
        (h["attributes"] & CONTROL, "control"),
        (h["attributes"] & TRANSACTIONAL and h["producer_id"] < 0, "malformed"),
        (h["count"] == 0, "empty"),
        (h["attributes"] & 7 > 4, "unknown-codec"),
        (h["count"] != span, "gapped"),
        (h["attributes"] & LOG_APPEND_TIME, "log-append-time"),
    )
    for broken, name in rules:
        if broken:
            return name
    return "dense"


def cut(data: bytes) -> tuple[list[bytes], int]:
    """The whole batches of a fetched slice and the number of bytes of a partial last one."""
    batches, position = [], 0
    while len(data) - position >= OVERHEAD:
        (length,) = struct.unpack_from(">i", data, position + 8)
        if length < 14:  # shorter than the shortest message of any version
            raise ValueError(f"batch at byte {position} has an impossible length")
        if position + OVERHEAD + length > len(data):
            break
        batches.append(data[position : position + OVERHEAD + length])
        position += OVERHEAD + length
    return batches, len(data) - position


def rewrite(batch: bytes, producer_id: int, producer_epoch: int, sequence: int) -> bytes:
    """The batch as it is to be produced, its CRC computed from all of its bytes."""
    h = parse(batch)
    del h["crc"]
    return build(
        batch[HEADER:],
        **h
        | {
            "base_offset": 0,
            "leader_epoch": -1,
            "attributes": h["attributes"]
            & ~(LOG_APPEND_TIME | TRANSACTIONAL | CONTROL | DELETE_HORIZON),
            "producer_id": producer_id,
            "producer_epoch": producer_epoch,
            "base_sequence": sequence,
        },
    )


def uvarint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value: int) -> bytes:
    """Zigzag: 0, −1, 1, −2 … become 0, 1, 2, 3 …"""
    return uvarint(value * 2 if value >= 0 else -value * 2 - 1)


def record(delta: int, key: bytes | None, value: bytes | None) -> bytes:
    """One record of a batch v2 with no headers."""
    body = b"\0" + varint(0) + varint(delta)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += varint(0)
    return varint(len(body)) + body


def control_batch(marker: int, *, version: int = 0, key: bytes | None = None, **f: int) -> bytes:
    """A transaction marker: 0 abort, 1 commit. ``key`` replaces its usual four bytes."""
    if key is None:
        key = struct.pack(">hh", version, marker)
    payload = record(0, key, struct.pack(">hi", 0, 7))
    defaults = {"attributes": CONTROL | TRANSACTIONAL, "producer_id": 4000, "producer_epoch": 1}
    return build(payload, **defaults | f)


def legacy(magic: int, key: bytes | None, value: bytes | None, offset: int = 0) -> bytes:
    """A message of magic 0 or 1 with its log overhead (the CRC is not of interest here)."""
    body = struct.pack(">Ibb", 0xDEADBEEF, magic, 0)
    if magic == 1:
        body += struct.pack(">q", 1_400_000_000_000)
    for part in (key, value):
        body += struct.pack(">i", -1) if part is None else struct.pack(">i", len(part)) + part
    return struct.pack(">qi", offset, len(body)) + body


# --- the protocol's primitives ------------------------------------------------------------------


@dataclass
class Out:
    """Field by field; ``flexible`` chooses compact lengths and tagged-field sections (KIP-482)."""

    flexible: bool
    data: bytearray = field(default_factory=bytearray)

    def put(self, codes: str, *values: int) -> None:
        self.data += struct.pack(">" + codes, *values)

    def length(self, n: int, code: str) -> None:
        if self.flexible:
            self.data += uvarint(n + 1)
        else:
            self.put(code, n)

    def string(self, text: bytes | None) -> None:
        self.length(-1 if text is None else len(text), "h")
        self.data += text or b""

    def blob(self, content: bytes | None) -> None:
        self.length(-1 if content is None else len(content), "i")
        self.data += content or b""

    def array(self, items: Sequence[Any] | None, put_item: Callable[[Any], None]) -> None:
        self.length(-1 if items is None else len(items), "i")
        for item in items or ():
            put_item(item)

    def tags(self, tags: Sequence[tuple[int, bytes]] = ()) -> None:
        if self.flexible:
            self.data += uvarint(len(tags))
            for number, content in tags:
                self.data += uvarint(number) + uvarint(len(content)) + content


@dataclass
class In:
    data: bytes
    flexible: bool
    position: int = 0

    def raw(self, n: int) -> bytes:
        if n < 0 or self.position + n > len(self.data):
            raise ValueError("truncated")
        self.position += n
        return self.data[self.position - n : self.position]

    def get(self, code: str) -> int:
        value: int = struct.unpack(">" + code, self.raw(struct.calcsize(">" + code)))[0]
        return value

    def uvarint(self) -> int:
        """At most five bytes, and within the positive int32."""
        value = 0
        for place in range(5):
            byte = self.raw(1)[0]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                if value > 0x7FFFFFFF:
                    break
                return value
        raise ValueError("varint too long")

    def length(self, code: str) -> int:
        n = self.uvarint() - 1 if self.flexible else self.get(code)
        if n < -1:
            raise ValueError("negative length")
        return n

    def string(self) -> bytes | None:
        n = self.length("h")
        return None if n < 0 else self.raw(n)

    def blob(self) -> bytes | None:
        n = self.length("i")
        return None if n < 0 else self.raw(n)

    def array(self, get_item: Callable[[], Any]) -> list[Any] | None:
        n = self.length("i")
        return None if n < 0 else [get_item() for _ in range(n)]

    def tags(self) -> None:
        if self.flexible:
            for _ in range(self.uvarint()):
                self.uvarint()
                self.raw(self.uvarint())


def required(value: Any) -> Any:
    if value is None:
        raise ValueError("null where the protocol has none")
    return value


def frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def request_header(out: Out, api: int, version: int, correlation_id: int, client: bytes) -> None:
    out.put("hhi", api, version, correlation_id)
    out.put("h", len(client))  # never compact
    out.data += client
    out.tags()


# --- Fetch 11–13 --------------------------------------------------------------------------------


def fetch_request(
    version: int,
    correlation_id: int,
    client: bytes,
    topics: Sequence[tuple[bytes, bytes, Sequence[tuple[int, int, int, int]]]],
    *,
    max_wait_ms: int,
    min_bytes: int,
    max_bytes: int,
    read_committed: bool,
) -> bytes:
    out = Out(version >= 12)

    def put_partition(entry: tuple[int, int, int, int]) -> None:
        partition, leader_epoch, offset, partition_bytes = entry
        out.put("iiq", partition, leader_epoch, offset)
        if version >= 12:
            out.put("i", -1)  # LastFetchedEpoch
        out.put("qi", -1, partition_bytes)  # LogStartOffset, PartitionMaxBytes
        out.tags()

    def put_topic(entry: tuple[bytes, bytes, Sequence[tuple[int, int, int, int]]]) -> None:
        name, topic_id, partitions = entry
        if version >= 13:
            out.data += topic_id
        else:
            out.string(name)
        out.array(partitions, put_partition)
        out.tags()

    request_header(out, 1, version, correlation_id, client)
    out.put("i", -1)  # ReplicaId
    out.put("iii", max_wait_ms, min_bytes, max_bytes)
    out.put("b", int(read_committed))
    out.put("ii", 0, -1)  # SessionId, SessionEpoch
    out.array(topics, put_topic)
    out.array([], out.tags)  # ForgottenTopicsData
    out.string(b"")  # RackId
    out.tags()
    return frame(bytes(out.data))


def fetch_response(
    version: int, response: dict[str, Any], tags: Sequence[tuple[int, bytes]] = ()
) -> bytes:
    """A response after its correlation id; ``tags`` go into every tagged-field section."""
    out = Out(version >= 12)

    def put_aborted(entry: tuple[int, int]) -> None:
        out.put("qq", *entry)
        out.tags(tags)

    def put_partition(p: dict[str, Any]) -> None:
        out.put("ihqqq", p["partition"], p["error"], p["high_watermark"],
                p["last_stable_offset"], p["log_start_offset"])  # fmt: skip
        out.array(p["aborted"], put_aborted)
        out.put("i", p["preferred_replica"])
        out.blob(p["records"])
        diverging = p.get("diverging")  # epoch and its end offset: DivergingEpoch of KIP-595
        own = [(0, struct.pack(">iq", *diverging) + b"\0")] if diverging else []
        out.tags([*own, *tags])

    def put_topic(entry: tuple[bytes, list[dict[str, Any]]]) -> None:
        name, partitions = entry
        if version >= 13:
            out.data += name
        else:
            out.string(name)
        out.array(partitions, put_partition)
        out.tags(tags)

    out.tags(tags)  # response header v1
    out.put("ihi", response["throttle_ms"], response["error"], 0)
    out.array(response["topics"], put_topic)
    out.tags(tags)
    return bytes(out.data)


def read_fetch_response(version: int, data: bytes) -> dict[str, Any]:
    """As ``decode_fetch`` answers: null lists and records are empty, abort lists are sorted."""
    r = In(data, version >= 12)

    def get_aborted() -> tuple[int, int]:
        entry = (r.get("q"), r.get("q"))
        r.tags()
        return entry

    def get_partition() -> dict[str, Any]:
        p: dict[str, Any] = {"partition": r.get("i"), "error": r.get("h")}
        for name in ("high_watermark", "last_stable_offset", "log_start_offset"):
            p[name] = r.get("q")
        p["aborted"] = sorted(r.array(get_aborted) or [], key=lambda entry: entry[1])
        p["preferred_replica"] = r.get("i")
        p["records"] = r.blob() or b""
        r.tags()
        return p

    def get_topic() -> tuple[bytes, list[dict[str, Any]]]:
        name = r.raw(16) if version >= 13 else required(r.string())
        partitions = required(r.array(get_partition))
        r.tags()
        return name, partitions

    r.tags()
    throttle_ms, error, _session = r.get("i"), r.get("h"), r.get("i")
    return {
        "throttle_ms": throttle_ms,
        "error": error,
        "topics": required(r.array(get_topic)),
    }


# --- Produce 7–9 --------------------------------------------------------------------------------


def produce_request(
    version: int,
    correlation_id: int,
    client: bytes,
    topics: Sequence[tuple[bytes, Sequence[tuple[int, bytes]]]],
    *,
    timeout_ms: int,
) -> bytes:
    out = Out(version >= 9)

    def put_partition(entry: tuple[int, bytes]) -> None:
        out.put("i", entry[0])
        out.blob(entry[1])
        out.tags()

    def put_topic(entry: tuple[bytes, Sequence[tuple[int, bytes]]]) -> None:
        out.string(entry[0])
        out.array(entry[1], put_partition)
        out.tags()

    request_header(out, 0, version, correlation_id, client)
    out.string(None)  # TransactionalId
    out.put("hi", -1, timeout_ms)  # Acks
    out.array(topics, put_topic)
    out.tags()
    return frame(bytes(out.data))


def produce_response(
    version: int, response: dict[str, Any], tags: Sequence[tuple[int, bytes]] = ()
) -> bytes:
    """A response after its correlation id. From version 8 a partition also has
    ``record_errors`` (index, text or None) and ``error_message``."""
    out = Out(version >= 9)

    def put_error(entry: tuple[int, bytes | None]) -> None:
        out.put("i", entry[0])
        out.string(entry[1])
        out.tags(tags)

    def put_partition(p: dict[str, Any]) -> None:
        out.put("ihqqq", p["partition"], p["error"], p["base_offset"],
                p.get("log_append_time", -1), p["log_start_offset"])  # fmt: skip
        if version >= 8:
            out.array(p["record_errors"], put_error)
            out.string(p["error_message"])
        out.tags(tags)

    def put_topic(entry: tuple[bytes, list[dict[str, Any]]]) -> None:
        out.string(entry[0])
        out.array(entry[1], put_partition)
        out.tags(tags)

    out.tags(tags)
    out.array(response["topics"], put_topic)
    out.put("i", response["throttle_ms"])
    out.tags(tags)
    return bytes(out.data)


def read_produce_response(version: int, data: bytes) -> dict[str, Any]:
    """As ``decode_produce`` answers: ``message`` is the first text the broker gives."""
    r = In(data, version >= 9)

    def get_error() -> bytes | None:
        r.get("i")
        text = r.string()
        r.tags()
        return text

    def get_partition() -> dict[str, Any]:
        p: dict[str, Any] = {"partition": r.get("i"), "error": r.get("h")}
        p["base_offset"], _append_time, p["log_start_offset"] = (r.get("q") for _ in range(3))
        texts: list[bytes | None] = []
        if version >= 8:
            texts = [*(r.array(get_error) or []), r.string()]
        p["message"] = next((text for text in texts if text is not None), None)
        r.tags()
        return p

    def get_topic() -> tuple[bytes, list[dict[str, Any]]]:
        name = required(r.string())
        partitions = required(r.array(get_partition))
        r.tags()
        return name, partitions

    r.tags()
    topics = required(r.array(get_topic))
    return {"throttle_ms": r.get("i"), "topics": topics}
