"""What would be copied: topics, partitions, offsets and bytes, conflicts and warnings.

The plan is what ``--dry-run`` shows, read-only on both clusters, and what a run carries out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from replicator.cluster import Cluster, Denied, TopicMeta
from replicator.cluster.admin import Admin, TopicConfigs
from replicator.cluster.configs import Stored, age_limit, batch_limit
from replicator.cluster.errors import UNKNOWN_TOPIC
from replicator.errors import CopystreamError
from replicator.offsets.log_end import counters
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.source_log import Position, check, gap_text
from replicator.offsets.splits import Splits
from replicator.offsets.transactions import held_text
from replicator.options.settings import CopySettings
from replicator.options.types import KEEP
from replicator.plan import creation
from replicator.plan.authors import Authors
from replicator.plan.conflict import Conflict, mismatch, other_partitioner, without_cluster
from replicator.plan.draft import CopyPlan, Draft, PartitionPlan, SourceTopic, TargetState
from replicator.plan.effects import of_resumed, unused
from replicator.plan.facts import Gathering, PlanInputs
from replicator.plan.kept import TopicParts, plan_kept
from replicator.plan.oldest import Asked, oldest
from replicator.plan.reach import Reach
from replicator.plan.split import known_states, plan_split
from replicator.plan.topics import (
    TargetTopic,
    TopicChoice,
    judge,
    plan_topic,
)
from replicator.report.model import Fault, Gap, Plan
from replicator.state.records import Binding
from replicator.terms import TopicPartition


class Planner:
    """Gathers what one copy starts from, and decides; for one plan, in one thread at a time.

    A topic or partition that cannot be looked at is in the plan as one that is not copied; raised
    is only what concerns all. ``now_ms`` is the time on the target's brokers.
    """

    def __init__(
        self,
        settings: CopySettings,
        source: Cluster,
        target: Cluster,
        source_admin: Admin,
        target_admin: Admin,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._settings = settings
        self._source = source
        self._target = target
        self._target_admin = target_admin
        self._now_ms = now_ms
        self._gathering = Gathering(settings, source, target, source_admin, target_admin)
        self._topics = self._gathering.topics
        self._forgot = False  # whether --restart had something to forget

    def choose(self) -> tuple[TopicChoice, dict[str, TopicMeta]]:
        """The topics that the command means, and the source's metadata of all topics."""
        return self._topics.choose()

    def gather(self, choice: TopicChoice, metas: Mapping[str, TopicMeta]) -> PlanInputs:
        """What the clusters say of the chosen topics, but for what the target holds of them."""
        return self._gathering.gather(choice, metas)

    def make(
        self,
        inputs: PlanInputs,
        flow: str,
        maps: OffsetMaps,
        splits: Splits,
        authors: Authors,
        *,
        create: bool,
    ) -> CopyPlan:
        """Decide. Looks at the target's partitions once more: no other copy writes them now.

        With ``create`` the topics that are missing are created, and those that have grown widened;
        otherwise the target only looks at that. They need not be ready when this returns.
        """
        if inputs.topics:
            now = self._source.metadata(inputs.topics)
            changed = [t for t in inputs.topics if _another(inputs.metas[t], now[t])]
            self._topics.pass_over(changed, now)
        there = Reach(self._target)
        tps = _target_partitions(self._settings.partitioner, inputs)
        written = _written(there, tps, inputs)
        standing = self._topics.standing(inputs.topics)
        found = {
            topic: self._parts(topic, inputs, written, there, maps, splits, authors)
            for topic in standing
        }
        drafts = self._drafts(found, inputs, maps)
        lost = self._compare(drafts, inputs, maps)
        self._make_topics(drafts, inputs, validate_only=not create)
        return self._plan(inputs, flow, drafts, lost, there.faults(inputs.targets))

    def _plan(
        self,
        inputs: PlanInputs,
        flow: str,
        drafts: Sequence[Draft],
        lost: Mapping[TopicPartition, Fault],
        unreached: Sequence[Fault],
    ) -> CopyPlan:
        topics = [*(draft.report() for draft in drafts), *self._topics.refused.values()]
        topics.sort(key=lambda plan: plan.topic)
        copied = {plan.topic for plan in topics if plan.conflict is None}
        limits = {draft.topic: batch_limit(draft.effective) for draft in drafts}
        faults = [*inputs.faults, *unreached, *lost.values()]
        report = Plan(
            source=self._source.config.bootstrap_text,
            target=self._target.config.bootstrap_text,
            source_cluster_id=self._source.cluster_id,
            target_cluster_id=self._target.cluster_id,
            flow=flow,
            topics=topics,
            skipped={**inputs.choice.skipped, **self._topics.gone},
            records=sum(plan.records for plan in topics if plan.topic in copied),
            bytes=_total(plan.bytes for plan in topics if plan.topic in copied),
            faults=[fault for fault in faults if fault.topic in copied],
            warnings=unused(
                self._settings,
                inputs,
                drafts,
                {name: limit for name, limit in limits.items() if name in inputs.targets},
                one_cluster_id=self._source.cluster_id == self._target.cluster_id,
                forgot=self._forgot,
            ),
        )
        return CopyPlan(
            report=report,
            partitions=[
                part
                for draft in drafts
                for part in draft.parts
                if draft.topic in copied and (part.topic, part.partition) not in lost
            ],
            sources={draft.topic: inputs.metas[draft.topic] for draft in drafts},
            targets=dict(inputs.targets),
            batch_limits=limits,
        )

    # --- what is left to copy -----------------------------------------------------------------

    def _parts(
        self,
        topic: str,
        inputs: PlanInputs,
        written: Mapping[TopicPartition, tuple[int, int]],
        there: Reach,
        maps: OffsetMaps,
        splits: Splits,
        authors: Authors,
    ) -> TopicParts:
        """The partitions of a topic to copy, and what of the stored state prevents it."""
        settings = self._settings
        forgotten = self._forgotten(topic, inputs, written)
        known = {} if forgotten else known_states(topic, inputs, splits)
        if settings.partitioner == KEEP:
            found = plan_kept(topic, inputs, settings, written, maps, there.failed)
            if known:
                found.conflicts.append(other_partitioner(known[min(known)].binding.partitioner))
        else:
            found = plan_split(topic, inputs, settings, written, known, self._target, there.failed)
            if any(maps.segments((topic, p)) for p in inputs.selected[topic]) and not forgotten:
                found.conflicts.append(other_partitioner(KEEP))
        self._forgot |= found.forgot
        if found.state == "foreign":
            tails = {
                tp: end - 1
                for tp, (begin, end) in written.items()
                if tp[0] == topic and begin != end and not maps.segments(tp)
            }
            conflict = authors.lost(tails)
            found.conflicts += [] if conflict is None else [conflict]
        return found

    def _forgotten(
        self, topic: str, inputs: PlanInputs, written: Mapping[TopicPartition, tuple[int, int]]
    ) -> bool:
        """Whether what was saved of an earlier copy does not count: with --restart, where the
        target has nothing of it, or where the copy is to be written after it.
        """
        target = inputs.targets.get(topic)
        there = () if target is None else target.partitions
        return self._settings.restart and (
            self._settings.append
            or all(begin == end for begin, end in (written.get((topic, p), (0, 0)) for p in there))
        )

    def _compare(
        self, drafts: Sequence[Draft], inputs: PlanInputs, maps: OffsetMaps
    ) -> dict[TopicPartition, Fault]:
        """Compare what was copied of the partitions to be resumed with the source's logs; the
        faults of those that cannot go on.
        """
        of_topic = {draft.topic: draft for draft in drafts}
        positions: dict[TopicPartition, Position] = {}
        bindings: dict[TopicPartition, Binding] = {}
        for part in (part for draft in drafts for part in draft.parts):
            tp = (part.topic, part.partition)
            if part.binding is not None:
                begin, seen = maps.around(tp, part.counter)
                positions[tp] = Position(begin, seen, maps.epochs(tp).at(seen))
                bindings[tp] = part.binding
            elif part.split is not None:
                seen = part.split.settled_seen
                positions[tp] = Position(part.start, seen, part.split.epochs.at(seen))
        lost: dict[TopicPartition, Fault] = {}
        for tp, found in check(self._source, positions, inputs.metas).items():
            if found.gap is not None and self._settings.accept_gap:
                begin = positions[tp].begin
                gap = Gap(topic=tp[0], partition=tp[1], start=begin, end=found.gap)
                of_topic[tp[0]].gaps.append(gap)
                of_topic[tp[0]].replica.warnings.append(gap_text(gap))
            elif found.fault is not None:
                lost[tp] = found.fault
        strange = _counted_with_others(
            self._target, {tp: bindings[tp] for tp in lost if tp in bindings}
        )
        return {tp: fault for tp, fault in lost.items() if tp not in strange}

    # --- what becomes of each topic -----------------------------------------------------------

    def _drafts(
        self, found: Mapping[str, TopicParts], inputs: PlanInputs, maps: OffsetMaps
    ) -> list[Draft]:
        sources = {topic: _source_topic(topic, one.parts, inputs) for topic, one in found.items()}
        expected = {topic: _expected(topic, inputs, source) for topic, source in sources.items()}
        ages = self._oldest(found, expected)
        drafts = []
        for topic, source in sources.items():
            stored = replace(source.stored, oldest_timestamp=ages.get(topic))
            drafts.append(
                self._draft(
                    replace(source, stored=stored), found[topic], expected[topic], inputs, maps
                )
            )
        return drafts

    def _oldest(
        self, found: Mapping[str, TopicParts], expected: Mapping[str, Mapping[str, str]]
    ) -> dict[str, int]:
        """The time of each topic's oldest record, where it is older than the target keeps."""
        asked = [
            Asked(
                topic,
                age_limit(expected[topic]),
                {(p.topic, p.partition): p.start for p in one.parts if p.start != p.end},
            )
            for topic, one in found.items()
        ]
        return oldest(self._source, asked, self._now_ms())

    def _draft(
        self,
        source: SourceTopic,
        found: TopicParts,
        expected: Mapping[str, str],
        inputs: PlanInputs,
        maps: OffsetMaps,
    ) -> Draft:
        topic = source.name
        replica = plan_topic(
            source,
            _target_topic(topic, found.state, inputs, maps),
            inputs.target_facts,
            replication_factor=self._settings.replication_factor,
            partitions=self._settings.target_partitions,
            splitting=self._settings.partitioner != KEEP,
            now_ms=self._now_ms(),
        )
        replica.warnings += of_resumed(self._settings, found, inputs, maps)
        held = [one for one in inputs.held.values() if one.topic == topic]
        replica.warnings += [held_text(one) for one in held]
        of_source = inputs.source_configs[topic]
        if found.conflicts:
            replica.conflict = found.conflicts[0]
        elif replica.create and not isinstance(of_source, TopicConfigs | Denied):
            # Made with other configs now, it would keep them.
            replica.conflict = Conflict.of_error(of_source)
        return Draft(
            parts=found.parts,
            source=source,
            replica=replica,
            effective=expected,
            open_transactions=held,
        )

    def _make_topics(
        self, drafts: Sequence[Draft], inputs: PlanInputs, *, validate_only: bool
    ) -> None:
        """Create and widen topics, or see what would come of it; then see what configs would do."""
        for draft in drafts:
            if not draft.replica.create:
                self._judge(draft)
        fine = [draft.replica for draft in drafts if draft.replica.conflict is None]
        creation.create(
            self._target_admin,
            [replica for replica in fine if replica.create],
            validate_only=validate_only,
            lower_factor=self._settings.replication_factor is None,
        )
        wider = [replica for replica in fine if replica.widen]
        creation.widen(self._target_admin, wider, validate_only=validate_only)
        for draft in drafts:
            if draft.replica.create:
                draft.effective = {**inputs.target_facts.defaults, **draft.replica.configs}
                self._judge(draft)

    def _judge(self, draft: Draft) -> None:
        accept = self._settings.accept_target_configs
        judge(draft.replica, draft.source, draft.effective, accept=accept, now_ms=self._now_ms())


def _counted_with_others(
    target: Cluster, bindings: Mapping[TopicPartition, Binding]
) -> Collection[TopicPartition]:
    """The partitions whose log on the target does not end with our batch, as far as it can be
    told now: counted along with records of others, their positions mean nothing. Split
    partitions are not counted so.
    """
    of_target = {(binding.target_topic, tp[1]): binding for tp, binding in bindings.items()}
    if not of_target:
        return ()
    try:
        ends = counters(target, of_target)
    except CopystreamError:
        return bindings.keys()
    return [
        tp
        for tp, binding in bindings.items()
        if not isinstance(ends[binding.target_topic, tp[1]], int)
    ]


def _written(
    there: Reach, tps: Iterable[TopicPartition], inputs: PlanInputs
) -> dict[TopicPartition, tuple[int, int]]:
    """Log start and end of the target partitions that exist."""
    topics = inputs.targets
    asked = [(t, p) for t, p in tps if t in topics and p in topics[t].partitions]
    begins = there.offsets(asked, "earliest")
    ends = there.offsets(asked, "latest")
    return {tp: (begins[tp], ends[tp]) for tp in ends}


def _source_topic(topic: str, parts: Sequence[PartitionPlan], inputs: PlanInputs) -> SourceTopic:
    configs, unread = _read(inputs.source_configs[topic])
    partitions = inputs.metas[topic].partitions
    sizes = [inputs.sizes[tp] for tp in inputs.tps if tp[0] == topic and tp in inputs.sizes]
    return SourceTopic(
        name=topic,
        partitions=len(partitions),
        replication_factor=len(partitions[0].replicas),
        overrides=configs.overrides if configs is not None else {},
        effective=configs.effective if configs is not None else None,
        unread=unread,
        bytes=_share(parts, inputs.starts, inputs.ends, inputs.sizes),
        stored=Stored(
            records=sum(_left(part, inputs.ends) for part in parts),
            following=any(part.end < 0 for part in parts),
            largest_partition=max(sizes, default=None),
        ),
    )


def _target_topic(
    topic: str, state: TargetState, inputs: PlanInputs, maps: OffsetMaps
) -> TargetTopic | None:
    target = inputs.targets.get(topic)
    if target is None:
        return None
    configs, unread = _read(inputs.target_configs[topic])
    return TargetTopic(
        partitions=len(target.partitions),
        state=state,
        ours=_made_here(topic, inputs, maps),
        effective=configs.effective if configs is not None else None,
        unread=unread,
    )


def _another(before: TopicMeta, now: TopicMeta) -> bool:
    """Whether a topic is gone, or another one under the old name."""
    return now.error in UNKNOWN_TOPIC or (not now.error and now.topic_id != before.topic_id)


def _read(found: TopicConfigs | CopystreamError) -> tuple[TopicConfigs | None, str]:
    """The configs of a topic, or None and why they are not known."""
    if isinstance(found, TopicConfigs):
        return found, ""
    return None, f"{without_cluster(found.message)}; {found.hint}"


def _expected(topic: str, inputs: PlanInputs, source: SourceTopic) -> Mapping[str, str]:
    """The configs of the target topic as far as they are known; a new one gets the source's."""
    if topic not in inputs.targets:
        return {**inputs.target_facts.defaults, **(source.effective or {})}
    configs = inputs.target_configs[topic]
    return configs.effective if isinstance(configs, TopicConfigs) else {}


def _made_here(topic: str, inputs: PlanInputs, maps: OffsetMaps) -> bool:
    """Whether the map says that this flow has written the target topic that is there."""
    bindings = [maps.binding((topic, p)) for p in inputs.metas[topic].partitions]
    return any(
        binding is not None
        and mismatch(binding, inputs.metas[topic], inputs.targets[topic]) is None
        for binding in bindings
    )


def _target_partitions(partitioner: str, inputs: PlanInputs) -> Sequence[TopicPartition]:
    """The target partitions that the plan is about."""
    if partitioner == KEEP:
        return inputs.tps
    return [(name, p) for name, meta in inputs.targets.items() for p in sorted(meta.partitions)]


def _left(part: PartitionPlan, ends: Mapping[TopicPartition, int]) -> int:
    return max(0, ends[part.topic, part.partition] - part.start)


def _share(
    parts: Iterable[PartitionPlan],
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    sizes: Mapping[TopicPartition, int],
) -> int | None:
    """Bytes still to copy, taking a partition's bytes as spread evenly over its offsets."""
    total = 0
    for part in parts:
        tp = (part.topic, part.partition)
        if tp not in sizes:
            return None
        span = ends[tp] - starts[tp]
        total += sizes[tp] * max(0, ends[tp] - part.start) // span if span > 0 else 0
    return total


def _total(values: Iterable[int | None]) -> int | None:
    known = list(values)
    return None if any(v is None for v in known) else sum(v for v in known if v is not None)
