"""Helpers of the cluster tests: a clock that moves only during sleeps, and configs."""

from __future__ import annotations

import time
from collections.abc import Callable

from kit.fakebroker import FakeBroker
from replicator.cluster import RetryPolicy
from replicator.cluster.config import ClientConfig


class FakeTime:
    """A clock for RetryPolicy; ``slept`` has every pause."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def policy(self, timeout: float = 30.0, draw: float = 1.0) -> RetryPolicy:
        return RetryPolicy(timeout=timeout, clock=self.clock, sleep=self.sleep, random=lambda: draw)


def config_for(*brokers: FakeBroker) -> ClientConfig:
    return ClientConfig(bootstrap=tuple(("127.0.0.1", broker.port) for broker in brokers))


def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> bool:
    """Polls for a condition that another thread makes true; returns whether it was true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
