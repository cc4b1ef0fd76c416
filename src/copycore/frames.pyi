from collections.abc import Sequence
from typing import TypedDict

from typing_extensions import Buffer

FETCH_KEY: int
FETCH_VERSIONS: tuple[int, int]
PRODUCE_KEY: int
PRODUCE_VERSIONS: tuple[int, int]

class FetchedPartition(TypedDict):
    partition: int
    error: int
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    aborted: list[tuple[int, int]]
    preferred_replica: int
    records: bytes

class FetchResponse(TypedDict):
    throttle_ms: int
    error: int
    topics: list[tuple[bytes, list[FetchedPartition]]]

class ProducedPartition(TypedDict):
    partition: int
    error: int
    base_offset: int
    log_start_offset: int
    message: bytes | None

class ProduceResponse(TypedDict):
    throttle_ms: int
    topics: list[tuple[bytes, list[ProducedPartition]]]

def encode_fetch(
    version: int,
    correlation_id: int,
    client_id: bytes,
    topics: Sequence[tuple[bytes, bytes, Sequence[tuple[int, int, int, int]]]],
    *,
    max_wait_ms: int = 500,
    min_bytes: int = 1,
    max_bytes: int = 1048576,
    read_committed: bool = True,
) -> bytes: ...
def decode_fetch(version: int, data: Buffer) -> FetchResponse: ...
def encode_produce(
    version: int,
    correlation_id: int,
    client_id: bytes,
    topics: Sequence[tuple[bytes, Sequence[tuple[int, Buffer]]]],
    *,
    timeout_ms: int = 30000,
) -> bytes: ...
def decode_produce(version: int, data: Buffer) -> ProduceResponse: ...
