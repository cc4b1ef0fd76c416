"""What would be copied: topics, partitions, offsets and bytes, conflicts and warnings.

Read-only on both clusters. The plan is what ``--dry-run`` shows, and what a run carries out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from replicator.authors import Authors
from replicator.cluster import Cluster, TopicMeta, broker_errors
from replicator.cluster.admin import Admin, TopicConfigs
from replicator.cluster.topics import (
    Choice,
    SourceTopic,
    TargetFacts,
    TargetState,
    TargetTopic,
    choose_topics,
    may_be_topic,
    no_such_topic,
    nothing_chosen,
    plan_topic,
)
from replicator.errors import CopystreamError, ExitCode, UsageError
from replicator.locate import last_batches
from replicator.offsets.splits import SplitBinding, Splits, SplitState
from replicator.offsets.store import Binding, OffsetMaps
from replicator.report import Conflict, Plan, TopicPlan
from replicator.selection import AtOffsets, AtTime, Earliest, Forever, Latest
from replicator.settings import CopySettings
from replicator.state import OFFSET_MAP_TOPIC

TopicPartition = tuple[str, int]

KEEP = "keep"  # the partitioner by which records stay in their partition
_ANEW = "to copy it anew, delete the target topic and run with --restart"


@dataclass(slots=True)
class PartitionPlan:
    """One partition to copy. ``binding`` None means a first copy into an empty partition."""

    topic: str
    partition: int
    start: int  # source offset
    end: int  # exclusive; −1 follows for ever
    counter: int  # number of the record at ``start``
    base: int  # target offset of record number 0
    binding: Binding | None
    bases: tuple[int, ...] = ()  # of all target partitions, where it is to be split up
    split: SplitState | None = None  # None means a first copy then


DEFAULT_BATCH_LIMIT = 1048588  # bytes: Kafka's own, where a topic's configs may not be read


@dataclass(slots=True)
class FullPlan:
    """The plan to show, and the partitions behind it (of topics without a conflict)."""

    shown: Plan
    partitions: list[PartitionPlan]
    sources: Mapping[str, TopicMeta]
    targets: dict[str, TopicMeta] = field(default_factory=dict)
    batch_limits: Mapping[str, int] = field(default_factory=dict)  # bytes, of the target topics


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a plan is made from. Offsets by topic and partition of the source."""

    choice: Choice
    metas: Mapping[str, TopicMeta]
    selected: Mapping[str, Sequence[int]]
    places: Sequence[TopicPartition]
    targets: Mapping[str, TopicMeta]
    source_configs: Mapping[str, TopicConfigs]
    target_configs: Mapping[str, TopicConfigs]
    target_facts: TargetFacts
    starts: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    first: Mapping[TopicPartition, int]
    sizes: Mapping[TopicPartition, int]
    oldest: Mapping[str, int]


class Planner:
    """Gathers the facts of one copy and decides. Raises what the clusters raise."""

    def __init__(
        self,
        settings: CopySettings,
        source: Cluster,
        target: Cluster,
        source_admin: Admin,
        target_admin: Admin,
    ) -> None:
        self._settings = settings
        self._source = source
        self._target = target
        self._source_admin = source_admin
        self._target_admin = target_admin

    def choose(self) -> tuple[Choice, dict[str, TopicMeta]]:
        """The topics that the command means, and the source's metadata of all topics."""
        everything = self._source.metadata()
        settings = self._settings
        choice = choose_topics(settings.topics, settings.exclude, everything)
        if choice.unmatched:
            word = choice.unmatched[0]
            if may_be_topic(word):
                # A list of all topics passes over those that may not be described.
                _check_described(self._source, self._source.metadata([word]))
            raise no_such_topic(word, everything, cluster=self._source.name)
        if not choice.topics:
            raise nothing_chosen(choice)
        for topic in choice.topics:
            if everything[topic].error:
                raise _not_described(self._source, everything[topic])
        return choice, everything

    def gather(self, choice: Choice, metas: Mapping[str, TopicMeta]) -> Facts:
        """What the clusters say of the chosen topics, but for what the target holds of them."""
        topics = choice.topics
        selected = {
            topic: self._settings.partitions.select(topic, len(metas[topic].partitions))
            for topic in topics
        }
        places = [(topic, p) for topic in topics for p in selected[topic]]
        if topics and not places:
            raise UsageError(
                "--partitions chooses none of the partitions of these topics",
                hint="partitions are counted from 0",
            )
        found = self._target.metadata(topics) if topics else {}
        # One that may not be described is not missing, and may hold what was copied.
        _check_described(self._target, found)
        targets = {name: meta for name, meta in found.items() if not meta.error}
        source_configs = self._source_admin.describe_topic_configs(topics)
        target_configs = self._target_admin.describe_topic_configs(targets)
        facts = TargetFacts(
            brokers=len(self._target.brokers),
            topics=frozenset(self._target.metadata()),
            defaults=self._target_admin.topic_defaults(),
        )
        starts = self._offsets(self._source, places, "earliest")
        ends = self._ends(places)
        return Facts(
            choice=choice,
            metas=metas,
            selected=selected,
            places=places,
            targets=targets,
            source_configs=source_configs,
            target_configs=target_configs,
            target_facts=facts,
            starts=starts,
            ends=ends,
            first=self._first_offsets(places, starts),
            sizes=self._source.partition_bytes(places),
            oldest=self._oldest(places, starts),
        )

    def make(
        self, facts: Facts, flow: str, maps: OffsetMaps, splits: Splits, authors: Authors
    ) -> FullPlan:
        """Decide. Looks at the target's partitions once more: nobody else writes them now."""
        choice, metas, targets = facts.choice, facts.metas, facts.targets
        starts, ends, sizes = facts.starts, facts.ends, facts.sizes
        partitioner = self._settings.partitioner
        written = self._written(_target_places(partitioner, facts), targets)
        shown: list[TopicPlan] = []
        partitions: list[PartitionPlan] = []
        for topic in choice.topics:
            forgotten = self._forgotten(topic, facts, written)
            known = {} if forgotten else _still_there(topic, facts, splits)
            if partitioner == KEEP:
                parts, conflicts, state = self._plan_kept(topic, facts, written, maps)
                if known:
                    conflicts.append(_other_partitioner(known[min(known)].binding.partitioner))
            else:
                parts, conflicts, state = self._plan_split(topic, facts, written, known)
                if any(maps.segments((topic, p)) for p in facts.selected[topic]) and not forgotten:
                    conflicts.append(_other_partitioner(KEEP))
            if state == "foreign":
                conflicts += self._lost_state(topic, written, authors)
            left = sum(_left(part, ends) for part in parts)
            plan = plan_topic(
                SourceTopic(
                    name=topic,
                    partitions=len(metas[topic].partitions),
                    replication_factor=len(metas[topic].partitions[0].replicas),
                    overrides=facts.source_configs[topic].overrides,
                    effective=facts.source_configs[topic].effective,
                    records=left,
                    bytes=_share(parts, starts, ends, sizes),
                    largest_partition=max(
                        (sizes[(topic, p)] for p in facts.selected[topic] if (topic, p) in sizes),
                        default=None,
                    ),
                    oldest_timestamp=facts.oldest.get(topic),
                ),
                TargetTopic(
                    partitions=len(targets[topic].partitions),
                    state=state,
                    effective=facts.target_configs[topic].effective,
                )
                if topic in targets
                else None,
                facts.target_facts,
                replication_factor=self._settings.replication_factor,
                partitions=self._settings.target_partitions,
                splitting=partitioner != KEEP,
                now_ms=int(time.time() * 1000),
            )
            if conflicts:
                plan.conflict_kind, plan.conflict, plan.conflict_hint = conflicts[0]
                plan.conflict_exit_code = int(ExitCode.STATE)
            shown.append(plan)
            if plan.conflict is None:
                partitions += parts
        return FullPlan(
            shown=Plan(
                source=self._source.config.bootstrap_text,
                target=self._target.config.bootstrap_text,
                source_cluster_id=self._source.cluster_id,
                target_cluster_id=self._target.cluster_id,
                flow=flow,
                topics=shown,
                skipped=dict(choice.skipped),
                records=sum(plan.records for plan in shown if plan.conflict is None),
                bytes=_total(plan.bytes for plan in shown if plan.conflict is None),
            ),
            partitions=partitions,
            sources={topic: metas[topic] for topic in choice.topics},
            targets=dict(targets),
            batch_limits={plan.topic: self._batch_limit(plan, facts) for plan in shown},
        )

    @staticmethod
    def _batch_limit(plan: TopicPlan, facts: Facts) -> int:
        """max.message.bytes that the target topic has, or will have."""
        configs = (
            {**facts.target_facts.defaults, **plan.configs}
            if plan.create
            else facts.target_configs[plan.target_topic].effective
        )
        return int(configs.get("max.message.bytes", DEFAULT_BATCH_LIMIT))

    def _offsets(
        self,
        cluster: Cluster,
        places: Sequence[TopicPartition],
        at: Literal["earliest", "latest"] | int,
        *,
        read_committed: bool = False,
    ) -> dict[TopicPartition, int]:
        found = cluster.list_offsets(places, at, read_committed=read_committed)
        for (topic, partition), result in found.items():
            if result.error:
                raise cluster.error(
                    result.error,
                    f"list offsets of {topic}-{partition}",
                    acl=f"DESCRIBE on Topic {topic}",
                )
        return {place: result.offset for place, result in found.items()}

    def _latest(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        committed = self._settings.isolation == "read_committed"
        return self._offsets(self._source, places, "latest", read_committed=committed)

    def _ends(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        until = self._settings.until
        if isinstance(until, Forever):
            return dict.fromkeys(places, -1)
        ends = self._latest(places)
        if isinstance(until, AtTime):
            at = self._offsets(self._source, places, until.timestamp)
            # No record at or after that time yet: all there is now is before it.
            ends = {p: end if at[p] < 0 else min(at[p], end) for p, end in ends.items()}
        return ends

    def _first_offsets(
        self,
        places: Sequence[TopicPartition],
        starts: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int]:
        """Where a first copy begins, by ``--from``."""
        match self._settings.start:
            case Earliest():
                return dict(starts)
            case Latest():
                return self._latest(places)
            case AtTime(timestamp=timestamp):
                at = self._offsets(self._source, places, timestamp)
                latest = self._latest(places) if any(offset < 0 for offset in at.values()) else {}
                return {place: latest[place] if at[place] < 0 else at[place] for place in places}
            case AtOffsets() as chosen:
                found = {place: chosen.offset(*place) for place in places}
                latest = self._latest(places)
                for (topic, partition), offset in found.items():
                    low, high = starts[topic, partition], latest[topic, partition]
                    if not low <= offset <= high:
                        raise UsageError(
                            f"offset {offset} of {topic}-{partition} is not in the source's log, "
                            f"which goes from {low} to {high}",
                            hint="correct the offsets file",
                        )
                return found

    def _plan_kept(
        self,
        topic: str,
        facts: Facts,
        written: Mapping[TopicPartition, tuple[int, int]],
        maps: OffsetMaps,
    ) -> tuple[list[PartitionPlan], list[Conflict], TargetState]:
        """The partitions of a topic whose records keep their place, and what is in their way."""
        parts: list[PartitionPlan] = []
        conflicts: list[Conflict] = []
        target_state: TargetState = "empty"
        for p in facts.selected[topic]:
            place = (topic, p)
            binding = maps.binding(place)
            begin, end = written.get(place, (0, 0))
            # Without a segment it was cut off before anything could be written.
            if not maps.segments(place) or (
                self._settings.restart and (begin == end or self._settings.append)
            ):
                binding = None
            if binding is not None:
                problem = _mismatch(binding, facts.metas[topic], facts.targets.get(topic))
                if problem is not None:
                    conflicts.append(problem)
                    continue
                target_state = "ours"
                counter = max(end - binding.base, 0)
                try:
                    at = maps.source_of(place, counter)
                except LookupError:
                    conflicts.append(_map_begins_late(place))
                    continue
                until = _not_before(at, facts.ends[place])
                parts.append(PartitionPlan(topic, p, at, until, counter, binding.base, binding))
            elif begin != end and not self._settings.append:
                target_state = "foreign"
            else:
                start = facts.first[place]
                until = _not_before(start, facts.ends[place])
                parts.append(PartitionPlan(topic, p, start, until, 0, end, None))
        return parts, conflicts, target_state

    def _plan_split(
        self,
        topic: str,
        facts: Facts,
        written: Mapping[TopicPartition, tuple[int, int]],
        known: Mapping[int, SplitState],
    ) -> tuple[list[PartitionPlan], list[Conflict], TargetState]:
        """The partitions of a topic whose records go to other ones, and what is in their way."""
        source, target = facts.metas[topic], facts.targets.get(topic)
        numbers = sorted(target.partitions) if target is not None else ()
        bases = tuple(written[topic, number][1] for number in numbers)
        conflicts: list[Conflict] = []
        for state in known.values():
            bases = state.binding.bases
            problem = _mismatch(state.binding, source, target)
            if state.binding.partitioner != self._settings.partitioner:
                problem = _other_partitioner(state.binding.partitioner)
            if problem is not None:
                conflicts.append(problem)
            elif len(bases) != len(numbers):
                text = f"the target topic has {len(numbers)} partitions now, and had {len(bases)}"
                conflicts.append(("target-recreated", text, _ANEW))
        parts = []
        for p in facts.selected[topic]:
            found = known.get(p)
            start = facts.first[topic, p] if found is None else found.points[0].source
            until = _not_before(start, facts.ends[topic, p])
            parts.append(PartitionPlan(topic, p, start, until, 0, 0, None, bases, found))
        empty = self._settings.append or all(
            written[topic, number][0] == written[topic, number][1] for number in numbers
        )
        return parts, conflicts, "ours" if known else "empty" if empty else "foreign"

    @staticmethod
    def _lost_state(
        topic: str, written: Mapping[TopicPartition, tuple[int, int]], authors: Authors
    ) -> list[Conflict]:
        """Whether records that no map knows of are of a copy whose state is lost."""
        tails = {
            place: end - 1
            for place, (begin, end) in written.items()
            if place[0] == topic and begin != end
        }
        found = authors.lost(tails)
        return [] if found is None else [found]

    def _forgotten(
        self, topic: str, facts: Facts, written: Mapping[TopicPartition, tuple[int, int]]
    ) -> bool:
        """Whether what was saved of an earlier copy does not count: with --restart, where the
        target has nothing of it, or where the copy is to be written behind it.
        """
        target = facts.targets.get(topic)
        there = () if target is None else target.partitions
        return self._settings.restart and (
            self._settings.append
            or all(begin == end for begin, end in (written.get((topic, p), (0, 0)) for p in there))
        )

    def _written(
        self, places: Sequence[TopicPartition], targets: Mapping[str, TopicMeta]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Log start and end of the target partitions that exist."""
        there = [(t, p) for t, p in places if t in targets and p in targets[t].partitions]
        if not there:
            return {}
        begins = self._offsets(self._target, there, "earliest")
        ends = self._offsets(self._target, there, "latest")
        return {place: (begins[place], ends[place]) for place in there}

    def _oldest(
        self, places: Sequence[TopicPartition], starts: Mapping[TopicPartition, int]
    ) -> dict[str, int]:
        """The time of the first record of each topic, from its first batch's header."""
        first: dict[str, TopicPartition] = {}
        for topic, partition in places:
            first.setdefault(topic, (topic, partition))
        batches = last_batches(self._source, {place: starts[place] for place in first.values()})
        return {
            place[0]: batch.max_timestamp
            for place, batch in batches.items()
            if batch is not None and batch.magic == 2
        }


def _check_described(cluster: Cluster, metas: Mapping[str, TopicMeta]) -> None:
    """Raise for a topic that this user may not describe."""
    for meta in metas.values():
        if broker_errors.denied_resource(meta.error) is not None:
            raise _not_described(cluster, meta)


def _not_described(cluster: Cluster, meta: TopicMeta) -> CopystreamError:
    return cluster.error(
        meta.error, f"describe topic {meta.name}", acl=f"DESCRIBE on Topic {meta.name}"
    )


def _target_places(partitioner: str, facts: Facts) -> Sequence[TopicPartition]:
    """The target partitions that the plan is about."""
    if partitioner == KEEP:
        return facts.places
    return [(name, p) for name, meta in facts.targets.items() for p in sorted(meta.partitions)]


def _other_partitioner(before: str) -> Conflict:
    return ("refused", f"an earlier copy was made with --partitioner {before}", _ANEW)


def _map_begins_late(place: TopicPartition) -> Conflict:
    topic, partition = place
    return (
        "state-lost",
        f"{OFFSET_MAP_TOPIC} has lost what tells where {topic}-{partition} goes on",
        "restore the state topics from a backup; or go on behind what is there with --restart, "
        "--append and --from FILE; or delete the target topic and copy it anew",
    )


def _mismatch(
    binding: Binding | SplitBinding, source: TopicMeta, target: TopicMeta | None
) -> Conflict | None:
    """Why a binding does not hold for the topics as they are now, and what to do."""
    if binding.source_id != str(source.topic_id):
        return (
            "source-recreated",
            "the source topic is another one than this copy began with",
            "to copy the new one, delete the target topic and run with --restart",
        )
    if target is None:
        return (
            "target-deleted",
            "the target topic that this copy wrote is gone",
            "run with --restart to copy it again from the start",
        )
    if binding.target_id != str(target.topic_id):
        return (
            "target-recreated",
            "the target topic is another one than this copy wrote",
            "leave it empty or delete it, and run with --restart to copy from the start",
        )
    return None


def _still_there(topic: str, facts: Facts, splits: Splits) -> dict[int, SplitState]:
    """The split partitions of a topic; of those that do not go on now, only such as wrote into the
    target topic that is there.
    """
    selected, target = facts.selected[topic], facts.targets.get(topic)
    there = None if target is None else str(target.topic_id)
    return {
        p: state
        for p, state in splits.of_topic(topic).items()
        if p in selected or state.binding.target_id == there
    }


def _not_before(start: int, end: int) -> int:
    """The end of a copy from ``start``, which an earlier run may have carried past this end."""
    return end if end < 0 else max(start, end)


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
        place = (part.topic, part.partition)
        if place not in sizes:
            return None
        span = ends[place] - starts[place]
        total += sizes[place] * max(0, ends[place] - part.start) // span if span > 0 else 0
    return total


def _total(values: Iterable[int | None]) -> int | None:
    known = list(values)
    return None if any(v is None for v in known) else sum(v for v in known if v is not None)
