"""Random logs of real records, and random ways to put them into batches."""

from __future__ import annotations

import random
from typing import Literal

from copycore.rebatch import Rebatcher
from kit.logs.truth import LZ4, RecordLog, Row

Merge = Literal["auto", "always", "never"]
MERGES: list[Merge] = ["never", "auto", "always", "always"]
EXTREMES = [-(2**63), -1, 0, 1, 2**62, 2**63 - 1]


def random_row(rng: random.Random, offset: int, size: int) -> Row:
    moment = (
        rng.choice(EXTREMES) if rng.random() < 0.05 else 10**12 + rng.randrange(-(10**6), 10**6)
    )
    key = rng.choice([None, b"", b"key %d" % (offset % 7)])
    value = rng.choice(
        [None, rng.randbytes(rng.randrange(size)), b"%d " % offset * rng.randrange(size)]
    )
    headers = tuple(
        (b"h%d" % n, rng.choice([None, b"", b"some"])) for n in range(rng.choice([0, 0, 0, 1, 3]))
    )
    return Row(offset, moment, key, value, headers)


def random_records(
    rng: random.Random,
    topic: bytes,
    partition: int,
    *,
    start: int | None = None,
) -> RecordLog:
    """Batches of every kind that a log can hold, holes between them and in them."""
    log = RecordLog(topic, partition)
    open_since: dict[int, int] = {}
    offset = rng.choice([0, 0, 17, 2**40]) if start is None else start
    gaps = rng.choice([0.0, 0.3, 0.8])
    times = rng.choice([0.0, 0.3, 1.0])
    usual = rng.randrange(5)
    largest = rng.choice([2, 2, 12, 40])  # records
    size = rng.choice([2, 20, 200, 1000])  # bytes, about
    for _ in range(rng.randrange(1, 25)):
        kind = rng.random()
        codec = usual if rng.random() < 0.7 else rng.randrange(5)
        producer = rng.randrange(3)
        first = offset
        offsets = [
            offset + number
            for number in range(rng.randrange(1, largest))
            if rng.random() > gaps * (rng.random() < 0.7)
        ] or [offset]
        last = offsets[-1] + (rng.randrange(4) if rng.random() < gaps else 0)
        content = [random_row(rng, one, size) for one in offsets]
        append_time = 10**12 + offset if rng.random() < times else None
        horizon = 10**12 + 5 if rng.random() < 0.1 else None
        if kind < 0.55:
            log.add(content, codec, base=first, last=last, append_time=append_time, horizon=horizon)
        elif kind < 0.7:
            open_since.setdefault(producer, first)
            log.add(
                content, codec, base=first, last=last, append_time=append_time, producer=producer
            )
        elif kind < 0.8:
            last, commit = first, rng.random() < 0.5
            since = open_since.pop(producer, None)
            if since is not None and not commit:
                log.aborted.append((producer, since, first))
            log.marker(first, producer, commit=commit)
        elif kind < 0.86:
            log.empty(first, last - first + 1)
        elif kind < 0.92:
            magic, codec = rng.randrange(2), rng.choice([0, 1, 2, LZ4])
            log.messages(magic, content, codec, append_time=append_time if magic == 1 else None)
            last = offsets[-1]
        # else: nothing, as compaction leaves it
        offset = last + 1 + (rng.randrange(9) if rng.random() < gaps else 0)
    if not log.batches:
        log.add([random_row(rng, offset, size)])
    if rng.random() < 0.3:
        log.high_watermark = log.end + rng.randrange(5)  # a hole at the tail
    # An open transaction bounds what may be read as committed.
    log.last_stable = min([log.end, *open_since.values()])
    return log


def random_rebatcher(rng: random.Random) -> Rebatcher:
    compression = rng.choice([-1, -1, -1, 0, 1, 2, 3, 4])
    merge = rng.choice(MERGES)
    return Rebatcher(
        compression=compression, merge=merge, batch_bytes=rng.choice([1, 200, 2000, 1 << 19])
    )
