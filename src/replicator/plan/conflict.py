"""Why a topic cannot be copied as things are, and what to do about it.

Plain values; safe from any thread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from replicator.cluster import Denied, TopicMeta, Unreachable
from replicator.errors import CopystreamError, ExitCode
from replicator.report.faults import exit_code_of
from replicator.report.model import Fault, FaultKind
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.records import Binding, SplitBinding
from replicator.terms import Side, TopicPartition

_ANEW = (
    "to copy it anew, delete the target topic and run with --restart, or write after what it "
    "holds with --restart --append --from earliest"
)


@dataclass(frozen=True, slots=True)
class Conflict:
    """One reason. ``what`` says what is wrong, without the topic's and the cluster's name, which
    are put before it; ``side`` is the side whose cluster it is about; ``exit_code`` is that of a
    run without other faults.
    """

    kind: FaultKind
    what: str
    todo: str | None
    side: Side
    exit_code: ExitCode

    @classmethod
    def of(
        cls,
        kind: FaultKind,
        what: str,
        todo: str | None,
        *,
        side: Side = "target",
        exit_code: ExitCode | None = None,
    ) -> Conflict:
        """With the exit code of ``kind`` unless it is given."""
        code = exit_code_of(kind, side) if exit_code is None else exit_code
        return cls(kind, what, todo, side, code)

    @classmethod
    def of_error(cls, error: CopystreamError, *, exit_code: ExitCode | None = None) -> Conflict:
        """The error of a cluster, with the error's exit code unless another is given."""
        kind: FaultKind = "refused"
        if isinstance(error, Denied):
            kind = "denied"
        elif isinstance(error, Unreachable):
            kind = "unreachable"
        return cls(
            kind,
            without_cluster(error.message),
            error.hint,
            error.side or "target",
            error.exit_code if exit_code is None else exit_code,
        )


def without_cluster(message: str) -> str:
    """A cluster's error for where the cluster is named already."""
    return re.sub(r"^(?:source|target) cluster .*?: (?=cannot )", "", message)


def refused(what: str, todo: str) -> Conflict:
    """The target topic is not what a copy needs."""
    return Conflict.of("refused", what, todo)


def deleted_meanwhile() -> Conflict:
    return Conflict.of(
        "source-deleted",
        "it was deleted on the source while the copy was planned",
        "leave it out, or run the command again if it was made anew",
        side="source",
    )


def other_partitioner(before: str) -> Conflict:
    what = f"an earlier copy was made with --partitioner {before}"
    return Conflict.of("refused", what, _ANEW, exit_code=ExitCode.STATE)


def begun_later(tp: TopicPartition, asked: int, began: int) -> Conflict:
    """``--from`` asks for offsets before the one with which the copy began."""
    topic, partition = tp
    return Conflict.of(
        "already-begun",
        f"--from asks for offset {asked} of {topic}-{partition}, and the copy began at {began}",
        "leave --from out to go on where it stopped; earlier records cannot be put before those "
        "that are on the target: to copy them too, delete the target topic and run with --restart",
    )


def map_begins_late(tp: TopicPartition) -> Conflict:
    """The offset map has no record from which the source offset follows."""
    topic, partition = tp
    return Conflict.of(
        "state-lost",
        f"{OFFSET_MAP_TOPIC} has lost what tells where {topic}-{partition} goes on",
        "restore the state topics from a backup; or go on after what is there with --restart, "
        "--append and --from FILE; or delete the target topic and copy it anew",
    )


def other_count(now: int, before: int) -> Conflict:
    """The target topic of split partitions has another number of partitions than it had."""
    text = f"the target topic has {now} partitions now, and had {before}"
    return Conflict.of("target-recreated", text, _ANEW)


def unserved_target(fault: Fault) -> Conflict:
    """A target partition, to which all source partitions write, cannot be used."""
    text = f"each of its partitions is written to: {fault.message}"
    return Conflict.of(fault.kind, text, fault.hint)


def mismatch(
    binding: Binding | SplitBinding, source: TopicMeta, target: TopicMeta | None
) -> Conflict | None:
    """Why a binding does not hold for the topics as they are now."""
    if binding.source_id != str(source.topic_id):
        return Conflict.of(
            "source-recreated",
            "the source topic is another one than this copy began with",
            "to copy the new one, delete the target topic and run with --restart, or write after "
            "what it holds with --restart --append --from earliest",
            side="source",
        )
    if target is None:
        return Conflict.of(
            "target-deleted",
            "the target topic that this copy wrote is gone",
            "run with --restart to copy it again from the start",
        )
    if binding.target_id != str(target.topic_id):
        return Conflict.of(
            "target-recreated",
            "the target topic is another one than this copy wrote",
            "leave it empty or delete it, and run with --restart to copy from the start; or write "
            "after what it holds with --restart --append --from earliest",
        )
    return None
