"""Keeps the tasks of an engine moving: takes what lanes report, judges how assignments end, and has
partitions tried again or given up.

``Driver.run`` is the driver's thread, and calls everything here but ``stopping`` and the counts,
which any thread may read. Lanes report through a queue, and so does what is asked of brokers
(``aside``): one that hangs must not hold the others up.
"""

from __future__ import annotations

import logging
import math
import queue
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, assert_never

from copycore.partition import PartitionCopy
from replicator.engine.aside import Aside, Then
from replicator.engine.clusters import Clusters
from replicator.engine.doubts import Doubts
from replicator.engine.judge import Again, Apart, AskSource, Fail, judge
from replicator.engine.lanes import LaneWorker
from replicator.engine.limits import RunLimits
from replicator.engine.placer import Placer
from replicator.engine.roster import Roster
from replicator.engine.strategy import Located, by_progress
from replicator.engine.task import PartitionTask, TaskState, Trouble
from replicator.engine.topic_watch import TopicWatch
from replicator.errors import CopystreamError
from replicator.offsets.log_end import NotYet
from replicator.process import StopSignal, now_ms
from replicator.report.model import Fault

if TYPE_CHECKING:
    from copycore.lane import Event

STOP_GRACE = 5.0  # seconds that what is in flight gets after a stop
TICK = 0.1  # seconds
STANDING_INTERVAL = 1.0  # seconds between looks at the claims, and at what is idle
COUNT_PATIENCE = 3.0  # seconds at the end for the target's log to be committed

Report = tuple[LaneWorker, "Event"] | Then | None

_log = logging.getLogger(__name__)


class Driver:
    """``run`` is the driver's thread; ``stopping`` and the counts may be read by any.

    Drives tasks to their end over ``workers``. ``look`` is called every ``TICK`` or so;
    ``standing`` says whether the claims still stand; ``aside`` reports to ``inbox``. ``clock``
    gives monotonic seconds, ``lane_clock`` the lanes' milliseconds.
    """

    def __init__(
        self,
        clusters: Clusters,
        workers: Sequence[LaneWorker],
        inbox: queue.SimpleQueue[Report],
        aside: Aside,
        *,
        look: Callable[[], None],
        standing: Callable[[], bool],
        limits: RunLimits,
        accept_gap: bool,
        clock: Callable[[], float] = time.monotonic,
        lane_clock: Callable[[], int] = now_ms,
        jitter: Callable[[], float] = random.random,
        make_part: Callable[..., PartitionCopy] = PartitionCopy,
    ) -> None:
        self._clusters = clusters
        self._workers = workers
        self._inbox = inbox
        self._look = look
        self._limits = limits
        self._clock = clock
        self._roster = Roster(clusters, standing, clock, jitter)
        self._topics = TopicWatch(clusters, self._roster, aside, workers, clock)
        self._doubts = Doubts(clusters, self._roster, aside, lane_clock, accept_gap=accept_gap)
        self._placer = Placer(
            clusters, self._roster, self._topics, self._doubts, aside, workers, make_part
        )
        self._following = False  # whether some task has no end
        self._stopping = False
        self._drop_at = math.inf
        self._stood_at = 0.0

    def add(self, tasks: Sequence[PartitionTask]) -> None:
        self._roster.add(tasks)
        self._following |= any(task.end < 0 for task in tasks)

    @property
    def recoveries(self) -> int:
        """Times a partition had to look at the target's log and begin again."""
        return self._roster.recoveries

    @property
    def under_replicated(self) -> int:
        """Partitions of the target's topics, when last asked."""
        return self._topics.under_replicated

    @property
    def stopping(self) -> bool:
        """Whether what is in flight is waited for after a stop or a limit."""
        return self._stopping

    def run(self, stop: StopSignal) -> None:
        """Until every task is finished, or ``stop`` is requested or a limit is reached, and
        nothing is in flight.
        """
        while not self._roster.all_finished():
            if not self._stopping and (stop.requested or self._limited()):
                self._stop()
            if not self._stopping:
                self._placer.tick()
            self._take_reports()
            self._look()
            self._look_around()
        self._count_unanswered()

    def check_topics(self) -> None:
        """After ``run``: compare topics and logs with what they should be; waits for answers."""
        self._topics.check()
        self._topics.check_ends()

    # --- the loop -------------------------------------------------------------------------------

    def _limited(self) -> bool:
        self._limits.look(self._clock(), following=self._following)
        return self._limits.reached is not None

    def _stop(self) -> None:
        self._stopping = True
        self._drop_at = self._clock() + STOP_GRACE
        for worker in self._workers:
            worker.stop_all()
        for task in self._roster.tasks:
            if task.suspicion is not None:
                self._roster.fail(task, task.suspicion)
            elif task.state in (TaskState.WAITING, TaskState.ASKING):
                task.move(TaskState.STOPPED)

    def _look_around(self) -> None:
        now = self._clock()
        if now >= self._drop_at:
            # A quota or a broker that hangs holds answers back: the next run asks the log.
            self._drop_at = math.inf
            for worker in self._workers:
                worker.abandon("the run has been stopped")
        if now - self._stood_at >= STANDING_INTERVAL:
            self._stood_at = now
            self._roster.supersede()
            if not self._stopping:
                for task in self._roster.tasks:
                    if task.part is not None:
                        task.progress.note_idle(task)
        if self._topics.tick():
            self._doubts.name_held()

    def _take_reports(self) -> None:
        timeout = TICK
        while True:
            try:
                report = self._inbox.get(timeout=timeout)
            except queue.Empty:
                return
            timeout = 0.0
            if report is None:
                for worker in self._workers:
                    if worker.failure is not None:
                        raise worker.failure
            elif callable(report):
                report()
            elif report[1][0] == "ended":
                self._ended(report[1][1])

    # --- ends of assignments --------------------------------------------------------------------

    def _ended(self, part: PartitionCopy) -> None:
        task = self._placer.ended(part)
        if task.progress.counts_only(task):
            self._counted(task, part)
            return
        if task.take_result(part) or (part.heard and part.acked >= max(part.readable, part.end)):
            # A silent partition does not move, but it was served and had all that there was.
            task.backoff = None
        task.located = False
        if task.fault is not None:
            return
        # All of it may have been in flight when it was stopped.
        if part.ending == "done" or (self._stopping and 0 <= task.end <= task.position):
            self._roster.finish(task, part, TaskState.DONE)
        elif self._stopping:
            self._roster.finish(task, part, TaskState.STOPPED)
        else:
            self._judge(task, part)

    def _counted(self, task: PartitionTask, part: PartitionCopy) -> None:
        """The source was read again up to where its counters are known."""
        task.part = task.pipe = None
        if task.fault is not None:
            return
        if self._stopping:
            task.move(TaskState.STOPPED)
        elif part.ending == "empty":
            self._doubts.ask_empty(task, part)
        elif part.ending != "done":
            task.located = False
            self._judge(task, part)
        else:
            self._roster.take_count(task, part)

    def _judge(self, task: PartitionTask, part: PartitionCopy) -> None:
        source, target = self._clusters.source.name, self._clusters.target.name
        verdict = judge(task, part, source, target)
        match verdict:
            case Fail(fault) if fault.kind == "foreign-writer":
                self._suspect(task, fault)
            case Fail(fault):
                self._roster.fail(task, fault)
            case Apart(trouble, too_large):
                assert part.refused is not None
                task.take_apart(part.refused, too_large=too_large)
                self._roster.at_once(task, trouble)
            case AskSource():
                self._ask_source(task, part, verdict)
            case Again(trouble):
                if verdict.refresh:
                    self._topics.look_soon()
                self._note(task, trouble, diverged=verdict.diverged)
                self._roster.again(task, trouble)
            case _:
                assert_never(verdict)

    def _ask_source(self, task: PartitionTask, part: PartitionCopy, ask: AskSource) -> None:
        match ask.question:
            case "empty":
                self._doubts.ask_empty(task, part)
            case "held":
                self._doubts.ask_held(task, part)
            case "end":
                self._note(task, ask.trouble)
                self._doubts.ask_end(task, ask.trouble)
            case _:
                assert_never(ask.question)

    @staticmethod
    def _note(task: PartitionTask, trouble: Trouble, *, diverged: bool = False) -> None:
        task.trouble = trouble
        # The leader may have lost the epoch of records that were cleaned away: what is asked
        # before the next assignment decides.
        task.trusts_epochs = not diverged

    def _suspect(self, task: PartitionTask, fault: Fault) -> None:
        if not self._roster.supersede():
            # A topic created anew also stores our batches elsewhere.
            task.suspicion = fault
            self._doubts.ask_of(task, partial(self._topics.ask_before, task, fault))

    def _count_unanswered(self) -> None:
        """At the end: add what arrived although its answer did not, as the target's log shows."""
        deadline = self._clock() + COUNT_PATIENCE
        left = {task for task in self._roster.tasks if task.unanswered}
        while left and self._clock() < deadline:
            answers: dict[PartitionTask, Located | Exception] = {}
            try:
                for progress, tasks in by_progress(left):
                    answers |= progress.arrivals(tasks)
            except CopystreamError:
                return
            for task, answer in answers.items():
                if isinstance(answer, Located):
                    task.count_stored(answer.counters)
            left = {task for task, answer in answers.items() if isinstance(answer, NotYet)}
            if left:
                self._take_reports()  # waits
