"""Logs as compaction leaves them: batches with holes, and a topic whose log is made of them.

Brokers refuse such batches from producers, and a cleaner would remove almost all of a load that
repeats a few batches. So the log's files are written here, to where the broker looks for them when
the topic is created: it adopts a log that lies there (``LogManager.getOrCreateLog``), misses the
indexes, and rebuilds them from the batches, whose CRCs it checks (``LogSegment.recover``). The
broker need not be stopped, so it keeps what its JIT has compiled.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from pathlib import Path

from kafka.record.util import decode_varint

from copycore.codec import compress_bytes, decompress_bytes
from copycore.crc32c import crc32c

# The cleaner stays away from it, here and on the target, which is created with the same configs.
COMPACTED = {"cleanup.policy": "compact", "min.compaction.lag.ms": str(10**12)}

_LARGEST = 16 << 20  # bytes of a batch, uncompressed
_GUARDED = struct.Struct(">hiqqqhii")  # of a batch's header, what its CRC covers
_GUARDED_AT = 21


def thinned(batch: bytes, source: random.Random) -> bytes:
    """``batch`` without half of its records, those that ``source`` picks; the others keep their
    offsets, and the batch its first and last one, as ``MemoryRecords.filterTo`` leaves them."""
    attributes, last_delta, began, _, *producer, count = _GUARDED.unpack_from(batch, _GUARDED_AT)
    codec = attributes & 7
    plain = decompress_bytes(codec, batch[_GUARDED_AT + _GUARDED.size :], _LARGEST)
    gone = set(source.sample(range(count), count // 2))
    kept: list[bytes] = []
    latest = at = 0
    for number in range(count):
        size, body = decode_varint(plain, at)
        end = body + size
        if number not in gone:
            kept.append(plain[at:end])
            delta, _ = decode_varint(plain, body + 1)  # after the record's attributes
            latest = max(latest, delta)
        at = end
    guarded = _GUARDED.pack(attributes, last_delta, began, began + latest, *producer, len(kept))
    guarded += compress_bytes(codec, b"".join(kept))
    # base offset and leader epoch 0, as in the first batch of a log; the length is of what follows
    return struct.pack(">qiibI", 0, 9 + len(guarded), 0, 2, crc32c(guarded)) + guarded


def lay(log_dir: Path, topic: str, partitions: int, batches: Sequence[bytes], each: int) -> int:
    """Writes the logs of a topic that is created next: ``each`` batches in every partition, going
    round ``batches``; their bytes.

    Raises FileExistsError while a topic of that name is there. One segment a partition: 2 GiB at
    the most.
    """
    total = 0
    for partition in range(partitions):
        directory = log_dir / f"{topic}-{partition}"
        directory.mkdir()
        offset = 0
        with (directory / f"{offset:020d}.log").open("wb") as segment:
            for turn in range(partition, partition + each):
                batch = batches[turn % len(batches)]
                total += segment.write(struct.pack(">q", offset) + batch[8:])
                offset += struct.unpack_from(">i", batch, 23)[0] + 1
    return total
