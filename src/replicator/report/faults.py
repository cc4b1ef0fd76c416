"""What a partition's end means: try again, or a fault with a name, a hint and an exit code."""

from __future__ import annotations

import re
from typing import NamedTuple

from copycore.partition import PartitionCopy
from replicator.cluster import broker_errors
from replicator.engine.task import PartitionTask
from replicator.errors import ExitCode
from replicator.report.model import Fault, FaultKind
from replicator.terms import Side, TopicPartition

OFFSET_OUT_OF_RANGE = 1
TOO_LARGE = frozenset({10, 18})  # MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE
UNKNOWN_TOPIC = frozenset({3, 100, 103})  # by name, by id, and one contradicting the other

_EXIT: dict[FaultKind, ExitCode] = {
    "data-loss": ExitCode.FATAL,
    "source-truncated": ExitCode.STATE,
    "open-transaction": ExitCode.INCOMPLETE,
    "source-deleted": ExitCode.STATE,
    "source-recreated": ExitCode.STATE,
    "target-deleted": ExitCode.STATE,
    "target-recreated": ExitCode.STATE,
    "foreign-writer": ExitCode.FATAL,
    "record-too-large": ExitCode.FATAL,
    "timestamp-refused": ExitCode.FATAL,
    "record-refused": ExitCode.FATAL,
    "corrupt-batch": ExitCode.FATAL,
    "unknown-codec": ExitCode.FATAL,
    "source-changed": ExitCode.FATAL,
    "partitioner-failed": ExitCode.FATAL,
    "superseded": ExitCode.INCOMPLETE,
    "unreachable": ExitCode.INCOMPLETE,
}

_HINT: dict[FaultKind, str] = {
    "data-loss": "the source has deleted records that were not copied yet: raise its retention; "
    "to go on with what is left, run with --accept-gap",
    "source-truncated": "an unclean leader election or a restored disk does this, and the target "
    "now has records that the source has not: bring the source's log back; or, to have what it "
    "holds now, delete the target topic and run with --restart",
    "open-transaction": "let its producer finish, or end it with kafka-transactions.sh abort, then "
    "run again; --until stable leaves these records out, --isolation read_uncommitted copies them",
    "source-deleted": "the topic is gone from the source: leave it out",
    "source-recreated": "this is another topic under the old name: to copy it, delete the target "
    "topic and run with --restart, or write behind what it holds with --restart --append --from "
    "earliest",
    "target-deleted": "the target topic is gone: run with --restart to copy it from the start",
    "target-recreated": "this is another topic under the old name: delete it, or leave it empty, "
    "and run with --restart to copy from the start",
    "foreign-writer": "stop the other writer; then go on behind what is there with --restart "
    "--append --from FILE (docs/errors.md), or delete the target topic and run with --restart",
    "record-too-large": "raise max.message.bytes of the target topic, and segment.bytes where "
    "that is smaller, then run again",
    "timestamp-refused": "set message.timestamp.before.max.ms and message.timestamp.after.max.ms "
    "of the target topic to 9223372036854775807, then run again",
    "record-refused": "see the target broker's log; a compacted target topic refuses records "
    "without a key",
    "corrupt-batch": "the source's copy of this batch is damaged: restore it from a replica, or "
    "leave the partition out",
    "unknown-codec": "a newer copystream may know the codec; else leave the partition out",
    "source-changed": "delete the target topic and run with --restart to copy it from the start, "
    "or write behind what it holds with --restart --append --from FILE",
    "partitioner-failed": "mend the function given as --partitioner, then run again",
    "superseded": "let the other copystream finish; the same command then goes on",
    "unreachable": "see that the brokers are up; the same command then goes on",
}

_REFUSALS: dict[int, FaultKind] = {
    2: "corrupt-batch",  # CORRUPT_MESSAGE: the transformed CRC does not hold
    10: "record-too-large",  # MESSAGE_TOO_LARGE
    18: "record-too-large",  # RECORD_LIST_TOO_LARGE: above segment.bytes
    32: "timestamp-refused",  # INVALID_TIMESTAMP
    87: "record-refused",  # INVALID_RECORD
    44: "record-refused",  # POLICY_VIOLATION
    76: "record-refused",  # UNSUPPORTED_COMPRESSION_TYPE
    42: "record-refused",  # INVALID_REQUEST
}


_LIMITS = {
    18: "raise segment.bytes of the target topic, then run again",  # RECORD_LIST_TOO_LARGE
}


class Verdict(NamedTuple):
    """Either a fault, or a reason to ask the target's log and try again."""

    fault: Fault | None
    reason: str
    apart: bool = False  # with smaller batches
    refresh: bool = False  # topics may have been deleted or recreated
    out_of_range: bool = False
    empty: bool = False  # the source answers with nothing before the end
    held: bool = False  # by an open transaction
    diverged: bool = False  # the source's log is not the one that was copied, says its leader


def at_source(
    kind: FaultKind, place: TopicPartition, cluster: str, message: str, offset: int
) -> Fault:
    """A fault of a partition of the source; ``message`` as for ``fault``."""
    topic, partition = place
    return Fault(
        kind=kind,
        side="source",
        cluster=cluster,
        topic=topic,
        partition=partition,
        offset=offset,
        message=f"{topic}-{partition} at offset {offset} on source cluster {cluster}: {message}",
        hint=_HINT[kind],
        exit_code=int(_EXIT[kind]),
    )


def fault(
    task: PartitionTask,
    kind: FaultKind,
    side: Side,
    cluster: str,
    message: str,
    *,
    offset: int | None,
    hint: str | None = None,
    exit_code: ExitCode | None = None,
) -> Fault:
    """A fault of ``task``; ``message`` says what happened, without place and cluster."""
    topic = task.topic if side == "source" else task.target_topic
    at = "" if offset is None else f" at offset {offset}"
    return Fault(
        kind=kind,
        side=side,
        cluster=cluster,
        topic=topic,
        partition=task.partition,
        offset=offset,
        message=f"{topic}-{task.partition}{at} on {side} cluster {cluster}: {message}",
        hint=hint or _HINT[kind],
        exit_code=int(exit_code if exit_code is not None else _EXIT[kind]),
    )


def sided(side: str | None, text: str) -> str:
    """A reason with the side it is about, named once."""
    return text if text.startswith((f"{side}:", f"{side} cluster")) else f"{side}: {text}"


def without_side(reason: str, side: str, cluster: str) -> str:
    """A reason for where side and cluster are named already."""
    addresses = re.escape(cluster.partition(" (")[0])
    named = rf"{side}(?: cluster {addresses}(?: \([^)]*\))?)?(?:: |, )"
    return re.sub(rf"^(?:{named})+", "", reason)


def denied(task: PartitionTask, side: Side, cluster: str, what: str) -> Fault:
    topic = task.topic if side == "source" else task.target_topic
    return fault(
        task,
        "denied",
        side,
        cluster,
        what,
        offset=None,
        hint=f"grant {'READ' if side == 'source' else 'WRITE'} on Topic {topic} to this client",
        exit_code=ExitCode.SOURCE if side == "source" else ExitCode.TARGET,
    )


def judge(task: PartitionTask, part: PartitionCopy, source: str, target: str) -> Verdict:
    """What the end of an assignment means; ``source`` and ``target`` name the clusters."""
    code = part.end_code
    name = f"{broker_errors.lookup(code).name} ({code})"
    detail = f": {part.end_message}" if part.end_message else ""
    match part.ending:
        case "malformed" | "corrupt":
            text = part.end_message or "a batch cannot be read"
            return Verdict(
                fault(task, "corrupt-batch", "source", source, text, offset=part.end_offset), ""
            )
        case "unknown-codec":
            text = f"the batch is compressed with codec {part.end_message}, which Kafka has not"
            return Verdict(
                fault(task, "unknown-codec", "source", source, text, offset=part.end_offset), ""
            )
        case "partitioner":
            text = part.end_message or "the partitioner failed"
            return Verdict(
                fault(task, "partitioner-failed", "source", source, text, offset=part.end_offset),
                "",
            )
        case "short":
            return Verdict(None, f"source: {part.end_message}", out_of_range=True)
        case "empty":
            return Verdict(None, "source: nothing but empty answers", empty=True)
        case "open-transaction":
            return Verdict(None, "source: an open transaction", held=True)
        case "diverged":
            return Verdict(None, "source: the leader has another log", diverged=True)
        case "foreign-writer":
            text = (
                f"a batch of ours was stored here instead of at {part.end_message}: "
                "another client writes into this partition"
            )
            return Verdict(
                fault(task, "foreign-writer", "target", target, text, offset=part.end_offset), ""
            )
        case "source-error" if broker_errors.denied_resource(code) is not None:
            return Verdict(denied(task, "source", source, f"reading is refused: {name}"), "")
        case "source-error":
            return Verdict(
                None,
                f"source: {name}",
                refresh=code in UNKNOWN_TOPIC,
                out_of_range=code == OFFSET_OUT_OF_RANGE,
            )
        case "target-error" if broker_errors.denied_resource(code) is not None:
            return Verdict(denied(task, "target", target, f"writing is refused: {name}"), "")
        case "target-error" if code in _REFUSALS and part.refused and part.refused.records > 1:
            # The other records may be accepted; sent alone, the refused one gets the fault.
            reason = f"target: a batch of {part.refused.records} records is refused: {name}{detail}"
            return Verdict(None, reason, apart=True)
        case "target-error" if code in _REFUSALS:
            text = f"target cluster {target} refuses this record: {name}{detail}"
            kind = _REFUSALS[code]
            hint = _LIMITS.get(code)
            return Verdict(
                fault(task, kind, "source", source, text, offset=part.end_offset, hint=hint), ""
            )
        case _:
            reason = sided(part.end_side, part.end_message or name)
            return Verdict(None, reason, refresh=code in UNKNOWN_TOPIC)
