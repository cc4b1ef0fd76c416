"""Codecs against other people's: kafka-python's, gzip's, python-snappy's, and Java's bytes."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import kafka.codec
import lz4.frame
import pytest
import snappy
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from copycore.codec import compress_bytes, decompress_bytes, decompress_lz4_v0
from kit.oracle import packed
from kit.oracle.packed import GZIP, LZ4, SNAPPY, ZSTD

Codec = Callable[[bytes], bytes]

TEXT = packed.text(200_000)
PEERS: list[tuple[str, int, Codec | None, Codec | None]] = [
    ("gzip", GZIP, gzip.compress, gzip.decompress),
    ("python-snappy", SNAPPY, snappy.compress, None),
    ("kafka-python gzip", GZIP, kafka.codec.gzip_encode, kafka.codec.gzip_decode),
    ("kafka-python snappy", SNAPPY, kafka.codec.snappy_encode, kafka.codec.snappy_decode),
    ("kafka-python lz4", LZ4, kafka.codec.lz4_encode, kafka.codec.lz4_decode),
    ("kafka-python zstd", ZSTD, kafka.codec.zstd_encode, kafka.codec.zstd_decode),
    ("lz4.frame", LZ4, None, lz4.frame.decompress),
    ("zstandard", ZSTD, None, zstandard.ZstdDecompressor().decompress),
]
IDS = [name for name, *_ in PEERS]
data_of_all_kinds = st.binary(max_size=2000) | st.sampled_from(
    [TEXT, TEXT[: 1 << 15], TEXT[: 1 << 16], bytes(100_000)]
)


@pytest.mark.parametrize(("name", "codec", "encode", "decode"), PEERS, ids=IDS)
@given(data=data_of_all_kinds)
def test_peers_agree(
    name: str, codec: int, encode: Codec | None, decode: Codec | None, data: bytes
) -> None:
    if encode is not None:
        assert decompress_bytes(codec, encode(data), len(data)) == data
    # kafka-python takes a xerial header with nothing after it for a raw block.
    if decode is not None and (data or codec != SNAPPY):
        assert bytes(decode(compress_bytes(codec, data))) == data


def test_xerial_chunks_are_those_of_kafka_python() -> None:
    assert compress_bytes(SNAPPY, TEXT) == kafka.codec.snappy_encode(TEXT)


# What the producer of Kafka 3.9.2 wrote of this (JavaCodecs.java), the lz4 of magic 0 included.
SAID = b"".join(b"key %d\tvalue %d;" % (n, n) for n in range(8))
JAVA = {
    "gzip": (
        "1f8b08000000000000ffcb4ead5430e02c4bcc294d5530b0ce06f20ca13c4330cf08ca3302f38ca1"
        "3c6330cf04ca3301f34ca13c5330cf0cca3303f3cca13c736b003948869d70000000"
    ),
    "snappy": (
        "82534e415050590000000001000000010000004f70346b657920300976616c756520303b010e0031"
        "0d0e0031050e00320d0e0032050e00330d0e0033050e00340d0e0034050e00350d0e0035050e0036"
        "0d0e3c363b6b657920370976616c756520373b"
    ),
    "lz4": (
        "04224d186040824c000000e06b657920300976616c756520303b0e0013310e0011310e0013320e00"
        "11320e0013330e0011330e0013340e0011340e0013350e0011350e0013360e0011360e00a0370976"
        "616c756520373b00000000"
    ),
    "lz4-v0": (
        "04224d1860401a4c000000e06b657920300976616c756520303b0e0013310e0011310e0013320e00"
        "11320e0013330e0011330e0013340e0011340e0013350e0011350e0013360e0011360e00a0370976"
        "616c756520373b00000000"
    ),
    "zstd": (
        "28b52ffd0058ec010014026b657920300976616c756520303b6b6579203131323233333434353536"
        "3637373b0d002005b4038e0121200f34069c007120196802dc01c14636ed010000"
    ),
}


@pytest.mark.parametrize("name", ["gzip", "snappy", "lz4", "zstd"])
def test_what_java_wrote(name: str) -> None:
    data = bytes.fromhex(JAVA[name])
    (codec,) = [number for number, known in packed.NAMES.items() if known == name]
    assert decompress_bytes(codec, data, len(SAID)) == SAID
    if codec == LZ4:
        assert compress_bytes(codec, SAID) == data


def test_what_java_wrote_for_magic_0() -> None:
    data = bytes.fromhex(JAVA["lz4-v0"])
    assert decompress_lz4_v0(data, len(SAID)) == SAID
    assert packed.lz4_v0(compress_bytes(LZ4, SAID)) == data
