"""The states of a task, and what is counted of it."""

from __future__ import annotations

import pytest

from kit.fakes.job import FakePart
from kit.fakes.world import make_task
from replicator.cluster.retry import RetryPolicy
from replicator.engine.counts import Counts, total
from replicator.engine.judge import task_fault
from replicator.engine.task import PartitionTask, TaskState
from replicator.report.model import Fault

ENDS = [TaskState.DONE, TaskState.STOPPED, TaskState.FAILED]
RUNNING = [TaskState.WAITING, TaskState.ASKING, TaskState.PLACED, TaskState.CHECKING]


def task_in(state: TaskState) -> PartitionTask:
    task = make_task()
    task.state = state
    return task


def fault(task: PartitionTask, message: str) -> Fault:
    return task_fault(task, "unreachable", "source", "s", message)


@pytest.mark.parametrize("state", RUNNING)
@pytest.mark.parametrize("end", [TaskState.STOPPED, TaskState.FAILED])
def test_what_runs_can_be_stopped_and_can_fail(state: TaskState, end: TaskState) -> None:
    task = task_in(state)
    assert not task.finished
    assert task.move(end)
    assert task.finished


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("state", RUNNING)
def test_what_has_ended_never_runs_again(
    end: TaskState, state: TaskState, caplog: pytest.LogCaptureFixture
) -> None:
    task = task_in(end)
    assert not task.move(state)
    assert task.state is end
    assert f"orders-0 is {end.value} and cannot become {state.value}" in caplog.text


def test_what_only_counts_is_never_done() -> None:
    """An assignment that only counts has sent nothing: a lane copies the rest afterwards."""
    assert not task_in(TaskState.CHECKING).move(TaskState.DONE)


def test_the_first_fault_stays() -> None:
    task = task_in(TaskState.PLACED)
    task.fail(fault(task, "first"))
    task.fail(fault(task, "second"))
    assert task.fault is not None
    assert "first" in task.fault.message


def test_a_fault_that_is_seen_at_the_very_end_counts() -> None:
    """The topics are looked at once more when everything has arrived."""
    task = task_in(TaskState.DONE)
    task.fail(fault(task, "recreated"))
    assert (task.done, task.report().state) == (False, "failed")


@pytest.mark.parametrize(
    ("state", "lost", "told"),
    [
        (TaskState.WAITING, False, "waiting"),
        (TaskState.WAITING, True, "recovering"),
        (TaskState.ASKING, False, "waiting"),
        (TaskState.ASKING, True, "recovering"),
        (TaskState.PLACED, True, "copying"),
        (TaskState.CHECKING, False, "copying"),
        (TaskState.STOPPED, True, "stopped"),
        (TaskState.DONE, False, "done"),
        (TaskState.FAILED, False, "failed"),
    ],
)
def test_what_is_told_of_a_state(state: TaskState, lost: bool, told: str) -> None:
    task = task_in(state)
    task.backoff = RetryPolicy().start() if lost else None
    assert task.report().state == told


def test_the_current_assignment_counts_too() -> None:
    task = make_task()
    task.past = Counts(records=1, bytes=20, batches=3)
    part = FakePart("orders", 0, start=0, end=9, counter=0, mapped=0)
    part.records, part.bytes, part.plain_bytes, part.batches = 10, 200, 100, 30
    part.skipped, part.passed, part.rebatched = 4, 5, 6
    task.part = part  # type: ignore[assignment]
    both = Counts(
        records=11, bytes=220, plain_bytes=100, batches=33, skipped=4, passed=5, rebatched=6
    )
    assert task.counts == both
    task.take_result(part)  # type: ignore[arg-type]
    assert task.counts == both


def test_counts_of_nothing_are_nothing() -> None:
    assert total([]) == Counts()
