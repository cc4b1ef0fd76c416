"""Control-plane requests built, and their answers checked and turned into plain structures.

One pair of functions per API. Readers raise DecodeError for content no correct broker sends:
negative ids, a partition twice, one that was not asked for or is missing, a negative offset.
An offset taken for granted here would later be copied from or written to.
"""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from replicator.cluster.decode import DecodeError

TopicPartition = tuple[str, int]

METADATA = 3
LIST_OFFSETS = 2
INIT_PRODUCER_ID = 22
OFFSET_FOR_LEADER_EPOCH = 23
DESCRIBE_LOG_DIRS = 35

# Versions whose schemas have the same fields as far as they are used here; topic ids come with
# Metadata 10, and Kafka 2.8 speaks the lower end of each.
VERSIONS: Mapping[int, tuple[int, int]] = {
    METADATA: (11, 12),
    LIST_OFFSETS: (6, 7),
    INIT_PRODUCER_ID: (4, 4),
    OFFSET_FOR_LEADER_EPOCH: (4, 4),
    DESCRIBE_LOG_DIRS: (1, 4),
}

EARLIEST = -2
LATEST = -1

_MAX_TOPIC_NAME = 249
_TOPIC_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


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
    internal: bool
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


def valid_topic_name(name: str) -> bool:
    """Kafka's rule (``org.apache.kafka.common.internals.Topic``)."""
    return (
        0 < len(name) <= _MAX_TOPIC_NAME
        and name not in (".", "..")
        and _TOPIC_CHARACTERS.issuperset(name)
    )


def _request_module(api: str, version: int) -> Any:
    return importlib.import_module(f"kio.schema.{api}.v{version}.request")


def _grouped(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append(partition)
    return topics


# Metadata


def metadata_request(version: int, topics: Sequence[str] | None) -> Any:
    schema = _request_module("metadata", version)
    return schema.MetadataRequest(
        topics=None
        if topics is None
        else tuple(schema.MetadataRequestTopic(topic_id=None, name=name) for name in topics),
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=False,
    )


def read_metadata(response: Any, asked: Sequence[str] | None) -> MetadataAnswer:
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
    topics: dict[str, TopicMeta] = {}
    for topic in response.topics:
        name = topic.name
        if name is None or name in topics or (asked is not None and name not in asked):
            raise DecodeError(f"topic {name!r} has no name, is listed twice or was not asked for")
        if asked is None and not valid_topic_name(name):
            raise DecodeError(f"topic {name!r} has an impossible name")
        topics[name] = TopicMeta(
            name=name,
            topic_id=topic.topic_id or uuid.UUID(int=0),
            partitions=_read_partitions(topic, brokers),
            internal=topic.is_internal,
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


def list_offsets_request(
    version: int, epochs: Mapping[TopicPartition, int], timestamp: int, *, read_committed: bool
) -> Any:
    """``epochs`` has the leader epoch of each partition, so that a stale leader refuses."""
    schema = _request_module("list_offsets", version)
    return schema.ListOffsetsRequest(
        replica_id=-1,
        isolation_level=1 if read_committed else 0,
        topics=tuple(
            schema.ListOffsetsTopic(
                name=topic,
                partitions=tuple(
                    schema.ListOffsetsPartition(
                        partition_index=partition,
                        current_leader_epoch=epochs[topic, partition],
                        timestamp=timestamp,
                    )
                    for partition in partitions
                ),
            )
            for topic, partitions in _grouped(epochs).items()
        ),
    )


def read_list_offsets(
    response: Any, asked: Mapping[TopicPartition, int], timestamp: int
) -> dict[TopicPartition, OffsetResult]:
    results: dict[TopicPartition, OffsetResult] = {}
    for topic in response.topics:
        for entry in topic.partitions:
            key = (topic.name, entry.partition_index)
            _expect(key, asked, results)
            error = int(entry.error_code)
            lowest = -1 if error or timestamp >= 0 else 0
            if entry.offset < lowest:
                raise DecodeError(f"{topic.name}-{entry.partition_index} at offset {entry.offset}")
            results[key] = OffsetResult(entry.offset, entry.leader_epoch, error)
    _expect_all(asked, results)
    return results


# OffsetForLeaderEpoch


def epoch_end_request(version: int, epochs: Mapping[TopicPartition, int]) -> Any:
    """Ask where the *current* epoch ends.

    A leader answers its log end offset to that, also above the high watermark
    (``UnifiedLog.endOffsetForEpoch``), which ListOffsets never shows to a consumer.
    """
    schema = _request_module("offset_for_leader_epoch", version)
    return schema.OffsetForLeaderEpochRequest(
        replica_id=-1,
        topics=tuple(
            schema.OffsetForLeaderTopic(
                topic=topic,
                partitions=tuple(
                    schema.OffsetForLeaderPartition(
                        partition=partition,
                        current_leader_epoch=epochs[topic, partition],
                        leader_epoch=epochs[topic, partition],
                    )
                    for partition in partitions
                ),
            )
            for topic, partitions in _grouped(epochs).items()
        ),
    )


def read_epoch_end(
    response: Any, asked: Mapping[TopicPartition, int]
) -> dict[TopicPartition, OffsetResult]:
    """Offset -1 with error 0 means that the broker does not know yet."""
    results: dict[TopicPartition, OffsetResult] = {}
    for topic in response.topics:
        for entry in topic.partitions:
            key = (topic.topic, entry.partition)
            _expect(key, asked, results)
            if entry.end_offset < -1:
                raise DecodeError(f"{topic.topic}-{entry.partition} ends at {entry.end_offset}")
            results[key] = OffsetResult(entry.end_offset, entry.leader_epoch, int(entry.error_code))
    _expect_all(asked, results)
    return results


# InitProducerId


def init_producer_id_request(version: int) -> Any:
    schema = _request_module("init_producer_id", version)
    return schema.InitProducerIdRequest(
        transactional_id=None, transaction_timeout=timedelta(seconds=60)
    )


def read_init_producer_id(response: Any) -> tuple[int, int]:
    """Producer id and epoch; only for an answer without an error code."""
    if response.producer_id < 0 or response.producer_epoch < 0:
        raise DecodeError(
            f"producer id {response.producer_id} with epoch {response.producer_epoch}"
        )
    return response.producer_id, response.producer_epoch


# DescribeLogDirs


def describe_log_dirs_request(version: int, partitions: Iterable[TopicPartition]) -> Any:
    schema = _request_module("describe_log_dirs", version)
    return schema.DescribeLogDirsRequest(
        topics=tuple(
            schema.DescribableLogDirTopic(topic=topic, partitions=tuple(numbers))
            for topic, numbers in _grouped(partitions).items()
        )
    )


def read_log_dirs(response: Any) -> Iterator[tuple[TopicPartition, int]]:
    """Bytes on disk of each partition the broker tells about; none where it may not tell."""
    for directory in response.results:
        for topic in directory.topics:
            for entry in topic.partitions:
                if not entry.is_future_key and entry.partition_size >= 0:
                    yield (topic.name, entry.partition_index), entry.partition_size


def _expect(
    key: TopicPartition, asked: Mapping[TopicPartition, int], seen: Mapping[TopicPartition, object]
) -> None:
    if key not in asked or key in seen:
        raise DecodeError(f"{key[0]}-{key[1]} was not asked for or is answered twice")


def _expect_all(asked: Mapping[TopicPartition, int], seen: Mapping[TopicPartition, object]) -> None:
    for topic, partition in asked:
        if (topic, partition) not in seen:
            raise DecodeError(f"{topic}-{partition} was asked for and is missing")
