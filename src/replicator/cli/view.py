"""What a progress display says, worked out from snapshots. Pure: no clock, no terminal."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from replicator.cli.units import clock, count, plural, short
from replicator.cli.window import RateWindow
from replicator.report.model import PartitionProgress, Snapshot, Throttler

WINDOW = 10.0  # seconds a shown rate is taken over
SLOWEST = 3  # partitions named in the live block

Style = Literal["", "strong", "dim", "good", "warning", "error"]
Line = list[tuple[str, Style]]

THROTTLERS: dict[Throttler, str] = {
    "limit": "--throttle",
    "source quota": "the source's quota",
    "target quota": "the target's quota",
}


class SlowPartition(Struct, frozen=True, kw_only=True):
    topic: str
    partition: int
    left: int  # offsets
    offsets_per_second: float | None
    seconds_left: float | None  # None while nothing moves


class View(Struct, frozen=True, kw_only=True):
    """One moment of a copy, with rates. Also the fields of a progress event in the JSON log."""

    phase: str
    elapsed: float
    percent: float | None  # of the offsets; None when following or not yet known
    seconds_left: float | None
    bytes: int
    bytes_total: int | None
    logical_bytes: int | None
    records: int
    bytes_per_second: float | None
    logical_bytes_per_second: float | None
    records_per_second: float | None
    lag: int
    throttle: str
    throttle_bytes: int | None
    throttled_by: Throttler
    throttle_seconds: float
    partitions: int
    partitions_done: int
    partitions_failed: int
    recoveries: int
    slowest: list[SlowPartition]


class Observer:
    """Turns the snapshots of one copy, given in order, into views."""

    def __init__(self, *, following: bool) -> None:
        self._following = following
        self._totals: RateWindow[str] = RateWindow(WINDOW)
        self._positions: RateWindow[tuple[str, int]] = RateWindow(WINDOW)

    def see(self, snapshot: Snapshot) -> View:
        counters = {
            "bytes": snapshot.bytes,
            "records": snapshot.records,
            "offsets": snapshot.offsets_done,
            "throttle": snapshot.throttle_ms,
        }
        if snapshot.logical_bytes is not None:
            counters["logical"] = snapshot.logical_bytes
        self._totals.add(snapshot.elapsed, counters)
        ended = ("stopped", "done", "failed")
        running = [p for p in snapshot.partitions if p.state not in ended]
        self._positions.add(snapshot.elapsed, {(p.topic, p.partition): p.position for p in running})
        total = snapshot.offsets_total
        percent = None
        if total and not self._following:
            percent = min(100 * snapshot.offsets_done / total, 100.0)
        return View(
            phase=snapshot.phase,
            elapsed=snapshot.elapsed,
            percent=percent,
            seconds_left=None if self._following else self._seconds_left(snapshot),
            bytes=snapshot.bytes,
            bytes_total=None if self._following else snapshot.bytes_total,
            logical_bytes=snapshot.logical_bytes,
            records=snapshot.records,
            bytes_per_second=self._totals.rate("bytes"),
            logical_bytes_per_second=self._totals.rate("logical"),
            records_per_second=self._totals.rate("records"),
            lag=snapshot.lag,
            throttle=snapshot.throttle,
            throttle_bytes=snapshot.throttle_bytes,
            # What held the copy back long ago is not what holds it back now.
            throttled_by=snapshot.throttled_by if self._totals.rate("throttle") else "",
            throttle_seconds=snapshot.throttle_ms / 1000,
            partitions=len(snapshot.partitions),
            partitions_done=snapshot.partitions_done,
            partitions_failed=snapshot.partitions_failed,
            recoveries=snapshot.recoveries,
            slowest=self._slowest(running),
        )

    def _seconds_left(self, snapshot: Snapshot) -> float | None:
        offsets_left = snapshot.offsets_total - snapshot.offsets_done
        if offsets_left <= 0:
            return 0.0 if snapshot.offsets_total else None
        # Bytes tell more where topics differ in the size of their records; but a source's log is
        # only an estimate, so the offsets decide once it is used up.
        if snapshot.bytes_total is not None and snapshot.bytes_total > snapshot.bytes:
            return _quotient(snapshot.bytes_total - snapshot.bytes, self._totals.rate("bytes"))
        return _quotient(offsets_left, self._totals.rate("offsets"))

    def _slowest(self, running: list[PartitionProgress]) -> list[SlowPartition]:
        found = []
        for p in running:
            if p.end > p.position:
                rate = self._positions.rate((p.topic, p.partition))
                found.append(
                    SlowPartition(
                        topic=p.topic,
                        partition=p.partition,
                        left=p.end - p.position,
                        offsets_per_second=rate,
                        seconds_left=_quotient(p.end - p.position, rate),
                    )
                )
        found.sort(key=lambda p: (p.seconds_left is None, p.seconds_left or 0, p.left))
        return found[: -SLOWEST - 1 : -1]


def _quotient(left: int, rate: float | None) -> float | None:
    return left / rate if rate else None


def plain_line(view: View) -> str:
    """One line that can be understood alone, in a log file."""
    parts = [clock(view.elapsed)]
    if view.phase != "copying":
        parts.append(view.phase)
    if view.percent is not None:
        parts.append(f"{view.percent:.1f} %")
    parts += _speed(view)
    parts.append(_amount(view))
    parts.append(f"lag {count(view.lag)}")
    if view.seconds_left is not None:
        parts.append(f"{clock(view.seconds_left)} left")
    if view.throttled_by:
        limit = f" {_limit(view)}" if view.throttled_by == "limit" else ""
        parts.append(f"held back by {THROTTLERS[view.throttled_by]}{limit}")
    if view.partitions_failed:
        parts.append(f"{plural(view.partitions_failed, 'partition')} failed")
    return " · ".join(parts)


def live_block(view: View, *, title: str, width: int) -> list[Line]:
    """The lines of the live block, styled; the caller cuts them to ``width`` columns."""
    lines: list[Line] = [
        [
            (f"{view.phase} ", "strong"),
            (f"{clock(view.elapsed)}  ", "dim"),
            (title, ""),
        ]
    ]
    if view.percent is not None:
        left = "" if view.seconds_left is None else f"  {clock(view.seconds_left)} left"
        room = max(min(width - 30, 60), 10)
        filled = int(room * view.percent / 100)
        bar: Line = [("█" * filled, "good"), ("░" * (room - filled), "dim")]
        lines.append([*bar, (f" {view.percent:5.1f} %", "strong"), (left, "")])
    speed = "  ".join(_speed(view)) if view.bytes else ""
    lines.append([(speed or "waiting for the first batch", "strong")])
    lines.append(
        [
            (f"{_amount(view)} · {count(view.records)} records · lag {count(view.lag)}", ""),
            (_partitions(view), "dim"),
        ]
    )
    limits = []
    if view.throttle_seconds >= 0.05:
        now = f"now by {THROTTLERS[view.throttled_by]}" if view.throttled_by else "not now"
        limits.append(f"held back {clock(view.throttle_seconds)} so far, {now}")
    if view.throttle != "off":
        limits.append(f"limit {_limit(view)}")
    if limits:
        lines.append([(" · ".join(limits), "warning")])
    if view.partitions_failed:
        failed = f"{plural(view.partitions_failed, 'partition')} failed; the others go on"
        lines.append([(failed, "error")])
    if view.partitions > 1:
        lines += [[(_slow(p), "dim")] for p in view.slowest]
    return lines


def _speed(view: View) -> list[str]:
    parts = []
    if view.bytes_per_second is not None:
        parts.append(short(view.bytes_per_second, "B/s"))
    if view.logical_bytes_per_second is not None:
        parts.append(short(view.logical_bytes_per_second, "B/s") + " uncompressed")
    if view.records_per_second is not None:
        parts.append(short(view.records_per_second).strip() + " records/s")
    return parts


def _limit(view: View) -> str:
    if view.throttle == "auto" and view.throttle_bytes is not None:
        return f"auto, now {short(view.throttle_bytes, 'B/s')}"
    return view.throttle


def _amount(view: View) -> str:
    amount = short(view.bytes, "B")
    return amount if view.bytes_total is None else f"{amount} of {short(view.bytes_total, 'B')}"


def _partitions(view: View) -> str:
    done = f" · {count(view.partitions_done)} of {plural(view.partitions, 'partition')} done"
    return done + (f" · recovered {view.recoveries}×" if view.recoveries else "")


def _slow(p: SlowPartition) -> str:
    text = f"  slow: {count(p.left)} offsets behind, "
    if p.seconds_left is not None:
        text += f"{clock(p.seconds_left)} left, "
    elif p.offsets_per_second is not None:
        text += "standing still, "
    return f"{text}{p.topic}-{p.partition}"  # last, since a long name is cut at the edge
