"""The files of a partition on a broker's disk: the batches in them, and damage to them.

Only what is needed to prove that a test's data has the shape the test is about, and to make
shapes that no producer can make. Change files only of a broker that is stopped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from copycore.crc32c import crc32c

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
    def delete_horizon(self) -> bool:
        return bool(self.attributes & 64)

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
    """Let the log end ``offsets`` after its last record, as compaction leaves it; returns the new
    end.

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


def age(log_dir: Path, topic: str, partition: int, by: int, *, ours: bool = False) -> None:
    """Move a partition's log ``by`` offsets up: what it would be after as many records more, of
    which retention has kept the last.

    ``ours`` moves the producers' sequence numbers along, as those of a copy whose record numbers
    are the target's offsets. Offsets are not in a batch's CRC, sequences are. The broker must have
    been stopped.
    """
    directory = partition_dir(log_dir, topic, partition)
    stored = list(batches(log_dir, topic, partition))
    for batch in stored:
        with batch.path.open("r+b") as file:
            file.seek(batch.position)
            content = bytearray(file.read(batch.size))
            struct.pack_into(">q", content, 0, batch.base_offset + by)
            if ours:
                struct.pack_into(">i", content, 53, (batch.base_sequence + by) % 2**31)
                struct.pack_into(">I", content, 17, crc32c(memoryview(content)[21:]))
            file.seek(batch.position)
            file.write(content)
    for path in segment_files(log_dir, topic, partition):
        path.rename(directory / f"{int(path.stem) + by:020d}.log")
    # What is left is rebuilt from the log.
    for pattern in ("*.index", "*.timeindex", "*.snapshot"):
        for path in directory.glob(pattern):
            path.unlink()


def forget_clean_stop(log_dir: Path) -> None:
    """Let a stopped broker read its logs anew, and learn from them which sequences it guards."""
    (log_dir / ".kafka_cleanshutdown").unlink()


def payload(batch: StoredBatch) -> bytes:
    """The batch after its header: the records as the producer compressed them."""
    with batch.path.open("rb") as file:
        file.seek(batch.position + _HEADER.size)
        return file.read(batch.size - _HEADER.size)
