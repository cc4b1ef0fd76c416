"""How fast a copy may go without being in the way of others who write to the target.

A copy at full speed fills a queue at the target, in which everybody's requests wait. So its own
wait is kept close to what it is while the copy sends next to nothing, which is looked at for a
moment every ``PROBE_EVERY`` seconds (as BBR does). In between, requests that wait longer lower the
rate, and others let it grow by and by; it settles where the copy takes what others leave free
(delay-based congestion control, as TCP Vegas and LEDBAT do it). A rate that limits nothing any more
is none.

Whoever sends as fast as he is answered leaves nothing free: his own queue is what requests wait for
even while the copy sends next to nothing, and the copy gets about as much of the target as it makes
that queue longer, ``TOLERANCE`` and ``SLACK``.

A broker's quota that makes the copy wait, and replicas that fall behind, cut the rate as well.

Pure: the caller measures, and sets the rate that comes out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from msgspec import Struct

LOOK = 0.25  # seconds from one look to the next
ENOUGH = 4  # answers that a look needs, unless it lasted LONGEST
LONGEST = 1.0  # seconds

TOLERANCE = 1.1  # times the wait while next to nothing is sent
SLACK = 2.0  # ms; timers and scheduling make as much of nothing
STEEPEST = 0.9  # of what was achieved, at the least, for requests that wait longer
INCREASE = 0.2  # of the highest rate, a second
DECREASE = 0.75  # of what was achieved, once a second, for a quota or lagging replicas
GIVEN_UP = 60.0  # seconds after which replicas that lag are nothing the copy can help
DRIFT = 0.005  # a second, by which the highest rate is forgotten

PROBE_EVERY = 20.0  # seconds
PROBE = 0.05  # of the highest rate: next to nothing
START = 64_000_000.0  # bytes a second, until the first wait is known: four requests of a MB
FLOOR = 1_000_000.0  # bytes a second a copy always may have


class Sample(Struct, frozen=True, kw_only=True):
    """What was seen since the last look."""

    seconds: float  # since then, above zero
    bytes: int  # acknowledged
    latencies: Sequence[float]  # of produce requests, ms from sending to the answer
    throttle_ms: float  # the longest that a broker's quota made us wait
    under_replicated: int  # partitions of the target, now

    @property
    def achieved(self) -> float:
        """Bytes a second."""
        return self.bytes / self.seconds


class Polite:
    """``observe`` a sample every ``LOOK`` seconds or so, and keep to ``rate`` until the next."""

    def __init__(self) -> None:
        self._now = 0.0  # seconds
        self._rate = START
        self._peak = 0.0  # bytes a second, the highest achieved
        self._light: Sample | None = None  # of the shortest wait, while next to nothing was sent
        self._probing = 1  # looks until that is known; 0 while it is not looked for
        self._probed_at = 0.0
        self._resumed = math.inf  # the rate after that
        self._cut_at = -math.inf
        self._in_sync: int | None = None  # the fewest under-replicated partitions seen
        self._lagging_at: float | None = None  # since when there are more

    @property
    def rate(self) -> float | None:
        """Bytes a second; None is no limit."""
        return None if math.isinf(self._rate) else self._rate

    def observe(self, sample: Sample) -> None:
        self._now += sample.seconds
        self._peak = max(sample.achieved, self._peak * (1 - DRIFT * sample.seconds))
        if self._lagging(sample) or sample.throttle_ms > 0:
            self._cut(sample)
        elif self._probing:
            self._probe(sample)
        elif self._light is None or not sample.latencies:
            self._increase(sample)
        else:
            self._compare(sample, self._light)
            self._begin_probe(sample)

    def _lagging(self, sample: Sample) -> bool:
        """Whether there are more replicas behind than at some time before, for not too long."""
        if self._in_sync is None or sample.under_replicated <= self._in_sync:
            self._in_sync = sample.under_replicated
            self._lagging_at = None
            return False
        if self._lagging_at is None:
            self._lagging_at = self._now
        if self._now - self._lagging_at >= GIVEN_UP:
            self._in_sync = sample.under_replicated
        return True

    def _cut(self, sample: Sample) -> None:
        # What was sent before the last cut says nothing about it.
        if self._now - self._cut_at >= 1.0:
            self._cut_at = self._now
            self._lower(DECREASE * sample.achieved)
            self._resumed = min(self._resumed, self._rate)

    def _lower(self, rate: float) -> None:
        self._rate = max(FLOOR, min(rate, self._rate))

    def _increase(self, sample: Sample) -> None:
        self._rate += max(INCREASE * self._peak, FLOOR) * sample.seconds
        if self._rate >= self._peak:
            self._rate = math.inf

    def _compare(self, sample: Sample, light: Sample) -> None:
        allowed = TOLERANCE * self._wait(light) + SLACK + self._own(sample)
        wait = self._wait(sample)
        if wait > allowed:
            self._lower(max(STEEPEST, allowed / wait) * sample.achieved)
        else:
            self._increase(sample)

    def _wait(self, sample: Sample) -> float:
        """Milliseconds that a request waits for others. The less is sent, the smaller are the
        requests, so what their bytes take by themselves does not count.
        """
        return max(0.0, median(sample.latencies) - self._own(sample))

    def _own(self, sample: Sample) -> float:
        """Milliseconds that the target needs for the bytes of a request, at its best."""
        return 1000 * sample.bytes / len(sample.latencies) / max(self._peak, FLOOR)

    def _begin_probe(self, sample: Sample) -> None:
        if self._now - self._probed_at < PROBE_EVERY:
            return
        light = max(FLOOR, PROBE * self._peak)
        if sample.achieved <= light:
            self._light, self._probed_at = sample, self._now
        else:
            self._probing, self._resumed = 2, self._rate
            self._lower(light)

    def _probe(self, sample: Sample) -> None:
        """The first look is at what was sent before, the second one counts."""
        self._probing -= bool(sample.latencies)
        if self._probing == 0:
            self._light, self._probed_at = sample, self._now
            self._rate = self._resumed
