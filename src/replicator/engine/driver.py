"""Keeping the partitions of a copy moving: assign them to lanes, judge how assignments end, ask
the target's log, and try again or give up.

Everything here runs in the job's own thread but what says otherwise; lanes report through a queue,
and so does what is asked of brokers (``aside``): one that hangs must not hold the others up.
"""

from __future__ import annotations

import logging
import math
import queue
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from copycore.partition import PartitionCopy
from copycore.segments import Segments
from copycore.split import Stride
from replicator.cluster import Cluster, Denied, PartitionMeta, TopicMeta
from replicator.cluster import errors as broker_errors
from replicator.engine.aside import Aside, Then
from replicator.engine.judge import denied, judge, task_fault, without_side
from replicator.engine.lanes import LaneWorker, PipeKey, WhenFound, gate_opener
from replicator.engine.limits import RunLimits
from replicator.engine.placing import Asked, Brokers, ask
from replicator.engine.splits import SplitDriver, SplitFound
from replicator.engine.task import PartitionTask, TaskState
from replicator.errors import CopystreamError
from replicator.offsets.log_end import ForeignWriter, NotYet, counters
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.source_log import Finding, gap_text, judge_empty
from replicator.offsets.splits import Splits
from replicator.offsets.transactions import held_text, open_transactions
from replicator.process import StopSignal, now_ms
from replicator.report.model import Fault, FaultKind, OpenTransaction
from replicator.state.topics import StateWriter, ignored
from replicator.terms import Side

if TYPE_CHECKING:
    from copycore.lane import Event

PATIENCE = 120.0  # seconds from the first loss until a partition without progress is given up
MISSING_PATIENCE = 5.0  # seconds a topic may be unknown, as right after its creation
CHECK_INTERVAL = 5.0  # seconds between looks at the topics' ids and leaders
QUICK_CHECK_INTERVAL = 1.0  # the same while a broker does not answer
SILENCE_MS = 1500  # without an answer that count as not answering
STOP_GRACE = 5.0  # seconds that what is in flight gets after a stop
ASK_TIMEOUT = 5.0  # seconds for one question to a cluster; the driver asks again
TICK = 0.1  # seconds
HELD_PATIENCE_MS = 10_000  # that an open transaction may hold a copy back before it is named
COUNT_PATIENCE = 3.0  # seconds at the end for the target's log to be committed

Report = tuple[LaneWorker, "Event"] | Then | None

_log = logging.getLogger(__name__)


class Driver:
    """Drives ``tasks`` to their end over ``workers``. ``look`` is called every ``TICK`` or so,
    ``standing`` every second, and says whether the claims still stand; ``when_found`` opens gates,
    in the state writer's thread; ``aside`` reports to ``inbox``.
    """

    def __init__(
        self,
        source: Cluster,
        target: Cluster,
        tasks: Sequence[PartitionTask],
        maps: OffsetMaps,
        splits: Splits,
        writer: StateWriter,
        inbox: queue.SimpleQueue[Report],
        look: Callable[[], None],
        standing: Callable[[], bool],
        when_found: WhenFound,
        limits: RunLimits,
        aside: Aside,
        accept_gap: bool,
    ) -> None:
        self._source = source
        self._accept_gap = accept_gap
        self._target = target
        self._tasks = tasks
        self._maps = maps
        self._splitting = SplitDriver(target, splits, writer, when_found)
        self._writer = writer
        self._inbox = inbox
        self._look = look
        self._standing = standing
        self._when_found = when_found
        self._limits = limits
        self._aside = aside
        self._following = any(task.end < 0 for task in tasks)
        self._workers: Sequence[LaneWorker] = ()
        self._of_part: dict[PartitionCopy, PartitionTask] = {}
        self._pipes: dict[PartitionCopy, tuple[LaneWorker, PipeKey]] = {}
        self._pairs: dict[Brokers, list[PartitionTask]] = {}  # being asked, with who waits for it
        self._leaders_asked = self._topics_asked = self._held_asked = False
        self._source_ids: dict[str, str] = {}
        self._target_ids: dict[str, str] = {}
        self._missing_since: dict[tuple[Side, str], float] = {}
        self._stopping = False
        self._drop_at = math.inf
        self._checked_at = time.monotonic()
        self._kept_at = 0.0
        self.recoveries = 0
        self.under_replicated = 0  # partitions of the target's topics, when last asked

    def run(self, workers: Sequence[LaneWorker], stop: StopSignal) -> None:
        """Until every task is finished, or ``stop`` is requested or a limit is reached, and
        nothing is in flight.
        """
        self._workers = workers
        for task in self._tasks:
            self._source_ids[task.topic] = task.binding.source_id
            self._target_ids[task.target_topic] = task.binding.target_id
        while not all(task.finished for task in self._tasks):
            if not self._stopping and (stop.requested or self._limited()):
                self._stop()
            self._place_due()
            self._take_reports()
            self._look()
            self._look_around()
        self._count_unanswered()

    @property
    def stopping(self) -> bool:
        """Whether what is in flight is waited for after a stop or a limit; from any thread."""
        return self._stopping

    # --- segments: called in a lane's thread ------------------------------------------------

    def write_segments(self, worker: LaneWorker, part: PartitionCopy, segments: Segments) -> None:
        """Make segments durable, then open the gate behind them."""
        opener = gate_opener(worker, part, segments.gate, self._when_found)
        place = (part.topic, part.partition)
        self._maps.send_segments(self._writer, place, segments, opener, part.epochs)

    @property
    def write_stride(self) -> Callable[[LaneWorker, PartitionCopy, Stride], None]:
        """See ``SplitDriver``."""
        return self._splitting.write_stride

    # --- the loop ----------------------------------------------------------------------------

    def _limited(self) -> bool:
        return self._limits.end(time.monotonic(), following=self._following)

    def _stop(self) -> None:
        self._stopping = True
        self._drop_at = time.monotonic() + STOP_GRACE
        for worker in self._workers:
            worker.stop_all()
        for task in self._tasks:
            if task.state in (TaskState.WAITING, TaskState.ASKING):
                task.move(TaskState.STOPPED)

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
                continue
            if callable(report):
                report()
                continue
            event = report[1]
            if event[0] == "ended":
                self._ended(event[1])

    def _ended(self, part: PartitionCopy) -> None:
        task = self._of_part.pop(part)
        self._pipes.pop(part, None)
        if task.split is not None and task.split.checks:
            self._checked(task, part)
            return
        if task.take_result(part) or (part.heard and part.acked >= max(part.readable, part.end)):
            # A silent partition does not move, but it was served and had all that there was.
            task.attempts = 0
            task.lost_at = None
        task.located = False
        if task.fault is not None:
            return
        # All of it may have been in flight when it was stopped.
        if part.ending == "done" or (self._stopping and 0 <= task.end <= task.position):
            task.move(TaskState.DONE)
            self._note_tail(task, part)
        elif self._stopping:
            task.move(TaskState.STOPPED)
            self._note_tail(task, part)
        else:
            self._judge(task, part)

    def _checked(self, task: PartitionTask, part: PartitionCopy) -> None:
        """The source was split again up to where its counters are known."""
        assert task.split is not None
        task.part = None
        if task.fault is not None:
            return
        if self._stopping:
            task.move(TaskState.STOPPED)
        elif part.ending == "empty":
            self._ask_of(task, partial(self._ask_empty, task, part))
        elif part.ending != "done":
            task.located = False
            self._judge(task, part)
        else:
            self._recounted(task, part)

    def _recounted(self, task: PartitionTask, part: PartitionCopy) -> None:
        assert task.split is not None
        if task.split.check(part.counters):
            task.move(TaskState.WAITING)
        else:
            text = (
                "the source has lost records since they were split up: nobody can tell which of "
                "them the target has"
            )
            place = task.split.start.source
            task.fail(
                task_fault(task, "source-changed", "source", self._source.name, text, offset=place),
            )

    def _judge(self, task: PartitionTask, part: PartitionCopy) -> None:
        verdict = judge(task, part, self._source.name, self._target.name)
        if verdict.fault is not None:
            if verdict.fault.kind == "foreign-writer":
                if not self._standing():
                    self._superseded()
                    return
                # A topic created anew also stores our batches elsewhere.
                self.check_topics()
            if task.fault is None:
                task.fail(verdict.fault)
            return
        if verdict.apart:
            assert part.refused is not None
            task.take_apart(
                part.refused,
                too_large=broker_errors.lookup(part.end_code).refusal == "record-too-large",
            )
            task.lost_at = None  # fewer records are in question now
            self._again(task, "target", verdict.reason, at_once=True)
            return
        if verdict.empty:
            self._ask_of(task, partial(self._ask_empty, task, part))
            return
        if verdict.held:
            high = min(part.high_watermark, task.end)
            self._ask_of(task, partial(self._ask_held, {task: (part.position, high)}))
            return
        if verdict.refresh:
            self._checked_at = 0.0
        if verdict.out_of_range and self._lost_data(task):
            return
        # The leader may have lost the epoch of records that were cleaned away: ``check`` decides.
        task.trusts_epochs = not verdict.diverged
        task.trouble = verdict.reason
        self._again(task, "source" if part.end_side == "source" else "target", verdict.reason)

    def _note_tail(self, task: PartitionTask, part: PartitionCopy) -> None:
        """Remember holes at the end (control batches), so that a rerun starts behind them."""
        place = task.place
        if task.split is not None:
            if task.done:
                self._splitting.settle(task, part)
            return
        try:
            known = self._maps.source_of(place, task.counter)
        except LookupError:
            return
        if task.position > known and not self._maps.ahead(place, task.counter):
            self._maps.send_segments(
                self._writer,
                place,
                Segments([task.position], [task.counter]),
                ignored,
                part.epochs,
            )

    def _count_unanswered(self) -> None:
        """At the end: add what arrived although its answer did not, as the target's log shows."""
        deadline = time.monotonic() + COUNT_PATIENCE
        left = [task for task in self._tasks if task.unanswered and task.split is None]
        while left and time.monotonic() < deadline:
            try:
                ends = counters(self._target, {task.target_place: task.binding for task in left})
            except CopystreamError:
                return
            for task, answer in [(task, ends[task.target_place]) for task in left]:
                if not isinstance(answer, NotYet):
                    left.remove(task)
                if isinstance(answer, int):
                    task.count_stored({task.partition: answer})
            if left:
                self._take_reports()  # waits

    def _again(
        self, task: PartitionTask, side: Side, reason: str, *, at_once: bool = False
    ) -> None:
        """Try again, after a while or at once, or give up after a long one."""
        now = time.monotonic()
        task.located = False
        if task.lost_at is None:
            task.lost_at = now
        if now - task.lost_at > PATIENCE:
            cluster = self._source if side == "source" else self._target
            last = without_side(reason, side, cluster.name)
            text = f"no progress for {PATIENCE:.0f} s; last: {last}"
            task.fail(
                task_fault(task, "unreachable", side, cluster.name, text, offset=task.position),
            )
            return
        _log.info("%s-%d: %s; looking at the target's log", task.topic, task.partition, reason)
        task.move(TaskState.WAITING)
        delay = 0.0 if at_once else min(0.1 * 2 ** min(task.attempts, 6), 2.0)
        task.not_before = now + random.uniform(delay / 2, delay)
        task.attempts += 1
        self.recoveries += 1

    # --- assigning ---------------------------------------------------------------------------

    def _place_due(self) -> None:
        if self._stopping or self._leaders_asked:
            return
        now = time.monotonic()
        due = [
            task
            for task in self._tasks
            if task.state is TaskState.WAITING and task.not_before <= now
        ]
        if due:
            self._leaders_asked = True
            self._aside.run(partial(self._ask_leaders, due))

    def _ask_leaders(self, due: Sequence[PartitionTask]) -> Then:
        """Beside the driver."""
        try:
            sources, targets = self._metadata(due)
        except CopystreamError as error:
            return partial(self._leaders_unknown, due, error)
        return partial(self._pair, due, sources, targets)

    def _metadata(
        self, tasks: Sequence[PartitionTask]
    ) -> tuple[dict[str, TopicMeta], dict[str, TopicMeta]]:
        """Of the tasks' topics, on both sides; in any thread."""
        return (
            self._source.metadata(sorted({t.topic for t in tasks}), timeout=ASK_TIMEOUT),
            self._target.metadata(sorted({t.target_topic for t in tasks}), timeout=ASK_TIMEOUT),
        )

    def _leaders_unknown(self, due: Sequence[PartitionTask], error: CopystreamError) -> None:
        self._leaders_asked = False
        self._put_off(due, error)

    def _pair(
        self,
        due: Sequence[PartitionTask],
        sources: Mapping[str, TopicMeta],
        targets: Mapping[str, TopicMeta],
    ) -> None:
        """Sort tasks by the brokers that they need, and have each pair asked by itself."""
        self._leaders_asked = False
        groups: dict[Brokers, list[PartitionTask]] = {}
        for task in due:
            if task.finished or self._changed(
                task, sources[task.topic], targets[task.target_topic]
            ):
                continue
            reading = sources[task.topic].partitions.get(task.partition)
            writing = writing_leaders(task, targets[task.target_topic])
            if reading is None or reading.leader < 0:
                self._again(task, "source", _leaderless("source", self._source, reading))
            elif min(writing) < 0:
                number = writing.index(min(writing)) if task.split is not None else task.partition
                missing = targets[task.target_topic].partitions.get(number)
                self._again(task, "target", _leaderless("target", self._target, missing))
            else:
                brokers = (reading.leader, tuple(sorted(set(writing))))
                groups.setdefault(brokers, []).append(task)
        for brokers, tasks in groups.items():
            for task in tasks:
                task.move(TaskState.ASKING)
            if brokers in self._pairs:
                self._pairs[brokers] += tasks  # they are due again when the pair is free
            else:
                self._pairs[brokers] = []
                self._ask_pair(brokers, tasks, sources, targets)

    def _ask_pair(
        self,
        brokers: Brokers,
        tasks: Sequence[PartitionTask],
        sources: Mapping[str, TopicMeta],
        targets: Mapping[str, TopicMeta],
    ) -> None:
        ready = [task for task in tasks if task.located or self._settled(task)]
        lost = [task for task in ready if not task.located]

        def work() -> Then:
            asked = ask(
                self._source,
                self._target,
                self._maps,
                self._splitting,
                self._workers,
                brokers,
                ready,
                lost,
                sources,
            )
            return partial(self._asked, brokers, tasks, ready, asked, sources, targets)

        self._aside.run(work)

    def _asked(
        self,
        brokers: Brokers,
        tasks: Sequence[PartitionTask],
        ready: Sequence[PartitionTask],
        asked: Asked,
        sources: Mapping[str, TopicMeta],
        targets: Mapping[str, TopicMeta],
    ) -> None:
        """Hand those of ``tasks`` that are ``ready`` to their lanes."""
        for task in self._pairs.pop(brokers):
            if not task.finished:
                task.move(TaskState.WAITING)
        if self._stopping:
            return
        for task, found in (asked.counters | asked.splits).items():
            if isinstance(found, Exception):
                self._not_located(task, found)
            elif isinstance(found, SplitFound):
                task.count_stored(dict(enumerate(found.counters)))
                task.seen = found.state.settled_seen
                self._splitting.resume(task, found)
                task.located = True
            else:
                self._take_counter(task, found)
        unasked = []
        for task in ready:
            finding, pipe = asked.findings.get(task.place), asked.pipes.get(task)
            if task.finished or (not task.located and task in asked.counters | asked.splits):
                continue
            if finding is not None and not self._can_go_on(task, finding):
                continue
            if isinstance(pipe, tuple):
                writing = writing_leaders(task, targets[task.target_topic])
                self._assign(task, pipe, sources[task.topic], writing)
            elif pipe is not None:
                self._put_off([task], pipe)
            else:
                unasked.append(task)
        if asked.error is not None:
            self._put_off(unasked, asked.error)
        for task in ready:
            if task.state is TaskState.ASKING:
                task.move(TaskState.WAITING)

    def _put_off(self, tasks: Sequence[PartitionTask], error: CopystreamError) -> None:
        side: Side = "target" if error.side is None else error.side
        for task in tasks:
            if task.part is not None or task.finished:
                continue
            if isinstance(error, Denied):
                name = self._source.name if side == "source" else self._target.name
                task.fail(denied(task, side, name, error.message))
            else:
                self._again(task, side, error.message)

    def _assign(
        self,
        task: PartitionTask,
        pipe: tuple[LaneWorker, PipeKey],
        meta: TopicMeta,
        writing: Sequence[int],
    ) -> None:
        worker, key = pipe
        part = self._assignment(task, meta)
        part.wants_sample = task.wants_sample
        part.bucket = task.bucket
        task.part = part
        counting = task.split is not None and task.split.checks
        task.move(TaskState.CHECKING if counting else TaskState.PLACED)
        self._of_part[part] = task
        self._pipes[part] = pipe
        worker.assign(key, part, [key[1].index(leader) for leader in writing])

    def _assignment(self, task: PartitionTask, meta: TopicMeta) -> PartitionCopy:
        reading: PartitionMeta = meta.partitions[task.partition]
        split, end = None, task.end
        stored = self._maps.epochs(task.place)
        if task.split is not None:
            split, end = self._splitting.split(task)
        return PartitionCopy(
            task.topic,
            task.partition,
            source_name=task.topic.encode(),
            source_id=meta.topic_id.bytes,
            target_name=task.target_topic.encode(),
            leader_epoch=reading.leader_epoch,
            start=task.begin,
            end=end,
            mapped=task.begin if split is not None else task.mapped,
            counter=task.counter,
            base_target=task.binding.base,
            producer_id=task.binding.producer_id,
            producer_epoch=task.binding.producer_epoch,
            known=task.ahead,
            epoch=task.epochs.at(task.begin),
            fetched_epoch=task.fetched_epoch,
            known_epochs=stored.starts,
            new_epochs=stored.missing(task.epochs, task.begin),
            batch_limit=task.batch_limit,
            apart_until=task.apart_until,
            single_until=task.single_until,
            unpack=task.unpack,
            split=split,
        )

    def _settled(self, task: PartitionTask) -> bool:
        """Whether the target's log may be asked where the task stands; if not, it is put off."""
        if task.split is not None or self._maps.settled(task.place):
            return True
        self._maps.write_again(self._writer, task.place)
        # Given up while it waits for that, it has failed for what came before.
        self._again(task, "target", task.trouble or "target: a segment of the map is on its way")
        return False

    def _take_counter(self, task: PartitionTask, answer: int) -> None:
        if task.finished:
            return
        # Fewer than were acknowledged: the target lost its log's end (an unclean election);
        # copying goes on from there, which fills it up again.
        if answer < task.counter:
            _log.warning(
                "%s-%d: the target lost %d acknowledged records: copying them again",
                task.target_topic,
                task.partition,
                task.counter - answer,
            )
        task.count_stored({task.partition: answer})
        at, after = self._maps.around(task.place, answer)
        task.position, task.seen = task.place_at(answer, at, after)
        # Read once: a segment still on its way may join the map at any moment.
        task.mapped = at
        task.ahead = self._maps.ahead(task.place, answer)
        task.counter = answer
        task.located = True

    def _not_located(self, task: PartitionTask, error: Exception) -> None:
        if task.finished:
            return
        if isinstance(error, ForeignWriter):
            if not self._standing():
                self._superseded()
                return
            text = "the end of the log was not written by this copy"
            task.fail(
                task_fault(
                    task, "foreign-writer", "target", self._target.name, text, offset=error.offset
                ),
            )
        elif isinstance(error, NotYet):
            self._again(task, "target", f"target: not ready to tell its log's end ({error.code})")

    # --- what changes around us --------------------------------------------------------------

    def _look_around(self) -> None:
        now = time.monotonic()
        if now >= self._drop_at:
            # A quota or a broker that hangs holds answers back: the next run asks the log.
            self._drop_at = math.inf
            for worker in self._workers:
                worker.abandon("the run has been stopped")
        if now - self._kept_at >= 1.0:
            self._kept_at = now
            if not self._standing():
                self._superseded()
            for task in self._tasks:
                if task.split is not None and task.part is not None and not self._stopping:
                    self._splitting.settle_idle(self._pipes[task.part][0], task)
        silent = any(worker.silence() > SILENCE_MS for worker in self._workers)
        interval = QUICK_CHECK_INTERVAL if silent else CHECK_INTERVAL
        if now - self._checked_at >= interval and not self._topics_asked:
            self._checked_at = now
            self._name_held()
            active = self._active()
            if active:
                self._topics_asked = True
                self._aside.run(partial(self._ask_topics, active))

    def _active(self) -> list[PartitionTask]:
        return [task for task in self._tasks if task.fault is None and not task.stopped]

    def _ask_topics(self, active: Sequence[PartitionTask]) -> Then:
        """Beside the driver."""
        try:
            sources, targets = self._metadata(active)
        except CopystreamError as error:
            return partial(self._topics_unknown, error)
        return partial(self._topics_told, active, sources, targets)

    def _topics_unknown(self, error: CopystreamError) -> None:
        self._topics_asked = False
        _log.info("topics not checked: %s", error.message)

    def check_topics(self) -> None:
        """Compare the topics' ids with those this copy began with, now."""
        active = self._active()
        if active:
            self._ask_topics(active)()

    def _topics_told(
        self,
        active: Sequence[PartitionTask],
        sources: Mapping[str, TopicMeta],
        targets: Mapping[str, TopicMeta],
    ) -> None:
        self._topics_asked = False
        self.under_replicated = sum(
            len(part.isr) < len(part.replicas)
            for topic in targets.values()
            for part in topic.partitions.values()
        )
        moved: set[tuple[LaneWorker, PipeKey]] = set()
        for task in active:
            if task.fault is not None:
                continue
            source, target = sources[task.topic], targets[task.target_topic]
            if not self._changed(task, source, target) and task.part is not None:
                worker, key = self._pipes[task.part]
                reading = source.partitions.get(task.partition)
                leaders = {leader for leader in writing_leaders(task, target) if leader >= 0}
                if (reading is not None and 0 <= reading.leader != key[0]) or leaders - {*key[1]}:
                    moved.add((worker, key))
        for worker, key in moved:
            # A broker that is up tells by itself that it leads no more.
            worker.drop_silent(key, SILENCE_MS, "another broker leads its partitions now")

    def check_splits(self) -> None:
        """At the end: compare the logs of topics that were split up with what was written."""
        tasks = [task for task in self._tasks if task.split is not None]
        for topic, offset in self._splitting.foreign_offsets(tasks).items():
            text = "the log does not end where this copy brought it: another client writes there"
            for task in tasks:
                if task.topic == topic and task.fault is None:
                    task.fail(
                        task_fault(
                            task, "foreign-writer", "target", self._target.name, text, offset=offset
                        ),
                    )

    def _changed(self, task: PartitionTask, source: TopicMeta, target: TopicMeta) -> bool:
        """Whether a topic is gone or another one than before, so that its task cannot go on."""
        return self._side_changed(
            task, "source", self._source.name, source, self._source_ids[task.topic]
        ) or self._side_changed(
            task, "target", self._target.name, target, self._target_ids[task.target_topic]
        )

    def _side_changed(
        self, task: PartitionTask, side: Side, cluster: str, meta: TopicMeta, known: str
    ) -> bool:
        found: Fault
        if broker_errors.is_denied(meta.error):
            found = denied(task, side, cluster, "describing the topic is refused")
        elif meta.error in broker_errors.UNKNOWN_TOPIC:
            # A broker that has just started may not know its topics yet.
            since = self._missing_since.setdefault((side, meta.name), time.monotonic())
            if time.monotonic() - since < MISSING_PATIENCE:
                if task.state is TaskState.WAITING:
                    self._again(task, side, f"{side}: the topic is unknown")
                return True
            kind: FaultKind = "source-deleted" if side == "source" else "target-deleted"
            text = "the topic does not exist any more"
            found = task_fault(task, kind, side, cluster, text)
        else:
            self._missing_since.pop((side, meta.name), None)
            if meta.error or str(meta.topic_id) == known:
                return False
            kind = "source-recreated" if side == "source" else "target-recreated"
            text = "the topic was deleted and created anew"
            found = task_fault(task, kind, side, cluster, text)
        task.fail(found)
        if task.part is not None:
            self._pipes[task.part][0].stop(task.part)
        return True

    def _lost_data(self, task: PartitionTask) -> bool:
        """After OFFSET_OUT_OF_RANGE: whether the source's log has lost its end. ``check`` notices
        before the next assignment where it has lost its start.
        """
        try:
            end = self._source.list_offsets([task.place], "latest", timeout=ASK_TIMEOUT)
        except CopystreamError:
            return False
        last = end[task.place]
        reached = max(task.position, task.end)
        if not last.error and last.offset < reached and task.attempts > 5:
            text = (
                f"the source's log now ends at {last.offset}, before {reached}: it has lost records"
            )
            task.fail(
                task_fault(
                    task, "data-loss", "source", self._source.name, text, offset=task.position
                ),
            )
            return True
        return False

    # --- what the source is asked of a partition that cannot simply go on --------------------

    def _can_go_on(self, task: PartitionTask, finding: Finding) -> bool:
        """Whether a task can be assigned in spite of what was found at the source."""
        if finding.gap is not None and self._accept_gap and task.skip_to(finding.gap):
            if task.split is not None:
                self._splitting.skip(task)
            gap = task.gaps[-1]
            if gap.start != task.start:  # else the plan has told it
                _log.warning("%s", gap_text(gap))
            return True
        if finding.fault is not None:
            task.fail(finding.fault)
        else:
            self._again(task, "source", finding.again)
        return False

    def _ask_of(self, task: PartitionTask, work: Callable[[], Then]) -> None:
        """Have something asked about a task beside the driver; it is not placed meanwhile."""
        task.move(TaskState.ASKING)

        def then() -> Then:
            done = work()
            return partial(self._told_of, task, done)

        self._aside.run(then)

    def _told_of(self, task: PartitionTask, then: Then) -> None:
        if not task.finished:
            then()
        if task.state is TaskState.ASKING:
            task.move(TaskState.WAITING)

    def _ask_empty(self, task: PartitionTask, part: PartitionCopy) -> Then:
        """Beside the driver."""
        try:
            again = judge_empty(self._source, task.place, part.position, part.end)
        except CopystreamError as error:
            again = f"source: {error.message}"
        return partial(self._passed_hole, task, part, again)

    def _passed_hole(self, task: PartitionTask, part: PartitionCopy, again: str) -> None:
        """Nothing lies between the position and the end of an assignment, unless there is a reason
        to try ``again``.

        The position stays where the last batch was: no absence is stored for a later run.
        """
        if again:
            task.trouble = again
            self._again(task, "source", again)
            return
        _log.info("%s-%d: nothing from %d to %d", *task.place, part.position, part.end)
        if task.split is not None and task.split.checks:
            self._recounted(task, part)
        else:
            task.move(TaskState.DONE)
            self._note_tail(task, part)

    def _ask_held(self, held: Mapping[PartitionTask, tuple[int, int]]) -> Then:
        """Beside the driver; ``held`` has last stable offset and high watermark of tasks."""
        places = {task.place: task for task in held}
        found = open_transactions(self._source, {task.place: at for task, at in held.items()})
        return partial(self._told_held, {places[place]: one for place, one in found.items()})

    def _told_held(self, found: Mapping[PartitionTask, OpenTransaction]) -> None:
        self._held_asked = False
        for task, transaction in found.items():
            task.held = [transaction]
            (text,) = held_text([transaction])
            if task.end < 0:
                _log.warning("%s", text)
            elif not task.finished:
                task.fail(
                    task_fault(
                        task,
                        "open-transaction",
                        "source",
                        self._source.name,
                        text,
                        offset=transaction.offset,
                    ),
                )

    def _name_held(self) -> None:
        """Have open transactions named that hold a copy back which follows, once each."""
        held = {}
        for task in self._tasks:
            part = task.part
            if part is None or task.end >= 0 or part.held_at < part.position:
                continue
            told = task.held and task.held[0].offset == part.position
            if not told and now_ms() - part.held_since >= HELD_PATIENCE_MS:
                held[task] = (part.position, part.high_watermark)
        if held and not self._held_asked:
            self._held_asked = True
            self._aside.run(partial(self._ask_held, held))

    def _superseded(self) -> None:
        """Another copystream struck our claims out: stop everything."""
        text = "another copystream took this copy over while this one did not answer"
        for task in self._tasks:
            if not task.finished:
                task.fail(
                    task_fault(task, "superseded", "target", self._target.name, text, offset=None),
                )
                if task.part is not None:
                    self._pipes[task.part][0].stop(task.part)


def writing_leaders(task: PartitionTask, target: TopicMeta) -> list[int]:
    """The leader of each target partition that the task writes to; −1 where there is none."""
    numbers = [task.partition] if task.split is None else range(len(task.split.have))
    found = [target.partitions.get(number) for number in numbers]
    return [-1 if meta is None else meta.leader for meta in found]


def _leaderless(side: Side, cluster: Cluster, meta: PartitionMeta | None) -> str:
    """Why a partition cannot be placed, with the brokers that would have to come back."""
    missing = sorted(set(meta.replicas) - set(cluster.brokers)) if meta is not None else []
    if not missing:
        return f"{side}: the partition has no leader"
    names = ", ".join(str(broker) for broker in missing)
    plural = "s" if len(missing) > 1 else ""
    return f"{side}: the partition has no leader; missing broker{plural}: {names}"
