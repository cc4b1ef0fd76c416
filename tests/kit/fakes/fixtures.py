"""Fixtures of tests without brokers: a clock, a state topic and a job that the test moves."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from kit.fakes.job import FakePart, World
from kit.fakes.state import FakeClock, StateTopic
from replicator.engine import driver as drive


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def topic() -> StateTopic:
    return StateTopic()


@pytest.fixture
def world(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[World]:
    """A job between two clusters in memory; minutes of its patience take no time."""
    monkeypatch.setattr(drive, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(drive, "PartitionCopy", FakePart)
    monkeypatch.setattr(drive, "random", random.Random(1))
    yield World(clock)
    refused = [one.getMessage() for one in caplog.get_records("call") if one.levelname == "ERROR"]
    assert not refused, "moves of a task that make no sense"
