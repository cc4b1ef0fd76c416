"""How many records each partition of a correct copy has, from the source's log files.

Uses no code of copystream, since copystream is what is checked.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from kafka.partitioner.default import murmur2
from kafka.record.default_records import DefaultRecordBatch

from limit import load_batches


def _stored(log: Path) -> Iterator[bytes]:
    """The batches in the directory of a partition."""
    for segment in sorted(log.glob("*.log")):
        yield from load_batches(segment)


def in_place(logs: Sequence[Path]) -> list[int]:
    """Records in each of these partitions, as their batches' headers say."""
    return [sum(struct.unpack_from(">i", batch, 57)[0] for batch in _stored(log)) for log in logs]


def by_key(logs: Sequence[Path], batches: Sequence[bytes], partitions: int) -> list[int]:
    """Records in each of ``partitions`` when all of ``logs`` go where Java's producer sends their
    keys; ``batches`` are the different ones that the logs are made of."""
    times = Counter(_crc(batch) for log in logs for batch in _stored(log))
    found = [0] * partitions
    for batch in batches:
        for record in DefaultRecordBatch(batch):
            found[(murmur2(record.key) & 0x7FFFFFFF) % partitions] += times[_crc(batch)]
    return found


def _crc(batch: bytes) -> bytes:
    return batch[17:21]
