"""How large the copied records are uncompressed, estimated from samples.

Batches pass through compressed, so their uncompressed size is not known. One batch of a topic now
and then is decompressed here, only to count bytes; the topic's ratio is that of its samples.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable

from copycore.batch import cut_slice
from copycore.cursor import Cursor
from replicator.engine.task import PartitionTask

HEADER_SIZE = 61
SAMPLE_INTERVAL = 2.0  # seconds between samples of one topic
SIZE_LIMIT = 64 << 20  # bytes counted of one batch; more is no ratio worth knowing
CHUNK = 1 << 18

_XERIAL = b"\x82SNAPPY\x00"  # 8 bytes of magic, then two int32 versions (snappy-java)


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
        except Exception:  # a sample that cannot be read only leaves the estimate as it is
            return
        self._wire[topic] += len(batch)
        self._plain[topic] += plain

    def logical(self, tasks: Iterable[PartitionTask]) -> int | None:
        """Uncompressed bytes copied in this run; None while some topic has no sample yet."""
        total = 0
        for task in tasks:
            plain = task.total("plain_bytes")
            packed = task.total("bytes") - plain
            if packed > 0:
                if not self._wire[task.topic]:
                    return None
                packed = packed * self._plain[task.topic] // self._wire[task.topic]
            total += plain + packed
        return total


def uncompressed_size(batch: bytes) -> int:
    """Bytes of a batch's records once decompressed, counted up to ``SIZE_LIMIT``.

    Raises what the codec raises on damaged data, and ``ValueError`` for no whole v2 batch.
    """
    batches, _ = cut_slice(batch)
    if not batches or batches[0].magic != 2:
        raise ValueError("not a record batch v2")
    payload = memoryview(batch)[HEADER_SIZE:]
    return min(_COUNT[batches[0].codec or "none"](payload), SIZE_LIMIT)


def _none(payload: memoryview) -> int:
    return len(payload)


def _gzip(payload: memoryview) -> int:
    stream = zlib.decompressobj(wbits=31)
    total, rest = 0, bytes(payload)
    while rest and not stream.eof and total < SIZE_LIMIT:
        total += len(stream.decompress(rest, CHUNK))
        rest = stream.unconsumed_tail
    return total


def _lz4(payload: memoryview) -> int:
    from lz4.frame import LZ4FrameDecompressor  # noqa: PLC0415 - only where a topic uses it

    stream = LZ4FrameDecompressor()
    total = len(stream.decompress(bytes(payload), CHUNK))
    while not stream.eof and not stream.needs_input and total < SIZE_LIMIT:
        total += len(stream.decompress(b"", CHUNK))
    return total


def _zstd(payload: memoryview) -> int:
    import zstandard  # noqa: PLC0415 - only where a topic uses it

    total = 0
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
        bytes(payload), read_across_frames=True
    ) as stream:
        while total < SIZE_LIMIT and (chunk := stream.read(CHUNK)):
            total += len(chunk)
    return total


def _snappy(payload: memoryview) -> int:
    """The size stands in front of a snappy block; Java producers frame several blocks."""
    if bytes(payload[:8]) != _XERIAL:
        return Cursor(payload).uvarint()
    blocks = Cursor(payload[16:])
    total = 0
    while blocks.remaining:
        total += Cursor(blocks.blob(False) or b"").uvarint()
    return total


_COUNT: dict[str, Callable[[memoryview], int]] = {
    "none": _none,
    "gzip": _gzip,
    "snappy": _snappy,
    "lz4": _lz4,
    "zstd": _zstd,
}
