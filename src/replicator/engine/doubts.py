"""What the source is asked about a partition that cannot simply go on: nothing but empty answers,
a log that ends too early, an open transaction, records that are gone.

``Doubts`` is called in the driver's thread; what it asks brokers runs beside it, and is told to it
in the driver's thread again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from copycore.partition import PartitionCopy
from replicator.cluster import OffsetResult
from replicator.engine.aside import Aside, Then
from replicator.engine.clusters import Clusters
from replicator.engine.judge import task_fault
from replicator.engine.roster import Roster
from replicator.engine.task import PartitionTask, TaskState, Trouble
from replicator.errors import CopystreamError
from replicator.offsets.log_end import ASK_TIMEOUT
from replicator.offsets.source_log import Finding, gap_text, judge_empty
from replicator.offsets.transactions import PATIENCE, held_text, open_transactions
from replicator.report.model import OpenTransaction

LOST_PATIENCE = 4.0  # seconds that a leader may say its log ends earlier: it may be a new one
HELD_MS = int(PATIENCE.total_seconds() * 1000)  # that a transaction may stay open before it is told

_log = logging.getLogger(__name__)


class Doubts:
    """Called in the driver's thread. ``lane_clock`` is that of the lanes, in milliseconds.

    With ``accept_gap`` a copy goes on after offsets that the source has deleted.
    """

    def __init__(
        self,
        clusters: Clusters,
        roster: Roster,
        aside: Aside,
        lane_clock: Callable[[], int],
        *,
        accept_gap: bool,
    ) -> None:
        self._source = clusters.source
        self._roster = roster
        self._aside = aside
        self._lane_clock = lane_clock
        self._accept_gap = accept_gap
        self._asking_held = False

    def ask_of(self, task: PartitionTask, work: Callable[[], Then]) -> None:
        """Do ``work`` beside the driver, about a task that has no assignment; it gets none until
        what was found is told.
        """
        task.move(TaskState.ASKING)

        def asked() -> Then:
            then = work()
            return partial(self._told_of, task, then)

        self._aside.run(asked)

    @staticmethod
    def _told_of(task: PartitionTask, then: Then) -> None:
        if not task.finished:
            then()
        if task.state is TaskState.ASKING:
            task.move(TaskState.WAITING)

    # --- what a finding allows ------------------------------------------------------------------

    def settle(self, task: PartitionTask, finding: Finding) -> bool:
        """Act on what was found of a task that is to be assigned. True if it can be, all the same:
        it begins after a gap that is accepted.
        """
        start = finding.gap if self._accept_gap else None
        if start is not None and task.progress.skip_to(task, start):
            gap = task.leave_out(start)
            if gap.start != task.start:  # else the plan has told it
                _log.warning("%s", gap_text(gap))
            return True
        if finding.fault is not None:
            self._roster.fail(task, finding.fault)
        else:
            self._roster.again(task, Trouble("source", finding.again))
        return False

    # --- nothing but empty answers --------------------------------------------------------------

    def ask_empty(self, task: PartitionTask, part: PartitionCopy) -> None:
        """Whether there is nothing up to the end of an assignment, for which the source had only
        empty answers.
        """
        self.ask_of(task, partial(self._ask_empty, task, part))

    def _ask_empty(self, task: PartitionTask, part: PartitionCopy) -> Then:
        try:
            again = judge_empty(self._source, task.tp, part.position, part.end)
        except CopystreamError as error:
            again = f"source: {error.message}"
        return partial(self._told_empty, task, part, again)

    def _told_empty(self, task: PartitionTask, part: PartitionCopy, again: str) -> None:
        """Nothing is there unless there is a reason to try ``again`` (INV-2).

        The position stays where the last batch was: no absence is stored for a later run.
        """
        if again:
            task.trouble = Trouble("source", again)
            self._roster.again(task, task.trouble)
            return
        _log.info("%s-%d: nothing from %d to %d", *task.tp, part.position, part.end)
        if task.progress.counts_only(task):
            self._roster.take_count(task, part)
        else:
            self._roster.finish(task, part, TaskState.DONE)

    # --- a log that ends too early --------------------------------------------------------------

    def ask_end(self, task: PartitionTask, trouble: Trouble) -> None:
        """Whether the log has lost its end; that it has lost its start is seen before the next
        assignment.
        """
        self.ask_of(task, partial(self._ask_end, task, trouble))

    def _ask_end(self, task: PartitionTask, trouble: Trouble) -> Then:
        try:
            found = self._source.list_offsets([task.tp], "latest", timeout=ASK_TIMEOUT)
        except CopystreamError:
            return partial(self._roster.again, task, trouble)
        return partial(self._told_end, task, trouble, found[task.tp])

    def _told_end(self, task: PartitionTask, trouble: Trouble, last: OffsetResult) -> None:
        reached = max(task.position, task.end)
        patient = task.backoff is None or task.backoff.elapsed() < LOST_PATIENCE
        if last.error or last.offset >= reached or patient:
            self._roster.again(task, trouble)
            return
        text = f"the source's log now ends at {last.offset}, before {reached}: it has lost records"
        self._roster.fail(
            task,
            task_fault(task, "data-loss", "source", self._source.name, text, offset=task.position),
        )

    # --- open transactions ----------------------------------------------------------------------

    def ask_held(self, task: PartitionTask, part: PartitionCopy) -> None:
        """Which transaction holds back the rest of an assignment that ended."""
        high = min(part.high_watermark, task.end)
        self.ask_of(task, partial(self._ask_held, {task: (part.position, high)}))

    def name_held(self) -> None:
        """Have open transactions named that hold a copy back which follows, once each."""
        held = {}
        since = self._lane_clock() - HELD_MS
        for task in self._roster.tasks:
            part = task.part
            if part is None or task.end >= 0 or part.held_at < part.position:
                continue
            told = task.held and task.held[0].offset == part.position
            if not told and part.held_since <= since:
                held[task] = (part.position, part.high_watermark)
        if held and not self._asking_held:
            self._asking_held = True
            self._aside.run(partial(self._ask_held, held))

    def _ask_held(self, held: Mapping[PartitionTask, tuple[int, int]]) -> Then:
        """``held`` has last stable offset and high watermark of tasks."""
        tasks = {task.tp: task for task in held}
        found = open_transactions(self._source, {task.tp: at for task, at in held.items()})
        return partial(self._told_held, {tasks[tp]: one for tp, one in found.items()})

    def _told_held(self, found: Mapping[PartitionTask, OpenTransaction]) -> None:
        self._asking_held = False
        for task, transaction in found.items():
            task.held = [transaction]
            text = held_text(transaction)
            if task.end < 0:
                _log.warning("%s", text)
            elif not task.finished:
                fault = task_fault(
                    task, "open-transaction", "source", self._source.name, text,
                    offset=transaction.offset,
                )  # fmt: skip
                self._roster.fail(task, fault)
