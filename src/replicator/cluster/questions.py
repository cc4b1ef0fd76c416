"""Control-plane questions: the request, and its answer checked and turned into plain structures.

One function per API makes a ``Question``. Its reader raises DecodeError for content no correct
broker sends: negative ids, a partition twice, one that was not asked for or is missing, a
negative offset. An offset taken for granted here would later be copied from or written to.
"""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from copycore.frames import FETCH_KEY, FETCH_VERSIONS, decode_fetch, encode_fetch
from replicator.cluster import errors
from replicator.cluster.connection import Call
from replicator.cluster.decode import DecodeError
from replicator.terms import TopicPartition, valid_topic_name

R = TypeVar("R")

# Timestamps with a meaning of their own in ListOffsets.
EARLIEST = -2
LATEST = -1
EARLIEST_LOCAL = -4  # of what is not only in remote storage (KIP-405)

FETCH_BYTES = 4 << 20  # of an answer, but for one batch that is larger
FETCH_WAIT_MS = 100  # that a broker may wait for records
BY_NAME = 12  # the last version of Fetch that names topics by name


@dataclass(frozen=True, slots=True)
class PartitionMeta:
    """One partition. ``leader`` is -1 while there is none; ``error`` is Kafka's code, 0 if fine."""

    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    error: int


@dataclass(frozen=True, slots=True)
class TopicMeta:
    """One topic; partitions are numbered from 0 without holes. ``error`` 0 means it exists."""

    name: str
    topic_id: uuid.UUID
    partitions: dict[int, PartitionMeta]
    error: int


@dataclass(frozen=True, slots=True)
class OffsetResult:
    """An offset (-1: none) and the epoch it belongs to. ``error`` is Kafka's code, 0 if fine."""

    offset: int
    leader_epoch: int
    error: int


@dataclass(frozen=True, slots=True)
class MetadataAnswer:
    cluster_id: str
    brokers: dict[int, tuple[str, int]]
    topics: dict[str, TopicMeta]


@dataclass(frozen=True, slots=True)
class Question(Generic[R]):
    """A request for whichever version a broker speaks, and how to read the answer.

    The schemas of the versions ``lowest`` to ``highest`` have the same fields as far as they
    are used here; Kafka 2.8 speaks the lower end.
    """

    api_key: int
    lowest: int
    highest: int
    build: Callable[[int], Any]
    read: Callable[[Any], R]


def _request_module(api: str, version: int) -> Any:
    return importlib.import_module(f"kio.schema.{api}.v{version}.request")


def _grouped(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append(partition)
    return topics


def _per_topic(
    partitions: Iterable[TopicPartition],
    topic: Callable[[str, tuple[Any, ...]], Any],
    partition: Callable[[TopicPartition], Any],
) -> tuple[Any, ...]:
    """The topics of a request, each with its partitions."""
    return tuple(
        topic(name, tuple(partition((name, number)) for number in numbers))
        for name, numbers in _grouped(partitions).items()
    )


def _reader(
    asked: Collection[TopicPartition],
    topics: str,
    topic: str,
    partition: str,
    read: Callable[[Any], R],
    *,
    whole: bool = True,
) -> Callable[[Any], dict[TopicPartition, R]]:
    """Reads an answer by partition: ``topics``, ``topic`` and ``partition`` are the names of the
    fields that hold them. Raises DecodeError for a partition that was not asked for, is answered
    twice or, with ``whole``, is missing.
    """

    def read_all(response: Any) -> dict[TopicPartition, R]:
        found: dict[TopicPartition, R] = {}
        for one in getattr(response, topics):
            for entry in one.partitions:
                tp = (str(getattr(one, topic)), int(getattr(entry, partition)))
                if tp not in asked or tp in found:
                    raise DecodeError(f"{tp[0]}-{tp[1]} was not asked for or is answered twice")
                try:
                    found[tp] = read(entry)
                except DecodeError as error:
                    raise DecodeError(f"{tp[0]}-{tp[1]} {error}") from None
        missing = [tp for tp in asked if tp not in found]
        if missing and whole:
            name, number = missing[0]
            raise DecodeError(f"{name}-{number} was asked for and is missing")
        return found

    return read_all


# Metadata


def metadata(topics: Sequence[str] | None) -> Question[MetadataAnswer]:
    """Topics by name, without creating any; None asks for all. Topic ids come with version 10."""

    def build(version: int) -> Any:
        schema = _request_module("metadata", version)
        return schema.MetadataRequest(
            topics=None
            if topics is None
            else tuple(schema.MetadataRequestTopic(topic_id=None, name=name) for name in topics),
            allow_auto_topic_creation=False,
            include_topic_authorized_operations=False,
        )

    return Question(3, 11, 12, build, lambda response: _read_metadata(response, topics))


def _read_metadata(response: Any, asked: Sequence[str] | None) -> MetadataAnswer:
    if not response.cluster_id or not response.cluster_id.isprintable():
        raise DecodeError("no usable cluster id")
    brokers: dict[int, tuple[str, int]] = {}
    for broker in response.brokers:
        if broker.node_id < 0 or broker.node_id in brokers:
            raise DecodeError(f"broker id {broker.node_id} is negative or listed twice")
        if not broker.host or not broker.host.isprintable() or not 0 < broker.port < 65536:
            raise DecodeError(
                f"broker {broker.node_id} has the address {broker.host!r} port {broker.port}"
            )
        brokers[broker.node_id] = (broker.host, broker.port)
    expected = None if asked is None else frozenset(asked)
    topics: dict[str, TopicMeta] = {}
    for topic in response.topics:
        name = topic.name
        if name is None or name in topics or (expected is not None and name not in expected):
            raise DecodeError(f"topic {name!r} has no name, is listed twice or was not asked for")
        if expected is None and not valid_topic_name(name):
            raise DecodeError(f"topic {name!r} has an impossible name")
        topics[name] = TopicMeta(
            name=name,
            topic_id=topic.topic_id or uuid.UUID(int=0),
            partitions=_read_partitions(topic, brokers),
            error=int(topic.error_code),
        )
    missing = [name for name in asked or () if name not in topics]
    if missing:
        raise DecodeError(f"topic {missing[0]!r} was asked for and is missing")
    return MetadataAnswer(response.cluster_id, brokers, topics)


def _read_partitions(
    topic: Any, brokers: Mapping[int, tuple[str, int]]
) -> dict[int, PartitionMeta]:
    partitions: dict[int, PartitionMeta] = {}
    for entry in sorted(topic.partitions, key=lambda partition: partition.partition_index):
        if entry.partition_index != len(partitions):
            raise DecodeError(
                f"topic {topic.name!r}: partition {entry.partition_index} where "
                f"{len(partitions)} should be"
            )
        # A leader that is not in the broker list is on its way out.
        known = entry.leader_id in brokers and entry.leader_epoch >= 0
        partitions[entry.partition_index] = PartitionMeta(
            leader=entry.leader_id if known else -1,
            leader_epoch=entry.leader_epoch,
            replicas=entry.replica_nodes,
            isr=entry.isr_nodes,
            error=int(entry.error_code),
        )
    return partitions


# ListOffsets


def list_offsets(
    epochs: Mapping[TopicPartition, int], timestamp: int, *, read_committed: bool
) -> Question[dict[TopicPartition, OffsetResult]]:
    """``epochs`` has the leader epoch of each partition, so that a stale leader refuses.

    ``timestamp`` is in ms, or EARLIEST, LATEST, or EARLIEST_LOCAL, which Kafka 3.6 knows.
    """

    def build(version: int) -> Any:
        schema = _request_module("list_offsets", version)
        return schema.ListOffsetsRequest(
            replica_id=-1,
            isolation_level=1 if read_committed else 0,
            topics=_per_topic(
                epochs,
                lambda topic, partitions: schema.ListOffsetsTopic(
                    name=topic, partitions=partitions
                ),
                lambda tp: schema.ListOffsetsPartition(
                    partition_index=tp[1],
                    current_leader_epoch=epochs[tp],
                    timestamp=timestamp,
                ),
            ),
        )

    def read(entry: Any) -> OffsetResult:
        error = int(entry.error_code)
        # No record at or after a time is -1; a log always has a start and an end.
        if entry.offset < (-1 if error or timestamp >= 0 else 0):
            raise DecodeError(f"at offset {entry.offset}")
        return OffsetResult(entry.offset, entry.leader_epoch, error)

    lowest, highest = (8, 8) if timestamp == EARLIEST_LOCAL else (6, 7)
    return Question(
        2, lowest, highest, build, _reader(epochs, "topics", "name", "partition_index", read)
    )


# OffsetForLeaderEpoch


def epoch_ends(
    epochs: Mapping[TopicPartition, int],
    wanted: Mapping[TopicPartition, int] | None = None,
) -> Question[dict[TopicPartition, OffsetResult]]:
    """Where the leader epochs ``wanted`` end; None asks for the *current* ones.

    For the current epoch a leader answers its log end offset, also above the high watermark
    (``UnifiedLog.endOffsetForEpoch``), which ListOffsets never shows to a consumer. Where it
    answers -1, "not known" (UNDEFINED_EPOCH_OFFSET), the result for the current epoch has the
    error OFFSET_NOT_AVAILABLE, as ListOffsets says it; that for another one is -1.
    """
    asked = epochs if wanted is None else wanted

    def build(version: int) -> Any:
        schema = _request_module("offset_for_leader_epoch", version)
        return schema.OffsetForLeaderEpochRequest(
            replica_id=-1,
            topics=_per_topic(
                epochs,
                lambda topic, partitions: schema.OffsetForLeaderTopic(
                    topic=topic, partitions=partitions
                ),
                lambda tp: schema.OffsetForLeaderPartition(
                    partition=tp[1],
                    current_leader_epoch=epochs[tp],
                    leader_epoch=asked[tp],
                ),
            ),
        )

    def read(entry: Any) -> OffsetResult:
        if entry.end_offset < -1:
            raise DecodeError(f"ends at {entry.end_offset}")
        error = int(entry.error_code)
        if not error and entry.end_offset < 0 and wanted is None:
            error = errors.OFFSET_NOT_AVAILABLE
        return OffsetResult(entry.end_offset, entry.leader_epoch, error)

    return Question(23, 4, 4, build, _reader(epochs, "topics", "topic", "partition", read))


# Fetch


class FetchedPartition(NamedTuple):
    partition: int
    records: bytes


class FetchedTopic(NamedTuple):
    name: str
    partitions: tuple[FetchedPartition, ...]


@dataclass(frozen=True, slots=True)
class FetchAnswer:
    throttle_time: timedelta  # KIP-219
    topics: list[FetchedTopic]


def fetch(
    offsets: Mapping[TopicPartition, int], limit: int
) -> Question[dict[TopicPartition, bytes]]:
    """What a log holds from each offset on, raw; empty where that cannot be had now.

    ``limit`` is in bytes of each partition. The first one brings one batch at least, however large
    it is (KIP-74); others bring nothing if their first batch is larger.
    """

    # The frames are the data path's: kio's would be a second way to read the same bytes.
    topics = [
        (topic.encode(), b"", [(number, -1, offsets[topic, number], limit) for number in numbers])
        for topic, numbers in _grouped(offsets).items()
    ]

    def build(version: int) -> Call:
        def frame(correlation: int, client_id: str) -> bytes:
            return encode_fetch(
                version,
                correlation,
                client_id.encode(),
                topics,
                max_wait_ms=FETCH_WAIT_MS,
                max_bytes=FETCH_BYTES,
                read_committed=False,
            )

        def answer(body: memoryview) -> FetchAnswer:
            response = decode_fetch(version, body[4:])  # after the correlation id
            fetched = [
                FetchedTopic(
                    name.decode(),
                    tuple(FetchedPartition(one["partition"], one["records"]) for one in found),
                )
                for name, found in response["topics"]
            ]
            return FetchAnswer(timedelta(milliseconds=response["throttle_ms"]), fetched)

        return Call("Fetch", frame, answer)

    def records(entry: FetchedPartition) -> bytes:
        return entry.records

    read = _reader(offsets, "topics", "name", "partition", records, whole=False)

    def read_all(response: FetchAnswer) -> dict[TopicPartition, bytes]:
        return dict.fromkeys(offsets, b"") | read(response)  # a throttled answer has none

    return Question(FETCH_KEY, FETCH_VERSIONS[0], BY_NAME, build, read_all)


# DescribeProducers


@dataclass(frozen=True, slots=True)
class RunningTransaction:
    """The first transaction of a partition that is neither committed nor aborted."""

    producer_id: int
    start: int  # offset of its first record


def open_transactions(
    epochs: Mapping[TopicPartition, int],
) -> Question[dict[TopicPartition, RunningTransaction]]:
    """For partitions with an open transaction, the first one (KIP-664). Takes READ on Topic."""

    def build(version: int) -> Any:
        schema = _request_module("describe_producers", version)
        return schema.DescribeProducersRequest(
            topics=tuple(
                schema.TopicRequest(name=topic, partition_indexes=tuple(numbers))
                for topic, numbers in _grouped(epochs).items()
            )
        )

    def first(entry: Any) -> RunningTransaction | None:
        running = [
            RunningTransaction(int(one.producer_id), int(one.current_txn_start_offset))
            for one in entry.active_producers
            if one.current_txn_start_offset >= 0
        ]
        return min(running, key=lambda one: one.start, default=None)

    read = _reader(epochs, "topics", "name", "partition_index", first, whole=False)

    def read_open(response: Any) -> dict[TopicPartition, RunningTransaction]:
        return {tp: one for tp, one in read(response).items() if one is not None}

    return Question(61, 0, 0, build, read_open)


# InitProducerId


@dataclass(frozen=True, slots=True)
class ProducerIdAnswer:
    producer_id: int
    epoch: int
    error: int


def init_producer_id() -> Question[ProducerIdAnswer]:
    def build(version: int) -> Any:
        schema = _request_module("init_producer_id", version)
        return schema.InitProducerIdRequest(
            transactional_id=None, transaction_timeout=timedelta(seconds=60)
        )

    def read(response: Any) -> ProducerIdAnswer:
        error = int(response.error_code)
        if not error and (response.producer_id < 0 or response.producer_epoch < 0):
            raise DecodeError(
                f"producer id {response.producer_id} with epoch {response.producer_epoch}"
            )
        return ProducerIdAnswer(response.producer_id, response.producer_epoch, error)

    return Question(22, 4, 4, build, read)


# DescribeLogDirs


def log_dirs(partitions: Iterable[TopicPartition]) -> Question[dict[TopicPartition, int]]:
    """Bytes on disk of each partition the broker tells about; none where it may not tell."""
    wanted = _grouped(partitions)

    def build(version: int) -> Any:
        schema = _request_module("describe_log_dirs", version)
        return schema.DescribeLogDirsRequest(
            topics=tuple(
                schema.DescribableLogDirTopic(topic=topic, partitions=tuple(numbers))
                for topic, numbers in wanted.items()
            )
        )

    def read(response: Any) -> dict[TopicPartition, int]:
        sizes: dict[TopicPartition, int] = {}
        for directory in response.results:
            for topic in directory.topics:
                for entry in topic.partitions:
                    key = (topic.name, entry.partition_index)
                    # A future replica is a copy on its way to another disk of the broker.
                    if not entry.is_future_key and entry.partition_size >= 0:
                        sizes[key] = entry.partition_size
        return sizes

    return Question(35, 1, 4, build, read)
