"""Samples of a target: when one is taken, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from replicator.pace.auto import ENOUGH, LONGEST, LOOK
from replicator.pace.sampling import Sampling, Totals


@dataclass
class Lane:
    latencies: list[int] = field(default_factory=list)
    target_quota_ms: int = 0

    def take_latencies(self) -> list[int]:
        taken, self.latencies = self.latencies, []
        return taken


class Rig:
    def __init__(self) -> None:
        self.lanes = [Lane(), Lane()]
        self.now, self.bytes, self.lagging = 1000.0, 0, 0
        self.others: float | None = None
        self.records = 0
        self.lag: int | None = None
        self.watch = Sampling(
            self.lanes,  # type: ignore[arg-type]
            lambda: Totals(self.bytes, self.records, self.lag, self.lagging, self.others),
            lambda: self.now,
        )


def test_a_sample_has_what_happened_since_the_last_one() -> None:
    rig = Rig()
    rig.lanes[0].latencies, rig.lanes[1].latencies = [1, 2, 3], [4]
    rig.lanes[0].target_quota_ms, rig.lanes[1].target_quota_ms = 30, 70
    rig.bytes, rig.lagging, rig.others = 5_000_000, 2, 300.0
    rig.now += 0.5
    first = rig.watch.look()
    assert first is not None
    assert (first.seconds, first.bytes, first.achieved) == (0.5, 5_000_000, 10_000_000)
    assert first.latencies == [1, 2, 3, 4]
    assert (first.throttle_ms, first.under_replicated, first.others) == (70, 2, 300.0)
    rig.lanes[0].target_quota_ms = 50
    rig.lanes[0].latencies = [9] * ENOUGH
    rig.bytes, rig.lagging, rig.others = 6_000_000, 0, None
    rig.now += 0.25
    second = rig.watch.look()
    assert second is not None
    assert (second.seconds, second.bytes) == (0.25, 1_000_000)
    assert second.latencies == [9] * ENOUGH
    assert (second.throttle_ms, second.under_replicated, second.others) == (20, 0, None)


def test_a_look_needs_time_and_answers() -> None:
    """With few answers it waits for more, up to a limit. The first sample only needs answers."""
    rig = Rig()
    rig.now += 0.01
    assert rig.watch.look() is None
    rig.lanes[0].latencies = [1] * ENOUGH
    assert rig.watch.look() is not None
    rig.lanes[0].latencies = [1] * ENOUGH
    rig.now += LOOK / 2
    assert rig.watch.look() is None
    rig.now += LOOK / 2
    assert rig.watch.look() is not None
    rig.lanes[0].latencies = [1] * (ENOUGH - 1)
    rig.now += LONGEST / 2
    assert rig.watch.look() is None
    rig.lanes[1].latencies = [2]
    sample = rig.watch.look()
    assert sample is not None and sample.latencies == [1] * (ENOUGH - 1) + [2]
    rig.now += LONGEST
    sample = rig.watch.look()
    assert sample is not None and (sample.latencies, sample.bytes) == ([], 0)


def test_bytes_never_go_back() -> None:
    """A partition that is asked anew may have fewer for a moment."""
    rig = Rig()
    rig.bytes = 100
    rig.now += LONGEST
    rig.watch.look()
    rig.bytes = 50
    rig.now += LONGEST
    sample = rig.watch.look()
    assert sample is not None and sample.bytes == 0


def test_a_follower_has_caught_up_when_its_lag_is_at_most_one_second_of_records() -> None:
    rig = Rig()
    seen = []
    for lag in (None, 0, 100, 401, 400):
        rig.lag = lag
        rig.records += 200  # in half a second
        rig.lanes[0].latencies = [1] * ENOUGH
        rig.now += 0.5
        sample = rig.watch.look()
        assert sample is not None
        seen.append(sample.caught_up)
    assert seen == [False, True, True, False, True]
    rig.lag = 1
    rig.now += LONGEST
    sample = rig.watch.look()
    assert sample is not None and not sample.caught_up  # nothing arrives although there is more
