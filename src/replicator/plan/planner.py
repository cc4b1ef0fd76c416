"""What would be copied: topics, partitions, offsets and bytes, conflicts and warnings.

The plan is what ``--dry-run`` shows, read-only on both clusters, and what a run carries out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from replicator.cluster import Cluster, Denied, TopicMeta
from replicator.cluster.admin import Admin, TopicConfigs
from replicator.cluster.configs import Stored, age_limit, batch_limit
from replicator.cluster.errors import UNKNOWN_TOPIC, BrokerError
from replicator.errors import CopystreamError, ExitCode, UsageError
from replicator.offsets.log_end import last_batches
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.source_log import Position, check, gap_text
from replicator.offsets.splits import Splits
from replicator.offsets.transactions import held_text, open_transactions
from replicator.options.selection import AtOffsets, AtTime, Earliest, Forever, Latest, Stable
from replicator.options.settings import CopySettings
from replicator.plan import creation
from replicator.plan.authors import Authors
from replicator.plan.choosing import Choosing, not_described
from replicator.plan.effects import unused
from replicator.plan.oldest import Asked, oldest
from replicator.plan.reach import Reach, partition_fault
from replicator.plan.topics import (
    NAMED,
    Choice,
    SourceTopic,
    TargetFacts,
    TargetState,
    TargetTopic,
    judge,
    plan_topic,
)
from replicator.report.model import (
    Conflict,
    Fault,
    FaultKind,
    Gap,
    OpenTransaction,
    Plan,
    TopicPlan,
)
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.records import Binding, SplitBinding, SplitState
from replicator.terms import TopicPartition

KEEP = "keep"  # the partitioner by which records stay in their partition
_CONFLICT_EXIT: Mapping[FaultKind, ExitCode] = {  # where it is not STATE
    "unreachable": ExitCode.INCOMPLETE,
    "already-begun": ExitCode.USAGE,
}
_ANEW = (
    "to copy it anew, delete the target topic and run with --restart, or write behind what it "
    "holds with --restart --append --from earliest"
)


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

    @property
    def first(self) -> bool:
        """Whether a copy of it begins."""
        return self.binding is None and self.split is None


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
    """What a plan is made from. Offsets by topic and partition of the source; ``selected`` and
    ``places`` are the partitions that can be reached, ``faults`` are those of the others.
    """

    choice: Choice
    topics: Sequence[str]
    metas: Mapping[str, TopicMeta]
    selected: Mapping[str, Sequence[int]]
    places: Sequence[TopicPartition]
    faults: Sequence[Fault]
    targets: Mapping[str, TopicMeta]
    source_configs: Mapping[str, TopicConfigs | CopystreamError]
    target_configs: Mapping[str, TopicConfigs | CopystreamError]
    target_facts: TargetFacts
    starts: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    held: Mapping[TopicPartition, OpenTransaction]
    first: Mapping[TopicPartition, int]
    sizes: Mapping[TopicPartition, int]


@dataclass(slots=True, kw_only=True)
class Draft:
    """One topic while it is planned."""

    topic: str
    parts: list[PartitionPlan]
    conflicts: list[Conflict]
    state: TargetState
    effective: Mapping[str, str]  # configs of the target topic, or what is expected of a new one
    source: SourceTopic
    plan: TopicPlan


class Planner:
    """Gathers the facts of one copy and decides; for one plan. A topic or partition that cannot be
    looked at is in the plan as one that is not copied; raised is only what concerns all.
    """

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
        self._sources = Reach(source)
        self._topics = Choosing(settings, source)
        self._forgot = False  # whether --restart had something to forget
        self._outside: dict[TopicPartition, str] = {}  # offsets of --from that the log has not

    def choose(self) -> tuple[Choice, dict[str, TopicMeta]]:
        """The topics that the command means, and the source's metadata of all topics."""
        return self._topics.choose()

    def gather(self, choice: Choice, metas: Mapping[str, TopicMeta]) -> Facts:
        """What the clusters say of the chosen topics, but for what the target holds of them."""
        selected = {
            topic: self._settings.partitions.select(topic, len(metas[topic].partitions))
            for topic in choice.topics
        }
        places = [(topic, p) for topic in choice.topics for p in selected[topic]]
        if choice.topics and not places:
            raise UsageError(
                "--partitions chooses none of the partitions of these topics",
                hint="partitions are counted from 0",
            )
        targets = self._target_topics(choice.topics)
        source_configs = self._source_admin.describe_topic_configs(choice.topics)
        target_configs = self._target_admin.describe_topic_configs(targets)
        facts = TargetFacts(
            topics=frozenset(self._target.metadata()),
            defaults=self._target_admin.topic_defaults(),
        )
        starts = self._sources.offsets(places, "earliest")
        stable = self._stable(places)
        high = self._sources.offsets(places, "latest")
        ends = self._ends(places, stable, high)
        first = self._first_offsets(places, starts, stable)
        unknown = {t for (t, _), code in self._sources.failed.items() if code in UNKNOWN_TOPIC}
        unknown |= {topic for topic, found in source_configs.items() if _is_unknown(found)}
        self._topics.pass_over(sorted(unknown), metas)
        topics = self._topics.standing(choice.topics)
        places = [place for place in self._sources.reached(places) if place[0] in topics]
        return Facts(
            choice=choice,
            topics=topics,
            metas=metas,
            selected={topic: [p for t, p in places if t == topic] for topic in topics},
            places=places,
            faults=[fault for fault in self._sources.faults(metas) if fault.topic in topics],
            targets={
                name: meta
                for name, meta in targets.items()
                if not _is_unknown(target_configs[name]) and name in topics
            },
            source_configs=source_configs,
            target_configs=target_configs,
            target_facts=facts,
            starts=starts,
            ends=ends,
            held=self._held(stable, high),
            first=first,
            sizes=self._source.partition_bytes(places),
        )

    def make(
        self,
        facts: Facts,
        flow: str,
        maps: OffsetMaps,
        splits: Splits,
        authors: Authors,
        *,
        create: bool,
    ) -> FullPlan:
        """Decide. Looks at the target's partitions once more: nobody else writes them now.

        With ``create`` the topics that are missing are created, and those that have grown widened;
        otherwise the target only looks at that. They need not be ready when this returns.
        """
        if facts.topics:
            now = self._source.metadata(facts.topics)
            self._topics.pass_over(
                [t for t in facts.topics if _another(facts.metas[t], now[t])], now
            )
        there = Reach(self._target)
        written = self._written(there, _target_places(self._settings.partitioner, facts), facts)
        drafts = [
            self._draft(topic, facts, written, there, maps, splits, authors)
            for topic in self._topics.standing(facts.topics)
        ]
        self._note_ages(drafts)
        for draft in drafts:
            self._decide(draft, facts, maps)
        lost = self._compare(drafts, facts, maps)
        self._make_topics(drafts, facts, validate_only=not create)
        shown = sorted(
            [*(draft.plan for draft in drafts), *self._topics.refused.values()],
            key=lambda p: p.topic,
        )
        copied = {plan.topic for plan in shown if plan.conflict is None}
        limits = {draft.topic: batch_limit(draft.effective) for draft in drafts}
        faults = [*facts.faults, *there.faults(facts.targets), *lost.values()]
        return FullPlan(
            shown=Plan(
                source=self._source.config.bootstrap_text,
                target=self._target.config.bootstrap_text,
                source_cluster_id=self._source.cluster_id,
                target_cluster_id=self._target.cluster_id,
                flow=flow,
                topics=shown,
                skipped={**facts.choice.skipped, **self._topics.gone},
                records=sum(plan.records for plan in shown if plan.topic in copied),
                bytes=_total(plan.bytes for plan in shown if plan.topic in copied),
                faults=[fault for fault in faults if fault.topic in copied],
                warnings=self._unused(facts, drafts, limits),
            ),
            partitions=[
                part
                for draft in drafts
                for part in draft.parts
                if draft.topic in copied and (part.topic, part.partition) not in lost
            ],
            sources={draft.topic: facts.metas[draft.topic] for draft in drafts},
            targets=dict(facts.targets),
            batch_limits=limits,
        )

    def _compare(
        self, drafts: Sequence[Draft], facts: Facts, maps: OffsetMaps
    ) -> dict[TopicPartition, Fault]:
        """Compare what was copied of the partitions to be resumed with the source's logs; the
        faults of those that cannot go on.
        """
        plans = {draft.topic: draft.plan for draft in drafts}
        positions: dict[TopicPartition, Position] = {}
        bindings: dict[TopicPartition, Binding] = {}
        for part in (part for draft in drafts for part in draft.parts):
            place = (part.topic, part.partition)
            if part.binding is not None:
                begin, seen = maps.around(place, part.counter)
                positions[place] = Position(begin, seen, maps.epochs(place).at(seen))
                bindings[place] = part.binding
            elif part.split is not None:
                seen = part.split.settled_seen
                positions[place] = Position(part.start, seen, part.split.epochs.at(seen))
        lost: dict[TopicPartition, Fault] = {}
        for place, found in check(self._source, positions, facts.metas).items():
            if found.gap is not None and self._settings.accept_gap:
                begin = positions[place].begin
                gap = Gap(topic=place[0], partition=place[1], start=begin, end=found.gap)
                plans[place[0]].gaps.append(gap)
                plans[place[0]].warnings.append(gap_text(gap))
            elif found.fault is not None and self._ends_with_ours(place, bindings.get(place)):
                lost[place] = found.fault
        return lost

    def _ends_with_ours(self, place: TopicPartition, binding: Binding | None) -> bool:
        """Whether the target's log shows that its last batch is of this copy: counted along with
        records of others, its position means nothing. Split partitions are not counted so.
        """
        if binding is None:
            return True
        target = (binding.target_topic, place[1])
        try:
            end = self._target.list_offsets([target], "latest")[target].offset
            batch = last_batches(self._target, {target: end - 1})[target]
        except CopystreamError:
            return False
        return batch is not None and batch.producer_id == binding.producer_id

    def _unused(
        self, facts: Facts, drafts: Sequence[Draft], limits: Mapping[str, int]
    ) -> list[str]:
        """Options that were given for nothing."""
        found = unused(
            self._settings,
            facts.metas,
            [draft.plan for draft in drafts],
            {draft.topic: len(facts.selected[draft.topic]) for draft in drafts},
            {name: limit for name, limit in limits.items() if name in facts.targets},
            one_cluster_id=self._source.cluster_id == self._target.cluster_id,
        )
        parts = [part for draft in drafts for part in draft.parts if part.first]
        if self._settings.append and not any(part.base or any(part.bases) for part in parts):
            found.append("--append has no effect: no copy begins in a topic that holds records")
        if self._settings.restart and not self._forgot and not any(d.plan.resume for d in drafts):
            found.append("--restart has no effect: there was no earlier copy of these topics")
        return found

    def _target_topics(self, topics: Sequence[str]) -> dict[str, TopicMeta]:
        """The topics that stand on the target. One that may not be described is not missing, and
        may hold what was copied.
        """
        found = self._target.metadata(topics) if topics else {}
        for meta in found.values():
            if meta.error and meta.error not in UNKNOWN_TOPIC:
                self._topics.refuse(meta.name, not_described(self._target, meta))
        return {name: meta for name, meta in found.items() if not meta.error}

    # --- one topic ----------------------------------------------------------------------------

    def _draft(
        self,
        topic: str,
        facts: Facts,
        written: Mapping[TopicPartition, tuple[int, int]],
        there: Reach,
        maps: OffsetMaps,
        splits: Splits,
        authors: Authors,
    ) -> Draft:
        """What of a topic is to be copied, and what of the state is in its way."""
        forgotten = self._forgotten(topic, facts, written)
        known = {} if forgotten else _still_there(topic, facts, splits)
        if self._settings.partitioner == KEEP:
            parts, conflicts, state = self._plan_kept(topic, facts, written, maps, there)
            if known:
                conflicts.append(_other_partitioner(known[min(known)].binding.partitioner))
        else:
            parts, conflicts, state = self._plan_split(topic, facts, written, known, there)
            if any(maps.segments((topic, p)) for p in facts.selected[topic]) and not forgotten:
                conflicts.append(_other_partitioner(KEEP))
        if state == "foreign":
            strange = {place: log for place, log in written.items() if not maps.segments(place)}
            conflicts += self._lost_state(topic, strange, authors)
        configs, unread = _read(facts.source_configs[topic])
        partitions = facts.metas[topic].partitions
        source = SourceTopic(
            name=topic,
            partitions=len(partitions),
            replication_factor=len(partitions[0].replicas),
            overrides=configs.overrides if configs is not None else {},
            effective=configs.effective if configs is not None else None,
            unread=unread,
            bytes=_share(parts, facts.starts, facts.ends, facts.sizes),
            stored=Stored(
                records=sum(_left(part, facts.ends) for part in parts),
                following=any(part.end < 0 for part in parts),
                largest_partition=max(
                    (facts.sizes[p] for p in facts.places if p[0] == topic and p in facts.sizes),
                    default=None,
                ),
            ),
        )
        return Draft(
            topic=topic,
            parts=parts,
            conflicts=conflicts,
            state=state,
            effective=_expected(topic, facts, source),
            source=source,
            plan=TopicPlan(topic=topic, target_topic=topic, partitions=0, records=0),
        )

    def _decide(self, draft: Draft, facts: Facts, maps: OffsetMaps) -> None:
        topic, target = draft.topic, facts.targets.get(draft.topic)
        there = None
        if target is not None:
            configs, unread = _read(facts.target_configs[topic])
            there = TargetTopic(
                partitions=len(target.partitions),
                state=draft.state,
                ours=_made_here(topic, facts, maps),
                effective=configs.effective if configs is not None else None,
                unread=unread,
            )
        draft.plan = plan_topic(
            draft.source,
            there,
            facts.target_facts,
            replication_factor=self._settings.replication_factor,
            partitions=self._settings.target_partitions,
            splitting=self._settings.partitioner != KEEP,
            now_ms=_now_ms(),
        )
        draft.plan.warnings += self._without_effect_on(draft, facts, maps)
        draft.plan.open_transactions = [one for one in facts.held.values() if one.topic == topic]
        draft.plan.warnings += held_text(draft.plan.open_transactions)
        of_source = facts.source_configs[topic]
        if draft.conflicts:
            kind, draft.plan.conflict, draft.plan.conflict_hint = draft.conflicts[0]
            draft.plan.conflict_kind = kind
            draft.plan.conflict_side = "source" if kind == "source-recreated" else "target"
            draft.plan.conflict_exit_code = int(_CONFLICT_EXIT.get(kind, ExitCode.STATE))
        elif draft.plan.create and not isinstance(of_source, TopicConfigs | Denied):
            # Made with other configs now, it would keep them.
            creation.refuse(draft.plan, of_source)
            draft.plan.conflict_side = "source"

    def _without_effect_on(self, draft: Draft, facts: Facts, maps: OffsetMaps) -> list[str]:
        """Options that were given for a copy that begins, where one goes on."""
        resumed = [part for part in draft.parts if not part.first and not draft.conflicts]
        found = []
        elsewhere = [
            part
            for part in resumed
            if part.split is not None
            or facts.first[part.topic, part.partition]
            != maps.source_of((part.topic, part.partition), 0)
        ]
        # What the source has deleted since is no reason to speak of another start.
        same = isinstance(self._settings.start, Earliest)
        if "from" in self._settings.given and elsewhere and not same:
            places = ", ".join(f"partition {p.partition} at {p.start}" for p in elsewhere[:NAMED])
            more = ", …" if len(elsewhere) > NAMED else ""
            found.append(
                f"--from has no effect: the copy goes on where it stopped ({places}{more})"
            )
        if self._settings.restart and resumed:
            found.append(
                "--restart has no effect: the target topic holds what this copy wrote, and the "
                "copy goes on; to begin anew, delete the target topic or empty it first"
            )
        return found

    def _note_ages(self, drafts: Sequence[Draft]) -> None:
        """Tell drafts the time of their oldest record, where it is older than the target keeps."""
        asked = [
            Asked(
                draft.topic,
                age_limit(draft.effective),
                {(p.topic, p.partition): p.start for p in draft.parts if p.start != p.end},
            )
            for draft in drafts
        ]
        found = oldest(self._source, asked, _now_ms())
        for draft in drafts:
            stored = replace(draft.source.stored, oldest_timestamp=found.get(draft.topic))
            draft.source = replace(draft.source, stored=stored)

    def _make_topics(self, drafts: Sequence[Draft], facts: Facts, *, validate_only: bool) -> None:
        """Create and widen topics, or see what would come of it; then see what configs would do."""
        for draft in drafts:
            if not draft.plan.create:
                self._judge(draft)
        fine = [draft.plan for draft in drafts if draft.plan.conflict is None]
        new, wider = [p for p in fine if p.create], [p for p in fine if p.widen]
        creation.create(
            self._target_admin,
            new,
            validate_only=validate_only,
            lower_factor=self._settings.replication_factor is None,
        )
        creation.widen(self._target_admin, wider, validate_only=validate_only)
        for draft in drafts:
            if draft.plan.create:
                draft.effective = {**facts.target_facts.defaults, **draft.plan.configs}
                self._judge(draft)

    def _judge(self, draft: Draft) -> None:
        accept = self._settings.accept_target_configs
        judge(draft.plan, draft.source, draft.effective, accept=accept, now_ms=_now_ms())

    # --- offsets ------------------------------------------------------------------------------

    def _stable(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Where each log ends for a reader of this isolation."""
        committed = self._settings.isolation == "read_committed"
        return self._sources.offsets(places, "latest", read_committed=committed)

    def _held(
        self, stable: Mapping[TopicPartition, int], high: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OpenTransaction]:
        """What lies behind open transactions now."""
        held = {p: (stable[p], high[p]) for p in high if stable.get(p, high[p]) < high[p]}
        return open_transactions(self._source, held) if held else {}

    def _ends(
        self,
        places: Sequence[TopicPartition],
        stable: Mapping[TopicPartition, int],
        high: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int]:
        until = self._settings.until
        if isinstance(until, Forever):
            return dict.fromkeys(places, -1)
        ends = dict(stable if isinstance(until, Stable) else high)
        if isinstance(until, AtTime):
            at = self._sources.offsets(places, until.timestamp)
            # No record at or after that time yet: all there is now is before it.
            ends = {p: ends[p] if at[p] < 0 else min(at[p], ends[p]) for p in at}
        return ends

    def _first_offsets(
        self,
        places: Sequence[TopicPartition],
        starts: Mapping[TopicPartition, int],
        latest: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int]:
        """Where a first copy begins, by ``--from``."""
        match self._settings.start:
            case Earliest():
                return dict(starts)
            case Latest():
                return dict(latest)
            case AtTime(timestamp=timestamp):
                at = self._sources.offsets(places, timestamp)
                found = {p: latest.get(p, -1) if offset < 0 else offset for p, offset in at.items()}
                return {place: offset for place, offset in found.items() if offset >= 0}
            case AtOffsets() as chosen:
                found = {place: chosen.offset(*place) for place in latest}
                for (topic, partition), offset in found.items():
                    low, high = starts[topic, partition], latest[topic, partition]
                    if not low <= offset <= high:
                        self._outside[topic, partition] = (
                            f"offset {offset} of {topic}-{partition} is not in the source's log, "
                            f"which goes from {low} to {high}"
                        )
                return found

    def _begin(self, place: TopicPartition, facts: Facts) -> int:
        """The source offset where a first copy of a partition begins."""
        if place in self._outside:
            raise UsageError(self._outside[place], hint="correct the offsets file")
        return facts.first[place]

    def _plan_kept(
        self,
        topic: str,
        facts: Facts,
        written: Mapping[TopicPartition, tuple[int, int]],
        maps: OffsetMaps,
        there: Reach,
    ) -> tuple[list[PartitionPlan], list[Conflict], TargetState]:
        """The partitions of a topic whose records keep their place, and what is in their way."""
        parts: list[PartitionPlan] = []
        conflicts: list[Conflict] = []
        states: set[TargetState] = set()
        for p in facts.selected[topic]:
            place = (topic, p)
            if place in there.failed:
                continue
            binding = maps.binding(place)
            begin, end = written.get(place, (0, 0))
            # Without a segment it was cut off before anything could be written.
            if not maps.segments(place):
                binding = None
            elif self._settings.restart and (begin == end or self._settings.append):
                self._forgot = True
                binding = None
            if binding is not None:
                problem = _mismatch(binding, facts.metas[topic], facts.targets.get(topic))
                if problem is not None:
                    conflicts.append(problem)
                    continue
                states.add("ours")
                counter = max(end - binding.base, 0)
                try:
                    at = maps.source_of(place, counter)
                    began = maps.source_of(place, 0)
                except LookupError:
                    conflicts.append(_map_begins_late(place))
                    continue
                if "from" in self._settings.given and facts.first[place] < began:
                    conflicts.append(_begun_behind(place, facts.first[place], began))
                until = _not_before(at, facts.ends[place])
                parts.append(PartitionPlan(topic, p, at, until, counter, binding.base, binding))
            elif begin != end and not self._settings.append:
                states.add("foreign")
            else:
                start = self._begin(place, facts)
                until = _not_before(start, facts.ends[place])
                parts.append(PartitionPlan(topic, p, start, until, 0, end, None))
        found: Sequence[TargetState] = ("foreign", "ours")
        return parts, conflicts, next((state for state in found if state in states), "empty")

    def _plan_split(
        self,
        topic: str,
        facts: Facts,
        written: Mapping[TopicPartition, tuple[int, int]],
        known: Mapping[int, SplitState],
        there: Reach,
    ) -> tuple[list[PartitionPlan], list[Conflict], TargetState]:
        """The partitions of a topic whose records go to other ones, and what is in their way."""
        source, target = facts.metas[topic], facts.targets.get(topic)
        numbers = sorted(target.partitions) if target is not None else ()
        lost = [number for number in numbers if (topic, number) in there.failed]
        if target is not None and lost:
            place = (topic, lost[0])
            fault = partition_fault(
                self._target, place, there.failed[place], target.partitions[lost[0]]
            )
            text = f"each of its partitions is written to: {fault.message}"
            return [], [(fault.kind, text, fault.hint)], "empty"
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
            start = self._begin((topic, p), facts) if found is None else found.points[0].source
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
        self, there: Reach, places: Sequence[TopicPartition], facts: Facts
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Log start and end of the target partitions that exist."""
        topics = facts.targets
        asked = [(t, p) for t, p in places if t in topics and p in topics[t].partitions]
        begins = there.offsets(asked, "earliest")
        ends = there.offsets(asked, "latest")
        return {place: (begins[place], ends[place]) for place in ends}


def _is_unknown(found: TopicConfigs | CopystreamError) -> bool:
    return isinstance(found, BrokerError) and found.code in UNKNOWN_TOPIC


def _another(before: TopicMeta, now: TopicMeta) -> bool:
    """Whether a topic is gone, or another one under the old name."""
    return now.error in UNKNOWN_TOPIC or (not now.error and now.topic_id != before.topic_id)


def _read(found: TopicConfigs | CopystreamError) -> tuple[TopicConfigs | None, str]:
    """The configs of a topic, or None and why they are not known."""
    if isinstance(found, TopicConfigs):
        return found, ""
    return None, f"{creation.without_cluster(found.message)}; {found.hint}"


def _expected(topic: str, facts: Facts, source: SourceTopic) -> Mapping[str, str]:
    """The configs of the target topic as far as they are known; a new one gets the source's."""
    if topic not in facts.targets:
        return {**facts.target_facts.defaults, **(source.effective or {})}
    configs = facts.target_configs[topic]
    return configs.effective if isinstance(configs, TopicConfigs) else {}


def _made_here(topic: str, facts: Facts, maps: OffsetMaps) -> bool:
    """Whether the map says that this flow has written the target topic that is there."""
    bindings = [maps.binding((topic, p)) for p in facts.metas[topic].partitions]
    return any(
        binding is not None and _mismatch(binding, facts.metas[topic], facts.targets[topic]) is None
        for binding in bindings
    )


def _now_ms() -> int:
    return int(time.time() * 1000)


def _target_places(partitioner: str, facts: Facts) -> Sequence[TopicPartition]:
    """The target partitions that the plan is about."""
    if partitioner == KEEP:
        return facts.places
    return [(name, p) for name, meta in facts.targets.items() for p in sorted(meta.partitions)]


def _other_partitioner(before: str) -> Conflict:
    return ("refused", f"an earlier copy was made with --partitioner {before}", _ANEW)


def _begun_behind(place: TopicPartition, asked: int, began: int) -> Conflict:
    topic, partition = place
    return (
        "already-begun",
        f"--from asks for offset {asked} of {topic}-{partition}, and the copy began at {began}",
        "leave --from out to go on where it stopped; what lies before cannot be put before what is "
        "there: to copy that too, delete the target topic and run with --restart",
    )


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
            "to copy the new one, delete the target topic and run with --restart, or write behind "
            "what it holds with --restart --append --from earliest",
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
            "leave it empty or delete it, and run with --restart to copy from the start; or write "
            "behind what it holds with --restart --append --from earliest",
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
