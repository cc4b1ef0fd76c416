"""A simulated target: one queue of requests, served in order at a varying pace, in which requests
of a copy with ``--throttle auto`` and of other producers wait.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from copycore.bucket import BURST, CHUNK, LARGE
from replicator.pace.auto import ENOUGH, LONGEST, LOOK, AutoRate, Sample

MB = 1_000_000.0
RECORD = 1000  # bytes
REQUEST = 0.8 * MB  # of the copy at full speed
PAUSE_EVERY = 5000  # ms, in the mean: garbage is collected

Series = list[tuple[float, float]]  # at these seconds


@dataclass
class Request:
    ours: bool
    left: float  # bytes
    sent: int  # ms


@dataclass
class Target:
    """Other producers send ``steady`` bytes a second whatever happens, and keep ``greedy`` bytes in
    flight, as one does that sends as fast as it is answered. Both are functions of the time.
    """

    controller: AutoRate | None  # None is a copy at full speed
    steady: Callable[[float], float] = lambda _now: 0.0
    greedy: Callable[[float], float] = lambda _now: 0.0
    capacity: Callable[[float], float] = lambda _now: 600 * MB
    throttle: Callable[[float], float] = lambda _now: 0.0
    under_replicated: Callable[[float], int] = lambda _now: 0
    window: float = 8 * MB  # bytes the copy has on their way at most
    round_trip: float = 1.0  # ms
    sighted: bool = False  # whether the copy sees what others write, which it does a look later
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    copied: Series = field(default_factory=list)  # bytes
    served: Series = field(default_factory=list)  # bytes of the others
    waits: Series = field(default_factory=list)  # ms of the others
    limits: list[tuple[float, float | None]] = field(default_factory=list)

    def run(self, seconds: float) -> Target:
        queue: deque[Request] = deque()
        answers: deque[tuple[float, Request]] = deque()
        latencies: list[float] = []
        outstanding = {True: 0.0, False: 0.0}
        owed = saved = pause = 0.0
        looked, since, theirs = 0.0, 0.0, 0.0
        others: float | None = None
        limit = None if self.controller is None else self.controller.rate

        def send(ours: bool, size: float) -> None:
            queue.append(Request(ours, size, ms))
            outstanding[ours] += size

        for ms in range(int(seconds * 1000)):
            now = ms / 1000
            owed += self.steady(now) / 1000
            while owed >= 0.1 * MB:
                owed -= 0.1 * MB
                send(False, 0.1 * MB)
            while outstanding[False] + 0.5 * MB <= self.greedy(now):
                send(False, 0.5 * MB)
            saved = 0.0 if limit is None else min(saved + limit / 1000, limit * BURST)
            while outstanding[True] < self.window and (
                limit is None or saved >= min(limit * CHUNK, LARGE)
            ):
                size = REQUEST if limit is None else min(REQUEST, saved)
                saved -= size
                send(True, size)
            pause = pause - 1 if pause > 0 else 0.0
            if self.rng.randrange(PAUSE_EVERY) == 0:
                pause = self.rng.uniform(20, 80)
            budget = 0.0 if pause > 0 else self.capacity(now) / 1000 * self.rng.uniform(0.5, 1.5)
            while queue and budget > 0:
                request = queue[0]
                done = min(request.left, budget)
                request.left -= done
                budget -= done
                outstanding[request.ours] -= done
                (self.copied if request.ours else self.served).append((now, done))
                since += done * request.ours
                theirs += done * (not request.ours)
                if request.left == 0:
                    queue.popleft()
                    answers.append((ms + self.round_trip + self.rng.random(), request))
            while answers and answers[0][0] <= ms:
                _, request = answers.popleft()
                if request.ours:
                    latencies.append(ms - request.sent)
                else:
                    self.waits.append((now, ms - request.sent))
            passed = now - looked
            enough = len(latencies) >= ENOUGH or passed >= LONGEST
            if self.controller is not None and passed >= LOOK and enough:
                sample = Sample(
                    seconds=passed,
                    bytes=int(since),
                    latencies=latencies,
                    throttle_ms=self.throttle(now),
                    under_replicated=self.under_replicated(now),
                    others=others,
                )
                self.controller.observe(sample)
                limit = self.controller.rate
                self.limits.append((now, limit))
                others = theirs / RECORD / passed if self.sighted else None
                latencies, since, theirs, looked = [], 0.0, 0.0, now
        return self


def between(series: Series, began: float, ended: float) -> float:
    """A second."""
    return sum(value for at, value in series if began <= at < ended) / (ended - began)


def quantile(series: Series, began: float, ended: float, share: float) -> float:
    found = sorted(value for at, value in series if began <= at < ended)
    return found[min(int(share * len(found)), len(found) - 1)]
