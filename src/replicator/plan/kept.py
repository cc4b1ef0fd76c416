"""The partitions of a topic whose records stay in their partition: where each goes on.

Pure functions of what was gathered; safe from any thread.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from replicator.offsets.maps import OffsetMaps
from replicator.options.settings import CopySettings
from replicator.plan.conflict import Conflict, begun_later, map_begins_late, mismatch
from replicator.plan.draft import PartitionPlan, TargetState
from replicator.plan.facts import PlanInputs
from replicator.terms import TopicPartition


@dataclass(slots=True)
class TopicParts:
    """The partitions to copy of one topic, what prevents it, and whose records the target has."""

    parts: list[PartitionPlan]
    conflicts: list[Conflict]
    state: TargetState
    forgot: bool = False  # whether --restart had an earlier copy to forget


def plan_kept(
    topic: str,
    inputs: PlanInputs,
    settings: CopySettings,
    written: Mapping[TopicPartition, tuple[int, int]],
    maps: OffsetMaps,
    unreached: Container[TopicPartition],
) -> TopicParts:
    """``written``: log start and end of the target partitions that exist and can be reached;
    ``unreached`` are left out. Raises ``UsageError`` for a --from that the log does not have.
    """
    parts: list[PartitionPlan] = []
    conflicts: list[Conflict] = []
    states: set[TargetState] = set()
    forgot = False
    for p in inputs.selected[topic]:
        tp = (topic, p)
        if tp in unreached:
            continue
        binding = maps.binding(tp)
        begin, end = written.get(tp, (0, 0))
        # Without a segment it was cut off before anything could be written.
        if not maps.segments(tp):
            binding = None
        elif settings.restart and (begin == end or settings.append):
            forgot = True
            binding = None
        if binding is not None:
            problem = mismatch(binding, inputs.metas[topic], inputs.targets.get(topic))
            if problem is not None:
                conflicts.append(problem)
                continue
            states.add("ours")
            counter = max(end - binding.base, 0)
            try:
                at = maps.source_of(tp, counter)
                began = maps.source_of(tp, 0)
            except LookupError:
                conflicts.append(map_begins_late(tp))
                continue
            if "from" in settings.given and inputs.first[tp] < began:
                conflicts.append(begun_later(tp, inputs.first[tp], began))
            until = not_before(at, inputs.ends[tp])
            parts.append(PartitionPlan(topic, p, at, until, counter, binding.base, binding))
        elif begin != end and not settings.append:
            states.add("foreign")
        else:
            start = inputs.begin(tp)
            until = not_before(start, inputs.ends[tp])
            epoch = inputs.start_epochs[tp] if start == inputs.starts[tp] else -1
            parts.append(PartitionPlan(topic, p, start, until, 0, end, None, start_epoch=epoch))
    strongest: Sequence[TargetState] = ("foreign", "ours", "empty")
    state = next(state for state in strongest if state in states or state == "empty")
    return TopicParts(parts, conflicts, state, forgot)


def not_before(start: int, end: int) -> int:
    """The end of a copy from ``start``, which an earlier run may have carried past this end."""
    return end if end < 0 else max(start, end)
