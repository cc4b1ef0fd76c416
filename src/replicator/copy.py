"""One copy job: plan it, carry it out, tell how it goes.

Order of a run: choose topics and claim them, plan, create target topics, make producer id,
bindings and first map segments durable, then let the driver move partitions through the lanes.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime

from copycore.lane import Lane
from copycore.rebatch import Rebatcher
from replicator.cluster import Cluster, TopicMeta
from replicator.cluster.admin import Admin
from replicator.engine.aside import Aside
from replicator.engine.clusters import Clusters
from replicator.engine.counts import total
from replicator.engine.driver import Driver, Report
from replicator.engine.gates import Gates
from replicator.engine.kept import KeptProgress
from replicator.engine.lanes import PAUSE_LIMIT_MS, LaneWorker
from replicator.engine.limits import RunLimits
from replicator.engine.partitioners import load
from replicator.engine.sampler import Sampler
from replicator.engine.splits import SplitProgress
from replicator.engine.strategy import Progress
from replicator.engine.task import PartitionTask
from replicator.engine.topic_watch import writing_leaders
from replicator.errors import ExitCode
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.splits import Splits, fresh
from replicator.offsets.transactions import held_text, standing
from replicator.options.rates import OFF, print_rate
from replicator.options.settings import CopySettings
from replicator.options.types import KEEP
from replicator.pace.neighbours import Others
from replicator.pace.sampling import Standing, Watch
from replicator.pace.throttle import Buckets, Throttle
from replicator.plan.authors import Authors
from replicator.plan.draft import CopyPlan, PartitionPlan
from replicator.plan.planner import Planner
from replicator.plan.reach import unready_fault
from replicator.plan.topics import TopicChoice
from replicator.process import StopSignal, now_ms, since_process_start
from replicator.report.faults import fault
from replicator.report.model import (
    Fault,
    Phase,
    Plan,
    Snapshot,
    Summary,
    Throttler,
    TopicPlan,
    TopicSummary,
)
from replicator.report.outcome import outcome, strongest
from replicator.state.checks import StateTopics
from replicator.state.records import Binding, Epochs, SplitBinding, SplitState
from replicator.state.session import Session
from replicator.terms import TopicPartition

PIPES_PER_BROKERS = 3  # connections of a lane to the same two brokers: some wait, one works
LARGEST_SLAB = 4 << 20  # bytes a Fetch brings; more does not make it faster
LEAST_SLAB = 256 << 10
SLABS_PER_PIPE = 4
SAMPLED_EVERY = 1.0  # seconds
LARGEST_REQUEST = 4 << 20  # bytes of batches in a Produce request

_log = logging.getLogger(__name__)


class CopyJob:
    """A copy with these settings. ``plan`` or ``run`` once; ``snapshot`` from any thread.

    ``new_throttle`` is asked several times a second, and says what is to hold instead of the
    settings from then on, or None.
    """

    def __init__(self, settings: CopySettings, new_throttle: Callable[[], Throttle | None]) -> None:
        self._settings = settings
        self._new_throttle = new_throttle
        self._source = Cluster(settings.source, "source")
        self._target = Cluster(settings.target, "target")
        self._source_admin = Admin(self._source)
        self._target_admin = Admin(self._target)
        self._planner = Planner(
            settings, self._source, self._target, self._source_admin, self._target_admin
        )
        self._partitioner = load(settings.partitioner)
        self._began = time.monotonic()
        self._limits = RunLimits(
            size=settings.max_bytes,
            records=settings.max_records,
            milliseconds=settings.max_duration,
            began=self._began,
        )
        self._phase: Phase = "starting"
        self._plan: CopyPlan | None = None
        self._created: set[str] = set()
        self._conflicts: list[Fault] = []
        self._tasks: list[PartitionTask] = []
        self._workers: list[LaneWorker] = []
        self._driver: Driver | None = None
        self._buckets: Buckets | None = None
        self._watch: Watch | None = None
        self._others: Others | None = None
        self._sampler = Sampler(time.monotonic)
        self._sampled_at = 0.0

    # --- the plan ----------------------------------------------------------------------------

    def plan(self) -> Plan:
        """What ``run`` would do; writes nothing anywhere."""
        with self._session() as session:
            choice, metas = self._planner.choose()
            maps, splits = OffsetMaps(session.map_topic), Splits(session.map_topic)
            state = session.read()
            facts = self._planner.gather(choice, metas)
            authors = self._authors(session, state)
            made = self._planner.make(facts, session.flow, maps, splits, authors, create=False)
            plan = made.report
            plan.warnings += state.warnings
            ends = {(part.topic, part.partition): part.end for part in made.partitions}
            plan.faults += [
                fault(
                    "open-transaction",
                    "source",
                    self._source.name,
                    one.topic,
                    one.partition,
                    held_text(one),
                    offset=one.offset,
                )
                for topic in plan.topics
                for one in standing(topic.open_transactions, datetime.now())
                if one.offset < ends.get((one.topic, one.partition), 0)
            ]
            return plan

    def _session(self) -> AbstractContextManager[Session]:
        return Session.open(
            self._source,
            self._target,
            self._target_admin,
            same_cluster_id=self._settings.same_cluster_id,
        )

    def _authors(self, session: Session, state: StateTopics) -> Authors:
        return Authors(self._source, self._target, session.producers, session.flow, state.lost)

    # --- the run -----------------------------------------------------------------------------

    def run(self, stop: StopSignal, tell: Callable[[Plan], None]) -> Summary:
        """Copy until done, failed or stopped. Raises for what stops the job as a whole.

        ``tell`` gets the plan before any record is written.
        """
        with self._session() as session, ExitStack() as stack:
            choice, metas = self._planner.choose()
            self._others = Others(self._target, choice.topics)
            stack.callback(self._others.end)
            if self._settings.throttle.rate_at(datetime.now()).auto:
                self._others.begin()  # so that it is known when the first record is due
            pool = stack.enter_context(ThreadPoolExecutor(1))
            facts = pool.submit(self._planner.gather, choice, metas)
            maps, splits = OffsetMaps(session.map_topic), Splits(session.map_topic)
            state = session.acquire(choice.topics)
            session.restore_producers(maps.producers() | splits.producers())
            self._plan = self._planner.make(
                facts.result(),
                session.flow,
                maps,
                splits,
                self._authors(session, state),
                create=True,
            )
            self._plan.report.warnings += state.warnings
            tell(self._plan.report)
            self._await_topics(self._plan)
            for admin in (self._source_admin, self._target_admin):
                admin.close()  # brokers may limit connections
            if self._settings.partitioner == KEEP:
                self._tasks = self._make_tasks(self._plan, maps, session)
            else:
                self._tasks = self._make_split_tasks(self._plan, splits, session)
            session.clean()
            if self._tasks and not stop.requested:
                self._copy(stop, maps, splits, session)
            self._phase = "done"
            return self._summary(choice, stop, session.flow)

    def _await_topics(self, plan: CopyPlan) -> None:
        """Wait until new partitions can be used; those that cannot be get a fault in the plan."""
        fine = [topic for topic in plan.report.topics if topic.conflict is None]
        done = {topic.target_topic: topic for topic in fine if topic.create or topic.widen}
        if not done:
            return
        self._created = {topic.target_topic for topic in fine if topic.create}
        counts = {name: topic.target_partitions for name, topic in done.items()}
        metas, unready = self._target.await_leaders(counts)
        plan.targets.update(metas)
        for name, meta in metas.items():
            if meta.error:
                error = self._target.error(
                    meta.error, f"use the new topic {name}", acl=f"DESCRIBE on Topic {name}"
                )
                plan.refuse(name, error)
        for (name, partition), error in unready.items():
            if self._settings.partitioner != KEEP:
                plan.refuse(name, error)
            elif not metas[name].error:
                plan.report.faults.append(unready_fault(self._target, name, partition, error))
        lost = {(fault.topic, fault.partition) for fault in plan.report.faults}
        plan.partitions = [p for p in plan.partitions if (p.topic, p.partition) not in lost]

    def _make_tasks(
        self, plan: CopyPlan, maps: OffsetMaps, session: Session
    ) -> list[PartitionTask]:
        """Tasks of all partitions; bindings and first segments are durable when this returns."""
        chosen = self._without_conflicts(plan)
        new: list[tuple[TopicPartition, Binding, int]] = []
        resumed: list[tuple[TopicPartition, int]] = []
        identity = None
        progress = KeptProgress(self._target, maps, session.writer)
        tasks = []
        lanes = self._lanes(len(chosen))
        for number, part in enumerate(chosen):
            binding = part.binding
            place = (part.topic, part.partition)
            if binding is None:
                if identity is None:
                    identity = session.producers.of(session.flow)
                    if identity is None or self._settings.restart or self._settings.append:
                        identity = session.allocate_producer()
                binding = Binding(
                    source_id=str(plan.sources[part.topic].topic_id),
                    target_topic=part.topic,
                    target_id=str(plan.targets[part.topic].topic_id),
                    base=part.base,
                    producer_id=identity.producer_id,
                    producer_epoch=identity.producer_epoch,
                )
                new.append((place, binding, part.start))
            elif part.start < part.end or part.end < 0 or maps.crowded(place):
                resumed.append((place, part.counter))
            limit = plan.batch_limits[part.topic]
            tasks.append(self._task(part, binding, progress, limit, number, lanes))
        epochs = self._first_epochs({p: start for p, _, start in new})
        maps.write_bindings(session.writer, new, epochs)
        maps.restate(session.writer, resumed)
        for task in tasks:
            task.epochs = maps.epochs(task.tp)
        return tasks

    def _first_epochs(self, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, Epochs]:
        """The leader epoch of each log start, for copies that begin there: known in advance, it
        need not be made durable before the first records are sent.
        """
        found = self._source.list_offsets(starts, "earliest")
        return {
            place: Epochs(((start, found[place].leader_epoch),))
            for place, start in starts.items()
            if found[place].offset == start and found[place].leader_epoch >= 0
        }

    def _without_conflicts(self, plan: CopyPlan) -> list[PartitionPlan]:
        refused = {t.topic for t in plan.report.topics if t.conflict is not None}
        self._conflicts = [self._conflict(t) for t in plan.report.topics if t.conflict is not None]
        return [part for part in plan.partitions if part.topic not in refused]

    def _make_split_tasks(
        self, plan: CopyPlan, splits: Splits, session: Session
    ) -> list[PartitionTask]:
        """The same for partitions whose records go to other ones: each has a producer id."""
        chosen = self._without_conflicts(plan)
        states: dict[TopicPartition, SplitState] = {}
        progress = SplitProgress(self._target, splits, session.writer, self._partitioner)
        tasks = []
        lanes = self._lanes(len(chosen))
        for number, part in enumerate(chosen):
            place = (part.topic, part.partition)
            state = part.split
            if state is None:
                identity = session.allocate_producer()
                target = plan.targets[part.topic]
                binding = SplitBinding(
                    source_id=str(plan.sources[part.topic].topic_id),
                    target_topic=part.topic,
                    target_id=str(target.topic_id),
                    producer_id=identity.producer_id,
                    producer_epoch=identity.producer_epoch,
                    partitioner=self._settings.partitioner,
                    bases=part.bases or (0,) * len(target.partitions),
                )
                state = fresh(binding, part.start)
            states[place] = state
            limit = plan.batch_limits[part.topic]
            task = self._task(part, state.binding, progress, limit, number, lanes)
            task.epochs = state.epochs
            task.located = part.split is None
            tasks.append(task)
        splits.restate(session.writer, states)
        return tasks

    def _task(
        self,
        part: PartitionPlan,
        binding: Binding | SplitBinding,
        progress: Progress,
        batch_limit: int,
        number: int,
        lanes: int,
    ) -> PartitionTask:
        fresh = part.binding is None
        return PartitionTask(
            topic=part.topic,
            batch_limit=batch_limit,
            target_topic=binding.target_topic,
            partition=part.partition,
            binding=binding,
            progress=progress,
            start=part.start,
            end=part.end,
            position=part.start,
            counter=part.counter,
            mapped=part.start,
            lane=number % lanes,
            slot=number // lanes % PIPES_PER_BROKERS,
            located=fresh,
        )

    def _lanes(self, partitions: int) -> int:
        chosen = self._settings.lanes or max(1, min(4, (os.cpu_count() or 1) // 2))
        return max(1, min(chosen, partitions))

    def _copy(
        self,
        stop: StopSignal,
        maps: OffsetMaps,
        splits: Splits,
        session: Session,
    ) -> None:
        inbox: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._sampler.begin(self._tasks)
        self._buckets = self._make_buckets()
        gates = Gates(maps, splits, session.writer, session.pulse.when_found)
        self._workers = self._make_lanes(gates, inbox)
        driver = Driver(
            Clusters(self._source, self._target),
            self._workers,
            inbox,
            Aside(inbox.put),
            look=self._look,
            standing=session.pulse.standing,
            limits=self._limits,
            accept_gap=self._settings.accept_gap,
        )
        driver.add(self._tasks)
        self._driver = driver
        self._watch = self._make_watch(driver)
        self._phase = "copying"
        gc.freeze()  # a tenth of a copy's CPU would go into looking for garbage among the imports
        for worker in self._workers:
            worker.start()
        try:
            driver.run(stop)
            self._sampler.look(self._tasks)
            driver.check_topics()
        finally:
            for worker in self._workers:
                worker.close()

    def _look(self) -> None:
        """What the driver does all the time: take samples, keep the rates at what holds now."""
        now = time.monotonic()
        if now - self._sampled_at >= SAMPLED_EVERY:
            self._sampled_at = now
            self._sampler.look(self._tasks)
        if self._buckets is None or self._watch is None:
            return
        changed = self._buckets.tick(self._new_throttle())
        if self._buckets.asked.auto and self._others is not None:
            self._others.begin()
        sample = self._watch.look()
        if sample is not None:
            changed |= self._buckets.observe(sample)
        if changed:
            for worker in self._workers:
                worker.lane.wake()

    def _make_watch(self, driver: Driver) -> Watch:
        return Watch(
            [worker.lane for worker in self._workers],
            lambda: self._standing(driver),
            lambda: now_ms() / 1000,
        )

    def _standing(self, driver: Driver) -> Standing:
        tasks = self._tasks
        follows = all(task.end < 0 for task in tasks)
        counts = total(task.counts for task in tasks)
        return Standing(
            bytes=counts.bytes,
            records=counts.records,
            lag=sum(task.lag for task in tasks) if follows else None,
            under_replicated=driver.under_replicated,
            others=None if self._others is None else self._others.rate,
        )

    def _make_buckets(self) -> Buckets:
        settings = self._settings
        throttle = Throttle(settings.throttle, settings.throttle_topics, settings.weights)
        buckets = Buckets(throttle, lambda: now_ms() / 1000, datetime.now)
        for task in self._tasks:
            task.bucket = buckets.partition(task.topic)
        return buckets

    def _make_lanes(self, gates: Gates, inbox: queue.SimpleQueue[Report]) -> list[LaneWorker]:
        settings = self._settings
        count = 1 + max(task.lane for task in self._tasks)
        pairs = self._broker_pairs()
        slots = min(PIPES_PER_BROKERS, len(self._tasks))
        pipe_bytes = max(settings.memory // (count * slots * pairs), LEAST_SLAB * 2)
        slab_bytes = max(LEAST_SLAB, min(LARGEST_SLAB, pipe_bytes // SLABS_PER_PIPE))
        return [
            LaneWorker(
                Lane(
                    settings.target.client_id.encode(),
                    read_committed=settings.isolation == "read_committed",
                    check_crc=settings.check_crc,
                    rebatcher=self._maker(),
                    allowance=self._limits.allowance,
                    request_bytes=LARGEST_REQUEST,
                    linger=settings.linger,
                    pause_limit=PAUSE_LIMIT_MS,
                ),
                inbox,
                gates.write_segments,
                gates.write_stride,
                slab_bytes=slab_bytes,
                pipe_bytes=pipe_bytes,
            )
            for _ in range(count)
        ]

    def _maker(self) -> Rebatcher:
        settings = self._settings
        codec, level = settings.compression
        return Rebatcher(
            compression=codec,
            level=level,
            merge=self._limits.merge(settings.merge),
            batch_bytes=self._limits.batch_bytes(settings.batch_bytes),
        )

    def _broker_pairs(self) -> int:
        """How many pairs of source and target leaders the partitions make."""
        plan = self._plan
        if plan is None:
            return 1
        pairs = {
            (
                _leader(plan.sources[t.topic], t),
                frozenset(writing_leaders(t, plan.targets[t.target_topic]).values()),
            )
            for t in self._tasks
        }
        return max(1, len(pairs))

    # --- what it tells -----------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The running numbers; cheap, and safe from any thread."""
        tasks = self._tasks
        partitions = [task.report() for task in tasks]
        lanes = [worker.lane for worker in self._workers]
        waited: dict[Throttler, int] = {
            "limit": max((lane.limited_ms for lane in lanes), default=0),
            "source quota": max((lane.source_quota_ms for lane in lanes), default=0),
            "target quota": max((lane.target_quota_ms for lane in lanes), default=0),
        }
        asked = sum(p.end - p.start for p in partitions)
        done = sum(p.position - p.start for p in partitions)
        plan = self._plan
        return Snapshot(
            phase=self._reported_phase(),
            elapsed=time.monotonic() - self._began,
            logical_bytes=self._sampler.logical(tasks),
            offsets_total=asked,
            offsets_done=done,
            bytes_total=None if plan is None else plan.report.bytes,
            lag=max(0, asked - done),
            throttle=print_rate(self._buckets.asked if self._buckets else OFF),
            throttle_bytes=self._buckets.rate.bytes if self._buckets else None,
            throttle_ms=sum(waited.values()),
            throttled_by=strongest(waited),
            partitions_done=sum(1 for task in tasks if task.done),
            partitions_failed=sum(1 for task in tasks if task.fault is not None),
            partitions=partitions,
            recoveries=self._driver.recoveries if self._driver else 0,
            faults=[
                *(plan.report.faults if plan is not None else ()),
                *(task.fault for task in tasks if task.fault is not None),
            ],
            **total(task.counts for task in tasks).figures(),
        )

    def _reported_phase(self) -> Phase:
        driver = self._driver
        stopping = self._phase == "copying" and driver is not None and driver.stopping
        return "stopping" if stopping else self._phase

    def _conflict(self, topic: TopicPlan) -> Fault:
        side = topic.conflict_side
        cluster = self._source if side == "source" else self._target
        return fault(
            topic.conflict_kind,
            side,
            cluster.name,
            topic.topic,
            None,
            topic.conflict or "",
            hint=topic.conflict_hint,
            exit_code=ExitCode(topic.conflict_exit_code or ExitCode.FATAL),
        )

    def _summary(self, choice: TopicChoice, stop: StopSignal, flow: str) -> Summary:
        plan = self._plan
        if plan is None:
            raise RuntimeError("a summary needs a plan")
        faults = self._conflicts + plan.report.faults
        faults += [task.fault for task in self._tasks if task.fault is not None]
        topics = [self._topic_summary(topic) for topic in plan.report.topics]
        unfinished = any(not task.finished or task.stopped for task in self._tasks)
        snapshot = self.snapshot()
        limit = self._limits.reached if unfinished else None
        status, code = outcome(faults, unfinished, stop.requested, limit, snapshot.records)
        acks = [worker.lane.first_ack for worker in self._workers if worker.lane.first_ack >= 0]
        return Summary(
            status=status,  # type: ignore[arg-type]
            exit_code=int(code),
            source=plan.report.source,
            target=plan.report.target,
            source_cluster_id=self._source.cluster_id,
            target_cluster_id=self._target.cluster_id,
            flow=flow,
            elapsed=time.monotonic() - self._began,
            first_ack_after=since_process_start(min(acks)) if acks else None,
            logical_bytes=snapshot.logical_bytes,
            recoveries=snapshot.recoveries,
            throttle=snapshot.throttle,
            throttle_ms=snapshot.throttle_ms,
            throttled_by=snapshot.throttled_by,
            topics=topics,
            faults=faults,
            skipped=dict(choice.skipped),
            warnings=plan.report.warnings,
            limit=limit,
            **total(task.counts for task in self._tasks).figures(),
        )

    def _topic_summary(self, plan: TopicPlan) -> TopicSummary:
        tasks = [task for task in self._tasks if task.topic == plan.topic]
        counts = total(task.counts for task in tasks)
        lost = self._plan is not None and any(
            fault.topic == plan.topic for fault in self._plan.report.faults
        )
        if plan.conflict is not None or lost or any(task.fault is not None for task in tasks):
            status = "failed"
        elif any(not task.done and not (task.end < 0 and task.behind == 0) for task in tasks):
            status = "incomplete"
        else:
            status = "done" if counts.records or not plan.resume else "nothing-left"
        return TopicSummary(
            topic=plan.topic,
            target_topic=plan.target_topic,
            status=status,  # type: ignore[arg-type]
            partitions=plan.partitions,
            resumed=plan.resume,
            created=plan.target_topic in self._created,
            widened=plan.widen if plan.conflict is None else 0,
            pinned=plan.pinned,
            adjusted=plan.adjusted,
            left_out=plan.left_out,
            held_back=plan.held_back,
            warnings=plan.warnings,
            open_transactions=[one for task in tasks for one in task.held],
            gaps=[gap for task in tasks for gap in task.gaps],
            **counts.figures(),
        )


def _leader(topic: TopicMeta, task: PartitionTask) -> int:
    meta = topic.partitions.get(task.partition)
    return -1 if meta is None else meta.leader
