"""The files of a partition on a broker's disk: what batches lie there, and damage to them.

Only what is needed to prove that a test's data has the shape the test is about, and to make
shapes that no producer can make. Change files only of a broker that is stopped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct(">qiibIhiqqqhii")
CODEC_NAMES = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True)
class StoredBatch:
    """Header fields of one record batch, and where it lies."""

    path: Path
    position: int
    size: int
    base_offset: int
    attributes: int
    last_offset_delta: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    count: int

    @property
    def codec(self) -> str:
        return CODEC_NAMES[self.attributes & 7]

    @property
    def log_append_time(self) -> bool:
        return bool(self.attributes & 8)

    @property
    def transactional(self) -> bool:
        return bool(self.attributes & 16)

    @property
    def control(self) -> bool:
        return bool(self.attributes & 32)

    @property
    def dense(self) -> bool:
        return self.count == self.last_offset_delta + 1


def partition_dir(log_dir: Path, topic: str, partition: int) -> Path:
    return log_dir / f"{topic}-{partition}"


def segment_files(log_dir: Path, topic: str, partition: int) -> list[Path]:
    return sorted(partition_dir(log_dir, topic, partition).glob("*.log"))


def batches(log_dir: Path, topic: str, partition: int) -> Iterator[StoredBatch]:
    """Every batch in the partition's segments, in offset order."""
    for path in segment_files(log_dir, topic, partition):
        content = path.read_bytes()
        position = 0
        while position + _HEADER.size <= len(content):
            fields = _HEADER.unpack_from(content, position)
            size = 12 + fields[1]
            if fields[1] <= 0 or position + size > len(content):
                break
            yield StoredBatch(
                path=path,
                position=position,
                size=size,
                base_offset=fields[0],
                attributes=fields[5],
                last_offset_delta=fields[6],
                max_timestamp=fields[8],
                producer_id=fields[9],
                producer_epoch=fields[10],
                base_sequence=fields[11],
                count=fields[12],
            )
            position += size


def flip_bit(batch: StoredBatch, position: int) -> None:
    """Flip the lowest bit of the byte at ``position`` (from the start of the batch)."""
    with batch.path.open("r+b") as file:
        file.seek(batch.position + position)
        (byte,) = file.read(1)
        file.seek(batch.position + position)
        file.write(bytes([byte ^ 1]))


def add_tail_hole(log_dir: Path, topic: str, partition: int, offsets: int) -> int:
    """Let the log end ``offsets`` behind its last record, as compaction leaves it; the new end.

    An empty segment that begins there is what a cleaner and a roll leave when the records before
    it are gone. The broker must have been stopped cleanly, or it would rebuild its logs.
    """
    last = list(batches(log_dir, topic, partition))[-1]
    end = last.base_offset + last.last_offset_delta + 1 + offsets
    directory = partition_dir(log_dir, topic, partition)
    (directory / f"{end:020d}.log").touch()
    for snapshot in directory.glob("*.snapshot"):
        snapshot.unlink()
    return end


def payload(batch: StoredBatch) -> bytes:
    """The batch behind its header: the records as the producer compressed them."""
    with batch.path.open("rb") as file:
        file.seek(batch.position + _HEADER.size)
        return file.read(batch.size - _HEADER.size)
