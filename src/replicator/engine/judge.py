"""What the end of an assignment means: try again, or a fault.

Pure functions of the assignment and its task; safe from any thread.
"""

from __future__ import annotations

import re
from typing import NamedTuple, assert_never

from copycore.partition import PartitionCopy
from replicator.cluster import errors as broker_errors
from replicator.engine.task import PartitionTask
from replicator.errors import ExitCode
from replicator.report import faults
from replicator.report.model import Fault, FaultKind
from replicator.terms import Side

_SEGMENT_LIMIT = "raise segment.bytes of the target topic, then run again"


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


def task_fault(
    task: PartitionTask,
    kind: FaultKind,
    side: Side,
    cluster: str,
    text: str,
    *,
    offset: int | None = None,
    hint: str | None = None,
    exit_code: ExitCode | None = None,
) -> Fault:
    """A fault of ``task`` on one side; the rest as for ``report.faults.fault``."""
    topic = task.topic if side == "source" else task.target_topic
    return faults.fault(
        kind, side, cluster, topic, task.partition, text,
        offset=offset, hint=hint, exit_code=exit_code,
    )  # fmt: skip


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
    right = "READ" if side == "source" else "WRITE"
    hint = f"grant {right} on Topic {topic} to this client"
    return task_fault(task, "denied", side, cluster, what, hint=hint)


def judge(task: PartitionTask, part: PartitionCopy, source: str, target: str) -> Verdict:
    """What the end of an assignment means; ``source`` and ``target`` name the clusters."""
    code = part.end_code
    name = broker_errors.named(code)
    detail = f": {part.end_message}" if part.end_message else ""
    match part.ending:
        case "malformed" | "corrupt":
            text = part.end_message or "a batch cannot be read"
            return Verdict(
                task_fault(task, "corrupt-batch", "source", source, text, offset=part.end_offset),
                "",
            )
        case "unknown-codec":
            text = f"the batch is compressed with codec {part.end_message}, which Kafka has not"
            return Verdict(
                task_fault(task, "unknown-codec", "source", source, text, offset=part.end_offset),
                "",
            )
        case "partitioner":
            text = part.end_message or "the partitioner failed"
            return Verdict(
                task_fault(
                    task, "partitioner-failed", "source", source, text, offset=part.end_offset
                ),
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
                task_fault(task, "foreign-writer", "target", target, text, offset=part.end_offset),
                "",
            )
        case "source-error" if broker_errors.is_denied(code):
            return Verdict(denied(task, "source", source, f"reading is refused: {name}"), "")
        case "source-error":
            return Verdict(
                None,
                f"source: {name}",
                refresh=code in broker_errors.UNKNOWN_TOPIC,
                out_of_range=code == broker_errors.OFFSET_OUT_OF_RANGE,
            )
        case "target-error" if broker_errors.is_denied(code):
            return Verdict(denied(task, "target", target, f"writing is refused: {name}"), "")
        case "target-error" if (
            broker_errors.lookup(code).refusal and part.refused and part.refused.records > 1
        ):
            # The other records may be accepted; sent alone, the refused one gets the fault.
            reason = f"target: a batch of {part.refused.records} records is refused: {name}{detail}"
            return Verdict(None, reason, apart=True)
        case "target-error" if (kind := broker_errors.lookup(code).refusal) is not None:
            text = f"target cluster {target} refuses this record: {name}{detail}"
            hint = _SEGMENT_LIMIT if code == broker_errors.RECORD_LIST_TOO_LARGE else None
            return Verdict(
                task_fault(task, kind, "source", source, text, offset=part.end_offset, hint=hint),
                "",
            )
        case "target-error":
            reason = sided(part.end_side, part.end_message or name)
            return Verdict(None, reason, refresh=code in broker_errors.UNKNOWN_TOPIC)
        case "lost" | "elsewhere" | "stopped" | "done" | None:
            return Verdict(None, sided(part.end_side, part.end_message or name))
        case _:
            assert_never(part.ending)
