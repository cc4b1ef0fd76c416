"""Fetched slices held against the oracle: cut, classified and rewritten, every field of them."""

from __future__ import annotations

import pytest

from copycore.batch import Batch, cut_slice, rewrite_slice
from kit.oracle import batches as oracle
from kit.oracle.wire_strategies import exact

FIELDS = [name for name, _ in oracle.FIELDS if name != "length"]
FLAGS = ["is_transactional", "is_control", "has_delete_horizon", "has_log_append_time", "codec"]


def check_slice(data: bytes) -> None:
    """Cut, read every field, rewrite: nothing reads outside, and the oracle agrees."""
    rewrite_slice(exact(data), 1, 1)
    try:
        expected = oracle.cut(data)
    except ValueError:
        with pytest.raises(ValueError, match="impossible length"):
            cut_slice(exact(data))
        return
    batches, tail = cut_slice(exact(data))
    assert ([data[b.position : b.position + b.size] for b in batches], tail) == expected
    for batch, whole in zip(batches, expected[0], strict=True):
        check_batch(batch, whole)


def check_batch(batch: Batch, whole: bytes) -> None:
    assert batch.kind == oracle.kind(whole)
    assert batch.control_type() in (-1, 0, 1)
    assert all(hasattr(batch, name) for name in FLAGS)
    if batch.magic == 2 and len(whole) >= oracle.HEADER:
        header = oracle.parse(whole)
        assert [getattr(batch, name) for name in FIELDS] == [header[name] for name in FIELDS]
        assert batch.crc_matches() == (oracle.crc32c(whole[21:]) == header["crc"])
    else:
        batch.crc_matches()
    if batch.kind == "dense":
        batch.rewritten_header(1, 2, 3)
    else:
        with pytest.raises(ValueError, match="cannot be passed through"):
            batch.rewritten_header(1, 2, 3)
