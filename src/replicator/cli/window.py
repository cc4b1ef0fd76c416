"""Rates over a sliding window. Pure: time comes with the samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key")


class RateWindow(Generic[Key]):
    """How fast each of a set of growing counters grew, over the last ``span`` seconds.

    A counter that appears later counts from its first sample; one that goes back (a partition
    asked the target again) gives 0, never a negative rate.
    """

    def __init__(self, span: float) -> None:
        self._span = span
        self._samples: deque[tuple[float, Mapping[Key, int]]] = deque()

    def add(self, time: float, counters: Mapping[Key, int]) -> None:
        """Takes a sample; ``time`` in seconds, from any origin, never going back."""
        if self._samples and time <= self._samples[-1][0]:
            self._samples.pop()
        self._samples.append((time, counters))
        # One sample at or before the window's edge stays, so that the window is always full.
        while len(self._samples) > 2 and self._samples[1][0] <= time - self._span:
            self._samples.popleft()

    def rate(self, key: Key) -> float | None:
        """Per second; None until there are two samples of this counter."""
        latest, counters = self._samples[-1] if self._samples else (0.0, {})
        if key not in counters:
            return None
        for moment, earlier in self._samples:
            if key in earlier and moment < latest:
                return max(counters[key] - earlier[key], 0) / (latest - moment)
        return None
