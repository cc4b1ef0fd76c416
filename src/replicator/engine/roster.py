"""The tasks of an engine, and what becomes of one that cannot simply go on: it is tried again,
ends, or fails.

In the driver's thread alone. ``recoveries`` and ``tasks`` may be read by any.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from copycore.partition import PartitionCopy
from replicator.cluster import Denied
from replicator.cluster.retry import RetryPolicy
from replicator.engine.clusters import Clusters
from replicator.engine.judge import denied, task_fault, without_side
from replicator.engine.task import PartitionTask, TaskState, Trouble
from replicator.errors import CopystreamError
from replicator.report.model import Fault

PATIENCE = 120.0  # seconds from the first loss until a partition without progress is given up

_log = logging.getLogger(__name__)


class Roster:
    """Called in the driver's thread; ``tasks`` and ``recoveries`` may be read by any.

    ``standing`` says whether the claims of this session still stand; ``jitter`` draws from 0 to 1,
    ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        clusters: Clusters,
        standing: Callable[[], bool],
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._clusters = clusters
        self._standing = standing
        self._clock = clock
        self._retry = RetryPolicy(timeout=PATIENCE, clock=clock, random=jitter)
        self.tasks: list[PartitionTask] = []
        self.recoveries = 0

    def add(self, tasks: Sequence[PartitionTask]) -> None:
        self.tasks += tasks

    def all_finished(self) -> bool:
        return all(task.finished for task in self.tasks)

    def due(self) -> list[PartitionTask]:
        """Those that may be placed now."""
        now = self._clock()
        return [
            task
            for task in self.tasks
            if task.state is TaskState.WAITING and task.not_before <= now
        ]

    # --- trying again ---------------------------------------------------------------------------

    def again(self, task: PartitionTask, trouble: Trouble) -> None:
        """Try again after a pause, or give up after a long time without progress."""
        if task.backoff is None:
            task.backoff = self._retry.start()
        pause = task.backoff.next_pause()
        if pause is None:
            self._give_up(task, trouble)
        else:
            self._wait(task, trouble, self._clock() + pause)

    def at_once(self, task: PartitionTask, trouble: Trouble) -> None:
        """Try again now, with all of the patience: fewer records are in question."""
        task.backoff = self._retry.start()
        self._wait(task, trouble, self._clock())

    def put_off(self, tasks: Sequence[PartitionTask], error: CopystreamError) -> None:
        """Try those of ``tasks`` again that are not placed, after brokers could not be asked."""
        side = error.side or "target"
        for task in tasks:
            if task.part is not None or task.finished:
                continue
            if isinstance(error, Denied):
                self.fail(task, denied(task, side, self._clusters.name(side), error.message))
            else:
                self.again(task, Trouble(side, error.message))

    def _wait(self, task: PartitionTask, trouble: Trouble, until: float) -> None:
        _log.info("%s-%d: %s; looking at the target's log", *task.tp, trouble.reason)
        task.located = False
        task.not_before = until
        task.move(TaskState.WAITING)
        self.recoveries += 1

    def _give_up(self, task: PartitionTask, trouble: Trouble) -> None:
        side, cluster = trouble.side, self._clusters.name(trouble.side)
        last = without_side(trouble.reason, side, cluster)
        text = f"no progress for {PATIENCE:.0f} s; last: {last}"
        self.fail(task, task_fault(task, "unreachable", side, cluster, text, offset=task.position))

    # --- ends -----------------------------------------------------------------------------------

    def finish(self, task: PartitionTask, part: PartitionCopy, end: TaskState) -> None:
        """Done or stopped, ``part`` being the last assignment."""
        task.move(end)
        task.progress.note_end(task, part)

    def take_count(self, task: PartitionTask, part: PartitionCopy) -> None:
        """The source was read again, without sending, up to where its counters are known."""
        lost_from = task.progress.take_count(task, part.counters)
        if lost_from is None:
            task.move(TaskState.WAITING)
            return
        text = (
            "the source has lost records since they were split up: it cannot be told which of them "
            "the target has"
        )
        cluster = self._clusters.name("source")
        fault = task_fault(task, "source-changed", "source", cluster, text, offset=lost_from)
        self.fail(task, fault)

    def fail(self, task: PartitionTask, fault: Fault) -> None:
        """End a task with a fault, the first one; a lane that copies it lets go of it."""
        if task.fault is not None:
            return
        task.fail(fault)
        if task.part is not None and task.pipe is not None:
            task.pipe.worker.stop(task.part)

    def supersede(self) -> bool:
        """Fail everything if another copystream has struck our claims out. True if so."""
        if self._standing():
            return False
        text = "another copystream took this copy over while this one did not answer"
        cluster = self._clusters.name("target")
        for task in self.tasks:
            if not task.finished:
                self.fail(task, task_fault(task, "superseded", "target", cluster, text))
        return True
