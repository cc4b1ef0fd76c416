"""No real broker, no real clock: everything here is decided in memory."""

from __future__ import annotations

import pytest

from delivery.fakes import FakeClock, StateTopic


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def topic() -> StateTopic:
    return StateTopic()
