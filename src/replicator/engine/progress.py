"""What a run tells of itself: a snapshot at any time, and the summary at its end.

``snapshot`` may be called by any thread; the job's thread sets the fields and calls the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from replicator.engine.clusters import Clusters
from replicator.engine.counts import total
from replicator.engine.engine import Engine
from replicator.engine.limits import RunLimits
from replicator.engine.task import PartitionTask
from replicator.options.rates import OFF, print_rate
from replicator.plan.draft import CopyPlan
from replicator.process import since_process_start
from replicator.report.faults import fault
from replicator.report.model import (
    Fault,
    Phase,
    Snapshot,
    Summary,
    Throttler,
    TopicPlan,
    TopicStatus,
    TopicSummary,
)
from replicator.report.outcome import outcome, strongest


@dataclass(slots=True)
class RunProgress:
    """``snapshot`` may be called by any thread; the job's thread does the rest.

    ``plan`` and ``engine`` are None until there is one; without ``tasks`` there is no engine.
    """

    clusters: Clusters
    limits: RunLimits
    began: float  # monotonic seconds
    clock: Callable[[], float] = time.monotonic
    done: bool = False
    plan: CopyPlan | None = None
    tasks: Sequence[PartitionTask] = ()
    engine: Engine | None = None
    created: frozenset[str] = frozenset()  # target topics

    @property
    def phase(self) -> Phase:
        engine = self.engine
        if self.done:
            return "done"
        if engine is None:
            return "starting"
        return "stopping" if engine.stopping else "copying"

    def snapshot(self) -> Snapshot:
        """The running numbers; cheap."""
        plan, engine, tasks = self.plan, self.engine, self.tasks
        partitions = [task.report() for task in tasks]
        lanes = [] if engine is None else engine.lanes
        waited: dict[Throttler, int] = {
            "limit": max((lane.limited_ms for lane in lanes), default=0),
            "source quota": max((lane.source_quota_ms for lane in lanes), default=0),
            "target quota": max((lane.target_quota_ms for lane in lanes), default=0),
        }
        asked = sum(p.end - p.start for p in partitions)
        copied = sum(p.position - p.start for p in partitions)
        return Snapshot(
            phase=self.phase,
            elapsed=self.clock() - self.began,
            logical_bytes=0 if engine is None else engine.logical_bytes,
            offsets_total=asked,
            offsets_done=copied,
            bytes_total=None if plan is None else plan.report.bytes,
            lag=max(0, asked - copied),
            throttle=print_rate(OFF if engine is None else engine.asked_rate),
            throttle_bytes=None if engine is None else engine.rate.bytes,
            throttle_ms=sum(waited.values()),
            throttled_by=strongest(waited),
            partitions_done=sum(task.done for task in tasks),
            partitions_failed=sum(task.fault is not None for task in tasks),
            partitions=partitions,
            recoveries=0 if engine is None else engine.recoveries,
            faults=[
                *(() if plan is None else plan.report.faults),
                *(task.fault for task in tasks if task.fault is not None),
            ],
            **total(task.counts for task in tasks).figures(),
        )

    def summary(self, flow: str, skipped: Mapping[str, str], *, interrupted: bool) -> Summary:
        """The whole run, at its end; there has to be a plan. ``skipped``: topics, with why."""
        if self.plan is None:
            raise RuntimeError("a summary needs a plan")
        report, tasks, snapshot = self.plan.report, self.tasks, self.snapshot()
        conflicts = [self._conflict(topic) for topic in report.topics if topic.conflict is not None]
        faults = [*conflicts, *snapshot.faults]
        unfinished = any(not task.finished or task.stopped for task in tasks)
        limit = self.limits.reached if unfinished else None
        status, code = outcome(faults, unfinished, interrupted, limit, snapshot.records)
        lanes = [] if self.engine is None else self.engine.lanes
        acks = [lane.first_ack for lane in lanes if lane.first_ack >= 0]
        return Summary(
            status=status,
            exit_code=int(code),
            source=report.source,
            target=report.target,
            source_cluster_id=self.clusters.source.cluster_id,
            target_cluster_id=self.clusters.target.cluster_id,
            flow=flow,
            elapsed=self.clock() - self.began,
            first_ack_after=since_process_start(min(acks)) if acks else None,
            logical_bytes=snapshot.logical_bytes,
            recoveries=snapshot.recoveries,
            throttle=snapshot.throttle,
            throttle_ms=snapshot.throttle_ms,
            throttled_by=snapshot.throttled_by,
            topics=[self._topic(topic, report.faults) for topic in report.topics],
            faults=faults,
            skipped=dict(skipped),
            warnings=report.warnings,
            limit=limit,
            **total(task.counts for task in tasks).figures(),
        )

    def _conflict(self, topic: TopicPlan) -> Fault:
        return fault(
            topic.conflict_kind,
            topic.conflict_side,
            self.clusters.name(topic.conflict_side),
            topic.topic,
            None,
            topic.conflict or "",
            hint=topic.conflict_hint,
            exit_code=topic.conflict_exit_code or None,
        )

    def _topic(self, plan: TopicPlan, faults: list[Fault]) -> TopicSummary:
        tasks = [task for task in self.tasks if task.topic == plan.topic]
        counts = total(task.counts for task in tasks)
        lost = any(fault.topic == plan.topic for fault in faults)
        if plan.conflict is not None or lost or any(task.fault is not None for task in tasks):
            status: TopicStatus = "failed"
        elif any(not task.done and not (task.end < 0 and task.left == 0) for task in tasks):
            status = "incomplete"
        else:
            status = "done" if counts.records or not plan.resume else "nothing-left"
        return TopicSummary(
            topic=plan.topic,
            target_topic=plan.target_topic,
            status=status,
            partitions=plan.partitions,
            resumed=plan.resume,
            created=plan.target_topic in self.created,
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
