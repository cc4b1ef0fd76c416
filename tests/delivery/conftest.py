"""No real broker, no real clock: everything here is decided in memory."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from delivery.fakes import FakeClock, StateTopic
from delivery.job import FakePart, World
from replicator.engine import driver as drive


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def topic() -> StateTopic:
    return StateTopic()


@pytest.fixture
def world(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job between two clusters in memory; minutes of its patience take no time."""
    monkeypatch.setattr(drive, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(drive, "PartitionCopy", FakePart)
    monkeypatch.setattr(drive, "random", random.Random(1))
    return World(clock)
