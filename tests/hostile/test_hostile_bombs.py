"""Decompression bombs (reliability facts H17): the decompressed size of a batch is bounded,
whatever its header claims. ``tests/lane`` has, for each codec, that the bound is allowed and one
byte more is not.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable

import cramjam
import lz4.frame
import zstandard

from kit.brokers.scripted import batch
from kit.clusters.hostile import TOPIC, Hostile, Input, piece_log, two_clusters
from kit.fakebroker import StoredLog
from kit.logs.truth import CODECS, GZIP, LZ4, SNAPPY, ZSTD
from kit.oracle import batches as oracle
from kit.oracle.packed import XERIAL_HEADER

CAP = 256 << 20  # bytes a batch may decompress to
SIZE = 512 << 20
# The libraries' 100 MiB, and one batch at its cap.
MEMORY_CAP = (256 << 20) + CAP
GUARDED = f"decompresses to more than {CAP} bytes"


def gzip_bomb() -> bytes:
    member = gzip.compress(bytes(SIZE // 16), 9)
    return member * 16


def lz4_bomb() -> bytes:
    """Blocks of 4 MiB, of which all but the last are the same."""
    frame: bytes = lz4.frame.compress(
        bytes(8 << 20), block_size=lz4.frame.BLOCKSIZE_MAX4MB, block_linked=False, store_size=False
    )
    (size,) = struct.unpack_from("<I", frame, 7)
    block = frame[7 : 11 + size]
    return frame[:7] + block * (SIZE >> 22) + bytes(4)


def xerial_bomb() -> bytes:
    block = bytes(cramjam.snappy.compress_raw(bytes(1 << 20)))
    return XERIAL_HEADER + (struct.pack(">i", len(block)) + block) * (SIZE >> 20)


def zstd_rle() -> bytes:
    """Blocks of four bytes that stand for 128 KiB each, in a frame that does not tell its size."""
    block = struct.pack("<I", (128 << 10) << 3 | 1 << 1)[:3] + b"\0"
    return b"\x28\xb5\x2f\xfd\0" + bytes([7 << 3]) + block * (SIZE >> 17) + b"\1\0\0"


BOMBS: dict[str, tuple[int, Callable[[], bytes], str]] = {
    "gzip": (GZIP, gzip_bomb, GUARDED),
    "lz4": (LZ4, lz4_bomb, GUARDED),
    "snappy in snappy-java's frame": (SNAPPY, xerial_bomb, GUARDED),
    "zstd": (ZSTD, lambda: zstandard.ZstdCompressor().compress(bytes(SIZE)), GUARDED),
    "zstd without a size": (ZSTD, zstd_rle, GUARDED),
    "snappy that claims 4 GiB": (SNAPPY, lambda: b"\xff\xff\xff\xff\x0f" + bytes(20), "snappy"),
    "snappy that claims 2 GiB": (SNAPPY, lambda: b"\xff\xff\xff\xff\x07" + bytes(20), GUARDED),
    "zstd that claims 16 EiB": (
        ZSTD,
        lambda: bytes.fromhex("28b52ffde0") + b"\xff" * 8 + b"\1\0\0",
        "zstd",
    ),
    "lz4 that claims 4 EiB": (
        LZ4,
        lambda: bytes.fromhex("04224d186870") + struct.pack("<Q", 2**62) + b"\x73" + bytes(4),
        "lz4",
    ),
}  # fmt: skip


# Those that fit into a batch; a larger one has to be taken apart.
SMALL = [name for name in BOMBS if name not in ("lz4", "snappy in snappy-java's frame")]


def bomb(name: str, *, last_delta: int) -> bytes:
    codec, make, _ = BOMBS[name]
    return batch(2, 4, make(), attributes=codec, last_offset_delta=last_delta)


def test_bombs_are_named() -> None:
    """Gapped batches have to be opened. All of them at once, so that no memory of one is kept."""
    inputs = [Input(name, bomb(name, last_delta=7), says) for name, (_, _, says) in BOMBS.items()]
    Hostile(inputs).run(cap=MEMORY_CAP)


def test_bombs_are_named_where_all_batches_are_opened() -> None:
    inputs = [Input(name, bomb(name, last_delta=3), says) for name, (_, _, says) in BOMBS.items()]
    options = ("--merge=always", "--batch-bytes=8MiB", "--compression=lz4:1")
    Hostile(inputs).run(*options, cap=MEMORY_CAP)


def test_bombs_that_need_not_be_opened_go_through() -> None:
    """Estimating their uncompressed size costs no memory either."""
    logs = [piece_log(number, bomb(name, last_delta=3)) for number, name in enumerate(SMALL)]
    with two_clusters(*logs) as sides:
        sides.copy("--merge", "never").expect(0)
        for log in logs:
            stored = sides.target.cluster.logs[TOPIC, log.partition]
            assert isinstance(stored, StoredLog)
            assert [whole[oracle.HEADER :] for whole in stored.batches] == [
                whole[oracle.HEADER :] for whole in log.batches
            ], CODECS
