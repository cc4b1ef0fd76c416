"""What each ending of an assignment means for the user, as a table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from copycore.partition import Refusal
from kit.fakes.world import make_task
from replicator.engine.judge import (
    Again,
    Apart,
    AskSource,
    Fail,
    Verdict,
    sided,
    task_fault,
    without_side,
)
from replicator.engine.judge import judge as judge_part
from replicator.engine.task import Trouble
from replicator.errors import ExitCode
from replicator.report.model import Fault, FaultKind
from replicator.terms import Side

SOURCE = "src1:9092 (AbCdEf)"
TARGET = "dst1:9092,dst2:9092 (GhIjKl)"


def ended(
    ending: str,
    side: str,
    code: int = 0,
    offset: int = 1234,
    message: str | None = None,
    refused: Refusal | None = None,
) -> Any:
    """The fields of an ended assignment that ``judge`` reads."""
    return SimpleNamespace(
        ending=ending,
        end_side=side,
        end_code=code,
        end_offset=offset,
        end_message=message,
        refused=refused,
    )


def judge(part: Any) -> Verdict:
    return judge_part(make_task("orders", 3, target="copy-of-orders"), part, SOURCE, TARGET)


def check_fault(verdict: Verdict, kind: str, side: Side, exit_code: ExitCode) -> Fault:
    assert isinstance(verdict, Fail)
    found = verdict.fault
    assert (found.kind, found.side, found.exit_code) == (kind, side, int(exit_code))
    name = SOURCE if side == "source" else TARGET
    topic = "orders" if side == "source" else "copy-of-orders"
    assert (found.cluster, found.topic, found.partition) == (name, topic, 3)
    assert name in found.message
    assert f"{topic}-3" in found.message
    if found.offset is not None:
        assert f"offset {found.offset}" in found.message
    assert len(found.hint) > 20
    return found


# --- endings that are faults ----------------------------------------------------------------------


def test_an_unknown_codec() -> None:
    verdict = judge(ended("unknown-codec", "source", message="6"))
    found = check_fault(verdict, "unknown-codec", "source", ExitCode.FATAL)
    assert found.offset == 1234
    assert "codec 6" in found.message


def test_a_partitioner_that_fails() -> None:
    verdict = judge(ended("partitioner", "source", message="the partitioner failed: KeyError: 3"))
    found = check_fault(verdict, "partitioner-failed", "source", ExitCode.FATAL)
    assert found.offset == 1234
    assert "KeyError: 3" in found.message


@pytest.mark.parametrize("ending", ["malformed", "corrupt"])
def test_batches_that_cannot_be_read(ending: str) -> None:
    verdict = judge(ended(ending, "source", 2, message="a batch of an impossible length"))
    found = check_fault(verdict, "corrupt-batch", "source", ExitCode.FATAL)
    assert found.offset == 1234
    assert "impossible length" in found.message


def test_a_foreign_writer() -> None:
    verdict = judge(ended("foreign-writer", "target", offset=508, message="505"))
    found = check_fault(verdict, "foreign-writer", "target", ExitCode.FATAL)
    assert found.offset == 508
    assert "505" in found.message
    assert "another client" in found.message


REFUSALS: dict[int, tuple[FaultKind, str]] = {
    2: ("corrupt-batch", "CORRUPT_MESSAGE"),
    10: ("record-too-large", "MESSAGE_TOO_LARGE"),
    18: ("record-too-large", "RECORD_LIST_TOO_LARGE"),
    32: ("timestamp-refused", "INVALID_TIMESTAMP"),
    42: ("record-refused", "INVALID_REQUEST"),
    44: ("record-refused", "POLICY_VIOLATION"),
    76: ("record-refused", "UNSUPPORTED_COMPRESSION_TYPE"),
    87: ("record-refused", "INVALID_RECORD"),
}


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("text", [None, "the broker's own words"])
def test_refusals_of_the_target(code: int, text: str | None) -> None:
    """The offset is the source's: that is where the user finds the records."""
    kind, name = REFUSALS[code]
    refused = Refusal(1, 300, False, False, 1235)
    verdict = judge(ended("target-error", "target", code, message=text, refused=refused))
    found = check_fault(verdict, kind, "source", ExitCode.FATAL)
    assert found.offset == 1234
    assert f"{name} ({code})" in found.message
    assert "refuses this record" in found.message
    assert text is None or text in found.message


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("joined", [False, True])
def test_a_refused_batch_of_several_records_is_taken_apart(code: int, joined: bool) -> None:
    """The target may take most of its records."""
    refused = Refusal(12, 3000, True, joined, 2000)
    verdict = judge(ended("target-error", "target", code, message="why", refused=refused))
    assert isinstance(verdict, Apart)
    assert verdict.too_large == (REFUSALS[code][0] == "record-too-large")
    assert verdict.trouble.side == "target"
    assert verdict.trouble.reason.startswith("target: a batch of 12 records is refused")
    assert f"{REFUSALS[code][1]} ({code}): why" in verdict.trouble.reason


@pytest.mark.parametrize("records", [1, 12])
@pytest.mark.parametrize("code", [-1, 6, 7, 45])
def test_a_batch_is_not_taken_apart_for_an_error_that_may_pass(code: int, records: int) -> None:
    refused = Refusal(records, 3000, True, True, 2000)
    verdict = judge(ended("target-error", "target", code, refused=refused))
    assert isinstance(verdict, Again)


@pytest.mark.parametrize("code", [29, 30, 31, 53, 65])
@pytest.mark.parametrize(
    ("ending", "side", "exit_code", "right"),
    [
        ("source-error", "source", ExitCode.SOURCE, "READ"),
        ("target-error", "target", ExitCode.TARGET, "WRITE"),
    ],
)
def test_denials(code: int, ending: str, side: Side, exit_code: ExitCode, right: str) -> None:
    verdict = judge(ended(ending, side, code))
    found = check_fault(verdict, "denied", side, exit_code)
    assert f"({code})" in found.message
    assert right in found.hint
    assert found.topic in found.hint


# --- endings that are tried again -----------------------------------------------------------------


@pytest.mark.parametrize("side", ["source", "target"])
def test_lost_connections_are_tried_again(side: Side) -> None:
    verdict = judge(ended("lost", side, message="the broker closed the connection"))
    assert verdict == Again(Trouble(side, f"{side}: the broker closed the connection"))


@pytest.mark.parametrize("code", [3, 100, 103])
@pytest.mark.parametrize("side", ["source", "target"])
def test_unknown_topics_are_looked_at(code: int, side: str) -> None:
    verdict = judge(ended(f"{side}-error", side, code))
    assert isinstance(verdict, Again)
    assert verdict.refresh
    assert verdict.trouble.side == side
    assert f"({code})" in verdict.trouble.reason


def test_an_offset_out_of_range_is_looked_at() -> None:
    verdict = judge(ended("source-error", "source", 1))
    assert verdict == AskSource("end", Trouble("source", "source: OFFSET_OUT_OF_RANGE (1)"))


def test_a_log_that_has_become_shorter_is_looked_at() -> None:
    verdict = judge(ended("short", "source", message="the source's log ends at 5 now, not at 9"))
    reason = "source: the source's log ends at 5 now, not at 9"
    assert verdict == AskSource("end", Trouble("source", reason))


@pytest.mark.parametrize(("ending", "question"), [("empty", "empty"), ("open-transaction", "held")])
def test_what_only_the_source_can_tell_is_asked(ending: str, question: str) -> None:
    verdict = judge(ended(ending, "source"))
    assert isinstance(verdict, AskSource)
    assert (verdict.question, verdict.trouble.side) == (question, "source")


def test_a_source_with_another_log_is_looked_at_before_the_next_assignment() -> None:
    verdict = judge(ended("diverged", "source"))
    assert isinstance(verdict, Again)
    assert verdict.diverged
    assert verdict.trouble.side == "source"


TEMPORARY_AT_SOURCE = [-1, 5, 6, 7, 9, 13, 35, 56, 74, 75, 76, 999]
TEMPORARY_AT_TARGET = [-1, 1, 5, 6, 7, 9, 13, 19, 20, 45, 46, 47, 56, 59, 74, 75, 89, 999]


@pytest.mark.parametrize("code", TEMPORARY_AT_SOURCE)
def test_other_errors_of_the_source_are_tried_again(code: int) -> None:
    verdict = judge(ended("source-error", "source", code))
    assert isinstance(verdict, Again)
    assert (verdict.refresh, verdict.diverged) == (False, False)
    assert verdict.trouble.side == "source"
    assert verdict.trouble.reason.startswith("source: ")
    assert f"({code})" in verdict.trouble.reason


@pytest.mark.parametrize("code", TEMPORARY_AT_TARGET)
def test_other_errors_of_the_target_are_tried_again(code: int) -> None:
    """Time-outs, leaders that moved, sequences that are ahead or known: the log tells."""
    verdict = judge(ended("target-error", "target", code))
    assert isinstance(verdict, Again)
    assert (verdict.refresh, verdict.diverged) == (False, False)
    assert verdict.trouble.side == "target"
    assert verdict.trouble.reason.startswith("target: ")
    assert f"({code})" in verdict.trouble.reason


def test_a_stop_that_was_not_requested_is_tried_again() -> None:
    assert isinstance(judge(ended("stopped", "target")), Again)


# --- the faults of a task, and reasons ------------------------------------------------------------


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_fault_of_a_task_names_the_topic_of_its_side(side: Side) -> None:
    task = make_task("orders", 3, target="copy-of-orders")
    name = SOURCE if side == "source" else TARGET
    found = task_fault(task, "data-loss", side, name, "what happened", offset=9)
    check_fault(Fail(found), "data-loss", side, ExitCode.FATAL)
    assert found.message.endswith(": what happened")


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("target: NOT_LEADER_OR_FOLLOWER (6)", "NOT_LEADER_OR_FOLLOWER (6)"),
        ("target: target: no sign of life", "no sign of life"),
        ("target cluster b:1,c:2 (ID): cannot write topic x", "cannot write topic x"),
        ("target cluster b:1,c:2, broker b:1 closed", "broker b:1 closed"),
        ("source: not of this side", "source: not of this side"),
        ("nothing to take off", "nothing to take off"),
    ],
)
def test_side_and_cluster_are_named_once(reason: str, shown: str) -> None:
    assert without_side(reason, "target", "b:1,c:2 (ID)") == shown


def test_a_reason_names_its_side_once() -> None:
    assert sided("target", "closed") == "target: closed"
    for text in ("target: closed", "target cluster b:1 (ID): closed"):
        assert sided("target", text) == text
