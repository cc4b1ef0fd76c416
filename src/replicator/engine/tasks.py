"""From a plan to tasks: bindings and first segments are durable before there is a task.

In the job's thread, before an engine runs; everything here waits for the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from replicator.cluster import Cluster
from replicator.engine.clusters import Clusters
from replicator.engine.kept import KeptProgress
from replicator.engine.lane_sizes import lane_and_slot, lane_count
from replicator.engine.partitioners import Partitioner
from replicator.engine.splits import SplitProgress
from replicator.engine.strategy import Progress
from replicator.engine.task import PartitionTask
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.splits import Splits, fresh
from replicator.options.types import KEEP
from replicator.plan.draft import CopyPlan, PartitionPlan
from replicator.plan.reach import unready_fault
from replicator.state.records import (
    Binding,
    Epochs,
    ProducerIdentity,
    SplitBinding,
    SplitState,
)
from replicator.state.session import Session
from replicator.terms import TopicPartition


class Bound(NamedTuple):
    """What is durable of a partition before it is copied."""

    binding: Binding | SplitBinding
    epochs: Epochs


class Binder(Protocol):
    """Makes the bindings of a kind of partitions durable."""

    @property
    def progress(self) -> Progress:
        """How these partitions go on."""

    def bind(
        self, plan: CopyPlan, parts: Sequence[PartitionPlan]
    ) -> Mapping[TopicPartition, Bound]: ...


class KeptBinder:
    """All partitions of the flow are written with one producer id."""

    def __init__(
        self, clusters: Clusters, session: Session, maps: OffsetMaps, *, anew: bool
    ) -> None:
        """With ``anew`` the first copies get a new producer id, not the flow's."""
        self._anew = anew
        self._session = session
        self._maps = maps
        self._identity: ProducerIdentity | None = None
        self.progress = KeptProgress(clusters.target, maps, session.writer)

    def bind(
        self, plan: CopyPlan, parts: Sequence[PartitionPlan]
    ) -> Mapping[TopicPartition, Bound]:
        new: list[tuple[TopicPartition, Binding, int]] = []
        # Known in advance, an epoch need not be made durable before the first records are sent.
        epochs: dict[TopicPartition, Epochs] = {}
        resumed: list[tuple[TopicPartition, int]] = []
        bindings: dict[TopicPartition, Binding] = {}
        for part in parts:
            tp, binding = (part.topic, part.partition), part.binding
            if binding is None:
                binding = self._binding(plan, part)
                new.append((tp, binding, part.start))
                if part.start_epoch >= 0:
                    epochs[tp] = Epochs(((part.start, part.start_epoch),))
            elif part.start < part.end or part.end < 0 or self._maps.crowded(tp):
                resumed.append((tp, part.counter))
            bindings[tp] = binding
        self._maps.write_bindings(self._session.writer, new, epochs)
        self._maps.restate(self._session.writer, resumed)
        return {tp: Bound(binding, self._maps.epochs(tp)) for tp, binding in bindings.items()}

    def _binding(self, plan: CopyPlan, part: PartitionPlan) -> Binding:
        if self._identity is None:
            known = None if self._anew else self._session.producers.of(self._session.flow)
            self._identity = known or self._session.allocate_producer()
        return Binding(
            source_id=str(plan.sources[part.topic].topic_id),
            target_topic=part.topic,
            target_id=str(plan.targets[part.topic].topic_id),
            base=part.base,
            producer_id=self._identity.producer_id,
            producer_epoch=self._identity.producer_epoch,
        )


class SplitBinder:
    """Each source partition is written with a producer id of its own."""

    def __init__(
        self,
        clusters: Clusters,
        session: Session,
        splits: Splits,
        name: str,
        partitioner: Partitioner,
    ) -> None:
        """``name`` is that of the partitioner, which is stored."""
        self._name = name
        self._session = session
        self._splits = splits
        self.progress = SplitProgress(clusters.target, splits, session.writer, partitioner)

    def bind(
        self, plan: CopyPlan, parts: Sequence[PartitionPlan]
    ) -> Mapping[TopicPartition, Bound]:
        states = {
            (part.topic, part.partition): part.split or self._fresh(plan, part) for part in parts
        }
        self._splits.restate(self._session.writer, states)
        return {tp: Bound(state.binding, state.epochs) for tp, state in states.items()}

    def _fresh(self, plan: CopyPlan, part: PartitionPlan) -> SplitState:
        identity = self._session.allocate_producer()
        target = plan.targets[part.topic]
        binding = SplitBinding(
            source_id=str(plan.sources[part.topic].topic_id),
            target_topic=part.topic,
            target_id=str(target.topic_id),
            producer_id=identity.producer_id,
            producer_epoch=identity.producer_epoch,
            partitioner=self._name,
            bases=part.bases or (0,) * len(target.partitions),
        )
        return fresh(binding, part.start)


class TaskMaker:
    """Called in the job's thread, before there is an engine.

    Makes the tasks of one plan, for ``lanes`` lanes; 0 lets the cores decide.
    """

    def __init__(self, lanes: int, binder: Binder) -> None:
        self._lanes = lanes
        self._binder = binder

    def make(self, plan: CopyPlan) -> list[PartitionTask]:
        """Of all partitions whose topic has no conflict, dealt out to lanes by turns."""
        refused = {topic.topic for topic in plan.report.topics if topic.conflict is not None}
        parts = [part for part in plan.partitions if part.topic not in refused]
        bound = self._binder.bind(plan, parts)
        lanes = lane_count(self._lanes, len(parts))
        return [
            self._task(plan, part, bound[part.topic, part.partition], number, lanes)
            for number, part in enumerate(parts)
        ]

    def _task(
        self, plan: CopyPlan, part: PartitionPlan, bound: Bound, number: int, lanes: int
    ) -> PartitionTask:
        lane, slot = lane_and_slot(number, lanes)
        return PartitionTask(
            topic=part.topic,
            target_topic=bound.binding.target_topic,
            partition=part.partition,
            binding=bound.binding,
            progress=self._binder.progress,
            start=part.start,
            end=part.end,
            position=part.start,
            counter=part.counter,
            mapped=part.start,
            batch_limit=plan.batch_limits[part.topic],
            lane=lane,
            slot=slot,
            epochs=bound.epochs,
            located=part.first,
        )


def await_topics(target: Cluster, plan: CopyPlan, partitioner: str) -> set[str]:
    """Wait until partitions that a run has made can be used; those that cannot be get a fault in
    the plan, or their topic a conflict. Returns the target topics that were created.
    """
    fine = [topic for topic in plan.report.topics if topic.conflict is None]
    made = {topic.target_topic: topic for topic in fine if topic.create or topic.widen}
    if not made:
        return set()
    metas, unready = target.await_leaders(
        {name: topic.target_partitions for name, topic in made.items()}
    )
    plan.targets.update(metas)
    for name, meta in metas.items():
        if meta.error:
            error = target.error(
                meta.error, f"use the new topic {name}", acl=f"DESCRIBE on Topic {name}"
            )
            plan.refuse(name, error)
    for (name, partition), error in unready.items():
        if partitioner != KEEP:
            plan.refuse(name, error)
        elif not metas[name].error:
            plan.report.faults.append(unready_fault(target, name, partition, error))
    lost = {(fault.topic, fault.partition) for fault in plan.report.faults}
    plan.partitions = [p for p in plan.partitions if (p.topic, p.partition) not in lost]
    return {topic.target_topic for topic in fine if topic.create}
