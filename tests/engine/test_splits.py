"""Split partitions: where they go on, what is counted again, what is stored at their end."""

from __future__ import annotations

from types import SimpleNamespace

from kit.fakes.job import END, FakePart, World
from kit.fakes.world import PRODUCER
from replicator.engine.splits import SplitPosition
from replicator.engine.task import PartitionTask
from replicator.errors import ExitCode
from replicator.offsets.splits import Splits, fresh
from replicator.state.map_topic import MapTopic
from replicator.state.records import Arrival, Point, SplitBinding, SplitState

# --- where one goes on ----------------------------------------------------------------------------


def split_position(*points: Point, counter: int) -> SplitPosition:
    """Records go to two target partitions, as the stored state says."""
    state = SplitState(
        binding=None,  # type: ignore[arg-type]
        points=points,
        arrivals=(Arrival(0, 0), Arrival(0, 0)),
    )
    at = SplitPosition(points[0], points[0].counters)
    at.resume(state, [counter, 0])
    return at


def test_a_gap_of_a_split_partition_is_skipped_where_everything_has_arrived() -> None:
    at = split_position(Point(30, (20, 0)), counter=20)
    assert at.skip_to(45)
    assert at.begin == Point(45, (20, 0))


def test_a_gap_of_a_split_partition_with_strides_on_the_way_is_refused() -> None:
    """It cannot be known which of the deleted records are on the target."""
    at = split_position(Point(30, (20, 0)), Point(40, (30, 0)), counter=25)
    assert not at.skip_to(45)
    assert at.begin == Point(30, (20, 0))


def test_only_strides_that_arrived_in_part_are_counted_again() -> None:
    """The first has arrived, the second in part, the third not at all."""
    at = split_position(
        Point(0, (0, 0)), Point(10, (4, 0)), Point(20, (9, 0)), Point(30, (12, 0)), counter=6
    )
    assert at.to_recount == [Point(20, (9, 0))]
    assert at.begin == Point(0, (0, 0))
    assert at.take_count((9, 0))
    assert (at.to_recount, at.begin) == ([], Point(0, (0, 0)))


def test_a_second_count_begins_where_the_first_one_ended() -> None:
    points = (Point(0, (0, 0)), Point(10, (4, 3)), Point(20, (9, 5)))
    at = SplitPosition(points[0], points[0].counters)
    at.resume(SplitState(None, points, ()), [6, 2])  # type: ignore[arg-type]
    assert at.to_recount == [points[1], points[2]]
    assert at.take_count((4, 3))
    assert at.begin == points[1]
    assert not at.take_count((8, 5)), "a record is gone"


# --- with a driver --------------------------------------------------------------------------------


def add_split(world: World, *points: Point) -> PartitionTask:
    """A task whose records go to the one partition of another topic by their keys, say; with the
    points that are stored."""
    task = world.add()
    task.located = False
    binding = SplitBinding(
        task.binding.source_id, "orders", task.binding.target_id, PRODUCER, 0, "murmur2", (0,)
    )
    state = fresh(binding, 0)
    if points:
        state = SplitState(binding, points, state.arrivals)
    world.map_topic.take_over({"orders": 1})
    world.splits.restate(world.writer, {task.tp: state})
    task.progress = world.split_by("murmur2")
    return task


def stride(world: World, part: FakePart, end: int, counter: int) -> None:
    """The records up to ``end`` are cut; after them the target's next one has this number."""
    assert world.driver is not None
    found = SimpleNamespace(start=part.position, end=end, counters=[counter])
    part.arrivals = [(-1, -1)]
    world.gates.write_stride(world.workers[0], part, found)  # type: ignore[arg-type]
    part.position = end
    part.counters = [counter]


def arrive(world: World, part: FakePart, count: int) -> None:
    log = world.target.log("orders")
    log.write(count, log.end)
    part.records += count
    part.arrivals = [(log.end, log.end)]


def stored_splits(world: World) -> SplitState:
    splits = Splits(MapTopic("f"))
    splits.topic.read(world.state.records)
    found = splits.state(("orders", 0))
    assert found is not None
    return found


def test_a_split_copy_that_ends_in_a_hole_is_settled(world: World) -> None:
    """All that was cut is on the target: the next run need not split it up again to know."""
    task = add_split(world)

    def script(part: FakePart) -> None:
        stride(world, part, 30, 30)
        arrive(world, part, 30)
        part.acked = 30
        world.end_as(part, "empty")

    world.script = script
    world.run()
    assert (task.done, task.fault, len(world.parts)) == (True, None, 1)
    assert stored_splits(world).settled
    assert stored_splits(world).points == (Point(30, (30,)),), "the hole is not part of it"


def test_a_hole_where_a_split_partition_is_counted_again_is_no_end(world: World) -> None:
    """The records before the point were cleaned away since; what lies after it is not copied."""
    task = add_split(world, Point(0, (0,)), Point(50, (30,)))
    world.target.log("orders").write(10, 0)

    def script(part: FakePart) -> None:
        if len(world.parts) == 1:
            assert part.end == 50, "counted as far as the point"
            part.counters = [30]
            world.end_as(part, "empty")
            return
        assert part.end == END
        stride(world, part, END, 60)
        arrive(world, part, 50)
        part.acked = END
        world.end_as(part, "done")

    world.script = script
    world.run()
    assert task.done
    assert len(world.parts) == 2
    assert world.target.log("orders").end == 60


def test_a_gap_that_was_accepted_for_a_split_partition_stays_accepted(world: World) -> None:
    """Strides after the gap were on their way when the connection broke: where they begin is
    stored with them."""
    task = add_split(world)
    world.accept_gap = True
    world.source.log("orders").start = 45

    def script(part: FakePart) -> None:
        match len(world.parts):
            case 1:
                stride(world, part, 60, 15)
                world.target.log("orders").write(5, 0)
                world.lose(part)
            case 2:  # counting what it had cut
                part.counters = [15]
                world.end_as(part, "done")
            case _:
                stride(world, part, END, 55)
                arrive(world, part, 50)
                part.acked = END
                world.end_as(part, "done")

    world.script = script
    world.run()
    assert task.fault is None
    assert task.done
    assert [part.start for part in world.parts] == [45, 45, 45]
    assert [(gap.start, gap.end) for gap in task.gaps] == [(0, 45)]


def test_an_accepted_gap_after_the_end_leaves_nothing_to_copy(world: World) -> None:
    """The log begins after where this run was to end."""
    task = world.add()
    task.located = False  # resumed
    world.accept_gap = True
    world.source.log("orders").start = END + 20
    world.source.log("orders").end = END + 90

    def script(part: FakePart) -> None:
        assert part.start == END + 20
        world.end_as(part, "done")  # as a lane does when there is nothing before the end

    world.script = script
    world.run()
    assert (task.done, task.counts.records) == (True, 0)
    assert [(gap.start, gap.end) for gap in task.gaps] == [(0, END + 20)]


def test_a_source_that_lost_records_which_the_target_may_have_is_a_fault(world: World) -> None:
    task = add_split(world, Point(0, (0,)), Point(50, (30,)))
    world.target.log("orders").write(10, 0)

    def script(part: FakePart) -> None:
        part.counters = [29]
        world.end_as(part, "done")

    world.script = script
    world.run()
    found = world.fault()
    assert (found.kind, found.side, found.offset) == ("source-changed", "source", 0)
    assert found.exit_code == int(ExitCode.FATAL)
    assert not task.done
    assert len(world.parts) == 1


def test_one_that_only_counts_is_stopped_and_not_done(world: World) -> None:
    task = add_split(world, Point(0, (0,)), Point(50, (30,)))
    world.target.log("orders").write(10, 0)
    world.script = lambda part: None
    world.inbox.ticks.append(world.stop.request)
    before = len(world.state.records)
    world.run()
    assert task.stopped
    assert len(world.state.records) == before, "nothing is known that was not known before"


def test_what_a_stop_leaves_on_its_way_is_not_settled(world: World) -> None:
    """The next run has to look which of the stride's records have arrived."""
    task = add_split(world)

    def script(part: FakePart) -> None:
        stride(world, part, 30, 30)
        arrive(world, part, 10)

    world.script = script
    world.inbox.ticks.append(world.stop.request)
    world.run()
    assert task.stopped
    assert not stored_splits(world).settled


def test_one_that_is_idle_is_settled_while_it_follows(world: World) -> None:
    """A run that is killed then need not be counted again."""
    add_split(world)

    def script(part: FakePart) -> None:
        stride(world, part, 30, 30)
        arrive(world, part, 30)

    def arrived() -> None:
        (part,) = world.parts
        assert not stored_splits(world).settled, "before its answer"
        part.acked = 30
        world.inbox.ticks[:] = [settled]

    def settled() -> None:
        if world.clock.now > 5000 + 4:
            assert stored_splits(world).settled
            world.stop.request()

    world.script = script
    world.inbox.ticks.append(arrived)
    world.run()
    assert world.tasks[0].stopped
