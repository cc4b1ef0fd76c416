"""What is copied: the table of workloads, and the loader that seeds a topic fast.

The batches are made by an ordinary producer (librdkafka) from records that all differ, and are
read back as they lie in the log. Seeding then sends the same few batches again and again; every
record in a batch is real, every batch is really compressed, and the brokers check each one.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from msgspec import Struct

from limit import FETCH, EndOffsets, connect, framed, load_batches, receive, string

_VOCABULARY = """
accepted account amount archived basket billing cancelled carrier checkout city confirmed country
created currency customer delivery discount dispatched email express failed gift invoice language
mobile order paid partner payment pending postcode price product quantity refund region rejected
returned session shipping status street stock tax total updated user
"""
WORDS = _VOCABULARY.split()


class Workload(Struct, frozen=True):
    """``record`` and ``batch`` are sizes in bytes before compression."""

    name: str
    record: int
    batch: int
    codec: str  # Kafka's compression.type
    partitions: int
    share: float  # of the size asked for: small records take MM2 long
    goal: float | None  # how many times faster than tuned MM2 the copy has to be
    rebatched: bool = False  # a copy re-batches it, unlike ``limit``: no goal beside that
    append_time: bool = False  # message.timestamp.type=LogAppendTime on the source
    gapped: bool = False  # a compacted topic: half of each batch's records are gone
    target_partitions: int = 0  # records go to so many, by murmur2 of their keys; 0: stay in theirs
    distinct: int = 8  # batches, that are sent again and again
    warmth: float = 1  # of the size the brokers are warmed up with: a gigabyte may be 7 M requests


WORKLOADS = [
    Workload("1k-none", 1000, 128 << 10, "none", 12, 1, 4),
    Workload("1k-lz4", 1000, 128 << 10, "lz4", 12, 1, 5),
    Workload("1k-zstd", 1000, 128 << 10, "zstd", 12, 1, 5),
    Workload("100b-lz4", 100, 16 << 10, "lz4", 12, 0.25, 8),
    Workload("1k-none-200p", 1000, 128 << 10, "none", 200, 1, 4),
    Workload("100b-lz4-200p", 100, 16 << 10, "lz4", 200, 0.25, 8),
    Workload("100b-lz4-1000p", 100, 16 << 10, "lz4", 1000, 0.25, None),  # for the memory
    Workload(
        "120b-one", 120, 140, "none", 12, 0.03, 3, rebatched=True, warmth=0.03
    ),  # one record a batch
    Workload("1k-lz4-append", 1000, 128 << 10, "lz4", 12, 1, 3, rebatched=True, append_time=True),
    Workload(
        "1k-lz4-gapped", 1000, 128 << 10, "lz4", 12, 2, 3, rebatched=True, gapped=True
    ),  # of twice the size half is left
    Workload(
        "1k-none-12to16", 1000, 128 << 10, "none", 12, 1, 3, rebatched=True, target_partitions=16
    ),
]


class Batches(Struct):
    """Prebuilt batches of a workload: in memory and in ``file``, all with as many records."""

    batches: list[bytes]
    records: int  # in each
    file: Path

    @property
    def size(self) -> float:
        """Mean size on the wire, in bytes."""
        return sum(map(len, self.batches)) / len(self.batches)


def payload(source: random.Random, size: int) -> bytes:
    """``size`` bytes of JSON as applications write it: about half of it can be compressed."""
    text = f'{{"id": "{source.getrandbits(96):024x}"'
    while len(text) < size:
        word = source.choice(WORDS)
        drawn = source.random() < 0.6
        value = f"{source.getrandbits(64):016x}" if drawn else source.choice(WORDS)
        text += f', "{word}_{source.randrange(30)}": "{value}"'
    return text[: size - 1].encode() + b"}"


def build(workload: Workload, bootstrap: str, directory: Path) -> Batches:
    """Lets a producer write a few batches of ``workload`` and takes them from the log."""
    source = random.Random(workload.name)
    topic = f"made-{workload.name}"
    create(bootstrap, topic, 1)
    records = workload.batch // (workload.record + 20)  # 20: key, and the record's own fields
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": 2,
            "compression.type": workload.codec,
            "batch.num.messages": records,
            "batch.size": 2 << 20,
            "linger.ms": 10_000,
            "max.in.flight.requests.per.connection": 1,
        }
    )
    for _ in range(workload.distinct):
        for _ in range(records):
            key = f"{source.getrandbits(40):010x}".encode()
            producer.produce(
                topic,
                payload(source, workload.record),
                key,
                partition=0,
                on_delivery=lambda *_: None,  # with one, poll returns as soon as it has arrived
            )
        while len(producer):  # not flush: it sends what there is, not whole batches
            producer.poll(0.1)
    batches = _read_batches(bootstrap, topic, workload.distinct)
    delete(bootstrap, [topic])
    counts = {struct.unpack_from(">i", batch, 57)[0] for batch in batches}
    if counts != {records} or len(batches) != workload.distinct:
        raise RuntimeError(f"the producer made {len(batches)} batches of {counts} records")
    file = directory / f"{workload.name}.batches"
    file.write_bytes(b"".join(batches))
    return Batches(load_batches(file), records, file)


def _read_batches(bootstrap: str, topic: str, count: int) -> list[bytes]:
    connection = connect(bootstrap)
    buffer = bytearray(16 << 20)
    batches: list[bytes] = []
    records = 0
    while len(batches) < count:
        body = struct.pack(">iiiibiii", -1, 500, 1, 8 << 20, 0, 0, -1, 1) + string(topic)
        body += struct.pack(">iiiqqii", 1, 0, -1, records, -1, 8 << 20, 0) + string("")
        connection.sendall(framed(FETCH, 11, body))
        answer = bytes(receive(connection, buffer))
        at = 20 + len(topic) + 4 + 34 + 4  # one topic, one partition, no aborted transactions
        (size,) = struct.unpack_from(">i", answer, at)
        at += 4
        end = at + size
        while at + 61 <= end:
            (length,) = struct.unpack_from(">i", answer, at + 8)
            if at + 12 + length > end:
                break
            # base offset 0 and no leader epoch, as a producer sends it; both outside the CRC
            body = struct.pack(">qii", 0, length, -1) + answer[at + 16 : at + 12 + length]
            batches.append(body)
            records += struct.unpack_from(">i", answer, at + 57)[0]
            at += 12 + length
    connection.close()
    return batches


def admin_of(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})


def create(
    bootstrap: str, topic: str, partitions: int, configs: Mapping[str, str] | None = None
) -> None:
    """Returns when the broker leads every partition: for a moment after creation it does not."""
    admin = admin_of(bootstrap)
    new = NewTopic(topic, partitions, 1, config=dict(configs or {}))
    for future in admin.create_topics([new]).values():
        future.result(60)
    asking = EndOffsets(bootstrap, topic, partitions)
    deadline = time.monotonic() + 60
    while min(asking.ask()) < 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{topic} has partitions without a leader")
        time.sleep(0.02)
    asking.close()


def delete(bootstrap: str, topics: list[str]) -> None:
    """A topic that is gone already is fine: brokers may still list it for a moment."""
    admin = admin_of(bootstrap)
    for future in admin.delete_topics(topics).values():
        try:
            future.result(60)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
