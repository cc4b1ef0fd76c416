"""What a copy tells the outside: the plan, the running numbers, the faults and the summary.

The same structures feed the live block, the plain lines, the end table and ``-o json``.
All sizes are bytes, all durations seconds, all offsets Kafka offsets; ``end`` is exclusive.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from replicator.terms import Side

Throttler = Literal["", "limit", "source quota", "target quota"]
Phase = Literal["starting", "copying", "stopping", "done"]  # stopping: what is in flight ends
PartitionState = Literal["waiting", "copying", "recovering", "stopped", "done", "failed"]
FaultKind = Literal[
    "data-loss",  # the source's log start moved past our position
    "source-truncated",  # the source's log ends before it, or was written anew from there
    "open-transaction",  # records lie behind a transaction that is not decided
    "source-deleted",
    "source-recreated",
    "target-deleted",
    "target-recreated",
    "already-begun",  # an earlier run began the copy behind what --from asks for
    "state-lost",  # the target has what this copy wrote, and its state is gone
    "foreign-writer",  # somebody else wrote into the target partition
    "record-too-large",
    "timestamp-refused",
    "record-refused",  # any other INVALID_RECORD of the target
    "corrupt-batch",
    "source-changed",  # it has lost records that were split up and may have been written
    "partitioner-failed",
    "unknown-codec",  # a batch that nobody here can open or vouch for
    "refused",  # the plan refuses the topic: its target is not what a copy needs
    "superseded",  # another copystream took this topic over
    "denied",
    "unreachable",
]


class Fault(Struct, kw_only=True, omit_defaults=True):
    """One partition (or, with ``partition`` None, one topic) that stopped, and why."""

    kind: FaultKind
    side: Side
    cluster: str  # bootstrap name and cluster id, as the user knows it
    topic: str
    partition: int | None = None
    offset: int | None = None  # source offset, or target offset when side is "target"
    message: str
    hint: str
    exit_code: int


class OpenTransaction(Struct, kw_only=True, omit_defaults=True):
    """Records of a partition that lie behind a transaction which is not decided yet."""

    topic: str
    partition: int
    offset: int  # the last stable offset
    records: int  # offsets from there to the high watermark
    producer_id: int | None = None  # None where it cannot be told
    since: str | None = None  # local ISO 8601 time of the transaction's first batch


class Gap(Struct, kw_only=True):
    """Source offsets that were deleted before they were copied, accepted by --accept-gap."""

    topic: str
    partition: int
    start: int
    end: int  # exclusive


class TopicPlan(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """What would happen to one topic. ``conflict`` set means it will not be copied."""

    topic: str
    target_topic: str
    partitions: int
    target_partitions: int = 0  # the same unless records go to other partitions
    records: int  # offsets still to copy: an upper bound where the log has holes
    bytes: int | None = None  # on the source's disk, for the offsets still to copy
    create: bool = False
    resume: bool = False
    replication_factor: int | None = None  # of a topic to be created
    configs: dict[str, str] = {}  # set on a topic to be created
    pinned: dict[str, str] = {}  # those of them that are set since the target's default is another
    adjusted: dict[str, str] = {}  # those that differ from the source's: what it has, and why
    left_out: dict[str, str] = {}  # source configs that the target refuses: why
    held_back: dict[str, str] = {}  # source configs not carried over
    widen: int = 0  # partitions to be added to a target topic that this copy made
    warnings: list[str] = []
    open_transactions: list[OpenTransaction] = []  # records behind them are not stable yet
    gaps: list[Gap] = []  # that are accepted
    conflict: str | None = None
    conflict_hint: str | None = None
    conflict_kind: FaultKind = "refused"
    conflict_exit_code: int = 0
    conflict_side: Side = "target"  # the cluster that it is about


class Plan(Struct, kw_only=True, omit_defaults=True):
    source: str
    target: str
    source_cluster_id: str
    target_cluster_id: str
    flow: str
    topics: list[TopicPlan]
    skipped: dict[str, str] = {}  # topic -> why a pattern did not take it
    warnings: list[str] = []  # of the copy as a whole
    records: int = 0
    bytes: int | None = None
    faults: list[Fault] = []  # of partitions that cannot be copied now


class PartitionProgress(Struct, kw_only=True):
    topic: str
    partition: int
    state: PartitionState
    start: int  # first source offset of this run
    position: int  # next source offset to be acknowledged
    end: int  # exclusive; moves when following
    records: int
    bytes: int


class Snapshot(Struct, kw_only=True):
    """The running numbers at one moment; every counter only grows."""

    phase: Phase
    elapsed: float
    records: int  # acknowledged by the target in this run
    bytes: int  # the same on the wire, headers included
    logical_bytes: int | None  # uncompressed size (estimated from samples), None while unknown
    batches: int
    skipped_batches: int  # control, aborted, empty
    passed_batches: int  # of the source, unchanged but for their headers
    rebatched_batches: int  # of the source, their records put into new batches
    offsets_total: int  # offsets to copy in this run
    offsets_done: int
    bytes_total: int | None
    lag: int  # source offsets behind the end, all partitions
    throttle: str  # the limit of the whole copy at this time of day, as a user writes it
    throttle_bytes: int | None  # a second, what that allows at this moment; None is no limit
    throttle_ms: int  # spent waiting for --throttle or for the brokers' quotas
    throttled_by: Throttler
    partitions_done: int
    partitions_failed: int
    partitions: list[PartitionProgress]
    recoveries: int  # times a partition asked the target log where it stands
    faults: list[Fault] = []  # of the partitions that have stopped for good


class TopicSummary(Struct, kw_only=True, omit_defaults=True):
    topic: str
    target_topic: str
    status: Literal["done", "incomplete", "failed", "nothing-left"]
    partitions: int
    records: int
    bytes: int
    batches: int
    skipped_batches: int
    passed_batches: int
    rebatched_batches: int
    resumed: bool = False
    created: bool = False
    widened: int = 0  # partitions that were added
    pinned: dict[str, str] = {}  # as in the plan, these four
    adjusted: dict[str, str] = {}
    left_out: dict[str, str] = {}
    held_back: dict[str, str] = {}
    warnings: list[str] = []
    open_transactions: list[OpenTransaction] = []  # that records lie behind at the end of the run
    gaps: list[Gap] = []


LimitName = Literal["max-bytes", "max-records", "max-duration"]


class Limit(Struct, kw_only=True, omit_defaults=True):
    """A limit on a run that was reached. ``value`` and ``used`` are bytes, records or seconds."""

    name: LimitName  # the option
    value: float  # as it was given
    used: float  # sent when it was reached; over a lost connection also what did not arrive
    next: int | None = None  # what the batch has that did not fit any more


class Summary(Struct, kw_only=True, omit_defaults=True):
    """The whole run, at its end; the one JSON document of ``-o json``."""

    status: Literal["done", "nothing-left", "incomplete", "limited", "failed", "interrupted"]
    exit_code: int
    source: str
    target: str
    source_cluster_id: str
    target_cluster_id: str
    flow: str
    elapsed: float
    first_ack_after: float | None  # seconds from process start to the first acknowledged batch
    records: int
    bytes: int
    logical_bytes: int | None
    batches: int
    skipped_batches: int
    passed_batches: int
    rebatched_batches: int
    recoveries: int
    throttle: str  # at the end, as a user writes it
    throttle_ms: int  # spent waiting for --throttle or for the brokers' quotas
    throttled_by: Throttler  # the one that most of it was spent for
    topics: list[TopicSummary]
    faults: list[Fault] = []
    skipped: dict[str, str] = {}
    warnings: list[str] = []  # of the copy as a whole
    limit: Limit | None = None  # that ended the run
