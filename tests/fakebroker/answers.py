"""What a fake broker may send, and the correct answers it sends unless told otherwise."""

from __future__ import annotations

import importlib
import io
import struct
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer

if TYPE_CHECKING:
    from fakebroker.server import FakeBroker

LIST_OFFSETS = 2
METADATA = 3
API_VERSIONS = 18
INIT_PRODUCER_ID = 22
OFFSET_FOR_LEADER_EPOCH = 23
DESCRIBE_LOG_DIRS = 35

# Versions as Kafka 4.1 advertises them.
MODERN: Mapping[int, tuple[int, int]] = {
    0: (0, 13),
    1: (4, 18),
    LIST_OFFSETS: (1, 10),
    METADATA: (0, 13),
    API_VERSIONS: (0, 4),
    INIT_PRODUCER_ID: (0, 5),
    OFFSET_FOR_LEADER_EPOCH: (2, 4),
    DESCRIBE_LOG_DIRS: (1, 4),
}

_PACKAGES = {
    LIST_OFFSETS: ("list_offsets", "ListOffsets"),
    METADATA: ("metadata", "Metadata"),
    API_VERSIONS: ("api_versions", "ApiVersions"),
    INIT_PRODUCER_ID: ("init_producer_id", "InitProducerId"),
    OFFSET_FOR_LEADER_EPOCH: ("offset_for_leader_epoch", "OffsetForLeaderEpoch"),
    DESCRIBE_LOG_DIRS: ("describe_log_dirs", "DescribeLogDirs"),
}


@dataclass(frozen=True)
class Request:
    """One request as it came in; ``body`` is a kio request, None for an API unknown here."""

    api_key: int
    version: int
    correlation: int
    client_id: str | None
    body: Any


@dataclass(frozen=True)
class Default:
    """The correct answer."""


@dataclass(frozen=True)
class Raw:
    """Exactly these bytes, the four of the length included; then the connection stays open."""

    data: bytes


@dataclass(frozen=True)
class Close:
    """Close the connection, after ``first`` bytes of the correct answer."""

    first: int = 0


@dataclass(frozen=True)
class Silence:
    """No answer, and the connection stays open."""


@dataclass(frozen=True)
class Drip:
    """The correct answer, byte by byte."""


@dataclass(frozen=True)
class Twice:
    """The correct answer, two times."""


@dataclass(frozen=True)
class Patched:
    """The correct answer, changed: ``change`` gets and returns a kio response."""

    change: Callable[[Any], Any]


Answer = Default | Raw | Close | Silence | Drip | Twice | Patched


def module(api_key: int, version: int, part: str) -> Any:
    return importlib.import_module(f"kio.schema.{_PACKAGES[api_key][0]}.v{version}.{part}")


def parse(frame: bytes) -> Request:
    """A request frame without its length."""
    api_key, version, correlation, length = struct.unpack_from(">hhih", frame)
    position = 10 + max(length, 0)
    client_id = frame[10:position].decode() if length >= 0 else None
    body = None
    if api_key in _PACKAGES:
        request_type = getattr(
            module(api_key, version, "request"), _PACKAGES[api_key][1] + "Request"
        )
        if request_type.__flexible__:
            position += 1  # no tagged fields in the header
        body, _ = entity_reader(request_type)(frame, position)
    return Request(api_key, version, correlation, client_id, body)


def encode(correlation: int, body: Any) -> bytes:
    """A response frame with its length."""
    out = io.BytesIO()
    out.write(struct.pack(">i", correlation))
    if body.__header_schema__.__flexible__:
        out.write(b"\0")
    entity_writer(type(body))(out, body)
    data = out.getvalue()
    return struct.pack(">i", len(data)) + data


def response(broker: FakeBroker, request: Request) -> Any:
    """The correct answer of ``broker`` to ``request``."""
    schema = module(request.api_key, request.version, "response")
    return _ANSWERS[request.api_key](broker, request, schema)


def _api_versions(broker: FakeBroker, request: Request, schema: Any) -> Any:
    keys = tuple(
        schema.ApiVersion(api_key=key, min_version=low, max_version=high)
        for key, (low, high) in broker.versions.items()
    )
    fields: dict[str, Any] = {"error_code": ErrorCode.none, "api_keys": keys}
    if request.version > 0:
        fields["throttle_time"] = timedelta()
    return schema.ApiVersionsResponse(**fields)


def _metadata(broker: FakeBroker, request: Request, schema: Any) -> Any:
    cluster = broker.cluster
    asked = request.body.topics
    names = list(cluster.topics) if asked is None else [topic.name for topic in asked]
    return schema.MetadataResponse(
        throttle_time=broker.throttle,
        brokers=tuple(
            schema.MetadataResponseBroker(node_id=node, host=host, port=port)
            for node, (host, port) in cluster.advertised.items()
        ),
        cluster_id=cluster.cluster_id,
        controller_id=0,
        topics=tuple(_topic(broker, name, schema) for name in names),
    )


def _topic(broker: FakeBroker, name: str, schema: Any) -> Any:
    cluster = broker.cluster
    count = cluster.topics.get(name)
    return schema.MetadataResponseTopic(
        error_code=ErrorCode.unknown_topic_or_partition if count is None else ErrorCode.none,
        name=name,
        topic_id=None if count is None else uuid.uuid5(uuid.NAMESPACE_OID, name),
        partitions=tuple(
            schema.MetadataResponsePartition(
                error_code=ErrorCode.none,
                partition_index=index,
                leader_id=cluster.leaders.get((name, index), 0),
                leader_epoch=cluster.epochs.get((name, index), 0),
                replica_nodes=tuple(cluster.advertised),
                isr_nodes=tuple(cluster.advertised),
            )
            for index in range(count or 0)
        ),
    )


def _partition_error(broker: FakeBroker, key: tuple[str, int], epoch: int) -> ErrorCode:
    cluster = broker.cluster
    if key[1] >= cluster.topics.get(key[0], 0):
        return ErrorCode.unknown_topic_or_partition
    if cluster.leaders.get(key, 0) != broker.node:
        return ErrorCode.not_leader_or_follower
    current = cluster.epochs.get(key, 0)
    if epoch >= 0 and epoch != current:
        return ErrorCode.fenced_leader_epoch if epoch < current else ErrorCode.unknown_leader_epoch
    return ErrorCode.none


def _list_offsets(broker: FakeBroker, request: Request, schema: Any) -> Any:
    def partition(topic: str, asked: Any) -> Any:
        key = (topic, asked.partition_index)
        error = _partition_error(broker, key, asked.current_leader_epoch)
        offset = broker.cluster.ends.get(key, 0) if asked.timestamp == -1 else 0
        return schema.ListOffsetsPartitionResponse(
            partition_index=asked.partition_index,
            error_code=error,
            offset=-1 if error else offset,
            leader_epoch=-1 if error else broker.cluster.epochs.get(key, 0),
        )

    return schema.ListOffsetsResponse(
        throttle_time=broker.throttle,
        topics=tuple(
            schema.ListOffsetsTopicResponse(
                name=topic.name,
                partitions=tuple(partition(topic.name, asked) for asked in topic.partitions),
            )
            for topic in request.body.topics
        ),
    )


def _epoch_ends(broker: FakeBroker, request: Request, schema: Any) -> Any:
    def partition(topic: str, asked: Any) -> Any:
        key = (topic, asked.partition)
        error = _partition_error(broker, key, asked.current_leader_epoch)
        return schema.EpochEndOffset(
            error_code=error,
            partition=asked.partition,
            leader_epoch=-1 if error else asked.leader_epoch,
            end_offset=-1 if error else broker.cluster.ends.get(key, 0),
        )

    return schema.OffsetForLeaderEpochResponse(
        throttle_time=broker.throttle,
        topics=tuple(
            schema.OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=tuple(partition(topic.topic, asked) for asked in topic.partitions),
            )
            for topic in request.body.topics
        ),
    )


def _init_producer_id(broker: FakeBroker, request: Request, schema: Any) -> Any:
    broker.cluster.last_producer_id += 1
    return schema.InitProducerIdResponse(
        throttle_time=broker.throttle,
        error_code=ErrorCode.none,
        producer_id=broker.cluster.last_producer_id,
        producer_epoch=0,
    )


def _log_dirs(broker: FakeBroker, request: Request, schema: Any) -> Any:
    top = {"error_code": ErrorCode.none} if request.version >= 3 else {}
    space = {"total_bytes": 10**9, "usable_bytes": 10**8} if request.version >= 4 else {}
    return schema.DescribeLogDirsResponse(
        throttle_time=broker.throttle,
        **top,
        results=(
            schema.DescribeLogDirsResult(
                error_code=ErrorCode.none,
                **space,
                log_dir="/data",
                topics=tuple(
                    schema.DescribeLogDirsTopic(
                        name=topic.topic,
                        partitions=tuple(
                            schema.DescribeLogDirsPartition(
                                partition_index=number,
                                partition_size=1000 + number,
                                offset_lag=0,
                                is_future_key=False,
                            )
                            for number in topic.partitions
                        ),
                    )
                    for topic in request.body.topics
                ),
            ),
        ),
    )


_ANSWERS: dict[int, Callable[[Any, Request, Any], Any]] = {
    API_VERSIONS: _api_versions,
    METADATA: _metadata,
    LIST_OFFSETS: _list_offsets,
    OFFSET_FOR_LEADER_EPOCH: _epoch_ends,
    INIT_PRODUCER_ID: _init_producer_id,
    DESCRIBE_LOG_DIRS: _log_dirs,
}


def with_partition_error(error: ErrorCode) -> Patched:
    """The correct ListOffsets or OffsetForLeaderEpoch answer, with one error everywhere."""

    def change(body: Any) -> Any:
        def partition(entry: Any) -> Any:
            return replace(entry, error_code=error)

        return replace(
            body,
            topics=tuple(
                replace(topic, partitions=tuple(partition(p) for p in topic.partitions))
                for topic in body.topics
            ),
        )

    return Patched(change)
