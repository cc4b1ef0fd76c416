"""Uncompressed sizes: each codec as producers write it, damaged samples, and the estimate."""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any

import cramjam
import lz4.frame
import pytest
import zstandard

from kit.oracle import batches as oracle
from kit.oracle.packed import xerial
from replicator.engine import sampler as logical
from replicator.engine.counts import Counts

PLAIN = b"the same words again and again, " * 5000


def gzip(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=31)
    return stream.compress(data) + stream.flush()


PACKED = {
    "none": (0, PLAIN),
    "gzip": (1, gzip(PLAIN)),
    "snappy-raw": (2, bytes(cramjam.snappy.compress_raw(PLAIN))),
    "snappy-xerial": (2, xerial(PLAIN)),
    "lz4": (3, lz4.frame.compress(PLAIN, block_linked=False)),
    "zstd": (4, zstandard.ZstdCompressor().compress(PLAIN)),
}
# A streaming encoder writes no content size into its frame.
_stream = zstandard.ZstdCompressor().compressobj()
PACKED["zstd-streamed"] = (4, _stream.compress(PLAIN) + _stream.flush())


def batch(codec: int, payload: bytes) -> bytes:
    return oracle.build(payload, attributes=codec, count=1, last_offset_delta=0)


@pytest.mark.parametrize("name", PACKED)
def test_the_size_is_that_of_the_plain_records(name: str) -> None:
    codec, payload = PACKED[name]
    assert logical.uncompressed_size(batch(codec, payload)) == len(PLAIN)


@pytest.mark.parametrize("name", [name for name in PACKED if name != "none"])
def test_a_damaged_sample_leaves_the_estimate_as_it_is(name: str) -> None:
    codec, payload = PACKED[name]
    now = [0.0]
    sampler = logical.Sampler(lambda: now[0])
    whole = batch(codec, payload)
    sampler.look([fake_task(sample=whole, packed=0)])
    now[0] += logical.SAMPLE_INTERVAL
    before = sampler.logical([fake_task(sample=None, packed=len(whole))])
    assert before == logical.HEADER_SIZE + len(PLAIN)
    sampler.look([fake_task(sample=batch(codec, payload[: len(payload) // 3][::-1]), packed=0)])
    assert sampler.logical([fake_task(sample=None, packed=len(whole))]) == before


@pytest.mark.parametrize(
    ("codec", "payload"),
    [
        (1, gzip(bytes(256 << 20))),
        (4, zstandard.ZstdCompressor().compress(bytes(256 << 20))),
        (3, lz4.frame.compress(bytes(256 << 20))),
    ],
)
def test_a_bomb_is_counted_no_further_than_the_limit(codec: int, payload: bytes) -> None:
    assert logical.uncompressed_size(batch(codec, payload)) == logical.SIZE_LIMIT


def fake_task(*, sample: bytes | None, packed: int, plain: int = 0, topic: str = "t") -> Any:
    counts = Counts(bytes=packed + plain, plain_bytes=plain)
    return SimpleNamespace(topic=topic, part=None, sample=sample, counts=counts)


def test_the_estimate_scales_compressed_bytes_by_their_topics_samples() -> None:
    codec, payload = PACKED["lz4"]
    sample = batch(codec, payload)
    sampler = logical.Sampler(lambda: 0.0)
    tasks = [
        fake_task(sample=sample, packed=10 * len(sample), plain=500),
        fake_task(sample=None, packed=0, plain=70, topic="plain"),
    ]
    sampler.look(tasks)
    assert sampler.logical(tasks) == 10 * (len(PLAIN) + 61) + 570


def test_without_a_sample_nothing_is_claimed() -> None:
    sampler = logical.Sampler(lambda: 0.0)
    assert sampler.logical([fake_task(sample=None, packed=1, plain=99)]) is None
