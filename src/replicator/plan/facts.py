"""What a plan is made from: what both clusters say of the topics that the command means.

``Gathering`` asks and changes nothing on the clusters; used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replicator.cluster import Cluster, TopicMeta
from replicator.cluster.admin import Admin, TopicConfigs
from replicator.cluster.errors import UNKNOWN_TOPIC, BrokerError
from replicator.errors import CopystreamError, UsageError
from replicator.offsets.transactions import open_transactions
from replicator.options.selection import AtOffsets, AtTime, Earliest, Forever, Latest, Stable
from replicator.options.settings import CopySettings
from replicator.plan.choosing import Choosing, not_described
from replicator.plan.reach import Reach
from replicator.plan.topics import TargetFacts, TopicChoice
from replicator.report.model import Fault, OpenTransaction
from replicator.terms import TopicPartition


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInputs:
    """What a plan is made from. Offsets are by topic and partition of the source; ``selected``
    (by topic) and ``tps`` are the chosen partitions that can be reached, ``faults`` are those
    of the others. ``topics`` are those of ``choice`` that can be looked at.
    """

    choice: TopicChoice
    topics: Sequence[str]
    metas: Mapping[str, TopicMeta]  # of all topics of the source
    selected: Mapping[str, Sequence[int]]
    tps: Sequence[TopicPartition]
    faults: Sequence[Fault]
    targets: Mapping[str, TopicMeta]  # the topics that exist on the target
    source_configs: Mapping[str, TopicConfigs | CopystreamError]
    target_configs: Mapping[str, TopicConfigs | CopystreamError]
    target_facts: TargetFacts
    starts: Mapping[TopicPartition, int]  # of the logs
    start_epochs: Mapping[TopicPartition, int]  # leader epochs of their first records; −1 unknown
    ends: Mapping[TopicPartition, int]  # where the copy ends, exclusive; −1 follows without an end
    held: Mapping[TopicPartition, OpenTransaction]
    first: Mapping[TopicPartition, int]  # where a first copy begins, by --from
    outside: Mapping[TopicPartition, str]  # offsets of --from that the log does not have
    sizes: Mapping[TopicPartition, int]  # bytes on disk, where they can be told

    def begin(self, tp: TopicPartition) -> int:
        """The source offset where a first copy of a partition begins. Raises ``UsageError`` where
        the log does not have the one asked for.
        """
        if tp in self.outside:
            raise UsageError(self.outside[tp], hint="correct the offsets file")
        return self.first[tp]


class Gathering:
    """Asks both clusters for the inputs of one plan.

    ``topics`` knows which of them are refused or passed over. Raised is only what concerns all.
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
        self.topics = Choosing(settings, source)

    def gather(self, choice: TopicChoice, metas: Mapping[str, TopicMeta]) -> PlanInputs:
        """What the clusters say of the chosen topics, but for what the target holds of them."""
        selected = {
            topic: self._settings.partitions.select(topic, len(metas[topic].partitions))
            for topic in choice.topics
        }
        tps = [(topic, p) for topic in choice.topics for p in selected[topic]]
        if choice.topics and not tps:
            raise UsageError(
                "--partitions chooses none of the partitions of these topics",
                hint="partitions are counted from 0",
            )
        targets = self._target_topics(choice.topics)
        source_configs = self._source_admin.describe_topic_configs(choice.topics)
        target_configs = self._target_admin.describe_topic_configs(targets)
        target_facts = TargetFacts(
            topics=frozenset(self._target.metadata()),
            defaults=self._target_admin.topic_defaults(),
        )
        starts = self._sources.offsets(tps, "earliest")
        stable = self._stable(tps)
        high = self._sources.offsets(tps, "latest")
        ends = self._ends(tps, stable, high)
        first = self._first_offsets(tps, starts, stable)
        outside = self._outside(first, starts, stable)
        unknown = {t for (t, _), code in self._sources.failed.items() if code in UNKNOWN_TOPIC}
        unknown |= {topic for topic, found in source_configs.items() if _is_unknown(found)}
        self.topics.pass_over(sorted(unknown), metas)
        topics = self.topics.standing(choice.topics)
        tps = [tp for tp in self._sources.reached(tps) if tp[0] in topics]
        return PlanInputs(
            choice=choice,
            topics=topics,
            metas=metas,
            selected={topic: [p for t, p in tps if t == topic] for topic in topics},
            tps=tps,
            faults=[fault for fault in self._sources.faults(metas) if fault.topic in topics],
            targets={
                name: meta
                for name, meta in targets.items()
                if not _is_unknown(target_configs[name]) and name in topics
            },
            source_configs=source_configs,
            target_configs=target_configs,
            target_facts=target_facts,
            starts=starts,
            start_epochs=self._sources.start_epochs,
            ends=ends,
            held=self._held(stable, high),
            first=first,
            outside=outside,
            sizes=self._source.partition_bytes(tps),
        )

    def _target_topics(self, topics: Sequence[str]) -> dict[str, TopicMeta]:
        """The topics that exist on the target. One that may not be described is not missing, and
        may hold what was copied.
        """
        found = self._target.metadata(topics) if topics else {}
        for meta in found.values():
            if meta.error and meta.error not in UNKNOWN_TOPIC:
                self.topics.refuse(meta.name, not_described(self._target, meta))
        return {name: meta for name, meta in found.items() if not meta.error}

    def _stable(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Where each log ends for a reader of this isolation."""
        committed = self._settings.isolation == "read_committed"
        return self._sources.offsets(tps, "latest", read_committed=committed)

    def _held(
        self, stable: Mapping[TopicPartition, int], high: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OpenTransaction]:
        """The open transactions that hold a reader of committed records back now."""
        held = {p: (stable[p], high[p]) for p in high if stable.get(p, high[p]) < high[p]}
        return open_transactions(self._source, held) if held else {}

    def _ends(
        self,
        tps: Sequence[TopicPartition],
        stable: Mapping[TopicPartition, int],
        high: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, int]:
        until = self._settings.until
        if isinstance(until, Forever):
            return dict.fromkeys(tps, -1)
        ends = dict(stable if isinstance(until, Stable) else high)
        if isinstance(until, AtTime):
            at = self._sources.offsets(tps, until.timestamp)
            # No record at or after that time yet: all there is now is before it.
            ends = {p: ends[p] if at[p] < 0 else min(at[p], ends[p]) for p in at}
        return ends

    def _first_offsets(
        self,
        tps: Sequence[TopicPartition],
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
                at = self._sources.offsets(tps, timestamp)
                found = {p: latest.get(p, -1) if offset < 0 else offset for p, offset in at.items()}
                return {tp: offset for tp, offset in found.items() if offset >= 0}
            case AtOffsets() as chosen:
                return {tp: chosen.offset(*tp) for tp in latest}

    def _outside(
        self,
        first: Mapping[TopicPartition, int],
        starts: Mapping[TopicPartition, int],
        latest: Mapping[TopicPartition, int],
    ) -> dict[TopicPartition, str]:
        """The offsets of a file that the logs do not have, and how to say that."""
        if not isinstance(self._settings.start, AtOffsets):
            return {}
        found = {}
        for (topic, partition), offset in first.items():
            low, high = starts[topic, partition], latest[topic, partition]
            if not low <= offset <= high:
                found[topic, partition] = (
                    f"offset {offset} of {topic}-{partition} is not in the source's log, "
                    f"which goes from {low} to {high}"
                )
        return found


def _is_unknown(found: TopicConfigs | CopystreamError) -> bool:
    return isinstance(found, BrokerError) and found.code in UNKNOWN_TOPIC
