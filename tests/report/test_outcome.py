"""Status and exit code of a whole run, from the faults of its partitions."""

from __future__ import annotations

import itertools

import pytest

from replicator.errors import ExitCode
from replicator.report import faults
from replicator.report.model import Fault, Limit, LimitName
from replicator.report.outcome import outcome, strongest

# The fault that a rerun helps least comes first.
PRECEDENCE = [
    ExitCode.STATE,
    ExitCode.FATAL,
    ExitCode.TARGET,
    ExitCode.SOURCE,
    ExitCode.USAGE,
    ExitCode.OTHER,
]


def fault(code: ExitCode) -> Fault:
    return faults.fault("unreachable", "source", "s", "t", 0, "x", exit_code=code)


@pytest.mark.parametrize("code", PRECEDENCE)
@pytest.mark.parametrize("interrupted", [True, False])
@pytest.mark.parametrize("unfinished", [True, False])
def test_a_fault_for_good_is_the_outcome(
    code: ExitCode, interrupted: bool, unfinished: bool
) -> None:
    assert outcome([fault(code)], unfinished, interrupted, None, 5) == ("failed", code)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(PRECEDENCE, 2)))
def test_of_two_faults_the_worse_counts(first: ExitCode, second: ExitCode) -> None:
    for order in ([fault(first), fault(second)], [fault(second), fault(first)]):
        assert outcome(order, True, False, None, 5) == ("failed", first)
        assert outcome([*order, fault(ExitCode.INCOMPLETE)], True, True, None, 0) == (
            "failed",
            first,
        )


def test_what_a_rerun_helps_is_incomplete() -> None:
    assert outcome([fault(ExitCode.INCOMPLETE)], False, False, None, 5) == (
        "incomplete",
        ExitCode.INCOMPLETE,
    )
    assert outcome([], True, False, None, 5) == ("incomplete", ExitCode.INCOMPLETE)


def test_interrupted_only_if_something_is_left() -> None:
    assert outcome([], True, True, None, 5) == ("interrupted", ExitCode.INTERRUPTED)
    assert outcome([fault(ExitCode.INCOMPLETE)], True, True, None, 5) == (
        "interrupted",
        ExitCode.INTERRUPTED,
    )
    assert outcome([], False, True, None, 5) == ("done", ExitCode.DONE)


LIMITS: list[tuple[LimitName, ExitCode]] = [
    ("max-bytes", ExitCode.VOLUME),
    ("max-records", ExitCode.VOLUME),
    ("max-duration", ExitCode.DURATION),
]


@pytest.mark.parametrize(("name", "code"), LIMITS)
def test_a_limit_counts_only_if_something_is_left(name: LimitName, code: ExitCode) -> None:
    limit = Limit(name=name, value=5, used=4)
    assert outcome([], True, False, limit, 5) == ("limited", code)
    assert outcome([], False, False, limit, 5) == ("done", ExitCode.DONE)
    assert outcome([], True, True, limit, 5) == ("interrupted", ExitCode.INTERRUPTED)


@pytest.mark.parametrize(("name", "code"), LIMITS)
def test_a_limit_hides_no_fault(name: LimitName, code: ExitCode) -> None:
    limit = Limit(name=name, value=5, used=4)
    for bad in (*PRECEDENCE, ExitCode.INCOMPLETE):
        assert outcome([fault(bad)], True, False, limit, 5)[1] == bad != code


def test_done_and_nothing_left() -> None:
    assert outcome([], False, False, None, 1) == ("done", ExitCode.DONE)
    assert outcome([], False, False, None, 0) == ("nothing-left", ExitCode.DONE)


def test_every_exit_code_of_a_fault_has_a_place() -> None:
    """A fault must never end in exit code 0. Those of a limit or a signal are of no fault."""
    others = (ExitCode.DONE, ExitCode.VOLUME, ExitCode.DURATION, ExitCode.INTERRUPTED)
    for code in ExitCode:
        if code not in others:
            assert outcome([fault(code)], False, False, None, 0)[1] == code


def test_the_strongest_brake_is_named() -> None:
    assert strongest({"limit": 0, "source quota": 0, "target quota": 0}) == ""
    assert strongest({"limit": 5, "source quota": 9, "target quota": 0}) == "source quota"
