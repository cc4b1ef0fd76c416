"""What a copy sees of its target while it writes, sample by sample, for ``auto``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from replicator.pace.auto import ENOUGH, LONGEST, LOOK, Sample

if TYPE_CHECKING:
    from copycore.lane import Lane

CAUGHT_UP = 1.0  # seconds' worth of what comes, by which a copy that follows may be late


class Totals(Struct, frozen=True):
    """What a copy has done, at one moment."""

    bytes: int  # acknowledged so far
    records: int
    lag: int | None  # offsets that the source has more; None unless the whole copy follows
    under_replicated: int  # partitions of the target
    others: float | None  # records a second that others write there; None for not known


class Sampling:
    """Samples of one run, taken in one thread. ``clock`` gives seconds."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        totals: Callable[[], Totals],
        clock: Callable[[], float],
    ) -> None:
        self._lanes = lanes
        self._totals = totals
        self._clock = clock
        self._looked_at = clock()
        self._least = 0.0  # seconds; before the first look nothing was sent at another rate
        self._bytes = self._records = 0
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
        now = self._totals()
        size, self._bytes = now.bytes - self._bytes, now.bytes
        records, self._records = now.records - self._records, now.records
        waits, self._quota_ms = self._quota_ms, [lane.target_quota_ms for lane in self._lanes]
        sample = Sample(
            seconds=seconds,
            bytes=max(0, size),
            latencies=self._latencies,
            throttle_ms=max(
                late - early for late, early in zip(self._quota_ms, waits, strict=True)
            ),
            under_replicated=now.under_replicated,
            others=now.others,
            caught_up=now.lag is not None and now.lag * seconds <= max(0, records) * CAUGHT_UP,
        )
        self._looked_at += seconds
        self._least = LOOK
        self._latencies = []
        return sample
