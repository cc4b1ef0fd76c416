"""Tasks that wait to be retried, or have failed."""

from __future__ import annotations

import pytest

from kit.fakes.state import FakeClock
from kit.fakes.world import FakeCluster, make_task
from replicator.cluster import Denied, Unreachable
from replicator.engine.clusters import Clusters
from replicator.engine.judge import task_fault
from replicator.engine.lanes import PipeKey
from replicator.engine.roster import PATIENCE, Roster
from replicator.engine.task import OpenPipe, PartitionTask, TaskState, Trouble

LOST = Trouble("source", "source: the connection was lost")


class FakeWorker:
    def __init__(self) -> None:
        self.stopped: list[object] = []

    def stop(self, part: object) -> None:
        self.stopped.append(part)


class Setting:
    """A roster of two tasks; pauses are as long as they may be."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.claimed = True
        clusters = Clusters(FakeCluster("source"), FakeCluster("target"))  # type: ignore[arg-type]
        self.roster = Roster(clusters, lambda: self.claimed, self.clock, lambda: 1.0)
        self.tasks = [make_task("a"), make_task("b")]
        self.roster.add(self.tasks)
        self.worker = FakeWorker()

    def place(self, task: PartitionTask) -> None:
        key: PipeKey = (0, (0,), 0)
        task.move(TaskState.ASKING)
        task.move(TaskState.PLACED)
        task.part = f"part of {task.topic}"  # type: ignore[assignment]
        task.pipe = OpenPipe(self.worker, key)  # type: ignore[arg-type]


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_pauses_double_up_to_two_seconds(setting: Setting) -> None:
    task, _ = setting.tasks
    pauses = []
    for _ in range(7):
        setting.roster.again(task, LOST)
        pauses.append(round(task.not_before - setting.clock(), 6))
        setting.clock.now = task.not_before
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert setting.roster.recoveries == 7


def test_one_that_waits_is_due_when_its_time_has_come(setting: Setting) -> None:
    task, other = setting.tasks
    setting.roster.again(task, LOST)
    assert setting.roster.due() == [other]
    setting.clock.now += 0.1
    assert setting.roster.due() == [task, other]
    setting.place(task)
    assert setting.roster.due() == [other]


def test_patience_ends_two_minutes_after_the_first_loss(setting: Setting) -> None:
    task, _ = setting.tasks
    began = setting.clock()
    while task.fault is None:
        setting.roster.again(task, LOST)
        setting.clock.now += 1
    assert PATIENCE <= setting.clock() - began <= PATIENCE + 2
    assert task.fault.kind == "unreachable"
    assert task.fault.message.endswith("no progress for 120 s; last: the connection was lost")


def test_less_in_question_renews_the_patience(setting: Setting) -> None:
    task, _ = setting.tasks
    setting.roster.again(task, LOST)
    setting.clock.now += PATIENCE - 1
    setting.roster.at_once(task, LOST)
    assert task.not_before == setting.clock()
    setting.clock.now += PATIENCE - 1
    setting.roster.again(task, LOST)
    assert task.fault is None


def test_what_is_placed_is_not_put_off(setting: Setting) -> None:
    """The lane of an assigned task goes on, whatever is asked of the brokers about other tasks."""
    placed, waiting = setting.tasks
    setting.place(placed)
    setting.roster.put_off(setting.tasks, Unreachable("target", "no answer"))
    assert (placed.state, placed.backoff) == (TaskState.PLACED, None)
    assert waiting.backoff is not None


def test_what_is_denied_is_not_tried_again(setting: Setting) -> None:
    task, _ = setting.tasks
    setting.roster.put_off([task], Denied("source", "not allowed"))
    assert task.fault is not None
    assert (task.fault.kind, task.fault.side) == ("denied", "source")


def test_a_fault_has_the_lane_let_go_once(setting: Setting) -> None:
    task, _ = setting.tasks
    setting.place(task)
    for text in ("first", "second"):
        setting.roster.fail(task, task_fault(task, "unreachable", "source", "s", text))
    assert setting.worker.stopped == ["part of a"]
    assert task.fault is not None and "first" in task.fault.message


def test_everything_fails_when_the_claims_are_lost(setting: Setting) -> None:
    placed, done = setting.tasks
    setting.place(placed)
    done.state = TaskState.DONE
    assert not setting.roster.supersede()
    setting.claimed = False
    assert setting.roster.supersede()
    assert placed.fault is not None and placed.fault.kind == "superseded"
    assert done.fault is None
    assert setting.worker.stopped == ["part of a"]
