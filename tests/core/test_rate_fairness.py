"""How a limit is shared: topics by weight, partitions equally, whatever their batch sizes."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from copycore.bucket import BURST, GRACE, QUANTUM, Bucket

START = 100.0


@dataclass
class Sender:
    """One partition's demand: always a batch of ``size`` ready, while ``wants`` says so."""

    bucket: Bucket
    size: int
    records: int = 1
    wants: Callable[[float], bool] = lambda _now: True
    sent: list[tuple[float, int]] = field(default_factory=list)

    def between(self, began: float, ended: float) -> int:
        return sum(size for at, size in self.sent if began <= at < ended)


def simulate(
    lanes: list[list[Sender]],
    seconds: float,
    rng: random.Random,
    late: Callable[[int], float] = lambda _lane: 0.001,
) -> None:
    """Each lane looks at its senders in rotation, as a pipe does, sends while it may, and sleeps as
    long as it was told and up to ``late`` seconds more.
    """
    due = [(START + rng.uniform(0, late(number)), number) for number in range(len(lanes))]
    heapq.heapify(due)
    turns = [0] * len(lanes)
    while due[0][0] < START + seconds:
        now, number = heapq.heappop(due)
        senders = lanes[number]
        while True:
            delays = []
            moved = False
            for index in range(len(senders)):
                sender = senders[(turns[number] + index) % len(senders)]
                if not sender.wants(now):
                    continue
                delay = sender.bucket.take(now, sender.size, sender.records)
                if delay == 0:
                    sender.sent.append((now, sender.size))
                    moved = True
                else:
                    delays.append(delay)
            turns[number] += 1
            if not moved:
                break
        pause = min(delays, default=0.005)
        heapq.heappush(due, (now + max(pause, 0.001) + rng.uniform(0, late(number)), number))


def dripping(bucket: Bucket, size: int, batches: int) -> Sender:
    """A sender that has so many batches a second to send."""

    def ready(now: float) -> bool:
        return len(sender.sent) < int((now - START) * batches)

    sender = Sender(bucket, size, wants=ready)
    return sender


def limited(rate: float, records: float = 0.0) -> Bucket:
    root = Bucket()
    root.set_rates(START, rate, records)
    return root


@settings(deadline=None, max_examples=40, phases=[Phase.explicit, Phase.generate])
@given(
    weights=st.lists(st.integers(1, 8), min_size=2, max_size=4),
    counts=st.lists(st.integers(1, 6), min_size=4, max_size=4),
    sizes=st.lists(st.sampled_from([700, 5_000, 60_000, 300_000]), min_size=24, max_size=24),
    lanes=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_no_two_are_ever_further_apart_than_a_quantum_and_a_batch(
    weights: list[int], counts: list[int], sizes: list[int], lanes: int, seed: int
) -> None:
    """Topics by weight and a topic's partitions alike, in every window: the promise itself."""
    rate, seconds = 1e6, 6.0
    rng = random.Random(seed)
    root = limited(rate)
    topics = []
    for number, weight in enumerate(weights):
        topic = Bucket(root, weight)
        topics.append([Sender(Bucket(topic), sizes.pop()) for _ in range(counts[number])])
    everyone = [sender for topic in topics for sender in topic]
    rng.shuffle(everyone)
    simulate([everyone[n::lanes] for n in range(lanes)], seconds, rng, lambda _lane: 0.002)
    assert sum(s.between(START, START + seconds) for s in everyone) >= 0.95 * rate * seconds - 3e5
    for _ in range(10):
        began, ended = sorted(START + rng.uniform(0, seconds) for _ in range(2))

        groups = [(topics, weights)]
        groups += [([[sender] for sender in topic], [1] * len(topic)) for topic in topics]
        for members, shares in groups:
            # How long each had the limit to itself, by its weight.
            had = [
                sum(s.between(began, ended) for s in member) / rate / share
                for member, share in zip(members, shares, strict=True)
            ]
            # Within a quantum and a batch at both ends of the window, seen from either side.
            batch = max(s.size for member in members for s in member) / rate
            assert max(had) - min(had) <= 2 * (QUANTUM + batch) * (1 + 1e-9)


def test_weights_are_shares() -> None:
    rng = random.Random(1)
    root = limited(1e7)
    senders = [Sender(Bucket(Bucket(root, weight)), 20_000) for weight in (1, 2, 5)]
    simulate([[sender] for sender in senders], 20, rng)
    had = [sender.between(START, START + 20) for sender in senders]
    assert sum(had) == pytest.approx(2e8, rel=0.02)
    assert [amount / sum(had) for amount in had] == pytest.approx([1 / 8, 2 / 8, 5 / 8], rel=0.03)


def test_a_topic_of_many_partitions_gets_no_more_than_one_of_one() -> None:
    rng = random.Random(2)
    root = limited(5e6)
    wide, narrow = Bucket(root), Bucket(root)
    many = [Sender(Bucket(wide), 16_000) for _ in range(99)]
    one = Sender(Bucket(narrow), 16_000)
    lanes = [[*many[:33], one], many[33:66], many[66:]]
    simulate(lanes, 20, rng)
    assert one.between(START, START + 20) == pytest.approx(5e7, rel=0.05)


def test_what_one_leaves_unused_goes_to_the_others() -> None:
    rng = random.Random(3)
    root = limited(1e7)
    heavy = Sender(Bucket(Bucket(root, 9)), 20_000, wants=lambda now: now < START + 5)
    light = Sender(Bucket(Bucket(root, 1)), 20_000)
    simulate([[heavy], [light]], 15, rng)
    assert light.between(START, START + 5) == pytest.approx(5e6, rel=0.1)
    assert light.between(START + 5.5, START + 15) == pytest.approx(9.5e7, rel=0.02)


def test_an_idle_topic_saves_up_nothing() -> None:
    rng = random.Random(4)
    root = limited(1e7)
    late = Sender(Bucket(Bucket(root)), 20_000, wants=lambda now: now >= START + 10)
    always = Sender(Bucket(Bucket(root)), 20_000)
    simulate([[late], [always]], 12, rng)
    first = late.between(START + 10, START + 10.5)
    assert first <= 0.5e7 / 2 + 1e7 * (QUANTUM + BURST) + 20_000
    assert always.between(START + 10, START + 12) == pytest.approx(1e7, rel=0.1)


@pytest.mark.parametrize(("size", "batches"), [(200, 100), (200, 900), (10_000, 160)])
def test_one_held_up_elsewhere_does_not_slow_the_others_down(size: int, batches: int) -> None:
    """A slow producer, or a slow broker with a full queue: it uses less than its share, and the
    rest goes to the others in equal parts.
    """
    rng = random.Random(5)
    root = limited(1e7)
    slow = dripping(Bucket(Bucket(root)), size, batches)
    busy = [Sender(Bucket(Bucket(root)), 50_000), Sender(Bucket(Bucket(root)), 9_000)]
    simulate([[slow], *([sender] for sender in busy)], 20, rng)
    had = [sender.between(START, START + 20) for sender in busy]
    assert sum(had) + slow.between(START, START + 20) >= 0.97 * 2e8
    assert had[0] == pytest.approx(had[1], rel=0.05)
    assert slow.between(START, START + 20) >= 0.97 * size * batches * 20


def test_one_that_does_not_come_back_is_waited_for_no_longer_than_its_time() -> None:
    """The connection of one sender is stuck: the others lose no more than that wait."""
    root = limited(1e6)
    stuck, other = Bucket(Bucket(root)), Bucket(Bucket(root))
    delay = stuck.take(START, 1000)
    assert delay > 0
    now, sent = START + delay, 0
    ended = now + GRACE + 0.5
    while now < ended:
        delay = other.take(now, 1000)
        sent += 1000 * (delay == 0)
        now += delay
    assert sent >= 1e6 * (0.5 + GRACE) - 1e6 * (GRACE - QUANTUM) - 1e5


def test_the_limit_of_one_topic_does_not_slow_the_others_down() -> None:
    """A topic with its own limit uses less than its share of the common one, however long it
    waits.
    """
    rng = random.Random(6)
    root = limited(1e7)
    topics = []
    for _ in range(12):
        slow = Bucket(root, 9)
        slow.set_rates(START + rng.uniform(0, 0.3), 1e5, 0)
        topics.append([Sender(Bucket(slow), 30_000) for _ in range(3)])
    free = Sender(Bucket(Bucket(root, 1)), 50_000)
    lanes = [[s for topic in topics for s in topic[:2]], [topic[2] for topic in topics], [free]]
    simulate(lanes, 20, rng)
    for topic in topics:
        parts = [s.between(START, START + 20) for s in topic]
        assert sum(parts) == pytest.approx(2e6, rel=0.05)
        assert max(parts) - min(parts) <= 1e5 * QUANTUM + 2 * 30_000
    assert free.between(START, START + 20) == pytest.approx(2e8 - 12 * 2e6, rel=0.02)


def test_a_topic_s_turn_is_kept_for_its_slowest_lane() -> None:
    """One lane of the topic was served and has no more to send; another has not woken up yet."""
    rng = random.Random(9)
    root = limited(1e7)
    topic = Bucket(root)
    drop = dripping(Bucket(topic), 100, 200)
    slow = Sender(Bucket(topic), 400_000)
    other = Sender(Bucket(Bucket(root)), 20_000)
    simulate([[drop], [slow], [other]], 20, rng, lambda lane: 0.06 if lane == 1 else 0.0005)
    had = [s.between(START, START + 20) for s in (slow, other)]
    assert sum(had) == pytest.approx(2e8, rel=0.03)
    assert had[0] == pytest.approx(1e8, rel=0.05)


def test_under_a_limit_on_records_shares_are_records() -> None:
    rng = random.Random(7)
    root = limited(0, 10_000)
    small = Sender(Bucket(Bucket(root)), 1_000, records=10)
    large = Sender(Bucket(Bucket(root)), 90_000, records=10)
    simulate([[small, large]], 10, rng)
    assert len(small.sent) == pytest.approx(5000, rel=0.03)
    assert len(large.sent) == pytest.approx(5000, rel=0.03)


def test_a_new_weight_counts_from_now_on() -> None:
    rng = random.Random(8)
    root = limited(1e7)
    topic = Bucket(root)
    left, right = Sender(Bucket(topic), 20_000), Sender(Bucket(Bucket(root)), 20_000)
    simulate([[left], [right]], 5, rng)
    assert left.between(START, START + 5) == pytest.approx(2.5e7, rel=0.05)
    topic.weight = 4
    left.sent.clear()
    right.sent.clear()
    simulate([[left], [right]], 10, rng)
    had = left.between(START + 5, START + 10), right.between(START + 5, START + 10)
    assert had[0] / sum(had) == pytest.approx(0.8, rel=0.05)
