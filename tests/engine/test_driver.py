"""The driver between fake clusters and lanes: which tasks are retried, from where, how long."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kit.fakes.job import END, FakePart, World
from kit.fakes.world import PRODUCER
from replicator.cluster.errors import Denied, Unreachable
from replicator.engine.aside import Then
from replicator.engine.roster import PATIENCE
from replicator.errors import CopystreamError, ExitCode
from replicator.terms import Side

# --- going well -----------------------------------------------------------------------------------


def test_a_first_copy_needs_no_question_to_the_target(world: World) -> None:
    task = world.add()
    assert world.run().recoveries == 0
    assert task.done
    assert task.fault is None
    assert (task.position, task.counter, task.counts.records) == (END, END, END)
    assert "ends" not in world.target.asked
    (part,) = world.parts
    assert (part.start, part.end, part.counter) == (0, END, 0)
    assert part.rest["producer_id"] == PRODUCER
    assert part.rest["source_id"] == world.source.topics["orders"].topic_id.bytes
    assert part.rest["leader_epoch"] == 4


def test_nothing_to_do_is_done_at_once(world: World) -> None:
    assert world.run().recoveries == 0


def test_pipes_follow_the_leaders(world: World) -> None:
    for number, topic in enumerate(("a", "b", "c")):
        world.add(topic)
        world.source.log(topic).leader = number
        world.target.log(topic).leader = 9 - number
        world.tasks[-1].slot = number
    world.run()
    assert set(world.connected) == {(0, (9,), 0), (1, (8,), 1), (2, (7,), 2)}


# --- trying again ---------------------------------------------------------------------------------


def test_after_a_loss_the_targets_log_says_where_to_go_on(world: World) -> None:
    """Acknowledged 10, stored 25: the next assignment begins after what is stored."""
    task = world.add(base=500, start=40, end=140)

    def script(part: FakePart) -> None:
        if len(world.parts) <= 3:
            world.write(part, 25, acked=10)
            world.lose(part)
        else:
            world.finish(part)

    world.script = script
    driver = world.run()
    assert task.done
    assert driver.recoveries == 3
    assert [(part.start, part.counter) for part in world.parts] == [
        (40, 0), (65, 25), (90, 50), (115, 75),
    ]  # fmt: skip
    assert world.target.asked.count("ends") == 3
    assert world.target.log("orders").end == 600


def test_records_that_the_target_lost_are_copied_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """An unclean election took acknowledged records back."""
    task = world.add()

    def script(part: FakePart) -> None:
        if len(world.parts) == 1:
            world.write(part, 30)
            world.write(part, 0)
            log = world.target.log("orders")
            log.batches.clear()
            log.end = 0
            log.write(20, 0)
            world.lose(part)
        else:
            world.finish(part)

    world.script = script
    world.run()
    assert task.done
    assert [(part.start, part.counter) for part in world.parts] == [(0, 0), (20, 20)]
    assert "lost 10 acknowledged records" in caplog.text


def test_holes_that_were_passed_are_not_gone_back_to(world: World) -> None:
    """After record 10 there were only markers up to 60, which are deleted meanwhile (D7)."""
    task = world.add()

    def script(part: FakePart) -> None:
        if len(world.parts) == 1:
            world.write(part, 10)
            part.acked = part.position = 60
            world.source.log("orders").start = 55
            world.lose(part)
        else:
            world.finish(part)

    world.script = script
    world.run()
    assert task.fault is None
    assert task.done
    assert world.parts[1].start == 60
    assert world.parts[1].counter == 10
    # The durable map still has record 10 at offset 10: the lane owes it a segment.
    assert world.parts[1].rest["mapped"] == 10


def test_a_target_that_is_behind_is_waited_for(world: World) -> None:
    """The high watermark lags after a leader change; then it catches up."""
    task = world.add()
    log = world.target.log("orders")

    def script(part: FakePart) -> None:
        if len(world.parts) == 1:
            world.write(part, 30)
            log.high = 20
            world.lose(part)
        else:
            world.finish(part)

    def catch_up() -> None:
        if world.target.asked.count("ends") == 4:
            log.high = None

    world.script = script
    world.inbox.ticks.append(catch_up)
    driver = world.run()
    assert task.done
    assert driver.recoveries == 5
    assert world.parts[1].start == 30


def test_progress_renews_the_patience(world: World) -> None:
    """A flapping connection that always brings something is never given up."""
    task = world.add(end=400)

    def script(part: FakePart) -> None:
        world.clock.now += 100
        world.write(part, 1)
        world.end_as(part, "done" if part.acked == 400 else "lost", "target")

    world.script = script
    world.run()
    assert task.done
    assert len(world.parts) == 400


def follow_in_silence(world: World, seconds: float, *, heard: bool) -> float:
    """A follower with nothing to do, whose connections the broker closes as idle after 8 s; the
    seconds that went by until it was over.
    """
    world.add(end=-1)
    began = world.clock.now

    def script(part: FakePart) -> None:
        part.heard = heard
        world.clock.now += 8
        world.end_as(part, "lost", "target")

    def interrupt() -> None:
        if world.clock.now > began + seconds:
            world.stop.request()

    world.script = script
    world.inbox.ticks.append(interrupt)
    world.run()
    return world.clock.now - began


def test_a_silent_follower_is_never_given_up(world: World) -> None:
    assert follow_in_silence(world, 3600, heard=True) >= 3600
    (task,) = world.tasks
    assert task.fault is None
    assert task.backoff is None or task.backoff.elapsed() < 10


def test_a_follower_whose_source_never_answers_is_given_up(world: World) -> None:
    follow_in_silence(world, 3600, heard=False)
    assert world.fault().kind == "unreachable"


def test_patience_counts_from_the_first_loss(world: World) -> None:
    """After an hour of silence a partition gets as long as any other."""
    task = world.add(end=-1)
    began = lost = world.clock.now

    def script(part: FakePart) -> None:
        nonlocal lost
        if len(world.parts) == 1:
            part.heard = True
            world.clock.now += 3600
            lost = world.clock.now
        world.end_as(part, "lost", "target")

    world.script = script
    world.run()
    assert task.fault is not None
    assert lost - began == 3600
    assert PATIENCE <= world.clock.now - lost <= PATIENCE + 5


def test_empty_answers_before_the_end_are_no_service(world: World) -> None:
    """A broker that says its log is empty, though more was planned."""
    task = world.add()

    def script(part: FakePart) -> None:
        part.heard = True
        world.end_as(part, "short", "source")

    world.script = script
    world.run()
    assert task.fault is not None


def test_one_that_is_served_but_cannot_deliver_is_given_up(world: World) -> None:
    """The source answers, but what it has never arrives."""
    task = world.add()

    def script(part: FakePart) -> None:
        part.heard = True
        part.readable = END
        world.end_as(part, "lost", "target")

    world.script = script
    world.run()
    assert task.fault is not None


@pytest.mark.parametrize("side", ["source", "target"])
def test_without_progress_it_is_given_up(world: World, side: str) -> None:
    task = world.add()
    began = world.clock.now

    def script(part: FakePart) -> None:
        world.end_as(part, "lost", side)

    world.script = script
    driver = world.run()
    elapsed = world.clock.now - began
    found = world.fault()
    assert (found.kind, found.side) == ("unreachable", side)
    assert found.exit_code == int(ExitCode.INCOMPLETE)
    assert found.offset == 0
    assert f"no progress for {PATIENCE:.0f} s; last: told by the test" in found.message
    assert PATIENCE <= elapsed <= PATIENCE + 5
    # Not a hot loop, and not asleep either: pauses grow to two seconds.
    assert 55 <= driver.recoveries <= 140
    assert not task.done


@pytest.mark.parametrize(
    ("cluster", "question"),
    [("source", "metadata"), ("target", "metadata"), ("source", "earliest"), ("target", "ends")],
)
def test_a_cluster_that_does_not_answer_is_waited_for(
    world: World, cluster: Side, question: str
) -> None:
    task = world.add()
    task.located = False
    there = getattr(world, cluster)
    there.failures[question] = Unreachable(cluster, "no broker answers")

    def come_back() -> None:
        if there.asked.count(question) >= 3:
            there.failures.clear()

    world.inbox.ticks.append(come_back)
    driver = world.run()
    assert task.done
    assert driver.recoveries >= 3


@pytest.mark.parametrize("cluster", ["source", "target"])
def test_a_cluster_that_never_answers_is_named(world: World, cluster: Side) -> None:
    world.add()
    getattr(world, cluster).failures["metadata"] = Unreachable(cluster, "no broker answers")
    world.run()
    found = world.fault()
    assert (found.kind, found.side) == ("unreachable", cluster)
    assert "no broker answers" in found.message
    assert getattr(world, cluster).name in found.message


@pytest.mark.parametrize("cluster", ["source", "target"])
def test_a_partition_without_a_leader_is_waited_for(world: World, cluster: str) -> None:
    task = world.add()
    log = getattr(world, cluster).log("orders")
    log.leader = -1
    asked = getattr(world, cluster).asked

    def elect() -> None:
        if asked.count("metadata") >= 4:
            log.leader = 0

    world.inbox.ticks.append(elect)
    world.run()
    assert task.done
    assert asked.count("metadata") >= 4


@pytest.mark.parametrize("cluster", ["source", "target"])
def test_a_partition_that_loses_its_leader_names_the_brokers_and_the_others_go_on(
    world: World, cluster: str
) -> None:
    lost, other = world.add("lost"), world.add("other")
    there = getattr(world, cluster)
    log = there.log("lost")
    log.leader, log.replicas = -1, (0, 17, 21)
    world.run()
    assert other.done
    assert lost.fault is not None
    assert (lost.fault.kind, lost.fault.side) == ("unreachable", cluster)
    assert lost.fault.exit_code == int(ExitCode.INCOMPLETE)
    assert "missing brokers: 17, 21" in lost.fault.message


def test_another_pair_of_brokers_is_not_held_up(world: World) -> None:
    """The brokers of one pair do not answer; partitions of another pair are assigned meanwhile."""
    hanging, other = world.add("hanging"), world.add("other")
    world.source.log("other").leader = world.target.log("other").leader = 1
    aside = world.aside
    kept: list[Then | None] = []

    class Hanging:
        def run(self, work: Callable[[], Then]) -> None:
            then = work()
            pair = getattr(then, "args", ())
            if pair and pair[0] == (0, (0,)) and not kept:
                kept.append(then)
            else:
                aside.run(lambda: then)

    def answer() -> None:
        if other.done and kept and kept[0] is not None:
            world.inbox.put(kept[0])
            kept[0] = None

    world.aside = Hanging()  # type: ignore[assignment]
    world.inbox.ticks.append(answer)
    world.run()
    assert [part.topic for part in world.parts] == ["other", "hanging"]
    assert hanging.done
    assert other.done


def test_a_connection_that_cannot_be_made_is_tried_again(world: World) -> None:
    task = world.add()
    world.refusal = Unreachable("target", "connection refused")

    def open_up() -> None:
        if len(world.connected) >= 3:
            world.refusal = None

    world.inbox.ticks.append(open_up)
    world.run()
    assert task.done
    assert len(world.parts) == 1


def test_a_connection_that_cannot_be_had_is_shared(world: World) -> None:
    """The broker limits connections: another pipe between the same brokers serves."""
    task = world.add()
    task.slot = 2
    world.refusal = Unreachable("target", "closed at once")
    world.open_pipes = [(0, (1,), 0), (0, (0,), 1)]
    assert world.run().recoveries == 0
    assert task.done
    assert world.assigned == [(0, (0,), 1)]


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (Denied("source", "not allowed to connect"), ExitCode.SOURCE),
        (Denied("target", "not allowed to connect"), ExitCode.TARGET),
    ],
)
def test_a_connection_that_is_denied_is_a_fault(
    world: World, error: CopystreamError, exit_code: ExitCode
) -> None:
    world.add()
    world.refusal = error
    world.run()
    found = world.fault()
    assert (found.kind, found.exit_code) == ("denied", int(exit_code))
    assert "not allowed to connect" in found.message
    assert world.parts == []


@pytest.mark.parametrize("cluster", ["source", "target"])
def test_a_topic_that_may_not_be_described_any_more_is_denied(world: World, cluster: str) -> None:
    """The denial is not taken for a partition without a leader (D8)."""
    world.add()
    getattr(world, cluster).topics["orders"].error = 29
    began = world.clock.now
    world.run()
    found = world.fault()
    assert (found.kind, found.side) == ("denied", cluster)
    assert world.clock.now - began < 10


# --- stopping -------------------------------------------------------------------------------------


def test_a_stop_ends_what_runs_and_what_waits(world: World) -> None:
    running, waiting = world.add("a"), world.add("b")

    def script(part: FakePart) -> None:
        if part.topic == "a":
            world.write(part, 10)
        else:
            world.lose(part)

    world.script = script
    began = world.clock.now

    def interrupt() -> None:
        if world.clock.now > began + 1:
            world.stop.request()

    world.inbox.ticks.append(interrupt)
    world.run()
    assert running.stopped
    assert waiting.stopped
    assert running.position == 10
    assert (running.fault, waiting.fault) == (None, None)
    assert world.clock.now - began < 5


def test_a_stop_before_the_start_assigns_nothing(world: World) -> None:
    task = world.add()
    world.stop.request()
    world.run()
    assert task.stopped
    assert world.parts == []


def test_what_finishes_while_it_is_stopped_is_done(world: World) -> None:
    task = world.add()
    world.script = lambda part: world.write(part, 10)

    def interrupt() -> None:
        world.stop.request()
        for part in list(world.workers[0].running):
            world.write(part, END - 10)
            world.end_as(part, "done")
            world.workers[0].report(part)

    world.inbox.ticks.append(interrupt)
    world.run()
    assert task.done
    assert not task.stopped


def test_a_lane_that_dies_ends_the_job_loudly(world: World) -> None:
    world.add()
    world.script = lambda part: None

    def die() -> None:
        world.workers[0].failure = MemoryError("the lane is gone")
        world.inbox.put(None)

    world.inbox.ticks.append(die)
    with pytest.raises(MemoryError, match="the lane is gone"):
        world.run()
