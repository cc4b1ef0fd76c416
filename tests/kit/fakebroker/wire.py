"""Requests and responses as bytes.

Bodies are kio's entities, but for those of Fetch and Produce: there a request is what
``lane.broker`` reads, and a response is a dictionary as ``core.oracle`` writes it, so that it can
say what no correct broker says.
"""

from __future__ import annotations

import importlib
import io
import struct
from dataclasses import dataclass
from typing import Any

from kio.serial import entity_reader, entity_writer

from kit.brokers.scripted import framed, read_fetch, read_produce
from kit.oracle import batches as oracle

PRODUCE = 0
FETCH = 1
LIST_OFFSETS = 2
METADATA = 3
FIND_COORDINATOR = 10
API_VERSIONS = 18
CREATE_TOPICS = 19
INIT_PRODUCER_ID = 22
OFFSET_FOR_LEADER_EPOCH = 23
DESCRIBE_CONFIGS = 32
DESCRIBE_LOG_DIRS = 35

_PACKAGES = {
    LIST_OFFSETS: ("list_offsets", "ListOffsets"),
    METADATA: ("metadata", "Metadata"),
    FIND_COORDINATOR: ("find_coordinator", "FindCoordinator"),
    API_VERSIONS: ("api_versions", "ApiVersions"),
    CREATE_TOPICS: ("create_topics", "CreateTopics"),
    INIT_PRODUCER_ID: ("init_producer_id", "InitProducerId"),
    OFFSET_FOR_LEADER_EPOCH: ("offset_for_leader_epoch", "OffsetForLeaderEpoch"),
    DESCRIBE_CONFIGS: ("describe_configs", "DescribeConfigs"),
    DESCRIBE_LOG_DIRS: ("describe_log_dirs", "DescribeLogDirs"),
}


@dataclass(frozen=True)
class Request:
    """One request as it came in; ``body`` is None for an API unknown here."""

    api_key: int
    version: int
    correlation: int
    client_id: str | None
    body: Any


def schema(api_key: int, version: int, part: str) -> Any:
    """kio's module of an API: ``part`` is request or response."""
    return importlib.import_module(f"kio.schema.{_PACKAGES[api_key][0]}.v{version}.{part}")


def parse(frame: bytes) -> Request:
    """A request frame without its length."""
    api_key, version, correlation, length = struct.unpack_from(">hhih", frame)
    position = 10 + max(length, 0)
    client_id = frame[10:position].decode() if length >= 0 else None
    body: Any = None
    if api_key == FETCH:
        body = read_fetch(frame)
    elif api_key == PRODUCE:
        body = read_produce(frame)
    elif api_key in _PACKAGES:
        request_type = getattr(
            schema(api_key, version, "request"), _PACKAGES[api_key][1] + "Request"
        )
        if request_type.__flexible__:
            position += 1  # no tagged fields in the header
        body, _ = entity_reader(request_type)(frame, position)
    return Request(api_key, version, correlation, client_id, body)


def encode(request: Request, body: Any) -> bytes:
    """A response frame with its length."""
    if request.api_key == FETCH:
        return framed(request.correlation, oracle.fetch_response(request.version, body))
    if request.api_key == PRODUCE:
        return framed(request.correlation, oracle.produce_response(request.version, body))
    out = io.BytesIO()
    if body.__header_schema__.__flexible__:
        out.write(b"\0")
    entity_writer(type(body))(out, body)
    return framed(request.correlation, out.getvalue())
