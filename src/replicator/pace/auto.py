"""How fast a copy may go without slowing down other clients that write to the target.

A copy at full speed fills a queue at the target, in which every client's requests wait. So the
copy's own requests may wait little longer than they do while it sends next to nothing, which is
measured for a moment every ``PROBE_EVERY`` seconds (as BBR does). In between, requests that wait
longer lower the rate, and requests that do not let it grow slowly; it settles where the copy takes
what other clients leave free (delay-based congestion control, as TCP Vegas and LEDBAT do it). A
rate that limits nothing any more is dropped.

A closed-loop producer, which sends as fast as it is answered, keeps the broker's queue full at any
rate of ours, so latency alone cannot show that the copy slows it down; the copy would get a share
of the target by ``TOLERANCE`` and ``SLACK``. So what other clients write counts too, where it can
be seen: when they write less beside the copy than while it sends next to nothing, the rate goes
down. While no other client writes there is no limit; nor is there one for a copy that follows and
has caught up, since it would have to send later what it put off.

A broker's quota that makes the copy wait, and replicas that lag, cut the rate as well.

Pure: the caller measures, and sets the rate that comes out. Used by one thread at a time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import mean, median

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
PROBE_LOOKS = 2  # the first is at what was sent before, the last one counts
START = 64_000_000.0  # bytes a second, until the first wait is known: four requests of a MB
FLOOR = 1_000_000.0  # bytes a second a copy always may have

QUIET = 5.0  # seconds without a record by others: none writes
BLIND = 5.0  # seconds without knowing about others: one may write
COUNTED = 1000.0  # records a second by others, below which their rate varies by chance
SETTLED = 0.5  # seconds until a change of the rate shows in what others write
COMPARED = 3  # looks after that
KEPT = 0.9  # of what others write undisturbed
RETREAT = 0.5  # of what was achieved, at the least, for others who write less than that
RETURN = 0.2  # of the rate, a second, after a retreat
BEARABLE = 0.1  # of the highest rate: what others lose more than that is not the copy's doing


class Sample(Struct, frozen=True, kw_only=True):
    """What was seen since the last look."""

    seconds: float  # since then, above zero
    bytes: int  # acknowledged
    latencies: Sequence[float]  # of produce requests, ms from sending to the answer
    throttle_ms: float  # the longest that a broker's quota made us wait
    under_replicated: int  # partitions of the target, now
    others: float | None = None  # records a second that others write now; None for not known
    caught_up: bool = False  # it follows, and sends what comes in and no more

    @property
    def achieved(self) -> float:
        """Bytes a second."""
        return self.bytes / self.seconds


class OthersShare:
    """Whether other clients write, and which part of what they write undisturbed they write beside
    the copy.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._known_at = -math.inf
        self._wrote_at = -math.inf
        self._settled_at = 0.0
        self._beside: deque[float] = deque(maxlen=COMPARED)  # records a second, since then
        self._undisturbed: float | None = None

    @property
    def none(self) -> bool:
        """Whether no other client writes."""
        return self._now - self._known_at < BLIND and self._now - self._wrote_at > QUIET

    @property
    def unknown(self) -> bool:
        """Whether another client writes, and it is not known how much it would without the copy."""
        known = self._known_at == self._now
        return known and self._undisturbed is None and not self.none

    @property
    def seen(self) -> bool:
        """Whether enough was seen of what they write at the present rate of the copy."""
        return len(self._beside) == COMPARED

    @property
    def kept(self) -> float:
        """That part, 0 to 1; 1 where it cannot be told."""
        if not self.seen or self._undisturbed is None or self._undisturbed < COUNTED:
            return 1.0
        return min(1.0, mean(self._beside) / (KEPT * self._undisturbed))

    def observe(self, sample: Sample) -> None:
        self._now += sample.seconds
        if sample.others is not None:
            self._known_at = self._now
            if self._now >= self._settled_at:
                self._beside.append(sample.others)
        if sample.others:
            self._wrote_at = self._now
        if self.none:
            self._undisturbed = None

    def rate_changed(self) -> None:
        self._beside.clear()
        self._settled_at = self._now + SETTLED

    def take_undisturbed(self) -> None:
        """What they write now is what they want."""
        if self.seen:
            self._undisturbed = mean(self._beside)


class AutoRate:
    """``observe`` a sample every ``LOOK`` seconds or so, and keep to ``rate`` until the next."""

    def __init__(self) -> None:
        self._now = 0.0  # seconds
        self._rate = START
        self._peak = 0.0  # bytes a second, the highest achieved
        self._light: Sample | None = None  # of the shortest wait, while next to nothing was sent
        self._probing = 0  # looks at least until that is known; 0 while it is not looked for
        self._probed_at = 0.0
        self._resumed = math.inf  # the rate after that
        self._cut_at = -math.inf
        self._in_sync: int | None = None  # the fewest under-replicated partitions seen
        self._lagging_at: float | None = None  # since when there are more
        self._neighbours = OthersShare()
        self._retreated = False  # before neighbours, and not back at the highest rate since

    @property
    def rate(self) -> float | None:
        """Bytes a second; None is no limit."""
        return None if math.isinf(self._rate) else self._rate

    def observe(self, sample: Sample) -> None:
        self._now += sample.seconds
        self._peak = max(sample.achieved, self._peak * (1 - DRIFT * sample.seconds))
        self._neighbours.observe(sample)
        if self._lagging(sample) or sample.throttle_ms > 0:
            self._cut(sample)
        elif self._neighbours.none or sample.caught_up:
            self._light, self._probing, self._retreated = None, 0, False
            self._increase(sample)
        elif self._probing:
            self._probe(sample)
        elif self._neighbours.unknown:
            self._begin_probe(sample)
        elif self._rate == START:
            if sample.latencies:
                self._take_light(sample, math.inf)
        elif not sample.latencies:
            self._increase(sample)
        elif self._light is None:
            self._begin_probe(sample)
        else:
            self._compare(sample, self._light)
            if self._now - self._probed_at >= PROBE_EVERY:
                self._begin_probe(sample)

    def _lagging(self, sample: Sample) -> bool:
        """Whether more replicas lag than at some time before, for not too long."""
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

    def _retreat(self, sample: Sample) -> None:
        # Twice as far as they are short, so that it does not take long.
        short = 1 - self._neighbours.kept
        rate = max(RETREAT, 1 - 2 * short) * sample.achieved
        self._lower(max(rate, BEARABLE * self._peak))
        self._neighbours.rate_changed()
        self._retreated = True

    def _increase(self, sample: Sample) -> None:
        step = RETURN * self._rate if self._retreated else INCREASE * self._peak
        self._rate += max(step, FLOOR) * sample.seconds
        if self._rate >= self._peak:
            self._rate, self._retreated = math.inf, False

    def _compare(self, sample: Sample, light: Sample) -> None:
        allowed = TOLERANCE * self._wait(light) + SLACK + self._own(sample)
        wait = self._wait(sample)
        if self._neighbours.kept < 1:
            self._retreat(sample)
        elif wait > allowed:
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
        light = max(FLOOR, PROBE * self._peak)
        if sample.achieved <= light and not self._neighbours.unknown:
            self._neighbours.take_undisturbed()
            self._take_light(sample, self._rate)
        else:
            self._probing, self._resumed = PROBE_LOOKS, self._rate
            self._lower(light)
            self._neighbours.rate_changed()

    def _probe(self, sample: Sample) -> None:
        waiting = sample.others is not None and not self._neighbours.seen
        self._probing = max(self._probing - bool(sample.latencies), int(waiting))
        if self._probing == 0:
            self._neighbours.take_undisturbed()
            self._neighbours.rate_changed()
            self._take_light(sample, self._resumed)

    def _take_light(self, sample: Sample, resumed: float) -> None:
        self._light, self._probed_at, self._rate = sample, self._now, resumed
