"""Checks of what every fault must tell, whatever its kind."""

from __future__ import annotations

from kit.clusters.runner import Outcome
from replicator.report.model import Fault, FaultKind
from replicator.terms import Side

FINAL = (7, 11)
"""Exit codes of faults that a rerun does not cure: 7, or 11 where the state does not match."""


def expect_fault(
    outcome: Outcome,
    *kinds: FaultKind,
    side: Side,
    topic: str,
    partition: int | None = None,
    offset: int | None = None,
    exit_codes: tuple[int, ...] = FINAL,
    status: str = "failed",
) -> Fault:
    """The run's only fault, checked: its kind, side and place, and that the user is told.

    ``partition`` None accepts a fault of the topic or of any of its partitions; several
    faults are accepted then, all of one kind.
    """
    outcome.expect(*exit_codes)
    faults = outcome.summary.faults
    assert faults, f"no fault in {outcome}"
    assert {f.kind for f in faults} <= set(kinds), outcome
    assert {(f.side, f.topic) for f in faults} == {(side, topic)}, outcome
    if partition is not None:
        assert [f.partition for f in faults] == [partition], outcome
    fault = faults[0]
    if offset is not None:
        assert fault.offset == offset, outcome
    assert max(f.exit_code for f in faults) == outcome.exit_code == outcome.summary.exit_code
    assert outcome.summary.status == status
    assert topic in fault.message
    assert fault.cluster in fault.message
    assert fault.hint
    return fault
