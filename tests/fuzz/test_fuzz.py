"""Some cases of the fuzzer on every run, and checks that it detects differences."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from copycore.legacy import unwrap
from copycore.records import decode_records
from fuzz import corpus, model, targets

CASES = 400


def run(seed: int, cases: int = CASES) -> Counter[str]:
    told: Counter[str] = Counter()
    for number in range(cases):
        try:
            targets.case(seed, number, told)
        except Exception:
            print(f"python -m fuzz --seed {seed} --case {number}")
            raise
    return told


def test_cases_of_a_new_seed() -> None:
    run(int(os.environ.get("COPYSTREAM_TEST_SEED") or random.SystemRandom().getrandbits(32)))


def test_every_outcome_comes_up() -> None:
    told = run(1, 3 * CASES)
    assert set(told) == {
        *(f"copy: {ending}" for ending in targets.ENDINGS),
        *("slice", "codec: none", "codec: read"),
        *("records: refused", "records: read", "messages: refused", "messages: read"),
        *("frames: refused", "frames: made"),
    }


def test_a_case_is_told_by_its_numbers() -> None:
    def made() -> list[bytes]:
        rng = random.Random("7/3")
        pieces, _ = corpus.seeds(rng)
        return corpus.damaged(rng, pieces)

    assert made() == made()


def shorter(read: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    return lambda *arguments: read(*arguments)[:-1]


@pytest.mark.parametrize(
    ("place", "name", "changed"),
    [
        (model, "crc_holds", lambda _whole: True),
        (model, "marker_type", lambda _whole: -1),
        (model, "wrapped", lambda number: number % 2**63),
        (targets, "decode_records", shorter(decode_records)),
        (targets, "unwrap", shorter(unwrap)),
        (targets, "decompress_bytes", lambda *_: b""),
    ],
    ids=["crc", "markers", "times", "records", "messages", "codecs"],
)
def test_a_difference_is_noticed(
    monkeypatch: pytest.MonkeyPatch, place: Any, name: str, changed: Any
) -> None:
    """Core and oracle read something differently, as after a mistake in the core."""
    monkeypatch.setattr(place, name, changed)
    with pytest.raises(AssertionError):
        run(1, 5 * CASES)
