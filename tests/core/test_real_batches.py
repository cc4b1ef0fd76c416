"""Batches of real producers, fetched raw, cut, rewritten and produced to a real broker again.

The producers are librdkafka, Kafka's own Java one and kafka-python; header fields are held against
kafka-python's record parser, and what arrives is compared by an ordinary consumer.
"""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient
from kafka import KafkaProducer
from kafka.codec import has_lz4, has_snappy, has_zstd
from kafka.record.default_records import DefaultRecordBatch

from copycore.batch import CODECS as CODEC_NAMES
from copycore.batch import Batch, cut_slice
from copycore.codec import compress_bytes, decompress_bytes
from copycore.frames import decode_fetch, decode_produce, encode_fetch, encode_produce
from kit.clusters.fixtures import Clusters
from kit.oracle import batches as oracle
from replicator.lab import KAFKA_3, QUICK_START, LabCluster, java_tool
from replicator.lab.compare import compare
from replicator.lab.logs import log_end, settle
from replicator.lab.seed import CODECS, Codec, Payload, Writer, create_topic, varied

pytestmark = pytest.mark.timeout(180)

XERIAL = b"\x82SNAPPY\0"
CORRUPT_MESSAGE, OUT_OF_ORDER_SEQUENCE = 2, 45
RETRIABLE = {3, 5, 6, 14, 15}  # while a topic or a coordinator has just been created


class Topic(NamedTuple):
    bootstrap: str
    name: str
    id: bytes


class Broker:
    """One raw connection: frames out, responses in, one at a time. Partition 0 of every topic."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def call(self, frame: bytes) -> bytes:
        """The response after its correlation id."""
        self._socket.sendall(frame)
        (size,) = struct.unpack(">i", self._file.read(4))
        response = self._file.read(size)
        assert response[:4] == frame[8:12], "the answer to another request"
        return response[4:]

    def settled(self, ask: Callable[[], tuple[int, Any]]) -> Any:
        """Ask again while the error code says that the broker is not ready yet."""
        deadline = time.monotonic() + 30
        while True:
            error, answer = ask()
            if error not in RETRIABLE or time.monotonic() > deadline:
                return answer
            time.sleep(0.05)

    def init_producer_id(self) -> int:
        body = struct.pack(">hhih", 22, 4, 3, 4) + b"core\0\0" + struct.pack(">iqh", 9, -1, -1)
        frame = struct.pack(">i", len(body) + 1) + body + b"\0"

        def ask() -> tuple[int, Any]:
            _throttle, error, producer_id = struct.unpack_from(">ihq", self.call(frame), 1)
            return error, producer_id

        producer_id: int = self.settled(ask)
        assert producer_id >= 0
        return producer_id

    def fetch(
        self, topic: Topic, offset: int, *, version: int = 12, limit: int = 1 << 20
    ) -> dict[str, Any]:
        wanted = [(topic.name.encode(), topic.id, [(0, -1, offset, limit)])]
        frame = encode_fetch(version, 7, b"core", wanted, max_wait_ms=100)

        def ask() -> tuple[int, Any]:
            response = decode_fetch(version, self.call(frame))
            assert response["error"] == 0
            ((key, (partition,)),) = response["topics"]
            assert key == (topic.id if version == 13 else topic.name.encode())
            return partition["error"], partition

        partition: dict[str, Any] = self.settled(ask)
        assert (partition["error"], partition["partition"]) == (0, 0)
        return partition

    def batches(self, topic: Topic, *, version: int = 12) -> Iterator[tuple[Batch, bytes]]:
        """Every batch, in order, with its bytes."""
        offset, end = 0, log_end(topic.bootstrap, topic.name)
        while offset < end:
            records = self.fetch(topic, offset, version=version)["records"]
            cut, _ = cut_slice(records)
            assert cut, f"nothing at offset {offset} of {end}"
            for batch in cut:
                assert batch.base_offset == offset
                yield batch, records[batch.position : batch.position + batch.size]
                offset = batch.next_offset

    def produce(self, topic: Topic, batch: bytes, *, version: int = 9) -> dict[str, Any]:
        frame = encode_produce(version, 9, b"core", [(topic.name.encode(), [(0, batch)])])

        def ask() -> tuple[int, Any]:
            ((name, (partition,)),) = decode_produce(version, self.call(frame))["topics"]
            assert name == topic.name.encode()
            return partition["error"], partition

        partition: dict[str, Any] = self.settled(ask)
        return partition


class Sides(NamedTuple):
    source: Broker
    target: Broker


@pytest.fixture
def sides(clusters: Clusters) -> Iterator[Sides]:
    both = Sides(Broker(clusters.source.bootstrap), Broker(clusters.target.bootstrap))
    yield both
    for broker in both:
        broker.close()


def make_topic(cluster: LabCluster, name: str, **config: str) -> Topic:
    create_topic(cluster.bootstrap, name, config={"retention.ms": "-1", **config})
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    found = admin.describe_topics(TopicCollection([name]))[name].result(30).topic_id
    halves = found.get_most_significant_bits(), found.get_least_significant_bits()
    return Topic(cluster.bootstrap, name, struct.pack(">qq", *halves))


@pytest.fixture
def topic(clusters: Clusters, topic_name: Callable[[str], str]) -> Topic:
    """A topic that is empty on both sides: the source's."""
    make_topic(clusters.target, topic_name("raw"))
    return make_topic(clusters.source, topic_name("raw"))


def check_header(batch: Batch, whole: bytes) -> None:
    """Every field as kafka-python reads it, and a right CRC by both."""
    peer = DefaultRecordBatch(whole)
    assert peer.validate_crc()
    assert batch.crc_matches()
    assert (batch.size, batch.base_timestamp) == (peer.size_in_bytes, peer.first_timestamp)
    assert (batch.count, batch.is_control) == (peer.records_count, peer.is_control_batch)
    for name in (
        *("base_offset", "next_offset", "leader_epoch", "magic", "crc", "attributes"),
        *("last_offset_delta", "max_timestamp", "producer_id", "producer_epoch", "base_sequence"),
        "is_transactional",
    ):
        assert getattr(batch, name) == getattr(peer, name), name


def recompressed(whole: bytes, codec: int) -> bytes:
    """The batch with the same records in the form of another codec, or of its own anew."""
    fields = oracle.parse(whole)
    plain = decompress_bytes(fields["attributes"] & 7, whole[61:], 64 << 20)
    del fields["length"], fields["crc"]
    fields["attributes"] = fields["attributes"] & ~7 | codec
    return oracle.build(compress_bytes(codec, plain), **fields)


def check_records(batch: Batch, whole: bytes) -> None:
    """The same records by kafka-python, whether it or this project's codec decompresses them."""
    expected = list(DefaultRecordBatch(whole))
    assert len(expected) == batch.count
    for codec in (0, batch.attributes & 7):
        again = DefaultRecordBatch(recompressed(whole, codec))
        assert [consumed(record) for record in again] == [consumed(record) for record in expected]


def consumed(record: Any) -> tuple[Any, ...]:
    return record.offset, record.timestamp, record.key, record.value, record.headers


def pass_through(clusters: Clusters, sides: Sides, topic: Topic) -> list[tuple[Batch, bytes]]:
    """Copy as a lane would, through all versions in turn, and compare what a consumer sees."""
    for version in (11, 13):
        again = [whole for _, whole in sides.source.batches(topic, version=version)]
        assert again == [whole for _, whole in sides.source.batches(topic)]
    copied = list(sides.source.batches(topic))
    producer_id, counter = sides.target.init_producer_id(), 0
    for number, (batch, whole) in enumerate(copied):
        check_header(batch, whole)
        if number < 5:  # a slow peer, and all from one producer
            check_records(batch, whole)
        assert batch.kind == "dense"
        new = batch.rewritten_header(producer_id, 0, counter) + whole[61:]
        answer = sides.target.produce(topic, new, version=7 + number % 3)
        assert (answer["error"], answer["base_offset"]) == (0, counter), answer
        counter += batch.count
    verdict = compare(topic.bootstrap, clusters.target.bootstrap, {topic.name: topic.name})
    assert verdict.ok, verdict
    assert verdict.records == counter
    return copied


@pytest.mark.parametrize("codec", CODECS)
def test_librdkafka(clusters: Clusters, sides: Sides, topic: Topic, codec: Codec) -> None:
    rng = random.Random(codec)
    for batch_records in (1, 3, 200):
        with Writer(topic.bootstrap, codec=codec, batch_records=batch_records) as writer:
            for payload in varied(rng, 60):
                writer.send(topic.name, 0, payload)
            for _ in range(batch_records):
                writer.send(topic.name, 0, Payload(b"key", b"value" * 100))
    copied = pass_through(clusters, sides, topic)
    # librdkafka leaves a batch uncompressed when compressing does not make it smaller.
    assert {codec} <= {batch.codec for batch, _ in copied} <= {codec, "none"}
    assert {batch.count for batch, _ in copied} >= {1, 3}


@pytest.mark.parametrize("codec", CODECS)
def test_kafkas_own_producer(
    clusters: Clusters, sides: Sides, topic: Topic, codec: Codec, tmp_path: Path
) -> None:
    arguments = ["--bootstrap-server", topic.bootstrap, "--topic", topic.name]
    arguments += ["--compression-codec", codec, "--batch-size", "50"]
    arguments += ["--property", "parse.key=true", "--producer-property", "linger.ms=200"]
    lines = "".join(f"key {n}\tvalue {n} {'text ' * (n % 50)}\n" for n in range(1000))
    with java_tool(
        KAFKA_3,
        "kafka.tools.ConsoleProducer",
        arguments,
        config_dir=tmp_path,
        jvm=QUICK_START,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        output, _ = process.communicate(lines, timeout=120)
    assert process.returncode == 0, output
    assert log_end(topic.bootstrap, topic.name) == 1000, output
    copied = pass_through(clusters, sides, topic)
    assert {batch.codec for batch, _ in copied} == {codec}
    if codec == "snappy":
        assert all(whole[61:69] == XERIAL for _, whole in copied)


@pytest.mark.parametrize("codec", CODECS)
def test_a_broker_takes_and_a_consumer_reads_what_is_compressed_here(
    clusters: Clusters, sides: Sides, topic: Topic, codec: Codec
) -> None:
    with Writer(topic.bootstrap, batch_records=500) as writer:
        for n in range(2000):
            writer.send(topic.name, 0, Payload(b"key %d" % n, b"value %d " % n * 20))
    producer_id, counter = sides.target.init_producer_id(), 0
    for _, whole in sides.source.batches(topic):
        packed = recompressed(whole, CODEC_NAMES.index(codec))
        ((batch,), _) = cut_slice(packed)
        header = batch.rewritten_header(producer_id, 0, counter)
        assert sides.target.produce(topic, header + packed[61:])["error"] == 0
        counter += batch.count
    arrived = list(sides.target.batches(topic))
    assert {batch.codec for batch, _ in arrived} == {codec}
    verdict = compare(topic.bootstrap, clusters.target.bootstrap, {topic.name: topic.name})
    assert verdict.ok, verdict
    assert verdict.records == counter == 2000


PYTHON_CODECS = {"none": True, "gzip": True, "lz4": has_lz4(), "zstd": has_zstd()} | {
    "snappy": has_snappy()
}


@pytest.mark.parametrize(
    "codec",
    [
        pytest.param(codec, marks=pytest.mark.skipif(not there, reason="no library for it"))
        for codec, there in PYTHON_CODECS.items()
    ],
)
@pytest.mark.parametrize("batch_size", [200, 20_000])
def test_kafka_python(
    clusters: Clusters, sides: Sides, topic: Topic, codec: str, batch_size: int
) -> None:
    producer = KafkaProducer(
        bootstrap_servers=topic.bootstrap,
        compression_type=None if codec == "none" else codec,
        batch_size=batch_size,
        linger_ms=20,
        acks="all",
    )
    try:
        for n in range(300):
            headers = [("n", str(n).encode())] if n % 3 else []
            key, value = (None if n % 7 == 0 else b"k%d" % n), (b"" if n % 11 == 0 else b"v" * n)
            producer.send(topic.name, value, key, headers, partition=0, timestamp_ms=10**12 + n)
        producer.flush(60)
    finally:
        producer.close()
    copied = pass_through(clusters, sides, topic)
    # It leaves a batch uncompressed when compressing does not make it smaller.
    assert {codec} <= {batch.codec for batch, _ in copied} <= {codec, "none"}
    if codec == "snappy":
        assert all(w[61:69] == XERIAL for batch, w in copied if batch.codec == "snappy")
    sent = [record for _, whole in copied for record in DefaultRecordBatch(whole)]
    assert [record.offset for record in sent] == list(range(300))


def test_transactions_and_their_markers(clusters: Clusters, sides: Sides, topic: Topic) -> None:
    with Writer(topic.bootstrap, transactional_id=topic.name, codec="lz4") as writer:
        for word in (b"committed", b"aborted", b"again"):
            writer.begin()
            for _ in range(10):
                writer.send(topic.name, 0, Payload(word, word * 30))
            if word == b"aborted":
                writer.abort()
            else:
                writer.commit()
        settle(topic.bootstrap, topic.name)
    fetched = sides.source.fetch(topic, 0)
    whole, _ = cut_slice(fetched["records"])
    for batch in whole:
        check_header(batch, fetched["records"][batch.position : batch.position + batch.size])
    assert [b.control_type() for b in whole] == [-1, 1, -1, 0, -1, 1]
    assert [b.kind for b in whole] == ["dense", "control"] * 3
    assert all(b.is_transactional for b in whole)
    assert fetched["aborted"] == [(whole[2].producer_id, whole[2].base_offset)]
    assert fetched["last_stable_offset"] == fetched["high_watermark"] == 33

    producer_id, counter = sides.target.init_producer_id(), 0
    for batch in (whole[0], whole[4]):
        payload = fetched["records"][batch.position + 61 : batch.position + batch.size]
        header = batch.rewritten_header(producer_id, 0, counter)
        assert sides.target.produce(topic, header + payload)["error"] == 0
        counter += batch.count
    verdict = compare(topic.bootstrap, clusters.target.bootstrap, {topic.name: topic.name})
    assert verdict.ok, verdict
    assert verdict.records == counter == 20


def test_the_target_refuses_what_was_damaged_on_the_way(sides: Sides, topic: Topic) -> None:
    with Writer(topic.bootstrap, codec="none", batch_records=50) as writer:
        for n in range(50):
            writer.send(topic.name, 0, Payload(b"%d" % n, b"v" * 20))
    (batch, whole), *_ = sides.source.batches(topic)
    producer_id = sides.target.init_producer_id()
    rng = random.Random(7)
    for position in (61, len(whole) - 1, *(rng.randrange(61, len(whole)) for _ in range(10))):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.randrange(8)
        ((view,), _) = cut_slice(damaged)
        sent = view.rewritten_header(producer_id, 0, 0) + damaged[61:]
        assert sides.target.produce(topic, sent)["error"] == CORRUPT_MESSAGE, position
    whole_again = batch.rewritten_header(producer_id, 0, 0) + whole[61:]
    assert sides.target.produce(topic, whole_again)["error"] == 0


def test_the_target_enforces_the_counter(sides: Sides, topic: Topic) -> None:
    with Writer(topic.bootstrap, batch_records=10) as writer:
        for _ in range(10):
            writer.send(topic.name, 0, Payload(b"k", b"v"))
    batch, whole = next(sides.source.batches(topic))
    producer_id, count = sides.target.init_producer_id(), batch.count

    def produce(counter: int) -> dict[str, Any]:
        header = batch.rewritten_header(producer_id, 0, counter)
        return sides.target.produce(topic, header + whole[61:])

    assert produce(0)["base_offset"] == 0
    assert produce(count)["base_offset"] == count
    assert produce(0)["base_offset"] in (0, -1), "a repeated batch is recognised"
    assert produce(5 * count)["error"] == OUT_OF_ORDER_SEQUENCE
    assert produce(2 * count)["base_offset"] == 2 * count


def test_log_append_time_is_recognised(
    clusters: Clusters, sides: Sides, topic_name: Callable[[str], str]
) -> None:
    stamped = make_topic(
        clusters.source, topic_name("stamped"), **{"message.timestamp.type": "LogAppendTime"}
    )
    with Writer(stamped.bootstrap, codec="zstd") as writer:
        writer.send(stamped.name, 0, Payload(b"k", b"v" * 500))
    ((batch, whole),) = list(sides.source.batches(stamped))
    check_header(batch, whole)
    assert (batch.kind, batch.has_log_append_time) == ("log-append-time", True)


def test_slices_end_in_partial_batches(sides: Sides, topic: Topic) -> None:
    with Writer(topic.bootstrap, batch_records=1) as writer:
        for n in range(4):
            writer.send(topic.name, 0, Payload(b"%d" % n, b"v" * 100))
    sizes = [batch.size for batch, _ in sides.source.batches(topic)]
    assert len(sizes) == 4
    for extra in (0, 1, 11, 12, 60, 61, sizes[1] - 1, sizes[1], sizes[1] + 1):
        records = sides.source.fetch(topic, 0, limit=sizes[0] + extra)["records"]
        batches, tail = cut_slice(records)
        assert len(records) == sizes[0] + extra
        assert (len(batches), tail) == (1 + extra // sizes[1], extra % sizes[1])
    # The first batch comes whole, however small the limit.
    batches, tail = cut_slice(sides.source.fetch(topic, 2, limit=1)["records"])
    assert ([b.base_offset for b in batches], tail) == ([2], 0)
