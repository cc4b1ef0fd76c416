"""What a copy tells the outside: the plan, the running numbers, the faults and the summary.

The same structures feed the live block, the plain lines, the end table and ``-o json``.
All sizes are bytes, all durations seconds, all offsets Kafka offsets; ``end`` is exclusive.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from replicator.terms import Side

TopicStatus = Literal["done", "incomplete", "failed", "nothing-left"]
RunStatus = Literal["done", "nothing-left", "incomplete", "limited", "failed", "interrupted"]
Throttler = Literal["", "limit", "source quota", "target quota"]
Phase = Literal["starting", "copying", "stopping", "done"]  # stopping: what is in flight ends
PartitionState = Literal["waiting", "copying", "recovering", "stopped", "done", "failed"]
FaultKind = Literal[
    "data-loss",  # the source's log start moved past our position
    "source-truncated",  # the source's log ends before it, or was written anew from there
    "open-transaction",  # records follow one of a transaction that is not decided
    "source-deleted",
    "source-recreated",
    "target-deleted",
    "target-recreated",
    "already-begun",  # an earlier run began the copy later than --from asks for
    "state-lost",  # the target has what this copy wrote, and its state is gone
    "foreign-writer",  # another client wrote into the target partition
    "record-too-large",
    "timestamp-refused",
    "record-refused",  # any other INVALID_RECORD of the target
    "corrupt-batch",
    "source-changed",  # it has lost records that were split up and may have been written
    "partitioner-failed",
    "unknown-codec",  # a batch whose codec Kafka did not have when this version was made
    "refused",  # the plan refuses the topic: its target is not what a copy needs
    "superseded",  # another copystream took this topic over
    "denied",
    "unreachable",
]


class Fault(Struct, kw_only=True, omit_defaults=True):
    """One partition that stopped, or one topic where ``partition`` is missing.

    ``topic`` and ``offset`` are those of the cluster of ``side``, which ``cluster`` names by its
    bootstrap addresses and its id. ``message`` says what happened and ``hint`` what to do;
    ``exit_code`` is that of a run with this fault alone.
    """

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
    """Records of a partition after the first record of a transaction that is not decided yet.

    ``offset`` is the last stable offset, ``records`` the offsets from there to the high watermark.
    ``producer_id`` and ``since`` (local ISO 8601 time of the transaction's first batch) are missing
    where they cannot be told.
    """

    topic: str
    partition: int
    offset: int  # the last stable offset
    records: int  # offsets from there to the high watermark
    producer_id: int | None = None  # None where it cannot be told
    since: str | None = None  # local ISO 8601 time of the transaction's first batch


class Gap(Struct, kw_only=True):
    """Source offsets from ``start`` to ``end`` (exclusive) that were deleted before they were
    copied, accepted by ``--accept-gap``.
    """

    topic: str
    partition: int
    start: int
    end: int  # exclusive


class TopicPlan(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """What would happen to one topic.

    ``records`` are the offsets still to copy, more than there are records where the log has holes;
    ``bytes`` are those on the source's disk for them, missing where the source does not tell.
    ``create``, ``resume`` and ``widen`` (partitions to be added) say what is done to the target
    topic. Of a topic to be created, ``configs`` are all that are set, ``pinned`` those of them that
    are set since the target's default is another, ``adjusted`` those that differ from the source's
    and why, ``left_out`` those that the target refuses and why, ``held_back`` those that are never
    carried over. A topic with a ``conflict`` is not copied: ``conflict_hint`` says what to do,
    ``conflict_side`` on which cluster, and ``conflict_exit_code`` is that of the fault.
    """

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
    open_transactions: list[OpenTransaction] = []  # records from there on are not stable yet
    gaps: list[Gap] = []  # that are accepted
    conflict: str | None = None
    conflict_hint: str | None = None
    conflict_kind: FaultKind = "refused"
    conflict_exit_code: int = 0
    conflict_side: Side = "target"  # the cluster that it is about


class Plan(Struct, kw_only=True, omit_defaults=True):
    """What a run of the same command would do; the one JSON document of ``--dry-run -o json``.

    ``source`` and ``target`` are bootstrap addresses; ``flow`` is the name under which the state
    of this copy is kept. ``records`` (offsets) and ``bytes`` are of the topics that would be
    copied, ``bytes`` missing where the source does not tell. ``skipped`` tells why a topic that a
    pattern matched is left out; ``faults`` are those of partitions that cannot be copied now.
    """

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
    """The running numbers at one moment; every counter only grows. Made in any thread."""

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
    lag: int  # source offsets from the positions to the ends, all partitions
    throttle: str  # the limit of the copy at this time of day, as a user writes it
    throttle_bytes: int | None  # a second, what that allows at this moment; None is no limit
    throttle_ms: int  # spent waiting for --throttle or for the brokers' quotas
    throttled_by: Throttler
    partitions_done: int
    partitions_failed: int
    partitions: list[PartitionProgress]
    recoveries: int  # times a partition asked the target's log where to go on
    faults: list[Fault] = []  # of the partitions that have stopped for good


class TopicSummary(Struct, kw_only=True, omit_defaults=True):
    """What a run has done to one topic.

    ``records``, ``bytes`` (as sent, headers included) and ``batches`` were acknowledged by the
    target in this run; ``passed_batches`` and ``rebatched_batches`` are batches of the source whose
    records went through unchanged or into new batches, ``skipped_batches`` those left out
    (control, aborted, empty). ``widened`` counts added partitions; ``pinned``, ``adjusted``,
    ``left_out`` and ``held_back`` are as in TopicPlan. ``open_transactions`` hold records back at
    the end of the run; ``gaps`` were accepted.
    """

    topic: str
    target_topic: str
    status: TopicStatus
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
    open_transactions: list[OpenTransaction] = []  # that hold records back at the end of the run
    gaps: list[Gap] = []


LimitName = Literal["max-bytes", "max-records", "max-duration"]


class Limit(Struct, kw_only=True, omit_defaults=True):
    """A limit on a run that was reached.

    ``value`` and ``used`` are bytes, records or seconds, by the option ``name``. What was sent over
    a lost connection counts as used. ``next`` is what the first batch that did not fit has, missing
    where time was the limit.
    """

    name: LimitName  # the option
    value: float  # as it was given
    used: float  # sent when it was reached; over a lost connection also what did not arrive
    next: int | None = None  # what the batch has that did not fit any more


class Summary(Struct, kw_only=True, omit_defaults=True):
    """The whole run, at its end; the one JSON document of ``-o json``.

    ``elapsed`` and ``first_ack_after`` (from the start of the process to the first acknowledged
    batch) are seconds. Counts are as in TopicSummary, of all topics; ``logical_bytes`` is the
    uncompressed size, estimated from samples, null while it is not known. ``recoveries`` counts how
    often a partition asked the target's log where to go on. ``throttle`` is the limit at the end,
    as it is typed; ``throttle_ms`` are milliseconds spent waiting for it or for the brokers'
    quotas, most of them for ``throttled_by``. ``skipped`` and ``warnings`` are as in the plan.
    """

    status: RunStatus
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
