"""What a copy sees of its target while it writes, sample by sample, for ``polite``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from replicator.polite import ENOUGH, LONGEST, LOOK, Sample

if TYPE_CHECKING:
    from copycore.lane import Lane


class Watch:
    """All in one thread. ``acknowledged`` gives the bytes so far, ``under_replicated`` the target's
    partitions, ``others`` the records a second that others write there, ``clock`` seconds.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        acknowledged: Callable[[], int],
        under_replicated: Callable[[], int],
        others: Callable[[], float | None],
        clock: Callable[[], float],
    ) -> None:
        self._lanes = lanes
        self._acknowledged = acknowledged
        self._under_replicated = under_replicated
        self._others = others
        self._clock = clock
        self._looked_at = clock()
        self._least = 0.0  # seconds; before the first look nothing was sent at another rate
        self._bytes = 0
        self._quota_ms = [0] * len(lanes)
        self._latencies: list[float] = []

    def look(self) -> Sample | None:
        """What has been seen since the last sample; None while that is too little."""
        seconds = self._clock() - self._looked_at
        if seconds < self._least:
            return None
        for lane in self._lanes:
            self._latencies += lane.take_latencies()
        if seconds < LONGEST and len(self._latencies) < ENOUGH:
            return None
        before, self._bytes = self._bytes, self._acknowledged()
        waits, self._quota_ms = self._quota_ms, [lane.target_quota_ms for lane in self._lanes]
        sample = Sample(
            seconds=seconds,
            bytes=max(0, self._bytes - before),
            latencies=self._latencies,
            throttle_ms=max(now - then for now, then in zip(self._quota_ms, waits, strict=True)),
            under_replicated=self._under_replicated(),
            others=self._others(),
        )
        self._looked_at += seconds
        self._least = LOOK
        self._latencies = []
        return sample
