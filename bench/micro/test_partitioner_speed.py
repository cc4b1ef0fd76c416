"""What choosing partitions costs in its Python form: a batch's keys in, an array out.

    pytest bench/micro/test_partitioner_speed.py --benchmark-enable

The lane calls the same function for each record without a Python object for its key.
"""

from __future__ import annotations

import random
from array import array
from typing import Any

import pytest

from copycore.partitioner import KINDS, choose_all

RECORDS = 1000
MILLION = 1e6


@pytest.mark.parametrize("size", [16, 100])
@pytest.mark.parametrize("kind", range(5), ids=KINDS)
def test_choose(measure: Any, kind: int, size: int) -> None:
    rng = random.Random(size)
    keys = [rng.randbytes(size) for _ in range(RECORDS)]
    numbers = array("Q", range(RECORDS))
    assert len(choose_all(kind, keys, numbers, 3, 16)) == RECORDS
    label = f"{KINDS[kind]}: keys of {size} B"
    measure(label, RECORDS / MILLION, "M keys/s", None, choose_all, kind, keys, numbers, 3, 16)
