"""Records as an ordinary consumer sees them: by librdkafka, read-committed, with CRC checks on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

from confluent_kafka import Consumer, KafkaError, TopicPartition

from replicator.lab.errors import LabError
from replicator.lab.logs import Place, Range, log_ranges

HOLE_SECONDS = 5.0
STALL_SECONDS = 60.0


class Record(Protocol):
    """A consumed message that is a record, so that its place is known."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def error(self) -> KafkaError | None: ...


class ReadError(LabError):
    """A log cannot be read to its end."""


def read_records(bootstrap: str, ranges: Mapping[Place, Range]) -> Iterator[Record]:
    """Every visible record in the ranges, in partition order; ends when all ends are reached.

    A partition's end counts as reached with its last record, with librdkafka's end-of-partition
    event, or, when the log ends in a hole that no fetch ever crosses (left by compaction), when
    nothing has come for ``HOLE_SECONDS`` although the broker answers, nor as long after its answer.

    Raises ``ReadError`` when a log cannot be read, or when the broker is in trouble and nothing
    has come for ``STALL_SECONDS``; ``KafkaException`` when no broker answers at all.
    """
    waiting = {place: high for place, (low, high) in ranges.items() if low < high}
    if not waiting:
        return
    trouble: list[KafkaError] = []
    answered = False  # since the last message
    consumer = Consumer(_consumer_config(bootstrap), error_cb=trouble.append)
    try:
        consumer.assign([TopicPartition(*place, ranges[place][0]) for place in waiting])
        last = time.monotonic()
        while waiting:
            messages = consumer.consume(num_messages=2000, timeout=0.05)
            now = time.monotonic()
            if messages:
                last, answered = now, False
            elif now - last > HOLE_SECONDS and not trouble:
                if answered:
                    return
                # The leaders answer, or this raises; one that was frozen goes on sending then.
                log_ranges(bootstrap, {topic for topic, _ in waiting})
                last, answered = time.monotonic(), True
            elif now - last > STALL_SECONDS:
                names = ", ".join(f"{topic}/{number}" for topic, number in sorted(waiting)[:5])
                raise ReadError(f"{bootstrap} sends nothing for {names}: {trouble[-1:]}")
            for message in cast("list[Record]", messages):
                error = message.error()
                place = (message.topic(), message.partition())
                if error is None:
                    high = ranges[place][1]
                    if message.offset() < high:
                        yield message
                    if message.offset() >= high - 1:
                        waiting.pop(place, None)
                elif error.code() == KafkaError._PARTITION_EOF:
                    if message.offset() >= waiting.get(place, 0):
                        waiting.pop(place, None)
                else:
                    raise ReadError(f"{bootstrap} {place[0]}/{place[1]}: {error}")
    finally:
        consumer.close()


def _consumer_config(bootstrap: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        "group.id": "copystream-lab",  # required by librdkafka; nothing is ever committed
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "check.crcs": True,
        "log_level": 0,
        "allow.auto.create.topics": False,
        "fetch.message.max.bytes": 4 << 20,
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 32 << 10,
    }
