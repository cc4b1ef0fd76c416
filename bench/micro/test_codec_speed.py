"""What the codecs cost on one core: MB of uncompressed data a second, and how far it shrinks.

    pytest bench/micro/test_codec_speed.py --benchmark-enable

128 KiB is a batch as producers make them in bulk. 1 KiB is one of a few records, where the code
around the library counts. The data are JSON lines. The codecs are libraries: figures here tell what
this project adds to their cost, and what re-batching costs with each.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from copycore.batch import CODECS
from copycore.codec import compress_bytes, decompress_bytes
from copycore.records import encode_records, rewrite_records
from copycore.retrace import retraced

MB = 1e6
KIB = 1024
LZ4 = CODECS.index("lz4")


def lines(size: int) -> bytes:
    rng = random.Random(size)
    data = bytearray()
    while len(data) < size:
        line = {
            "id": rng.randrange(10**9),
            "user": f"user{rng.randrange(1000)}",
            "at": rng.random(),
        }
        data += json.dumps(line).encode() + b"\n"
    return bytes(data[:size])


@pytest.mark.parametrize("size", [128 * KIB, KIB])
@pytest.mark.parametrize("codec", range(1, 5), ids=CODECS[1:])
def test_decompress(measure: Any, codec: int, size: int) -> None:
    data = lines(size)
    packed = compress_bytes(codec, data)
    assert decompress_bytes(codec, packed, size) == data
    label = f"decompress {CODECS[codec]}: {size:,} B from {len(packed):,}"
    measure(label, size / MB, "MB/s", None, decompress_bytes, codec, packed, size)


@pytest.mark.parametrize("size", [128 * KIB, KIB])
@pytest.mark.parametrize("codec", range(1, 5), ids=CODECS[1:])
def test_compress(measure: Any, codec: int, size: int) -> None:
    data = lines(size)
    label = f"compress {CODECS[codec]}: {size:,} B"
    measure(label, size / MB, "MB/s", None, compress_bytes, codec, data)


@pytest.mark.parametrize(("codec", "goal"), [(0, None), (1, None), (2, None), (3, 400), (4, None)])
def test_rebatch(measure: Any, codec: int, goal: float | None) -> None:
    """All that re-batching does to records of 100 bytes, but for the CRC. Eight batches by turns: a
    processor learns to predict the branches that a single one takes."""
    count, time = 1100, 1_700_000_000_000
    text = lines(8 * count * 100)
    bodies = [b"\1\xc8\1" + text[at : at + 100] + b"\0" for at in range(0, len(text), 100)]
    plain = [
        encode_records([(time + at // 3, body) for at, body in enumerate(bodies[turn::8])])
        for turn in range(8)
    ]
    packed = [compress_bytes(codec, batch) for batch in plain]

    def rebatch(batch: bytes) -> bytes:
        opened = decompress_bytes(codec, batch, 1 << 20)
        records = rewrite_records(opened, count, time)
        if codec == LZ4:
            return retraced(records, [(batch, len(opened), 0, len(records), ())])
        return compress_bytes(codec, records)

    def rebatch_all() -> list[bytes]:
        return [rebatch(batch) for batch in packed]

    made = [decompress_bytes(codec, batch, 1 << 20) for batch in rebatch_all()]
    assert made == plain
    label = f"decode and encode {CODECS[codec]}: 100 B records"
    measure(label, sum(map(len, plain)) / MB, "MB/s", goal, rebatch_all)


@pytest.mark.parametrize("growth", [0, 1], ids=["still", "moved"])
def test_retrace(measure: Any, growth: int) -> None:
    """lz4 frames whose records have another first byte, or one byte more, as against ``compress``.
    Eight of them, for the same reason."""
    plain = [lines(8 * 128 * KIB)[at : at + 128 * KIB] for at in range(0, 8 * 128 * KIB, 128 * KIB)]
    jobs = []
    for old in plain:
        records = old.split(b"\n")
        new = b"\n".join(b"x" + record[1 - growth :] for record in records)
        places, at = [], 0
        for number, record in enumerate(records):
            places.append((at, at + (number + 1) * growth))
            at += len(record) + 1
        jobs.append((new, [(compress_bytes(LZ4, old), len(old), 0, len(new), places)]))

    def retrace_all() -> list[bytes]:
        return [retraced(new, sources) for new, sources in jobs]

    made = retrace_all()
    assert [decompress_bytes(LZ4, one, 1 << 20) for one in made] == [new for new, _ in jobs]
    label = f"retrace lz4: {128 * KIB:,} B, records {'moved' if growth else 'in place'}"
    measure(label, sum(len(new) for new, _ in jobs) / MB, "MB/s", None, retrace_all)
