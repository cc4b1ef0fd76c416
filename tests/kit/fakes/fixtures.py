"""Fixtures of tests without brokers: a clock, a state topic and a job that the test moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.fakes.job import World
from kit.fakes.state import FakeClock, StateTopic


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def topic() -> StateTopic:
    return StateTopic()


@pytest.fixture
def world(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    """A job between two clusters in memory; minutes of its patience take no time."""
    yield World(clock)
    refused = [one.getMessage() for one in caplog.get_records("call") if one.levelname == "ERROR"]
    assert not refused, "moves of a task that make no sense"
