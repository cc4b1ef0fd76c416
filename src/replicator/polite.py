"""How fast a copy may go without being in the way of others who write to the target.

Additive increase, multiplicative decrease, as TCP shares a line: whoever sees the target become
slow takes less, and all try for a little more from time to time. Pure: the caller measures, passes
time in, and sets the rate that comes out.

A copy at full speed makes a queue of its own at the target, so there are two measures of slow:

- without a limit, the latency of a produce request is compared with that at full speed while
  nobody else was in the way; longer answers and less done together mean that somebody has come;
- under a limit, with that at a low rate: a queue then means that the target has no more to give.
  It is learned after the first retreat, which lasts until the queue is gone.

What slows the target from the first moment on, and never ends, is taken for the target's own pace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from msgspec import Struct

TOLERANCE = 1.15  # times its own latency at full speed
LOSS = 0.93  # of the highest rate, below which somebody may have taken the rest
LIGHT_TOLERANCE = 2.0  # times the latency at a low rate
SLACK = 5.0  # ms; scheduling and timers make as much of nothing
DECREASE = 0.75  # of what was achieved
RETREAT = 0.1  # of the highest rate, when one has to give way for the first time
FALLING = 0.9  # of the latency a look before, while a queue is getting shorter
INCREASE = 0.04  # of the highest rate, a second
NEAR = 0.95  # of the highest rate: nothing is gained by a limit any more
LIGHT = 0.8  # of the highest rate, below which the latency is that at a low rate
DRIFT = 0.01  # a second, by which what was learned is forgotten
FLOOR = 1_000_000.0  # bytes a second a copy always may have


class Sample(Struct, frozen=True, kw_only=True):
    """What was seen since the last look."""

    latencies: Sequence[float]  # of produce requests, ms from sending to the answer
    throttle_ms: float  # the longest that a broker's quota made us wait
    under_replicated: int  # partitions of the target
    achieved: float  # bytes a second that were acknowledged


class Polite:
    """Look every second or so: ``observe`` tells the rate to keep to until the next look."""

    def __init__(self) -> None:
        self._rate = math.inf
        self._peak = 0.0  # bytes a second without limit and without trouble
        self._full = math.inf  # ms at that rate
        self._light = math.inf  # ms at a low rate
        self._drained = False  # whether that was waited for
        self._before = math.inf  # ms at the look before, while it is waited for
        self._steady = 0  # looks since answers came quicker than before
        self._in_sync: int | None = None  # the fewest under-replicated partitions seen
        self._looked_at: float | None = None
        self._decreased = False

    def observe(self, now: float, sample: Sample) -> float | None:
        """Bytes a second, None for no limit. ``now`` in seconds of any monotonic clock."""
        passed = 0.0 if self._looked_at is None else max(0.0, now - self._looked_at)
        self._looked_at = now
        latency = median(sample.latencies) if sample.latencies else None
        if not math.isinf(self._rate) and not self._drained:
            self._drain(latency)
        elif self._contended(sample, latency):
            self._decrease(sample)
        else:
            self._decreased = False
            if latency is not None:
                self._learn(sample, latency, passed)
            self._increase(passed)
        return None if math.isinf(self._rate) else self._rate

    def _contended(self, sample: Sample, latency: float | None) -> bool:
        known = sample.under_replicated if self._in_sync is None else self._in_sync
        self._in_sync = min(known, sample.under_replicated)
        if sample.throttle_ms > 0 or sample.under_replicated > known:
            return True
        if latency is None:
            return False
        if math.isinf(self._rate):
            return latency > TOLERANCE * self._full + SLACK and sample.achieved < LOSS * self._peak
        return latency > LIGHT_TOLERANCE * min(self._light, self._full) + SLACK

    def _decrease(self, sample: Sample) -> None:
        # What waits in queues since before the last decrease is no new sign.
        if self._decreased:
            self._decreased = False
            return
        self._decreased = True
        less = DECREASE * min(self._rate, sample.achieved)
        self._rate = max(FLOOR, less if self._drained else min(less, RETREAT * self._peak))

    def _drain(self, latency: float | None) -> None:
        """Stay at the low rate until answers come no quicker than the look before, twice."""
        if latency is None or latency > FALLING * self._before:
            self._steady += 1
        else:
            self._steady = 0
        self._before = self._before if latency is None else latency
        if self._steady == 2:
            self._light = self._before
            self._drained = True

    def _increase(self, passed: float) -> None:
        if math.isinf(self._rate):
            return
        self._rate += max(INCREASE * self._peak, FLOOR) * passed
        if self._rate >= NEAR * self._peak:
            self._rate = math.inf

    def _learn(self, sample: Sample, latency: float, passed: float) -> None:
        faded = DRIFT * passed
        if math.isinf(self._rate):
            self._peak = max(sample.achieved, self._peak * (1 - faded))
            self._full = min(latency, self._full) + _rise(self._full, latency, faded)
        elif self._rate <= LIGHT * self._peak:
            self._light = min(latency, self._light) + _rise(self._light, latency, faded)


def _rise(known: float, seen: float, share: float) -> float:
    """A lower latency counts at once; a higher one slowly."""
    return 0.0 if math.isinf(known) or seen <= known else (seen - known) * share
