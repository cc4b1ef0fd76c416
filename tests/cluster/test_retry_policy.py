"""Backoff grows, is jittered over its whole range, and never outlives its deadline."""

from __future__ import annotations

import random

import pytest

from kit.clusters.connected import FakeTime
from replicator.cluster import RetryPolicy


def test_pauses_double_up_to_the_ceiling_and_end_at_the_deadline(fake_time: FakeTime) -> None:
    backoff = fake_time.policy(timeout=8.0).start()
    while backoff.pause():
        pass
    assert fake_time.slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 0.9])
    assert fake_time.now == pytest.approx(1008.0)
    assert backoff.remaining() == 0.0


def test_jitter_covers_everything_from_zero_to_the_ceiling(fake_time: FakeTime) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed).random
    policy = RetryPolicy(timeout=1e9, clock=fake_time.clock, sleep=fake_time.sleep, random=draw)
    for _ in range(2000):
        assert policy.start().pause()
    first = fake_time.slept
    assert all(0 <= pause <= policy.first for pause in first)
    assert min(first) < 0.02 * policy.first
    assert max(first) > 0.98 * policy.first
    assert sum(first) / len(first) == pytest.approx(policy.first / 2, rel=0.1)


def test_a_given_ceiling_holds_from_the_first_pause(fake_time: FakeTime) -> None:
    backoff = fake_time.policy(timeout=1.0).start(highest=0.05)
    assert backoff.pause()
    assert backoff.pause()
    assert fake_time.slept == pytest.approx([0.05, 0.05])


def test_nothing_is_waited_for_after_the_deadline(fake_time: FakeTime) -> None:
    backoff = fake_time.policy().start(timeout=0.0)
    assert not backoff.pause()
    assert fake_time.slept == []


def test_a_wait_that_was_asked_for_is_kept_whole_or_refused(fake_time: FakeTime) -> None:
    backoff = fake_time.policy(timeout=5.0).start()
    assert backoff.wait(4.0)
    assert not backoff.wait(1.5)
    assert fake_time.slept == [4.0]
    assert backoff.remaining() == pytest.approx(1.0)
