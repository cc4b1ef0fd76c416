"""Loading topics with real Kafka producers, from a seed, so that a run can be repeated.

``Writer`` is one producer with a given codec and batch size; the functions below it load shapes
that a copier has to get right: every codec and batch size, null and empty parts, headers with
repeats, transactions that commit, abort, interleave or stay open.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from confluent_kafka import KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from msgspec import Struct

from replicator.lab.errors import LabError
from replicator.lab.logs import settle

Codec = Literal["none", "gzip", "snappy", "lz4", "zstd"]
CODECS: tuple[Codec, ...] = ("none", "gzip", "snappy", "lz4", "zstd")
Headers = list[tuple[str, str | bytes | None]]

YEAR_2001_MS = 1_000_000_000_000
"""A timestamp of September 2001: older than any retention or producer-state expiry."""

KEEP = {"retention.ms": "-1"}
"""Topic settings under which a broker does not delete such old records within a minute."""

_WORDS = ("order", "payment", "shipped", "invoice", "EUR", "region", "status", "retry", "null")


class SeedError(LabError):
    """The broker did not take what the seed sent."""


class Payload(Struct):
    """One record as an application would send it. ``timestamp`` None means now."""

    key: bytes | None
    value: bytes | None
    headers: Headers = []
    timestamp: int | None = None


def create_topic(
    bootstrap: str,
    topic: str,
    partitions: int = 1,
    *,
    replication_factor: int = -1,
    config: Mapping[str, str] | None = None,
) -> None:
    """Create a topic and return when every partition has a leader."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = NewTopic(topic, partitions, replication_factor, config=dict(config or {}))
    admin.create_topics([new])[topic].result(30)
    deadline = time.monotonic() + 30
    while True:
        seen = admin.list_topics(topic, timeout=30).topics[topic]
        if len(seen.partitions) == partitions and all(
            partition.leader >= 0 for partition in seen.partitions.values()
        ):
            return
        if time.monotonic() > deadline:
            raise SeedError(f"{topic} has no leaders on {bootstrap} after 30 s")
        time.sleep(0.05)


def delete_topic(bootstrap: str, topic: str) -> None:
    """Delete a topic and return when the brokers no longer list it."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(30)
    deadline = time.monotonic() + 30
    while topic in admin.list_topics(timeout=30).topics:
        if time.monotonic() > deadline:
            raise SeedError(f"{topic} is still listed on {bootstrap} after 30 s")
        time.sleep(0.05)


def delete_records(bootstrap: str, topic: str, before: Mapping[int, int]) -> None:
    """Move the log start of partitions to the offsets given, as retention would."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    places = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
    for place, future in admin.delete_records(places).items():
        if (low := future.result(30).low_watermark) < place.offset:
            raise SeedError(f"{topic}/{place.partition}: log start is {low}, not {place.offset}")


class Writer:
    """One producer of one batch shape; on leaving the block everything is acknowledged.

    Batches hold at most ``batch_records`` records and ``batch_bytes`` bytes before compression.
    They fill up to that only when records come fast enough, hence ``linger_ms``.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        codec: Codec = "none",
        batch_records: int = 1_000_000,
        batch_bytes: int = 128 << 10,
        idempotent: bool = True,
        transactional_id: str | None = None,
        linger_ms: int = 50,
    ) -> None:
        config: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "compression.type": codec,
            "batch.num.messages": batch_records,
            "batch.size": batch_bytes,
            "message.max.bytes": max(1_000_000, batch_bytes),
            "linger.ms": linger_ms,
            "acks": "all",
            "enable.idempotence": idempotent,
            # without idempotence a retry overtakes the batches after it
            "max.in.flight.requests.per.connection": 5 if idempotent else 1,
            "log_level": 0,
            "delivery.report.only.error": True,
            "on_delivery": self._delivered,
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 64 << 10,
        }
        if transactional_id is not None:
            config["transactional.id"] = transactional_id
            config["transaction.timeout.ms"] = 600_000
        self._producer = Producer(config)
        self._failure: KafkaError | None = None
        if transactional_id is not None:
            self._producer.init_transactions(30)

    def send(self, topic: str, partition: int, payload: Payload) -> None:
        """Queue one record; the broker's refusal, if any, is raised by ``flush``."""
        extra: dict[str, Any] = {}
        if payload.timestamp is not None:
            if payload.timestamp <= 0:
                raise ValueError("librdkafka takes a timestamp of 0 for now")
            extra["timestamp"] = payload.timestamp
        while True:
            try:
                self._producer.produce(
                    topic,
                    payload.value,
                    payload.key,
                    partition=partition,
                    headers=payload.headers or None,
                    **extra,
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def flush(self) -> None:
        """Wait until the broker has acknowledged everything sent."""
        if self._producer.flush(120):
            raise SeedError("records are not acknowledged after 120 s")
        if self._failure is not None:
            raise SeedError(str(self._failure))

    def begin(self) -> None:
        self._producer.begin_transaction()

    def commit(self) -> None:
        """Answered before the markers are in the partitions: see ``logs.settle``."""
        self.flush()
        self._producer.commit_transaction(60)

    def abort(self) -> None:
        """Like ``commit``; what was sent lies in the log, aborted."""
        self.flush()
        self._producer.abort_transaction(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.flush()
        else:
            self._producer.purge()

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        self._failure = self._failure or error


class Text:
    """Cheap pseudo-random text that compresses about as well as JSON logs do (lz4: near half)."""

    def __init__(self, rng: random.Random, size: int = 1 << 20) -> None:
        parts: list[str] = []
        length = 0
        while length < size:
            parts.append(f"{rng.choice(_WORDS)}={rng.getrandbits(40):x} ")
            length += len(parts[-1])
        self._pool = "".join(parts).encode()
        self._rng = rng

    def take(self, size: int) -> bytes:
        """``size`` bytes, at most the size of the pool."""
        begin = int(self._rng.random() * (len(self._pool) - size))
        return self._pool[begin : begin + size]


def varied(rng: random.Random, count: int) -> Iterator[Payload]:
    """Records with every combination of null, empty and present parts, and awkward headers."""
    text = Text(rng, 1 << 16)
    contents: tuple[Callable[[], bytes | None], ...] = (
        lambda: None,
        lambda: b"",
        lambda: b"\x00",
        lambda: text.take(rng.randrange(1, 300)),
        lambda: rng.randbytes(rng.randrange(1, 300)),
    )
    header_lists: tuple[Callable[[], Headers], ...] = (
        list,
        lambda: [("trace", rng.randbytes(8))],
        lambda: [("same", b"1"), ("same", b"2"), ("same", b"1")],
        lambda: [("null", None), ("empty", b""), ("", b"nameless")],
        lambda: [("ключ", "значение".encode()), ("Ünïcödé", b"\xff\xfe")],
        lambda: [(f"h{i}", rng.randbytes(i)) for i in range(40)],
    )
    stamps: tuple[int | None, ...] = (None, 1, YEAR_2001_MS, YEAR_2001_MS - 1)
    for index in range(count):
        yield Payload(
            contents[index % 5](),
            contents[index // 5 % 5](),
            header_lists[index % 6](),
            stamps[rng.randrange(4)],
        )


BATCH_SHAPES: tuple[tuple[int, int], ...] = (
    (1, 300),
    (1, 900_000),
    (2, 500),
    (13, 1_000),
    (100, 100),
    (100, 9_500),
    (5_000, 150),
)
"""Records a batch and bytes a value; the last two fill batches of about 1 MB."""


def codecs_and_sizes(
    bootstrap: str, topic: str, codec: Codec, rng: random.Random, *, megabytes: float = 2.0
) -> None:
    """One partition per batch size, from batches of one record to batches of 1 MB."""
    text = Text(rng)
    for partition, (batch_records, record_bytes) in enumerate(BATCH_SHAPES):
        count = max(3, min(300 * batch_records, int(megabytes * 1e6 / record_bytes)))
        if batch_records == 1:
            count = min(count, 300)
        with Writer(
            bootstrap, codec=codec, batch_records=batch_records, batch_bytes=990_000
        ) as writer:
            for _ in range(count):
                writer.send(topic, partition, Payload(text.take(10), text.take(record_bytes)))


def transactions(
    bootstrap: str, topic: str, partitions: Sequence[int], rng: random.Random, *, rounds: int
) -> int:
    """Two transactional producers and a plain one take turns in the same partitions.

    Their transactions overlap, some span several flushes, and about half of them abort. Returns
    the number of records that read-committed consumers may see.
    """
    visible = 0
    ids = [f"{topic}-{rng.getrandbits(32):x}-{index}" for index in range(2)]
    text = Text(rng, 1 << 18)
    writers = [
        Writer(bootstrap, transactional_id=name, codec=rng.choice(CODECS), linger_ms=0)
        for name in ids
    ]
    plain = Writer(bootstrap, linger_ms=0)
    for _ in range(rounds):
        sent = [0, 0]
        for writer in writers:
            writer.begin()
        for _ in range(rng.randrange(1, 4)):
            for index, writer in enumerate(writers):
                count = rng.randrange(1, 30)
                for _ in range(count):
                    writer.send(topic, rng.choice(partitions), Payload(None, text.take(200)))
                writer.flush()
                sent[index] += count
            plain.send(topic, rng.choice(partitions), Payload(b"plain", text.take(50)))
            plain.flush()
            visible += 1
        for index in rng.sample(range(2), 2):
            if rng.random() < 0.5:
                writers[index].abort()
            else:
                writers[index].commit()
                visible += sent[index]
    settle(bootstrap, topic)
    return visible


def open_transaction(
    bootstrap: str, topic: str, partitions: Sequence[int], rng: random.Random, *, records: int
) -> Writer:
    """Write records in a transaction and leave it open; the caller commits or aborts it."""
    text = Text(rng, 1 << 16)
    writer = Writer(
        bootstrap, transactional_id=f"{topic}-open-{rng.getrandbits(32):x}", linger_ms=0
    )
    writer.begin()
    for index in range(records):
        writer.send(topic, partitions[index % len(partitions)], Payload(b"open", text.take(100)))
    writer.flush()
    return writer
