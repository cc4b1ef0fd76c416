"""How a run ended: its status, its exit code, and figures about the whole of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from replicator.errors import ExitCode, worst
from replicator.report.model import Fault, Limit, Throttler
from replicator.engine.lanes import now_ms


def strongest(waited: dict[Throttler, int]) -> Throttler:
    name = max(waited, key=lambda key: waited[key])
    return name if waited[name] else ""


def outcome(
    faults: Sequence[Fault],
    unfinished: bool,
    interrupted: bool,
    limit: Limit | None,
    records: int,
) -> tuple[str, ExitCode]:
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


def since_process_start(at_ms: int) -> float:
    """Seconds from the start of this process to a moment of ``worker.now_ms``."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # since boot
    uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return (uptime - started) - (now_ms() - at_ms) / 1000
