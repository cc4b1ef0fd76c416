from collections.abc import Iterable
from typing import NamedTuple

from typing_extensions import Buffer

class Record(NamedTuple):
    offset_delta: int
    timestamp_delta: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[bytes, bytes | None]]

class RecordWriter:
    @property
    def count(self) -> int: ...
    @property
    def base_timestamp(self) -> int: ...
    @property
    def max_timestamp(self) -> int: ...

def decode_records(payload: Buffer, count: int) -> list[Record]: ...
def encode_records(entries: Iterable[tuple[int, bytes]]) -> bytes: ...
def encode_batches(
    groups: Iterable[Iterable[tuple[int, bytes]]],
    producer_id: int,
    producer_epoch: int,
    base_sequence: int,
    attributes: int = 0,
) -> list[bytes]: ...
def rewrite_records(payload: Buffer, count: int, base_timestamp: int) -> bytes: ...
