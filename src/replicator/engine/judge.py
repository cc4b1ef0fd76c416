"""What the end of an assignment means: try again, or a fault.

Pure functions of the assignment and its task; safe from any thread.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, assert_never

from copycore.partition import PartitionCopy
from replicator.cluster import errors as broker_errors
from replicator.engine.task import PartitionTask, Trouble
from replicator.errors import ExitCode
from replicator.report import faults
from replicator.report.model import Fault, FaultKind
from replicator.terms import Side

_SEGMENT_LIMIT = "raise segment.bytes of the target topic, then run again"


class Fail(NamedTuple):
    """Trying again cannot help."""

    fault: Fault


class Again(NamedTuple):
    """Ask the target's log, and try again."""

    trouble: Trouble
    refresh: bool = False  # topics may have been deleted or created anew
    diverged: bool = False  # the source's log is not the one that was copied, says its leader


class Apart(NamedTuple):
    """The same with smaller batches, at once."""

    trouble: Trouble
    too_large: bool  # for the target


class AskSource(NamedTuple):
    """Ask the source first: whether there is nothing up to the end, which transaction holds back
    the rest, or whether the log has lost its end.
    """

    question: Literal["empty", "held", "end"]
    trouble: Trouble


Verdict = Fail | Again | Apart | AskSource


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
            return Fail(
                task_fault(task, "corrupt-batch", "source", source, text, offset=part.end_offset)
            )
        case "unknown-codec":
            text = f"the batch is compressed with codec {part.end_message}, which Kafka has not"
            return Fail(
                task_fault(task, "unknown-codec", "source", source, text, offset=part.end_offset)
            )
        case "partitioner":
            text = part.end_message or "the partitioner failed"
            return Fail(
                task_fault(
                    task, "partitioner-failed", "source", source, text, offset=part.end_offset
                )
            )
        case "short":
            return AskSource("end", Trouble("source", f"source: {part.end_message}"))
        case "empty":
            return AskSource("empty", Trouble("source", "source: nothing but empty answers"))
        case "open-transaction":
            return AskSource("held", Trouble("source", "source: an open transaction"))
        case "diverged":
            return Again(Trouble("source", "source: the leader has another log"), diverged=True)
        case "foreign-writer":
            text = (
                f"a batch of ours was stored here instead of at {part.end_message}: "
                "another client writes into this partition"
            )
            return Fail(
                task_fault(task, "foreign-writer", "target", target, text, offset=part.end_offset)
            )
        case "source-error" if broker_errors.is_denied(code):
            return Fail(denied(task, "source", source, f"reading is refused: {name}"))
        case "source-error" if code == broker_errors.OFFSET_OUT_OF_RANGE:
            return AskSource("end", Trouble("source", f"source: {name}"))
        case "source-error":
            refresh = code in broker_errors.UNKNOWN_TOPIC
            return Again(Trouble("source", f"source: {name}"), refresh=refresh)
        case "target-error" if broker_errors.is_denied(code):
            return Fail(denied(task, "target", target, f"writing is refused: {name}"))
        case "target-error" if (
            broker_errors.lookup(code).refusal and part.refused and part.refused.records > 1
        ):
            # The other records may be accepted; sent alone, the refused one gets the fault.
            reason = f"target: a batch of {part.refused.records} records is refused: {name}{detail}"
            too_large = broker_errors.lookup(code).refusal == "record-too-large"
            return Apart(Trouble("target", reason), too_large)
        case "target-error" if (kind := broker_errors.lookup(code).refusal) is not None:
            text = f"target cluster {target} refuses this record: {name}{detail}"
            hint = _SEGMENT_LIMIT if code == broker_errors.RECORD_LIST_TOO_LARGE else None
            return Fail(
                task_fault(task, kind, "source", source, text, offset=part.end_offset, hint=hint)
            )
        case "target-error":
            reason = sided("target", part.end_message or name)
            refresh = code in broker_errors.UNKNOWN_TOPIC
            return Again(Trouble("target", reason), refresh=refresh)
        case "lost" | "elsewhere" | "stopped" | "done" | None:
            side: Side = "source" if part.end_side == "source" else "target"
            return Again(Trouble(side, sided(part.end_side, part.end_message or name)))
        case _:
            assert_never(part.ending)
