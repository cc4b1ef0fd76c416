"""Lanes between scripted brokers; every test ends with all slabs given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kit.brokers.rig import Rig


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(**settings: Any) -> Rig:
        rigs.append(Rig(**settings))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.finish()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    """With read_committed, no rate limit, and map segments durable at once."""
    return make_rig()
