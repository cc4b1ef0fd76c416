"""How a run ended: its status and exit code, and what it waited for. Pure; any thread."""

from __future__ import annotations

from collections.abc import Sequence

from replicator.errors import ExitCode, worst
from replicator.report.model import Fault, Limit, RunStatus, Throttler


def strongest(waited: dict[Throttler, int]) -> Throttler:
    """What most milliseconds were spent waiting for; empty where there was no wait."""
    name = max(waited, key=lambda key: waited[key])
    return name if waited[name] else ""


def outcome(
    faults: Sequence[Fault],
    unfinished: bool,
    interrupted: bool,
    limit: Limit | None,
    records: int,
) -> tuple[RunStatus, ExitCode]:
    """Status and exit code: the fault a rerun helps least comes first."""
    code = worst(fault.exit_code for fault in faults)
    if code not in (ExitCode.DONE, ExitCode.INCOMPLETE):
        return "failed", code
    if interrupted and unfinished:
        return "interrupted", ExitCode.INTERRUPTED
    if faults:
        return "incomplete", ExitCode.INCOMPLETE
    if limit is not None and unfinished:
        return "limited", ExitCode.DURATION if limit.name == "max-duration" else ExitCode.VOLUME
    if unfinished:
        return "incomplete", ExitCode.INCOMPLETE
    return ("done" if records else "nothing-left"), ExitCode.DONE
