"""The partitions of a topic whose records go to any partition of the target: where each goes on.

Pure functions of what was gathered; safe from any thread.
"""

from __future__ import annotations

from collections.abc import Mapping

from replicator.cluster import Cluster
from replicator.offsets.splits import Splits
from replicator.options.settings import CopySettings
from replicator.plan.conflict import (
    Conflict,
    mismatch,
    other_count,
    other_partitioner,
    unserved_target,
)
from replicator.plan.draft import PartitionPlan
from replicator.plan.facts import PlanInputs
from replicator.plan.kept import TopicParts, not_before
from replicator.plan.reach import partition_fault
from replicator.state.records import SplitState
from replicator.terms import TopicPartition


def plan_split(
    topic: str,
    inputs: PlanInputs,
    settings: CopySettings,
    written: Mapping[TopicPartition, tuple[int, int]],
    known: Mapping[int, SplitState],
    target: Cluster,
    unreached: Mapping[TopicPartition, int],
) -> TopicParts:
    """``written``: log start and end of the target partitions; ``unreached``: those that cannot be
    reached, with Kafka's error code; ``known``: the states of an earlier copy. ``target`` is not
    asked, only named. Raises ``UsageError`` for a --from that the log does not have.
    """
    source, there = inputs.metas[topic], inputs.targets.get(topic)
    numbers = sorted(there.partitions) if there is not None else ()
    lost = [number for number in numbers if (topic, number) in unreached]
    if there is not None and lost:
        tp = (topic, lost[0])
        fault = partition_fault(target, tp, unreached[tp], there.partitions[lost[0]])
        return TopicParts([], [unserved_target(fault)], "empty")
    bases = tuple(written[topic, number][1] for number in numbers)
    conflicts: list[Conflict] = []
    for state in known.values():
        bases = state.binding.bases
        problem = mismatch(state.binding, source, there)
        if state.binding.partitioner != settings.partitioner:
            problem = other_partitioner(state.binding.partitioner)
        if problem is not None:
            conflicts.append(problem)
        elif len(bases) != len(numbers):
            conflicts.append(other_count(len(numbers), len(bases)))
    parts = []
    for p in inputs.selected[topic]:
        found = known.get(p)
        start = inputs.begin((topic, p)) if found is None else found.points[0].source
        until = not_before(start, inputs.ends[topic, p])
        parts.append(PartitionPlan(topic, p, start, until, 0, 0, None, bases, found))
    empty = settings.append or all(
        written[topic, number][0] == written[topic, number][1] for number in numbers
    )
    return TopicParts(parts, conflicts, "ours" if known else "empty" if empty else "foreign")


def known_states(topic: str, inputs: PlanInputs, splits: Splits) -> dict[int, SplitState]:
    """What an earlier copy has stored of a topic's partitions; of those that are not copied now,
    only what was written into the target topic that is there.
    """
    selected, target = inputs.selected[topic], inputs.targets.get(topic)
    there = None if target is None else str(target.topic_id)
    return {
        p: state
        for p, state in splits.of_topic(topic).items()
        if p in selected or state.binding.target_id == there
    }
