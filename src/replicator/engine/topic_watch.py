"""Topics that change while they are copied: deleted, created anew, led by other brokers, with
replicas that lag.

``TopicWatch`` is called in the driver's thread; what it asks brokers runs beside it, and is told to
it in the driver's thread again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from replicator.cluster import TopicMeta
from replicator.cluster import errors as broker_errors
from replicator.engine.aside import Aside, Then
from replicator.engine.clusters import Clusters
from replicator.engine.judge import denied, task_fault
from replicator.engine.lanes import LaneWorker
from replicator.engine.roster import Roster
from replicator.engine.strategy import by_progress
from replicator.engine.task import OpenPipe, PartitionTask, TaskState, Trouble
from replicator.errors import CopystreamError
from replicator.offsets.log_end import ASK_TIMEOUT
from replicator.report.model import Fault, FaultKind
from replicator.terms import Side

MISSING_PATIENCE = 5.0  # seconds a topic may be unknown, as right after its creation
CHECK_INTERVAL = 5.0  # seconds between looks at the topics' ids and leaders
QUICK_CHECK_INTERVAL = 1.0  # the same while a broker does not answer
SILENCE_MS = 1500  # without an answer that count as not answering

Metas = Mapping[str, TopicMeta]

_log = logging.getLogger(__name__)


class TopicWatch:
    """Called in the driver's thread; ``under_replicated`` may be read by any.

    Compares the topics of ``roster`` with those the copy began with.
    """

    def __init__(
        self,
        clusters: Clusters,
        roster: Roster,
        aside: Aside,
        workers: Sequence[LaneWorker],
        clock: Callable[[], float],
    ) -> None:
        self._clusters = clusters
        self._roster = roster
        self._aside = aside
        self._workers = workers
        self._clock = clock
        self._missing_since: dict[tuple[Side, str], float] = {}
        self._asking = False
        self._looked_at = clock()
        self._soon = False
        self.under_replicated = 0  # partitions of the target's topics, when last asked

    def look_soon(self) -> None:
        """Look at the topics with the next ``tick``."""
        self._soon = True

    def tick(self) -> bool:
        """Look at the topics if it is time: True."""
        now = self._clock()
        silent = any(worker.silence() > SILENCE_MS for worker in self._workers)
        interval = QUICK_CHECK_INTERVAL if silent else CHECK_INTERVAL
        due = self._soon or now - self._looked_at >= interval
        if self._asking or not due:
            return False
        self._looked_at, self._soon = now, False
        active = self._active()
        if active:
            self._asking = True
            self._aside.run(partial(self._ask, active))
        return True

    def _active(self) -> list[PartitionTask]:
        ended = (TaskState.FAILED, TaskState.STOPPED)
        return [task for task in self._roster.tasks if task.state not in ended]

    def metadata(self, tasks: Sequence[PartitionTask]) -> tuple[Metas, Metas]:
        """Of the tasks' topics, at the source and at the target; from any thread."""
        source, target = self._clusters
        return (
            source.metadata(sorted({t.topic for t in tasks}), timeout=ASK_TIMEOUT),
            target.metadata(sorted({t.target_topic for t in tasks}), timeout=ASK_TIMEOUT),
        )

    def _ask(self, active: Sequence[PartitionTask]) -> Then:
        """Beside the driver."""
        try:
            sources, targets = self.metadata(active)
        except CopystreamError as error:
            return partial(self._unknown, error)
        return partial(self._told, active, sources, targets)

    def _unknown(self, error: CopystreamError) -> None:
        self._asking = False
        _log.info("topics not checked: %s", error.message)

    def _told(self, active: Sequence[PartitionTask], sources: Metas, targets: Metas) -> None:
        self._asking = False
        self.under_replicated = sum(
            len(part.isr) < len(part.replicas)
            for topic in targets.values()
            for part in topic.partitions.values()
        )
        moved: set[OpenPipe] = set()
        for task in active:
            if task.fault is not None:
                continue
            source, target = sources[task.topic], targets[task.target_topic]
            change = self.note_change(task, source, target)
            if change is not None:
                self.act_on(task, change)
            elif task.pipe is not None and _led_elsewhere(task, task.pipe, source, target):
                moved.add(task.pipe)
        for worker, key in moved:
            # A broker that is up tells by itself that it leads no more.
            worker.drop_silent(key, SILENCE_MS, "another broker leads its partitions now")

    # --- one topic ------------------------------------------------------------------------------

    def note_change(
        self, task: PartitionTask, source: TopicMeta, target: TopicMeta
    ) -> Fault | Trouble | None:
        """What a topic that is gone, or another one by its id (INV-9), means for its task.

        One that is unknown is trouble for a moment: a broker that has just started may not know
        its topics yet.
        """
        return self._note_side(task, "source", source, task.binding.source_id) or self._note_side(
            task, "target", target, task.binding.target_id
        )

    def _note_side(
        self, task: PartitionTask, side: Side, meta: TopicMeta, known: str
    ) -> Fault | Trouble | None:
        cluster = self._clusters.name(side)
        kind: FaultKind
        if broker_errors.is_denied(meta.error):
            return denied(task, side, cluster, "describing the topic is refused")
        if meta.error in broker_errors.UNKNOWN_TOPIC:
            since = self._missing_since.setdefault((side, meta.name), self._clock())
            if self._clock() - since < MISSING_PATIENCE:
                return Trouble(side, f"{side}: the topic is unknown")
            kind = "source-deleted" if side == "source" else "target-deleted"
            return task_fault(task, kind, side, cluster, "the topic does not exist any more")
        self._missing_since.pop((side, meta.name), None)
        if meta.error or str(meta.topic_id) == known:
            return None
        kind = "source-recreated" if side == "source" else "target-recreated"
        return task_fault(task, kind, side, cluster, "the topic was deleted and created anew")

    def act_on(self, task: PartitionTask, change: Fault | Trouble) -> None:
        if isinstance(change, Fault):
            self._roster.fail(task, change)
        elif task.state is TaskState.WAITING:
            self._roster.again(task, change)

    # --- one task, and the end of a run ---------------------------------------------------------

    def ask_before(self, task: PartitionTask, fault: Fault) -> Then:
        """Beside the driver: whether a topic that was created anew explains a fault."""
        try:
            sources, targets = self.metadata([task])
        except CopystreamError as error:
            return partial(self._explain, task, fault, error.message, None)
        metas = sources[task.topic], targets[task.target_topic]
        return partial(self._explain, task, fault, "", metas)

    def _explain(
        self,
        task: PartitionTask,
        fault: Fault,
        failed: str,
        metas: tuple[TopicMeta, TopicMeta] | None,
    ) -> None:
        if metas is None:
            _log.info("topics not checked: %s", failed)
        change = None if metas is None else self.note_change(task, *metas)
        self._roster.fail(task, change if isinstance(change, Fault) else fault)

    def check(self) -> None:
        """At the end of a run: compare the topics' ids once more; waits for the answers."""
        active = self._active()
        if active:
            self._ask(active)()

    def check_ends(self) -> None:
        """At the end of a run: compare logs with what was written, where no acknowledgement tells
        of another client; waits for the answers.
        """
        text = "the log does not end where this copy brought it: another client writes there"
        cluster = self._clusters.name("target")
        for progress, tasks in by_progress(self._roster.tasks):
            for topic, offset in progress.foreign_ends(tasks).items():
                for task in tasks:
                    if task.topic == topic:
                        self._roster.fail(
                            task,
                            task_fault(
                                task, "foreign-writer", "target", cluster, text, offset=offset
                            ),
                        )


def _led_elsewhere(
    task: PartitionTask, pipe: OpenPipe, source: TopicMeta, target: TopicMeta
) -> bool:
    """Whether another broker leads one of its partitions now than those its pipe is open to."""
    reading = source.partitions.get(task.partition)
    leaders = {leader for leader in writing_leaders(task, target).values() if leader >= 0}
    if reading is not None and 0 <= reading.leader != pipe.key[0]:
        return True
    return bool(leaders - {*pipe.key[1]})


def writing_leaders(task: PartitionTask, target: TopicMeta) -> dict[int, int]:
    """The leader of each target partition that the task writes to; −1 where there is none."""
    found = {number: target.partitions.get(number) for number in task.progress.writes_to(task)}
    return {number: -1 if meta is None else meta.leader for number, meta in found.items()}
