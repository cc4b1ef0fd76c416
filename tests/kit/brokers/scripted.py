"""Scripted brokers at the far ends of a lane's sockets.

Requests are taken apart and answers put together with the oracle's primitives, never with
copycore. Everything runs in the test's own thread: the test lets the lane take a step, then lets
each broker serve, so that every order of events can be had and none depends on the machine.

An honest broker behaves as Kafka does: a fetch is cut at a byte limit, mostly inside a batch, the
first partition with data gets at least one whole batch, and the target takes one batch of a
partition a request, in sequence. A test changes that by hooks. A hook gets a request (at the source
with the honest answer) and returns what to answer: a dictionary, raw bytes for the socket, or None
for no answer.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from kit.oracle import batches as oracle

Place = tuple[bytes, int]  # topic name (or id, in Fetch 13) and partition
Answer = dict[str, Any] | bytes | None
Aborted = tuple[int, int, int]  # producer id, first and last offset of an aborted transaction

IN_FLIGHT = 5
TOUCHED_BITS = (
    oracle.LOG_APPEND_TIME | oracle.TRANSACTIONAL | oracle.CONTROL | oracle.DELETE_HORIZON
)


# --- batches --------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 14)
def checksum(data: bytes) -> int:
    """The oracle's CRC, put together from halves so that repeated content costs nothing."""
    if len(data) <= 128:
        return oracle.crc32c(data)
    half = 1 << ((len(data) - 1).bit_length() - 1)
    head, tail = data[:half], data[half:]
    return oracle.shift(checksum(head), len(tail)) ^ checksum(tail)


def batch(base: int, count: int = 1, payload: bytes = b"records", **fields: int) -> bytes:
    """A batch as ``oracle.build`` makes it; its payload may be large."""
    fields = {"base_offset": base, "count": count} | fields
    header = oracle.build(
        b"", **{"length": oracle.HEADER - oracle.OVERHEAD + len(payload), "crc": 0} | fields
    )
    if "crc" not in fields:
        covered = header[oracle.COVERED :]
        crc = oracle.shift(oracle.crc32c(covered), len(payload)) ^ checksum(payload)
        header = header[:17] + struct.pack(">I", crc) + covered
    return header + payload


def rewritten(whole: bytes, producer_id: int, producer_epoch: int, counter: int) -> bytes:
    """The batch that the target must get for a dense source batch; like ``oracle.rewrite``, but
    fast.
    """
    header = oracle.parse(whole)
    del header["crc"], header["length"]
    header |= {
        "base_offset": 0,
        "leader_epoch": -1,
        "attributes": header["attributes"] & ~TOUCHED_BITS,
        "producer_id": producer_id,
        "producer_epoch": producer_epoch,
        "base_sequence": counter % 2**31,
    }
    return batch(header.pop("base_offset"), header.pop("count"), whole[oracle.HEADER :], **header)


def span(whole: bytes) -> tuple[int, int]:
    """Base offset and the offset after the last one."""
    if whole[16] != 2:
        base: int = struct.unpack_from(">q", whole)[0]
        return base, base + 1
    header = oracle.parse(whole)
    return header["base_offset"], header["base_offset"] + header["last_offset_delta"] + 1


# --- requests -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    leader_epoch: int
    offset: int
    max_bytes: int
    fetched_epoch: int = -1


@dataclass(frozen=True)
class FetchRequest:
    version: int
    correlation: int
    client: bytes
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    read_committed: bool
    partitions: dict[Place, Asked]


@dataclass(frozen=True)
class ProduceRequest:
    version: int
    correlation: int
    client: bytes
    acks: int
    timeout_ms: int
    batches: dict[Place, bytes]


def _start(frame: bytes, api: int, flexible_from: int) -> tuple[oracle.In, int, int, bytes]:
    key, version, correlation, length = struct.unpack_from(">hhih", frame)
    assert key == api, f"api {key} on a connection for api {api}"
    r = oracle.In(frame, version >= flexible_from, 10)
    client = r.raw(length)
    r.tags()
    return r, version, correlation, client


def read_fetch(frame: bytes) -> FetchRequest:
    r, version, correlation, client = _start(frame, 1, 12)
    partitions: dict[Place, Asked] = {}
    assert r.get("i") == -1, "replica id"
    max_wait, min_bytes, max_bytes = r.get("i"), r.get("i"), r.get("i")
    committed = r.get("b")
    assert (r.get("i"), r.get("i")) == (0, -1), "sessionless"

    def get_topic() -> None:
        key = r.raw(16) if version >= 13 else oracle.required(r.string())

        def get_partition() -> None:
            partition, epoch, offset = r.get("i"), r.get("i"), r.get("q")
            fetched = r.get("i") if version >= 12 else -1
            assert r.get("q") == -1, "log start offset"
            limit = r.get("i")
            r.tags()
            assert (key, partition) not in partitions, "a partition twice in one Fetch"
            partitions[key, partition] = Asked(epoch, offset, limit, fetched)

        r.array(get_partition)
        r.tags()

    r.array(get_topic)
    assert not r.array(lambda: None), "forgotten topics"
    assert r.string() == b"", "rack"
    r.tags()
    assert r.position == len(frame), "bytes left after a Fetch request"
    return FetchRequest(
        version, correlation, client, max_wait, min_bytes, max_bytes, bool(committed), partitions
    )


def read_produce(frame: bytes) -> ProduceRequest:
    r, version, correlation, client = _start(frame, 0, 9)
    batches: dict[Place, bytes] = {}
    assert r.string() is None, "transactional id"
    acks, timeout = r.get("h"), r.get("i")

    def get_topic() -> None:
        name = oracle.required(r.string())

        def get_partition() -> None:
            partition = r.get("i")
            records = oracle.required(r.blob())
            r.tags()
            assert (name, partition) not in batches, "a partition twice in one Produce"
            batches[name, partition] = records

        r.array(get_partition)
        r.tags()

    r.array(get_topic)
    r.tags()
    assert r.position == len(frame), "bytes left after a Produce request"
    return ProduceRequest(version, correlation, client, acks, timeout, batches)


# --- the far end of a socket ----------------------------------------------------------------------


class Peer:
    """Frames over a non-blocking socket. ``window`` tells how many bytes go out in one serving."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock: socket.socket | None = sock
        self.hung_up = False  # by the lane
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.window: Callable[[], int] = lambda: 1 << 30
        self.intake: Callable[[], int] = lambda: 1 << 30

    def receive(self) -> None:
        allowed = self.intake()
        while self.sock is not None and allowed > 0:
            try:
                data = self.sock.recv(min(allowed, 1 << 20))
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if not data:
                self.hung_up = True
                return
            allowed -= len(data)
            self.inbox += data

    def frames(self) -> Iterable[bytes]:
        while len(self.inbox) >= 4:
            (size,) = struct.unpack_from(">i", self.inbox)
            if len(self.inbox) < 4 + size:
                return
            frame = bytes(self.inbox[4 : 4 + size])
            del self.inbox[: 4 + size]
            yield frame

    def transmit(self) -> None:
        if self.sock is None or not self.outbox:
            return
        piece = self.outbox[: self.window()]
        try:
            sent = self.sock.send(piece)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self.hung_up = True
            self.outbox.clear()
            return
        del self.outbox[:sent]

    def say(self, data: bytes) -> None:
        """Raw bytes for the lane."""
        self.outbox += data

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None


def framed(correlation: int, body: bytes) -> bytes:
    return oracle.frame(struct.pack(">i", correlation) + body)


# --- the source -----------------------------------------------------------------------------------


@dataclass
class SourceLog:
    """One partition of the source. The end offsets are those of its batches unless given."""

    topic: bytes
    partition: int
    batches: list[bytes]
    aborted: list[Aborted] = field(default_factory=list)
    high_watermark: int = -1
    last_stable: int = -1
    log_start: int = 0
    error: int = 0
    # Leader epochs as (first offset, epoch); without them batches keep what their headers say.
    epochs: list[tuple[int, int]] = field(default_factory=list)

    def stamped(self, first: int, whole: bytes) -> bytes:
        """A batch as its leader stored it."""
        if not self.epochs or len(whole) < oracle.HEADER or whole[16] != 2:
            return whole
        epoch = max(epoch for start, epoch in self.epochs if start <= first)
        return whole[:12] + struct.pack(">i", epoch) + whole[16:]

    def epoch_end(self, epoch: int) -> int:
        """As ``LeaderEpochFileCache.endOffsetFor``; −1 where the epoch is not known."""
        if not self.epochs or epoch > self.epochs[-1][1]:
            return -1
        return min((start for start, known in self.epochs if known > epoch), default=self.end)

    @property
    def topic_id(self) -> bytes:
        return self.topic.ljust(16, b"\1")[:16]

    def place(self, index: int) -> tuple[int, int]:
        """Where a batch is: its first offset, and the one after its last."""
        return span(self.batches[index])

    @property
    def start(self) -> int:
        return self.place(0)[0] if self.batches else 0

    @property
    def end(self) -> int:
        if self.high_watermark >= 0:
            return self.high_watermark
        return self.place(-1)[1] if self.batches else 0

    @property
    def stable(self) -> int:
        return self.last_stable if self.last_stable >= 0 else self.end

    def read(self, offset: int, limit: int, *, whole: bool, committed: bool) -> tuple[bytes, int]:
        """Bytes from the batch that holds ``offset`` on, at least one batch if ``whole``, and the
        offset after the last batch that is in them, even if only in part.
        """
        upper = self.stable if committed else self.end
        data, behind = b"", offset
        for index, one in enumerate(self.batches):
            first, after = self.place(index)
            if after <= offset:
                continue
            if first >= upper or len(data) >= (1 if whole and not data else limit):
                break
            if whole and not data:
                limit = max(limit, len(one))
            data += self.stamped(first, one)
            behind = after
        return data[: max(limit, 0)], behind

    def answer(self, data: bytes, *, offset: int, behind: int, committed: bool) -> dict[str, Any]:
        """The latest aborted transaction comes first: brokers promise no order."""
        aborted = [(p, first) for p, first, last in self.aborted if last >= offset]
        return {
            "partition": self.partition,
            "error": self.error,
            "high_watermark": self.end,
            "last_stable_offset": self.stable,
            "log_start_offset": self.log_start,
            "aborted": [a for a in reversed(aborted) if a[1] < behind] if committed else None,
            "preferred_replica": -1,
            "records": data,
        }


def serve_fetch(
    request: FetchRequest, find: Callable[[Place], SourceLog | None], limit: int
) -> dict[str, Any]:
    """The honest answer: ``limit`` bytes at most, but of the first log with data a whole batch."""
    topics: dict[bytes, list[dict[str, Any]]] = {}
    left = min(limit, request.max_bytes)
    first = True
    for (key, partition), asked in request.partitions.items():
        log = find((key, partition)) or SourceLog(b"", partition, [], error=3)
        committed = request.read_committed
        data, behind = b"", asked.offset
        known = log.epoch_end(asked.fetched_epoch) if asked.fetched_epoch >= 0 else -1
        diverging = (asked.fetched_epoch - 1, known) if 0 <= known < asked.offset else None
        if not log.error and diverging is None:
            limit = min(left, asked.max_bytes)
            data, behind = log.read(asked.offset, limit, whole=first, committed=committed)
        left -= len(data)
        first = first and not data
        answer = log.answer(data, offset=asked.offset, behind=behind, committed=committed)
        topics.setdefault(key, []).append(answer | {"diverging": diverging})
    return {"throttle_ms": 0, "error": 0, "topics": list(topics.items())}


FetchHook = Callable[[FetchRequest, dict[str, Any]], Answer]


class SourceBroker(Peer):
    """Serves Fetch from its logs. ``limit`` bytes of records an answer, as a broker's own."""

    def __init__(
        self, sock: socket.socket, logs: Iterable[SourceLog], limit: Callable[[], int]
    ) -> None:
        super().__init__(sock)
        self.logs = {(log.topic, log.partition): log for log in logs}
        self.limit = limit
        self.hold = False
        self.hook: FetchHook | None = None  # for every answer
        self.once: deque[FetchHook] = deque()  # for the next answers, one each
        self.requests: list[FetchRequest] = []
        self.pending: deque[FetchRequest] = deque()

    def serve(self) -> None:
        self.receive()
        for frame in self.frames():
            request = read_fetch(frame)
            assert not self.pending, "a second Fetch on one connection"
            self.requests.append(request)
            self.pending.append(request)
        while self.pending and not self.hold:
            request = self.pending.popleft()
            answer: Answer = self.honest(request)
            assert isinstance(answer, dict)
            hook = self.once.popleft() if self.once else self.hook
            if hook is not None:
                answer = hook(request, answer)
            if isinstance(answer, dict):
                answer = framed(request.correlation, oracle.fetch_response(request.version, answer))
            self.say(answer or b"")
        self.transmit()

    def find(self, key: Place) -> SourceLog | None:
        for log in self.logs.values():
            if key in ((log.topic, log.partition), (log.topic_id, log.partition)):
                return log
        return None

    def honest(self, request: FetchRequest) -> dict[str, Any]:
        return serve_fetch(request, self.find, self.limit())


# --- the target -----------------------------------------------------------------------------------


@dataclass
class TargetLog:
    """One partition of the target, written by one producer; ``base`` offsets were there before."""

    topic: bytes
    partition: int
    producer_id: int
    producer_epoch: int = 0
    base: int = 0
    counter: int = 0
    batches: list[bytes] = field(default_factory=list)
    # Sequences and offset of the last batches, by which a broker knows one that comes again.
    latest: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=IN_FLIGHT))
    forgotten: bool = False  # the producer's state has expired
    # Kafka's error code for a batch that is not taken, 0 for one that is.
    refuse: Callable[[bytes], int] = lambda _whole: 0

    @property
    def end(self) -> int:
        return self.base + self.counter

    @property
    def expected(self) -> int | None:
        """The sequence that has to come next; None where the producer is unknown."""
        if self.forgotten or not self.counter:
            return None
        if not self.batches:
            return self.counter % 2**31
        last = oracle.parse(self.batches[-1])
        return (last["base_sequence"] + last["last_offset_delta"] + 1) % 2**31

    def forget(self) -> None:
        """The broker drops the state of the producer (producer.id.expiration.ms)."""
        self.forgotten = True
        self.latest.clear()

    def append(self, whole: bytes) -> tuple[int, int]:
        """Kafka's error code and the base offset given."""
        h = oracle.parse(whole)
        assert len(whole) == h["length"] + oracle.OVERHEAD, "more or less than one batch"
        assert h["magic"] == 2
        assert (h["base_offset"], h["leader_epoch"]) == (0, -1)
        assert not h["attributes"] & TOUCHED_BITS
        assert h["count"] == h["last_offset_delta"] + 1 >= 1
        assert (h["producer_id"], h["producer_epoch"]) == (self.producer_id, self.producer_epoch)
        covered = whole[oracle.COVERED : oracle.HEADER]
        payload = whole[oracle.HEADER :]
        if h["crc"] != oracle.shift(oracle.crc32c(covered), len(payload)) ^ checksum(payload):
            return 2, -1
        if code := self.refuse(whole):
            return code, -1
        first, last = h["base_sequence"], (h["base_sequence"] + h["last_offset_delta"]) % 2**31
        for known in self.latest:
            if known[:2] == (first, last):
                return 0, known[2]
        # A broker takes any sequence of a producer that it does not know (ProducerAppendInfo).
        if self.expected not in (None, first):
            return 45, -1
        self.forgotten = False
        offset = self.end
        self.latest.append((first, last, offset))
        self.batches.append(whole)
        self.counter += h["count"]
        return 0, offset


def taken(partition: int, code: int, offset: int, text: bytes | None = None) -> dict[str, Any]:
    """A partition's part of the answer to a Produce request."""
    return {
        "partition": partition,
        "error": code,
        "base_offset": offset,
        "log_start_offset": 0,
        "record_errors": [],
        "error_message": text,
    }


ProduceHook = Callable[[ProduceRequest], Answer]  # nothing is written unless it does so


class TargetBroker(Peer):
    """Takes Produce into its logs, and answers in order."""

    def __init__(self, sock: socket.socket, logs: Iterable[TargetLog]) -> None:
        super().__init__(sock)
        self.logs = {(log.topic, log.partition): log for log in logs}
        self.hold = False
        self.hook: ProduceHook | None = None
        self.once: deque[ProduceHook] = deque()
        self.requests: list[ProduceRequest] = []
        self.pending: deque[ProduceRequest] = deque()
        self.per_turn: Callable[[], int] = lambda: IN_FLIGHT  # answers in one serving
        self.most_pending = 0

    def serve(self) -> None:
        self.receive()
        for frame in self.frames():
            request = read_produce(frame)
            assert request.acks == -1
            self.requests.append(request)
            self.pending.append(request)
            self.most_pending = max(self.most_pending, len(self.pending))
            assert len(self.pending) <= IN_FLIGHT, "too many requests in flight"
        for _ in range(0 if self.hold else self.per_turn()):
            if not self.pending:
                break
            request = self.pending.popleft()
            hook = self.once.popleft() if self.once else self.hook
            answer = self.take(request) if hook is None else hook(request)
            if isinstance(answer, dict):
                answer = self.encode(request, answer)
            self.say(answer or b"")
        self.transmit()

    @staticmethod
    def encode(request: ProduceRequest, answer: dict[str, Any]) -> bytes:
        return framed(request.correlation, oracle.produce_response(request.version, answer))

    def take(
        self, request: ProduceRequest, errors: Mapping[Place, tuple[int, bytes | None]] = {}
    ) -> dict[str, Any]:
        """Write the batches down, except where an error is given; the answer to it."""
        topics: dict[bytes, list[dict[str, Any]]] = {}
        for (name, partition), whole in request.batches.items():
            code, text = errors.get((name, partition), (0, None))
            offset = -1
            if not code:
                code, offset = self.logs[name, partition].append(whole)
            topics.setdefault(name, []).append(taken(partition, code, offset, text))
        return {"throttle_ms": 0, "topics": list(topics.items())}
