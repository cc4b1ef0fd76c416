"""One copy job: plan it, carry it out, tell how it goes.

Order of a run: choose topics and claim them, plan, create target topics, make producer ids,
bindings and first map segments durable, then let the engine move partitions through its lanes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime

from replicator.cluster import Cluster
from replicator.cluster.admin import Admin
from replicator.engine.clusters import Clusters
from replicator.engine.engine import Engine
from replicator.engine.gates import Gates
from replicator.engine.lane_sizes import lane_sizes
from replicator.engine.limits import RunLimits
from replicator.engine.partitioners import load
from replicator.engine.progress import RunProgress
from replicator.engine.tasks import Binder, KeptBinder, SplitBinder, TaskMaker, await_topics
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.splits import Splits
from replicator.offsets.transactions import held_text, standing
from replicator.options.settings import CopySettings
from replicator.options.types import KEEP
from replicator.pace.neighbours import Neighbours
from replicator.pace.throttle import Throttle
from replicator.plan.authors import Authors
from replicator.plan.draft import CopyPlan
from replicator.plan.planner import Planner
from replicator.process import StopSignal
from replicator.report.faults import fault
from replicator.report.model import Fault, Plan, Snapshot, Summary
from replicator.state.checks import StateTopics
from replicator.state.session import Session


class CopyJob:
    """A copy with these settings. ``plan`` or ``run`` once, in one thread; ``snapshot`` from any.

    ``new_throttle`` is asked several times a second, and says what is to hold instead of the
    settings from then on, or None. The rest are the job's parts, which tests replace.
    """

    def __init__(
        self,
        settings: CopySettings,
        new_throttle: Callable[[], Throttle | None],
        *,
        clusters: Clusters | None = None,
        make_planner: Callable[..., Planner] = Planner,
        open_session: Callable[..., AbstractContextManager[Session]] = Session.open,
        make_engine: Callable[..., Engine] = Engine,
    ) -> None:
        self._settings = settings
        self._new_throttle = new_throttle
        self._clusters = clusters or Clusters(
            Cluster(settings.source, "source"), Cluster(settings.target, "target")
        )
        self._admins = Admin(self._clusters.source), Admin(self._clusters.target)
        self._planner = make_planner(settings, *self._clusters, *self._admins)
        self._open_session = open_session
        self._make_engine = make_engine
        self._partitioner = load(settings.partitioner)
        began = time.monotonic()
        self._limits = RunLimits(
            size=settings.max_bytes,
            records=settings.max_records,
            milliseconds=settings.max_duration,
            began=began,
        )
        self._progress = RunProgress(self._clusters, self._limits, began)

    def snapshot(self) -> Snapshot:
        """The running numbers; cheap, and safe from any thread."""
        return self._progress.snapshot()

    def plan(self) -> Plan:
        """What ``run`` would do; writes nothing anywhere."""
        with self._session() as session:
            choice, metas = self._planner.choose()
            maps, splits = OffsetMaps(session.map_topic), Splits(session.map_topic)
            state = session.read()
            inputs = self._planner.gather(choice, metas)
            authors = self._authors(session, state)
            made = self._planner.make(inputs, session.flow, maps, splits, authors, create=False)
            made.report.warnings += state.warnings
            made.report.faults += _held_back(made, self._clusters.source.name)
            return made.report

    def run(self, stop: StopSignal, tell: Callable[[Plan], None]) -> Summary:
        """Copy until done, failed or stopped. Raises for what stops the job as a whole.

        ``tell`` gets the plan before any record is written.
        """
        with self._session() as session, ExitStack() as stack:
            choice, metas = self._planner.choose()
            others = Neighbours(self._clusters.target, choice.topics)
            stack.callback(others.end)
            if self._settings.throttle.rate_at(datetime.now()).auto:
                others.begin()  # so that it is known when the first record is due
            pool = stack.enter_context(ThreadPoolExecutor(1))
            inputs = pool.submit(self._planner.gather, choice, metas)
            maps, splits = OffsetMaps(session.map_topic), Splits(session.map_topic)
            state = session.acquire(choice.topics)
            session.restore_producers(maps.producers() | splits.producers())
            authors = self._authors(session, state)
            plan = self._planner.make(
                inputs.result(), session.flow, maps, splits, authors, create=True
            )
            plan.report.warnings += state.warnings
            progress = self._progress
            progress.plan = plan
            tell(plan.report)
            target, partitioner = self._clusters.target, self._settings.partitioner
            progress.created = frozenset(await_topics(target, plan, partitioner))
            for admin in self._admins:
                admin.close()  # brokers may limit connections
            binder = self._binder(session, maps, splits)
            progress.tasks = TaskMaker(self._settings.lanes, binder).make(plan)
            session.clean()
            if progress.tasks and not stop.requested:
                gates = Gates(maps, splits, session.writer, session.pulse.when_found)
                self._copy(plan, session, gates, others, stop)
            progress.done = True
            return progress.summary(session.flow, choice.skipped, interrupted=stop.requested)

    def _copy(
        self, plan: CopyPlan, session: Session, gates: Gates, others: Neighbours, stop: StopSignal
    ) -> None:
        tasks, memory = self._progress.tasks, self._settings.memory
        engine = self._make_engine(
            self._clusters,
            self._settings,
            lane_sizes(tasks, plan.sources, plan.targets, memory),
            self._limits,
            gates,
            session.pulse,
            others,
            self._new_throttle,
        )
        engine.add(tasks)
        self._progress.engine = engine
        engine.run(stop)

    def _session(self) -> AbstractContextManager[Session]:
        same = self._settings.same_cluster_id
        return self._open_session(*self._clusters, self._admins[1], same_cluster_id=same)

    def _authors(self, session: Session, state: StateTopics) -> Authors:
        return Authors(*self._clusters, session.producers, session.flow, state.lost)

    def _binder(self, session: Session, maps: OffsetMaps, splits: Splits) -> Binder:
        settings, clusters = self._settings, self._clusters
        if settings.partitioner == KEEP:
            return KeptBinder(clusters, session, maps, anew=settings.restart or settings.append)
        return SplitBinder(clusters, session, splits, settings.partitioner, self._partitioner)


def _held_back(plan: CopyPlan, source: str) -> Iterator[Fault]:
    """Open transactions that a run would wait for in vain, as they are now."""
    ends = {(part.topic, part.partition): part.end for part in plan.partitions}
    for topic in plan.report.topics:
        for one in standing(topic.open_transactions, datetime.now()):
            if one.offset < ends.get((one.topic, one.partition), 0):
                yield fault(
                    "open-transaction",
                    "source",
                    source,
                    one.topic,
                    one.partition,
                    held_text(one),
                    offset=one.offset,
                )
