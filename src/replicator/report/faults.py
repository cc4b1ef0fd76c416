"""The table of faults: one row a kind, with its exit code and what a user can do about it.

``Fault`` values are made here only, so that every one has its row's exit code and hint unless the
caller knows better. docs/errors.md describes the same rows; a test compares the two. Safe from any
thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from replicator.errors import EXIT_OF_SIDE, ExitCode
from replicator.report.model import Fault, FaultKind
from replicator.terms import Side


class FaultRow(NamedTuple):
    """``exit_code`` None is that of the side: 3 for the source, 4 for the target."""

    exit_code: ExitCode | None
    hint: str


FAULTS: Mapping[FaultKind, FaultRow] = {
    "data-loss": FaultRow(
        ExitCode.FATAL,
        "the source has deleted records that were not copied yet: raise its retention; to go on "
        "with what is left, run with --accept-gap",
    ),
    "source-truncated": FaultRow(
        ExitCode.STATE,
        "an unclean leader election or a restored disk does this, and the target now has records "
        "that the source has not: bring the source's log back; or, to have what it holds now, "
        "delete the target topic and run with --restart",
    ),
    "open-transaction": FaultRow(
        ExitCode.INCOMPLETE,
        "let its producer finish, or end it with kafka-transactions.sh abort, then run again; "
        "--until stable leaves these records out, --isolation read_uncommitted copies them",
    ),
    "source-deleted": FaultRow(ExitCode.STATE, "the topic is gone from the source: leave it out"),
    "source-recreated": FaultRow(
        ExitCode.STATE,
        "this is another topic under the old name: to copy it, delete the target topic and run "
        "with --restart, or write after what it holds with --restart --append --from earliest",
    ),
    "target-deleted": FaultRow(
        ExitCode.STATE,
        "the target topic is gone: run with --restart to copy it from the start",
    ),
    "target-recreated": FaultRow(
        ExitCode.STATE,
        "this is another topic under the old name: delete it, or leave it empty, and run with "
        "--restart to copy from the start",
    ),
    "already-begun": FaultRow(
        ExitCode.USAGE,
        "leave --from out to go on where the copy stopped; to copy earlier records too, delete "
        "the target topic and run with --restart",
    ),
    "state-lost": FaultRow(
        ExitCode.STATE,
        "restore the state topics from a backup; or go on after what is there with --restart, "
        "--append and --from FILE; or delete the target topic and copy it anew",
    ),
    "foreign-writer": FaultRow(
        ExitCode.FATAL,
        "stop the other writer; then go on after what is there with --restart --append --from "
        "FILE (docs/errors.md), or delete the target topic and run with --restart",
    ),
    "record-too-large": FaultRow(
        ExitCode.FATAL,
        "raise max.message.bytes of the target topic, and segment.bytes where that is smaller, "
        "then run again",
    ),
    "timestamp-refused": FaultRow(
        ExitCode.FATAL,
        "set message.timestamp.before.max.ms and message.timestamp.after.max.ms of the target "
        "topic to 9223372036854775807, then run again",
    ),
    "record-refused": FaultRow(
        ExitCode.FATAL,
        "see the target broker's log; a compacted target topic refuses records without a key",
    ),
    "corrupt-batch": FaultRow(
        ExitCode.FATAL,
        "the source's copy of this batch is damaged: restore it from a replica, or leave the "
        "partition out",
    ),
    "source-changed": FaultRow(
        ExitCode.FATAL,
        "delete the target topic and run with --restart to copy it from the start, or write "
        "after what it holds with --restart --append --from FILE",
    ),
    "partitioner-failed": FaultRow(
        ExitCode.FATAL, "correct the function given as --partitioner, then run again"
    ),
    "unknown-codec": FaultRow(
        ExitCode.FATAL, "a newer copystream may know the codec; else leave the partition out"
    ),
    "refused": FaultRow(
        ExitCode.FATAL, "change the target topic as the message says, or leave the topic out"
    ),
    "superseded": FaultRow(
        ExitCode.INCOMPLETE, "let the other copystream finish; the same command then goes on"
    ),
    "denied": FaultRow(None, "grant the missing permission to the user of this client"),
    "unreachable": FaultRow(
        ExitCode.INCOMPLETE, "see that the brokers are up; the same command then goes on"
    ),
}


def exit_code_of(kind: FaultKind, side: Side) -> ExitCode:
    """With which exit code a run ends whose only fault is of this kind."""
    code = FAULTS[kind].exit_code
    return EXIT_OF_SIDE[side] if code is None else code


def fault(
    kind: FaultKind,
    side: Side,
    cluster: str,
    topic: str,
    partition: int | None,
    text: str,
    *,
    offset: int | None = None,
    hint: str | None = None,
    exit_code: int | None = None,
) -> Fault:
    """A fault of a partition, or of a topic where ``partition`` is None.

    ``topic`` and ``offset`` are those of ``side``. ``text`` says what happened, without place and
    cluster, which are put before it. ``hint`` and ``exit_code`` replace those of the table.
    """
    if partition is None:
        place = f"topic {topic}"
    else:
        place = f"{topic}-{partition}" + ("" if offset is None else f" at offset {offset}")
    message = f"{place} on {side} cluster {cluster}: {text}"
    return told(
        kind, side, cluster, topic, partition, message,
        offset=offset, hint=hint, exit_code=exit_code,
    )  # fmt: skip


def told(
    kind: FaultKind,
    side: Side,
    cluster: str,
    topic: str,
    partition: int | None,
    message: str,
    *,
    offset: int | None = None,
    hint: str | None = None,
    exit_code: int | None = None,
) -> Fault:
    """As ``fault``, with a message that names place and cluster already."""
    return Fault(
        kind=kind,
        side=side,
        cluster=cluster,
        topic=topic,
        partition=partition,
        offset=offset,
        message=message,
        hint=hint or FAULTS[kind].hint,
        exit_code=int(exit_code_of(kind, side) if exit_code is None else exit_code),
    )
