"""Waiting between attempts: exponential backoff with full jitter, up to a deadline.

Full jitter (a uniform draw from nothing to the current ceiling) spreads clients that were all
cut off by the same broker restart. Times are seconds on a monotonic clock.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to try, and how to wait; clock, sleep and random are replaced in tests."""

    timeout: float = 30.0
    first: float = 0.1
    highest: float = 2.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random

    def start(self, timeout: float | None = None, *, highest: float | None = None) -> Backoff:
        """Begin one operation that may be tried until ``timeout`` seconds from now.

        ``highest`` replaces the policy's longest pause, for what is known to take a moment.
        """
        deadline = self.clock() + (self.timeout if timeout is None else timeout)
        return Backoff(self, deadline, self.highest if highest is None else highest)


class Backoff:
    """The attempts of one operation."""

    def __init__(self, policy: RetryPolicy, deadline: float, highest: float) -> None:
        self._policy = policy
        self._began = policy.clock()
        self._highest = highest
        self._ceiling = min(policy.first, highest)
        self.deadline = deadline

    def remaining(self) -> float:
        """Seconds until the deadline, 0 when it has passed."""
        return max(0.0, self.deadline - self._policy.clock())

    def elapsed(self) -> float:
        """Seconds since the operation began."""
        return self._policy.clock() - self._began

    def next_pause(self) -> float | None:
        """Seconds to wait before the next attempt; None when the deadline has passed."""
        remaining = self.remaining()
        if remaining <= 0:
            return None
        pause = min(self._policy.random() * self._ceiling, remaining)
        self._ceiling = min(self._ceiling * 2, self._highest)
        return pause

    def pause(self) -> bool:
        """Wait before the next attempt. False, without waiting, when the deadline has passed."""
        pause = self.next_pause()
        if pause is None:
            return False
        self._policy.sleep(pause)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait ``seconds``, as a broker asked. False, without waiting, beyond the deadline."""
        if seconds > self.remaining():
            return False
        self._policy.sleep(seconds)
        return True
