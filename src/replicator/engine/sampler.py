"""How large the copied records are uncompressed, estimated from samples.

Batches pass through compressed, so their uncompressed size is not known. One batch of a topic now
and then is decompressed here, only to count bytes; the topic's ratio is that of its samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from copycore.batch import cut_slice
from copycore.codec import CodecError, decompress_bytes
from replicator.engine.task import PartitionTask

HEADER_SIZE = 61
CODEC_BITS = 7  # of a batch's attributes
SAMPLE_INTERVAL = 2.0  # seconds between samples of one topic
SIZE_LIMIT = 64 << 20  # bytes counted of one batch; more is no ratio worth knowing


class Sampler:
    """Ratios of topics; ``look`` is called now and then in one thread, ``logical`` in any."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[str, float] = defaultdict(float)
        self._wire: dict[str, int] = defaultdict(int)
        self._plain: dict[str, int] = defaultdict(int)

    def begin(self, tasks: Iterable[PartitionTask]) -> None:
        """Ask one partition of every topic for its first compressed batch."""
        seen: set[str] = set()
        for task in tasks:
            task.wants_sample = task.topic not in seen
            seen.add(task.topic)

    def look(self, tasks: Iterable[PartitionTask]) -> None:
        """Collect samples that have come, and ask for the next ones."""
        now = self._clock()
        for task in tasks:
            part = task.part
            sample = task.sample if part is None else part.sample
            if self._due[task.topic] > now:
                continue
            if sample is not None:
                self._take(task.topic, sample)
                self._due[task.topic] = now + SAMPLE_INTERVAL
                task.sample = None
            elif part is not None:
                part.wants_sample = True

    def _take(self, topic: str, batch: bytes) -> None:
        try:
            plain = HEADER_SIZE + uncompressed_size(batch)
        except ValueError:  # a sample that cannot be read leaves the estimate as it is
            return
        self._wire[topic] += len(batch)
        self._plain[topic] += plain

    def logical(self, tasks: Iterable[PartitionTask]) -> int | None:
        """Uncompressed bytes copied in this run; None while some topic has no sample yet."""
        total = 0
        for task in tasks:
            counts = task.counts
            plain, packed = counts.plain_bytes, counts.bytes - counts.plain_bytes
            if packed > 0:
                if not self._wire[task.topic]:
                    return None
                packed = packed * self._plain[task.topic] // self._wire[task.topic]
            total += plain + packed
        return total


def uncompressed_size(batch: bytes) -> int:
    """Bytes of a batch's records once decompressed, counted up to ``SIZE_LIMIT``.

    Raises ``CodecError`` on damaged data, and ``ValueError`` for no whole v2 batch.
    """
    batches, _ = cut_slice(batch)
    if not batches or batches[0].magic != 2:
        raise ValueError("not a record batch v2")
    payload = memoryview(batch)[HEADER_SIZE:]
    try:
        return len(decompress_bytes(batches[0].attributes & CODEC_BITS, payload, SIZE_LIMIT))
    except CodecError as error:
        if error.limit is None:
            raise
        return SIZE_LIMIT
