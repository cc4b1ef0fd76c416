"""Small batches that come one after the other, in a copy that follows."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from copycore.rebatch import Rebatcher
from kit.brokers.rig import Ends, Rig
from kit.logs.random_records import Merge
from kit.logs.truth import LZ4, RecordLog, arrived, check_delivered, rows

LINGER = 20


@dataclass
class Following:
    """A log that gets a batch of one record every millisecond, and when each one arrived."""

    rig: Rig
    ends: Ends
    log: RecordLog
    arrived: list[int] = field(default_factory=list)  # ms after it was written

    def write(self, count: int, *, every: int = 1, value: bytes = b"value") -> None:
        written: list[int] = []
        part = self.rig.parts[0]
        done = part.acked
        first = self.log.end
        for number in range(count * every + 200):
            if number % every == 0 and len(written) < count:
                one = rows(first + len(written), -1)[0]._replace(value=value)
                self.log.add([one], LZ4)
                written.append(self.rig.now)
            self.rig.step()
            for _ in range(part.acked - done):
                self.arrived.append(self.rig.now - written[len(self.arrived)])
            done = part.acked
            if len(self.arrived) == count:
                return
        raise AssertionError(f"{len(self.arrived)} of {count} records arrived")

    @property
    def batches(self) -> int:
        return len(self.rig.stored(self.ends, self.rig.parts[0]))


def follow(make_rig: Callable[..., Rig], *, merge: Merge = "auto", **settings: Any) -> Following:
    rig = make_rig(rebatcher=Rebatcher(merge=merge), **({"linger": LINGER} | settings))
    log = RecordLog().add(rows(0, -1), LZ4)
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=-1)
    rig.run(lambda: part.acked == 1)
    rig.step(2 * LINGER)
    return Following(rig, ends, log)


def stop(following: Following) -> None:
    """Stops the copy; every record must be on the target, once and in order."""
    rig = following.rig
    rig.lane.stop_all()
    rig.run()
    stored = rig.stored(following.ends, rig.parts[0])
    log = following.log
    wanted = log.seen(0, log.end, committed=True)
    assert [one.seen for one in arrived(stored)] == [one.seen for one in wanted]


@pytest.mark.parametrize("merge", ["auto", "always"])
def test_they_are_joined_and_none_waits_longer(make_rig: Callable[..., Rig], merge: Merge) -> None:
    eager = follow(make_rig, merge=merge, linger=0)
    eager.write(200)
    patient = follow(make_rig, merge=merge)
    patient.write(200)
    assert patient.batches <= 200 / LINGER + 5 < eager.batches / 3
    assert max(patient.arrived) <= max(eager.arrived) + LINGER
    assert max(patient.arrived) >= LINGER - 5
    stop(eager)
    stop(patient)


def test_the_first_one_after_a_pause_does_not_wait(make_rig: Callable[..., Rig]) -> None:
    eager, patient = follow(make_rig, linger=0), follow(make_rig)
    for one in (eager, patient):
        one.write(5, every=2 * LINGER)
        stop(one)
    assert max(patient.arrived) <= max(eager.arrived) + 1


@pytest.mark.parametrize("what", ["never", "large"])
def test_what_is_not_joined_does_not_wait(make_rig: Callable[..., Rig], what: str) -> None:
    """Because the user does not want it, or because a batch of that size goes through as it is."""
    merge: Merge = "never" if what == "never" else "auto"
    value = random.Random(1).randbytes(20_000 if what == "large" else 200)
    longest = []
    for linger in (0, LINGER):
        following = follow(make_rig, merge=merge, linger=linger)
        following.write(50, value=value)
        longest.append(max(following.arrived))
        stop(following)
    assert longest[1] <= longest[0] + 1


def test_a_partition_with_a_backlog_is_not_held_up(make_rig: Callable[..., Rig]) -> None:
    """Another partition of the same pipe, which gets few records, does not delay it."""
    rig = make_rig(rebatcher=Rebatcher(merge="always"), linger=10_000)
    busy = RecordLog(partition=1)
    for number in range(2000):
        busy.add(rows(number, -1), LZ4)
    slow = RecordLog().add(rows(0, -1), LZ4)
    ends = rig.pipe(slow, busy, slab=1 << 14)
    parts = [rig.assign(ends, log, end=-1) for log in (slow, busy)]
    rig.run(lambda: parts[1].acked == 2000, turns=1000)
    rig.lane.stop_all()
    rig.run()


def test_a_copy_with_an_end_waits_for_nothing(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge="always"), linger=10_000)
    log = RecordLog()
    for number in range(300):
        log.add(rows(number, -1), LZ4)
    ends = rig.pipe(log, slab=1 << 12)
    part = rig.assign(ends, log)
    rig.run(turns=1000)
    check_delivered(rig, ends, part, log)
