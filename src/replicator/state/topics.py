"""Reading and writing the compacted single-partition topics that hold copystream's state.

One partition gives one order of everything, which the readers of the records rely on. The client
is confluent-kafka: state is small, and its producer and consumer are well kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from replicator.cluster.cluster import Cluster
from replicator.cluster.errors import library_reason, unreachable
from replicator.errors import CopystreamError
from replicator.state.records import Entry, Record

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, Producer

DELIVERY_TIMEOUT = 60.0  # seconds until a state record counts as not written
READ_TIMEOUT = 60.0  # seconds without any progress while reading

# A broker that hangs is noticed after that long, and its successor found. It is below what a lease
# has left between two beats (``claims``). A write that a slow replica holds up is sent again, which
# the broker notices by its sequence.
IMPATIENCE: dict[str, str | int] = {
    "socket.timeout.ms": 2000,
    "socket.connection.setup.timeout.ms": 2000,
    "reconnect.backoff.max.ms": 1000,
}

_log = logging.getLogger(__name__)

# Error, or the record's offset; −1 where it is durable and the broker does not tell.
Delivered = Callable[[CopystreamError | None, int], None]


def ignored(_error: CopystreamError | None, _offset: int) -> None:
    """For records whose loss does no harm."""


def _failure(cluster: Cluster, topic: str, verb: str, error: KafkaError | None) -> CopystreamError:
    """The error for state that cannot be read or written; None where nothing has answered."""
    if error is not None and error.code() > 0:
        right = "READ" if verb == "read" else "WRITE"
        return cluster.error(error.code(), f"{verb} topic {topic}", acl=f"{right} on Topic {topic}")
    seconds = READ_TIMEOUT if verb == "read" else DELIVERY_TIMEOUT
    reason = f"nothing came of it for {seconds:.0f} s" if error is None else library_reason(error)
    return unreachable(
        cluster.side,
        f"{cluster.side} cluster {cluster.name}",
        f"cannot {verb} topic {topic}, where the state of copies is kept: {reason}",
        hint="see that its partition has a leader and enough in-sync replicas (kafka-topics "
        f"--describe --topic {topic}), then run the same command again",
    )


class StateWriter:
    """Writes state records durably (acks=all, idempotent); one for all state topics of a cluster.

    Any thread may call. Callbacks run in the writer's own thread, "state-writer", or in the
    caller's where the client refuses a record at once.
    """

    def __init__(self, cluster: Cluster) -> None:
        from confluent_kafka import Producer  # noqa: PLC0415 - costs start-up time

        self._cluster = cluster
        self._producer: Producer = Producer(
            {
                **cluster.config.librdkafka(),
                **IMPATIENCE,
                "acks": "all",
                "enable.idempotence": True,
                # At 0 librdkafka polls without a pause while something is on its way.
                "linger.ms": 1,
                "compression.type": "lz4",
                "delivery.timeout.ms": int(DELIVERY_TIMEOUT * 1000),
                "log_level": 0,
            }
        )
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="state-writer", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.2)

    def send(self, topic: str, key: bytes, value: bytes | None, delivered: Delivered) -> None:
        """Hand a record over; ``delivered`` is called once it is durable or has failed."""

        from confluent_kafka import KafkaException  # noqa: PLC0415 - as above

        def report(error: KafkaError | None, message: Message) -> None:
            if error is None:
                # The broker does not tell the offset of one that it had already.
                offset = message.offset()
                delivered(None, -1 if offset is None else offset)
            else:
                _log.debug("state record for %s not written: %s", topic, error)
                delivered(_failure(self._cluster, topic, "write", error), -1)

        while True:
            try:
                self._producer.produce(topic, value, key, partition=0, on_delivery=report)
                return
            except BufferError:
                self._producer.flush(0.1)
            except KafkaException as refused:  # the topic was deleted, say
                delivered(_failure(self._cluster, topic, "write", refused.args[0]), -1)
                return

    def write(self, topic: str, records: Iterable[Record]) -> list[int]:
        """Write records and wait until all are durable; returns their offsets in order."""
        batch = list(records)
        if not batch:
            return []
        offsets = [-1] * len(batch)
        failures: list[CopystreamError] = []
        left = len(batch)
        done = threading.Event()

        def delivered(index: int, error: CopystreamError | None, offset: int) -> None:
            nonlocal left
            offsets[index] = offset
            if error is not None:
                failures.append(error)
            left -= 1
            if left == 0:
                done.set()

        for index, (key, value) in enumerate(batch):
            self.send(topic, key, value, partial(delivered, index))
        if not done.wait(DELIVERY_TIMEOUT + 5) or failures:
            raise failures[0] if failures else _failure(self._cluster, topic, "write", None)
        return offsets

    def close(self) -> None:
        self._producer.flush(5)
        self._closing.set()
        self._thread.join(5)


class StateConsumer:
    """Fetches state topics from their start, for their readers. One for all of a cluster's, since
    each client costs two connections and brokers may limit those. Any thread may call.
    """

    def __init__(self, cluster: Cluster, topics: Iterable[str]) -> None:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition  # noqa: PLC0415 - as above

        self._cluster = cluster
        self._lock = threading.Lock()  # guards what follows
        self._fetched: dict[str, deque[Message]] = {topic: deque() for topic in topics}
        self._consumer: Consumer = Consumer(
            {
                **cluster.config.librdkafka(),
                **IMPATIENCE,
                "group.id": "copystream-state",  # never joined, nothing is committed
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": 4096,
                "fetch.message.max.bytes": 1 << 20,
                "check.crcs": True,
                "log_level": 0,
            }
        )
        # All at once: librdkafka asks for the leader of a later one only after a second.
        partitions = [TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in self._fetched]
        self._consumer.assign(partitions)

    def reader(self, topic: str) -> StateReader:
        """A reader of one of the topics; one each."""
        return StateReader(self._cluster, self, topic)

    def remove(self, topic: str) -> None:
        """Fetch the topic no more."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415 - as above

        with self._lock:
            self._consumer.incremental_unassign([TopicPartition(topic, 0)])
            del self._fetched[topic]

    def take(self, topic: str, wait: float = 0.0) -> list[Message]:
        """The messages of the topic that have come, errors among them; waits up to so many seconds
        for a first one of any topic.
        """
        with self._lock:
            waiting = self._fetched[topic]
            # consume() waits for as many as it is asked for: wait for one, take what is there.
            messages = self._consumer.consume(1, wait) if wait and not waiting else []
            messages += self._consumer.consume(1000, 0)
            for message in messages:
                name, error = message.topic(), message.error()
                if name in self._fetched:
                    self._fetched[name].append(message)
                elif name is None and error is not None:
                    # About brokers, which librdkafka tries again, or about the group, whose
                    # coordinator it looks for although it is not needed: that takes no right to it.
                    _log.info("reading state: %s", library_reason(error))
            taken = list(waiting)
            waiting.clear()
            return taken

    def close(self) -> None:
        with self._lock:
            self._consumer.close()


class StateReader:
    """Reads one of the consumer's topics from its start, and later what has been added since.

    For one thread at a time.
    """

    def __init__(self, cluster: Cluster, consumer: StateConsumer, topic: str) -> None:
        self._cluster = cluster
        self._consumer = consumer
        self._topic = topic
        self._next = 0

    def read_to_end(self) -> Iterator[Entry]:
        """Everything up to the end as it is now; waits for it."""
        tp = (self._topic, 0)
        end = self._cluster.list_offsets([tp], "latest")[tp]
        if end.error:
            raise self._cluster.error(
                end.error, f"read topic {self._topic}", acl=f"READ on Topic {self._topic}"
            )
        deadline = time.monotonic() + READ_TIMEOUT
        while self._next < end.offset:
            messages = self._consumer.take(self._topic, 1.0)
            if time.monotonic() > deadline:
                raise _failure(self._cluster, self._topic, "read", None)
            for message in messages:
                if self._no_record(message):
                    self._next = max(self._next, message.offset() or 0)
                    continue
                deadline = time.monotonic() + READ_TIMEOUT
                yield self._record(message)

    def read_new(self) -> Iterator[Entry]:
        """What has arrived by now, without waiting."""
        for message in self._consumer.take(self._topic):
            if not self._no_record(message):
                yield self._record(message)

    def _no_record(self, message: Message) -> bool:
        from confluent_kafka import KafkaError  # noqa: PLC0415 - as above

        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            return True
        if error.retriable():
            _log.info("reading %s: %s", self._topic, library_reason(error))
            return True
        raise _failure(self._cluster, self._topic, "read", error)

    def _record(self, message: Any) -> Entry:
        self._next = message.offset() + 1
        return message.offset(), message.key() or b"", message.value()

    def close(self) -> None:
        """Read no more; the consumer stays open for the others."""
        self._consumer.remove(self._topic)
