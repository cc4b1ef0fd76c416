"""The limits on a run: how much it may write to the target, and how long it may take.

Volume is decided in the lanes, where a batch is about to be sent (``copycore.allowance``), so that
it is never exceeded; the driver only notices. Time is looked at by the driver, and what is in
flight by then is finished.
"""

from __future__ import annotations

from copycore.allowance import Allowance
from replicator.options.types import Merge
from replicator.report.model import Limit, LimitName

FEW_RECORDS = 100_000  # as one-record batches they take a target some two seconds


class RunLimits:
    """The limits of one run; ``reached`` is the first one that was, None before."""

    def __init__(
        self, *, size: int | None, records: int | None, milliseconds: int | None, began: float
    ) -> None:
        """``size`` in bytes, as ``report.Summary.bytes`` counts them, ``began`` in monotonic
        seconds; None where there is no limit.
        """
        self._size = size
        self._records = records
        self._seconds = None if milliseconds is None else milliseconds / 1000
        self._began = began
        self.allowance: Allowance | None = None
        if size is not None or records is not None:
            self.allowance = Allowance(records, size)
        self.reached: Limit | None = None

    def merge(self, asked: Merge) -> Merge:
        """Whether small batches are merged: not for a run of few records, where it saves little
        and one batch might hold more than the whole run may write.
        """
        few = self._records is not None and self._records < FEW_RECORDS
        return "never" if few and asked == "auto" else asked

    def batch_bytes(self, asked: int) -> int:
        """The size of batches made here: so small that a run comes close to its limit."""
        return asked if self._size is None else max(1, min(asked, self._size // 10))

    def look(self, now: float, *, following: bool) -> None:
        """Set ``reached`` where the run has to end; ``now`` in monotonic seconds.

        Only a batch that no longer fits ends a run: one that was allowed just as much as there was
        is done. One that follows might wait for such a batch without end, so it ends at once.
        """
        if self.reached is None:
            self.reached = self._volume(following) or self._duration(now)

    def _volume(self, following: bool) -> Limit | None:
        allowance = self.allowance
        if allowance is None:
            return None
        records, size = allowance.refused or (None, None)
        volumes: list[tuple[LimitName, int | None, int, int | None]] = [
            ("max-records", self._records, allowance.records_left, records),
            ("max-bytes", self._size, allowance.bytes_left, size),
        ]
        for name, value, left, asked in volumes:
            if value is None:
                continue
            if asked is not None and asked > left:
                return Limit(name=name, value=value, used=value - left, next=asked)
            if following and left == 0:
                return Limit(name=name, value=value, used=value)
        return None

    def _duration(self, now: float) -> Limit | None:
        elapsed = now - self._began
        if self._seconds is None or elapsed < self._seconds:
            return None
        return Limit(name="max-duration", value=self._seconds, used=elapsed)
