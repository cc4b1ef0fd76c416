"""Which faults end a partition at once, which are checked first, and the stored map."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from copycore.partition import Refusal
from copycore.segments import Segments
from kit.fakes.job import END, FakePart, World
from replicator.engine.aside import Then
from replicator.engine.topic_watch import MISSING_PATIENCE
from replicator.errors import ClusterError, ExitCode

# --- faults ---------------------------------------------------------------------------------------


def test_a_fault_ends_its_partition_and_no_other(world: World) -> None:
    for topic in ("a", "b", "c"):
        world.add(topic)

    def script(part: FakePart) -> None:
        if part.topic == "b":
            world.write(part, 5)
            world.end_as(part, "corrupt", code=2)
        else:
            world.finish(part)

    world.script = script
    driver = world.run()
    assert [task.done for task in world.tasks] == [True, False, True]
    found = world.fault(1)
    assert (found.kind, found.offset) == ("corrupt-batch", 5)
    assert driver.recoveries == 0
    assert world.tasks[1].counts.records == 5


def test_a_foreign_record_at_the_end_of_the_log(world: World) -> None:
    world.add(base=10)

    def script(part: FakePart) -> None:
        world.write(part, 5)
        world.target.log("orders").write(1, 0, producer=1)
        world.lose(part)

    world.script = script
    world.run()
    found = world.fault()
    assert (found.kind, found.side, found.offset) == ("foreign-writer", "target", 15)
    assert found.exit_code == int(ExitCode.FATAL)
    assert "not written by this copy" in found.message


def test_what_was_refused_together_is_sent_apart(world: World) -> None:
    world.add()

    def script(part: FakePart) -> None:
        if len(world.parts) == 1:
            part.refused = Refusal(12, 900, False, True, 7)
            world.end_as(part, "target-error", "target", 32)
        else:
            world.finish(part)

    world.script = script
    world.run()
    assert world.tasks[0].done
    assert [part.rest["apart_until"] for part in world.parts] == [0, 7]
    assert [part.rest["single_until"] for part in world.parts] == [0, 0]


def test_a_log_that_starts_after_our_position_has_lost_data(world: World) -> None:
    world.add()

    def script(part: FakePart) -> None:
        world.write(part, 5)
        world.source.log("orders").start = 9
        world.lose(part)

    world.script = script
    world.run()
    found = world.fault()
    assert (found.kind, found.side, found.offset) == ("data-loss", "source", 5)
    assert "now starts at 9" in found.message
    assert "offsets 5 to 8" in found.message
    assert found.exit_code == int(ExitCode.FATAL)


def test_out_of_range_because_the_start_has_moved(world: World) -> None:
    world.add()

    def script(part: FakePart) -> None:
        world.source.log("orders").start = 50
        world.end_as(part, "source-error", code=1)

    world.script = script
    driver = world.run()
    assert world.fault().kind == "data-loss"
    assert "offsets 0 to 49" in world.fault().message
    assert (driver.recoveries, len(world.parts)) == (1, 1), "seen before it is assigned again"


@pytest.mark.parametrize("ending", ["source-error", "short"])
def test_a_source_that_has_lost_its_end(world: World, ending: str) -> None:
    """At first the replica may lag; after some tries the end counts as lost."""
    world.add()

    def script(part: FakePart) -> None:
        if len(world.parts) == 1:
            world.write(part, 50)
        world.source.log("orders").end = 55
        world.end_as(part, ending, code=1 if ending == "source-error" else 0)

    world.script = script
    driver = world.run()
    found = world.fault()
    assert (found.kind, found.side) == ("data-loss", "source")
    assert "now ends at 55" in found.message
    assert driver.recoveries >= 5


def test_out_of_range_that_heals(world: World) -> None:
    """A replica that lagged for a moment."""
    task = world.add()

    def script(part: FakePart) -> None:
        if len(world.parts) < 4:
            world.end_as(part, "source-error", code=1)
        else:
            world.finish(part)

    world.script = script
    world.run()
    assert task.done


# --- topics that change ---------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", ["source", "target"])
def test_a_recreated_topic_stops_its_partition(world: World, cluster: str) -> None:
    """Seen by its id while the copy runs; the other topic goes on."""
    world.add("a", end=-1)
    world.add("b", end=-1)
    world.script = lambda part: world.write(part, 3)  # and runs on
    began = world.clock.now

    def recreate() -> None:
        if world.clock.now > began + 7:
            getattr(world, cluster).topics["a"].topic_id = uuid.UUID(int=99)
        if world.tasks[0].fault is not None and world.clock.now > began + 30:
            world.stop.request()

    world.inbox.ticks.append(recreate)
    world.run()
    found = world.fault()
    assert (found.kind, found.side) == (f"{cluster}-recreated", cluster)
    assert found.exit_code == int(ExitCode.STATE)
    assert world.parts[0].ending == "stopped"
    assert world.tasks[1].fault is None
    assert world.tasks[1].stopped


def test_a_recreated_topic_is_no_foreign_writer(world: World) -> None:
    """A batch may be written to the new topic before its id is checked again."""
    world.add()

    def script(part: FakePart) -> None:
        world.target.topics["orders"].topic_id = uuid.UUID(int=99)
        world.end_as(part, "foreign-writer", "target")

    world.script = script
    world.run()
    assert world.fault().kind == "target-recreated"


def test_a_stop_hides_no_foreign_writer(world: World) -> None:
    """While the topics are looked at, to tell whether one was created anew."""
    world.add()
    aside = world.aside

    class Hanging:
        """Never answers the question that follows the foreign writer."""

        def run(self, work: Callable[[], Then]) -> None:
            if world.parts and world.parts[0].ending is not None:
                world.stop.request()
            else:
                aside.run(work)

    world.aside = Hanging()  # type: ignore[assignment]
    world.script = lambda part: world.end_as(part, "foreign-writer", "target")
    world.run()
    assert world.fault().kind == "foreign-writer"


def test_without_an_answer_about_the_topics_it_is_a_foreign_writer(world: World) -> None:
    world.add()

    def script(part: FakePart) -> None:
        world.target.failures["metadata"] = ClusterError("target", "no answer")
        world.end_as(part, "foreign-writer", "target")

    world.script = script
    world.run()
    assert world.fault().kind == "foreign-writer"


@pytest.mark.parametrize("cluster", ["source", "target"])
def test_a_deleted_topic_is_a_fault_after_a_while(world: World, cluster: str) -> None:
    world.add()

    def script(part: FakePart) -> None:
        getattr(world, cluster).topics["orders"].error = 3
        world.end_as(part, f"{cluster}-error", cluster, 3)

    world.script = script
    began = world.clock.now
    world.run()
    found = world.fault()
    assert (found.kind, found.side) == (f"{cluster}-deleted", cluster)
    assert found.exit_code == int(ExitCode.STATE)
    assert MISSING_PATIENCE <= world.clock.now - began <= MISSING_PATIENCE + 10


def test_a_topic_that_a_fresh_broker_does_not_know_yet(world: World) -> None:
    task = world.add()
    world.target.topics["orders"].error = 3
    began = world.clock.now

    def learn() -> None:
        if world.clock.now > began + 3:
            world.target.topics["orders"].error = 0

    world.inbox.ticks.append(learn)
    world.run()
    assert task.done


def test_a_topic_recreated_after_its_copy_finished_is_told(world: World) -> None:
    """The last look, when everything is done."""
    task = world.add()
    driver = world.run()
    assert task.done
    world.target.topics["orders"].topic_id = uuid.UUID(int=5)
    driver.check_topics()
    assert world.fault().kind == "target-recreated"


def test_replicas_that_are_behind_are_counted(world: World) -> None:
    """With the look at the topics' ids, so it costs no question; a refused one changes nothing."""
    for topic in ("a", "b", "c"):
        world.add(topic)
    world.source.log("c").replicas = (0, 1)
    driver = world.run()
    driver.check_topics()
    assert driver.under_replicated == 0
    world.target.log("a").replicas = world.target.log("b").replicas = (0, 1, 2)
    driver.check_topics()
    assert driver.under_replicated == 2
    world.target.failures["metadata"] = ClusterError("target", "it is gone", hint="")
    driver.check_topics()
    assert driver.under_replicated == 2
    assert [task.fault for task in world.tasks] == [None] * 3


# --- taken over -----------------------------------------------------------------------------------


def test_a_job_that_was_struck_out_stops_everything(world: World) -> None:
    world.add("a")
    world.add("b")
    world.script = lambda part: world.write(part, 1)
    began = world.clock.now

    def strike_out() -> None:
        world.claimed = world.clock.now < began + 2

    world.inbox.ticks.append(strike_out)
    world.run()
    for number, task in enumerate(world.tasks):
        assert world.fault(number).kind == "superseded"
        assert world.fault(number).exit_code == int(ExitCode.INCOMPLETE)
        assert not task.done
    assert [part.ending for part in world.parts] == ["stopped", "stopped"]


@pytest.mark.parametrize("seen", ["in the answers", "in the log"])
def test_a_foreign_writer_that_took_over_is_no_stranger(world: World, seen: str) -> None:
    world.add("a")
    world.add("b")

    def script(part: FakePart) -> None:
        if part.topic == "b":
            return
        world.claimed = False
        world.target.log("a").write(1, 0, producer=9)
        world.end_as(part, "foreign-writer" if seen == "in the answers" else "lost", "target")

    world.script = script
    world.run()
    assert {world.fault(0).kind, world.fault(1).kind} == {"superseded"}


# --- the map --------------------------------------------------------------------------------------


def test_segments_are_durable_before_their_gate_opens(world: World) -> None:
    task = world.add()

    def script(part: FakePart) -> None:
        assert world.driver is not None
        world.gates.write_segments(world.workers[0], part, Segments.of([(20, 10), (40, 25)]))  # type: ignore[arg-type]
        assert world.stored_map().source_of(task.tp, 25) == 40
        assert world.workers[0].confirmed == [(part, 20)]
        world.finish(part)

    world.script = script
    world.run()
    assert task.done


def test_a_segment_that_cannot_be_written_stops_the_assignment(world: World) -> None:
    task = world.add()

    def script(part: FakePart) -> None:
        assert world.driver is not None
        world.writer.failure = (
            ClusterError("target", "no replicas") if len(world.parts) == 1 else None
        )
        world.gates.write_segments(world.workers[0], part, Segments.of([(20, 10)]))  # type: ignore[arg-type]
        world.writer.failure = None
        if len(world.parts) == 1:
            assert world.workers[0].confirmed == []
            assert (part.ending, part.end_message) == ("lost", "no replicas")
        else:
            world.finish(part)

    world.script = script
    driver = world.run()
    assert task.done
    assert driver.recoveries == 2, "the second wait is for the map that is written again"


def test_a_segment_that_may_have_been_written_is_made_void(world: World) -> None:
    """The write was reported as failed, but the segment is in the log, where it has voided what an
    earlier try wrote ahead of its data: what is known is written again before it is relied on
    (D20).
    """
    task = world.add(end=50)
    world.maps.send_segments(
        world.writer, task.tp, Segments.of([(20, 5), (40, 8)]), lambda *_: None
    )

    def script(part: FakePart) -> None:
        assert world.driver is not None
        if len(world.parts) == 1:
            world.write(part, 5)
            world.writer.hold = True
            world.gates.write_segments(world.workers[0], part, Segments.of([(25, 5)]))  # type: ignore[arg-type]
            key, value, delivered = world.writer.held.pop()
            world.state.append(key, value)
            delivered(ClusterError("target", "timed out"), -1)
            world.writer.hold = False
        else:
            world.write(part, 3)
            world.end_as(part, "done")

    world.script = script
    world.run()
    assert task.done
    assert (world.parts[1].start, world.parts[1].counter) == (20, 5)
    stored = world.stored_map()
    assert [stored.source_of(task.tp, n) for n in (4, 5, 7, 8)] == [4, 20, 22, 40]


def test_a_map_that_cannot_be_written_for_long_stops_the_partition(world: World) -> None:
    task = world.add()

    def script(part: FakePart) -> None:
        assert world.driver is not None
        world.writer.failure = ClusterError("target", "no replicas")
        world.gates.write_segments(world.workers[0], part, Segments.of([(20, 10)]))  # type: ignore[arg-type]

    world.script = script
    world.run()
    assert task.fault is not None
    assert (task.fault.kind, task.fault.exit_code) == ("unreachable", 5)
    assert len(world.parts) == 1


def test_a_gate_stays_shut_while_a_successor_may_not_know_of_its_segment(world: World) -> None:
    """The assignment goes on: what waits at the gate stays there."""
    task = world.add()
    world.held = False

    def script(part: FakePart) -> None:
        assert world.driver is not None
        world.gates.write_segments(world.workers[0], part, Segments.of([(20, 10)]))  # type: ignore[arg-type]

    def beat() -> None:
        (part,) = world.parts
        assert world.workers[0].confirmed == []
        world.inbox.ticks.clear()
        (told,) = world.waiting
        told(None)
        world.finish(part)
        world.workers[0].report(part)

    world.script = script
    world.inbox.ticks.append(beat)
    driver = world.run()
    assert task.done
    assert driver.recoveries == 0
    assert world.workers[0].confirmed == [(world.parts[0], 20)]


def test_a_gate_that_stays_shut_for_long_ends_the_assignment(world: World) -> None:
    task = world.add()
    world.held = False

    def script(part: FakePart) -> None:
        assert world.driver is not None
        world.gates.write_segments(world.workers[0], part, Segments.of([(20, 10)]))  # type: ignore[arg-type]
        if len(world.parts) == 2:
            world.finish(part)

    world.script = script

    def give_up() -> None:
        for told in world.waiting:
            told(ClusterError("target", "no beat"))
        world.waiting.clear()

    world.inbox.ticks.append(give_up)
    world.run()
    assert task.done
    assert world.workers[0].confirmed == []
    assert world.parts[0].end_message == "no beat"


def test_a_segment_that_was_not_written_is_not_relied_on(world: World) -> None:
    """The next assignment begins before the hole, so that the lane finds it again (D12)."""
    task = world.add()

    def script(part: FakePart) -> None:
        assert world.driver is not None
        if len(world.parts) == 1:
            world.write(part, 5)
            world.writer.failure = ClusterError("target", "no replicas")
            world.gates.write_segments(world.workers[0], part, Segments.of([(20, 5)]))  # type: ignore[arg-type]
            world.writer.failure = None
        else:
            world.finish(part)

    world.script = script
    world.run()
    assert task.done
    assert (world.parts[1].start, world.parts[1].counter) == (5, 5)


def test_a_segment_on_its_way_is_waited_for(world: World) -> None:
    """The connection broke while the segment was on its way: until it has arrived, the map is not
    what a new assignment may begin from (D15, D18).
    """
    task = world.add()

    def script(part: FakePart) -> None:
        assert world.driver is not None
        if len(world.parts) == 1:
            world.write(part, 5)
            world.writer.hold = True
            world.gates.write_segments(world.workers[0], part, Segments.of([(20, 5)]))  # type: ignore[arg-type]
            world.lose(part)
            world.inbox.ticks.append(world.writer.deliver)
        else:
            world.finish(part)

    world.script = script
    world.run()
    assert task.done
    assert world.parts[1].counter == 5
    assert world.parts[1].start == 20
    assert world.workers[0].confirmed == [(world.parts[0], 20)], "late, and without harm"
    assert world.stored_map().source_of(task.tp, 5) == 20


def test_a_chunk_on_its_way_may_void_what_was_durable(world: World) -> None:
    """An earlier try wrote segments ahead of its data; this one writes the first of them again,
    and goes on after the second one before that has arrived (D18).
    """
    task = world.add(end=50)
    truth = {**{n: n for n in range(5)}, 5: 20, 6: 21, 7: 22, **{n: 32 + n for n in range(8, 18)}}
    world.maps.send_segments(
        world.writer, task.tp, Segments.of([(20, 5), (40, 8)]), lambda *_: None
    )
    world.writer.hold = True

    def script(part: FakePart) -> None:
        """Acts as a lane: reports a segment where the map differs from the source, then the
        records.
        """
        assert world.driver is not None
        counts = {0: 5, 5: 3, 8: 10}
        if part.rest["mapped"] != truth[part.counter]:
            segments = Segments([truth[part.counter]], [part.counter])
            world.gates.write_segments(world.workers[0], part, segments)  # type: ignore[arg-type]
        world.write(part, counts[part.counter])
        if part.acked_counter == 5:
            world.gates.write_segments(world.workers[0], part, Segments.of([(20, 5)]))  # type: ignore[arg-type]
        part.acked = part.position = truth[part.acked_counter - 1] + 1
        if part.acked_counter == 18:
            world.on_connect = lambda: None
            world.end_as(part, "done")
        else:
            world.lose(part)
        if part.counter == 5:
            world.on_connect = world.writer.deliver

    def arrive() -> None:
        if world.clock.now > 5030:  # at last, for a driver that waits for it
            world.writer.deliver()

    world.inbox.ticks.append(arrive)
    world.script = script
    world.run()
    world.writer.deliver()
    assert task.done
    stored = world.stored_map()
    assert {n: stored.source_of(task.tp, n) for n in truth} == truth


def test_a_hole_at_the_end_is_remembered(world: World) -> None:
    """A rerun starts after it instead of looking for it again."""
    task = world.add()

    def script(part: FakePart) -> None:
        world.write(part, 30)
        part.acked = part.position = END
        world.end_as(part, "done")

    world.script = script
    world.run()
    assert task.done
    assert world.stored_map().source_of(task.tp, 30) == END
    assert world.stored_map().source_of(task.tp, 29) == 29


def test_a_dense_end_writes_nothing_more(world: World) -> None:
    world.add()
    before = len(world.state.records)
    world.run()
    assert len(world.state.records) == before


def test_a_stop_remembers_the_hole_too(world: World) -> None:
    task = world.add()

    def script(part: FakePart) -> None:
        world.write(part, 30)
        part.acked = part.position = 70

    world.script = script
    world.inbox.ticks.append(world.stop.request)
    world.run()
    assert task.stopped
    assert world.stored_map().source_of(task.tp, 30) == 70
