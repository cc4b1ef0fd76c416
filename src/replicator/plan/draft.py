"""What planning produces: partitions to copy, a topic while it is planned, and the whole plan.

Used by the thread that plans; a finished ``CopyPlan`` belongs to the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from replicator.cluster import TopicMeta
from replicator.cluster.configs import Stored
from replicator.errors import CopystreamError
from replicator.plan.conflict import Conflict
from replicator.report.model import Gap, OpenTransaction, Plan, TopicPlan
from replicator.state.records import Binding, SplitState

TargetState = Literal["empty", "ours", "foreign"]


@dataclass(slots=True)
class PartitionPlan:
    """One partition to copy. ``binding`` None means a first copy into an empty partition."""

    topic: str
    partition: int
    start: int  # source offset
    end: int  # exclusive; −1 follows without an end
    counter: int  # number of the record at ``start``
    base: int  # target offset of record number 0
    binding: Binding | None
    bases: tuple[int, ...] = ()  # of all target partitions, where it is to be split up
    split: SplitState | None = None  # None means a first copy then
    start_epoch: int = -1  # leader epoch of the record at ``start``, where that is known

    @property
    def first(self) -> bool:
        """Whether a copy of it begins."""
        return self.binding is None and self.split is None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTopic:
    """What planning needs to know of a topic to be copied.

    ``effective`` None means that its configs may not be read, and ``unread`` says why.
    """

    name: str
    partitions: int
    replication_factor: int
    overrides: Mapping[str, str] = field(default_factory=dict)
    effective: Mapping[str, str] | None = field(default_factory=dict)
    unread: str = ""
    bytes: int | None = None  # on disk, for the offsets still to copy
    stored: Stored = field(default_factory=Stored)


@dataclass(slots=True, kw_only=True)
class Replica:
    """What is decided about one target topic. ``configs``, ``pinned``, ``adjusted``, ``left_out``
    and ``held_back`` are those of ``TopicPlan``.
    """

    topic: str
    partitions: int
    create: bool = False
    resume: bool = False
    widen: int = 0  # partitions to be added
    replication_factor: int | None = None
    configs: dict[str, str] = field(default_factory=dict)
    pinned: dict[str, str] = field(default_factory=dict)
    adjusted: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    held_back: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    conflict: Conflict | None = None

    def refuse(self, conflict: Conflict) -> None:
        """Note the first conflict; later ones wait until it is solved."""
        if self.conflict is None:
            self.conflict = conflict


@dataclass(slots=True, kw_only=True)
class Draft:
    """One topic while it is planned."""

    parts: list[PartitionPlan]
    source: SourceTopic
    replica: Replica
    effective: Mapping[str, str]  # configs of the target topic, or what is expected of a new one
    open_transactions: list[OpenTransaction] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def topic(self) -> str:
        return self.source.name

    def report(self) -> TopicPlan:
        """As it is shown, once everything is decided."""
        replica = self.replica
        plan = TopicPlan(
            topic=self.source.name,
            target_topic=replica.topic,
            partitions=self.source.partitions,
            target_partitions=replica.partitions,
            records=self.source.stored.records,
            bytes=self.source.bytes,
            create=replica.create,
            resume=replica.resume,
            replication_factor=replica.replication_factor,
            configs=replica.configs,
            pinned=replica.pinned,
            adjusted=replica.adjusted,
            left_out=replica.left_out,
            held_back=replica.held_back,
            widen=replica.widen,
            warnings=replica.warnings,
            open_transactions=self.open_transactions,
            gaps=self.gaps,
        )
        return plan if replica.conflict is None else with_conflict(plan, replica.conflict)


def with_conflict(plan: TopicPlan, conflict: Conflict) -> TopicPlan:
    """The plan of a topic that is not copied, for this reason."""
    return replace(
        plan,
        conflict=conflict.what,
        conflict_hint=conflict.todo,
        conflict_kind=conflict.kind,
        conflict_exit_code=int(conflict.exit_code),
        conflict_side=conflict.side,
    )


@dataclass(slots=True)
class CopyPlan:
    """The plan as it is shown, and what a run needs to carry it out.

    ``partitions`` are those to copy, of topics without a conflict. ``batch_limits`` are bytes, by
    target topic.
    """

    report: Plan
    partitions: list[PartitionPlan]
    sources: Mapping[str, TopicMeta]
    targets: dict[str, TopicMeta]
    batch_limits: Mapping[str, int]

    def refuse(self, target_topic: str, error: CopystreamError) -> None:
        """Leave a topic out that cannot be used after all, unless it is left out already."""
        for number, topic in enumerate(self.report.topics):
            if topic.target_topic == target_topic and topic.conflict is None:
                self.report.topics[number] = with_conflict(topic, Conflict.of_error(error))
                self.partitions = [p for p in self.partitions if p.topic != topic.topic]
