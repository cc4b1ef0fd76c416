"""Runs that end early: which limit ended them, when it does not count, and what goes on later."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kit.fakes.job import END, FakePart, World
from replicator.engine.limits import FEW_RECORDS, RunLimits
from replicator.engine.task import TaskState
from replicator.report.model import Limit

COUNT = 10  # records of a batch
SIZE = 100  # bytes of a batch


def limit(
    world: World,
    *,
    size: int | None = None,
    records: int | None = None,
    seconds: float | None = None,
) -> RunLimits:
    world.limits = RunLimits(
        size=size,
        records=records,
        milliseconds=None if seconds is None else int(seconds * 1000),
        began=world.clock(),
    )
    return world.limits


def lanes(world: World) -> Callable[[FakePart], None]:
    """Copies as lanes do: one batch of each partition a tick, as long as the limits allow; a
    partition at its end has ended.
    """

    def tick() -> None:
        for part in list(world.workers[0].running):
            allowance = world.limits.allowance
            if allowance is None or allowance.take(COUNT, SIZE):
                world.write(part, COUNT)
                part.bytes += SIZE
            if 0 <= part.end <= part.acked:
                world.end_as(part, "done")
                world.workers[0].report(part)

    world.inbox.ticks.append(tick)
    return lambda _part: None


def written(world: World) -> int:
    return sum(task.counts.records for task in world.tasks)


@pytest.mark.parametrize(
    ("limits", "records", "reached"),
    [
        ({"records": 45}, 40, Limit(name="max-records", value=45, used=40, next=10)),
        ({"size": 799}, 70, Limit(name="max-bytes", value=799, used=700, next=100)),
        ({"size": 5000, "records": 3}, 0, Limit(name="max-records", value=3, used=0, next=10)),
        ({"size": 120, "records": 20}, 10, Limit(name="max-bytes", value=120, used=100, next=100)),
    ],
)
def test_a_volume_is_reached(
    world: World, limits: dict[str, int], records: int, reached: Limit
) -> None:
    for topic in ("a", "b", "c"):
        world.add(topic)
    found = limit(world, **limits)
    world.script = lanes(world)
    began = world.clock.now
    world.run()
    assert found.reached == reached
    assert written(world) == records
    assert all(task.stopped for task in world.tasks)
    assert all(task.fault is None for task in world.tasks)
    assert all(part.ending == "stopped" for part in world.parts)
    assert world.clock.now - began < 3


def test_the_same_command_goes_on(world: World) -> None:
    """Every task says where the next run begins; that one has an allowance of its own."""
    tasks = [world.add(topic) for topic in ("a", "b")]
    found = limit(world, records=55)
    world.script = lanes(world)
    world.run()
    assert found.reached is not None
    assert [(task.position, task.counter) for task in tasks] == [(30, 30), (20, 20)]
    for task in tasks:
        task.state = TaskState.WAITING  # as the next run's
    found = limit(world, records=150)
    world.run()
    assert found.reached is None
    assert [(task.done, task.stopped, task.fault) for task in tasks] == [(True, False, None)] * 2
    assert [world.target.log(topic).end for topic in ("a", "b")] == [END, END]


def test_a_limit_of_just_what_there_is_is_not_reached(world: World) -> None:
    task = world.add()
    found = limit(world, records=END, size=END // COUNT * SIZE)
    world.script = lanes(world)
    world.run()
    assert task.done
    assert found.reached is None


@pytest.mark.parametrize("limits", [{"records": END}, {"size": END // COUNT * SIZE}])
def test_one_that_follows_ends_with_the_last_that_is_allowed(
    world: World, limits: dict[str, int]
) -> None:
    """Otherwise it would wait without end for a batch that exceeds the limit."""
    task = world.add(end=-1)
    found = limit(world, **limits)
    world.script = lanes(world)
    world.run()
    assert task.stopped
    assert written(world) == END
    assert found.reached is not None
    assert (found.reached.used, found.reached.next) == (found.reached.value, None)


def test_what_was_all_in_flight_when_a_limit_was_reached_is_done(world: World) -> None:
    whole, part_of = world.add("a", end=10), world.add("b")
    limit(world, seconds=5)
    world.script = lambda part: world.write(part, 10)
    world.run()
    assert [part.ending for part in world.parts] == ["stopped", "stopped"]
    assert whole.done and not whole.stopped
    assert part_of.stopped and not part_of.done


def test_a_duration_is_reached(world: World) -> None:
    task = world.add(end=10**6)
    found = limit(world, seconds=30)
    world.script = lanes(world)
    began = world.clock.now
    world.run()
    assert task.stopped
    assert found.reached is not None
    assert (found.reached.name, found.reached.value) == ("max-duration", 30)
    assert found.reached.used == pytest.approx(30, abs=0.5)
    assert world.clock.now - began < 31
    assert 0 < written(world) == task.position < 10**6


def test_a_duration_ends_what_waits_to_be_tried_again(world: World) -> None:
    task = world.add()
    found = limit(world, seconds=10)
    world.script = world.lose
    world.run()
    assert task.stopped
    assert task.fault is None
    assert found.reached is not None


def test_a_duration_that_was_over_before_it_began_assigns_nothing(world: World) -> None:
    """Planning took all of it."""
    task = world.add()
    found = limit(world, seconds=10)
    world.clock.now += 10
    world.run()
    assert task.stopped
    assert world.parts == []
    assert found.reached is not None


def test_a_copy_that_is_quicker_than_its_limits_is_done(world: World) -> None:
    task = world.add()
    found = limit(world, seconds=3600, records=10**6, size=10**9)
    world.script = lanes(world)
    world.run()
    assert task.done
    assert found.reached is None


def test_batches_made_here_are_small_enough_for_the_limit(world: World) -> None:
    few = limit(world, size=20_000, records=FEW_RECORDS - 1)
    assert [few.merge("auto"), few.merge("always"), few.merge("never")] == [
        "never", "always", "never",
    ]  # fmt: skip
    assert [few.batch_bytes(512 << 10), few.batch_bytes(100)] == [2000, 100]
    assert limit(world, size=3).batch_bytes(100) == 1
    for many in (limit(world, records=FEW_RECORDS), limit(world)):
        assert (many.merge("auto"), many.batch_bytes(512 << 10)) == ("auto", 512 << 10)


def test_the_first_limit_that_is_reached_is_told(world: World) -> None:
    world.add(end=10**6)
    found = limit(world, seconds=5, records=100)
    world.script = lanes(world)
    world.run()
    assert found.reached is not None and found.reached.name == "max-records"
    world.clock.now += 10
    found.look(world.clock.now, following=False)
    assert found.reached.name == "max-records"
