"""Errors a user can meet, each with a hint and a documented exit code.

Exit codes: 0 done · 1 other · 2 usage or configuration · 3 source unreachable or denied ·
4 target unreachable or denied · 5 incomplete, a rerun helps · 7 incomplete, a rerun will not
help · 8 --max-bytes or --max-records reached · 10 --max-duration reached (both as rclone's) ·
11 state does not match (for example a recreated topic) · 130 interrupted, state saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

from replicator.terms import Side


class ExitCode(IntEnum):
    DONE = 0
    OTHER = 1
    USAGE = 2
    SOURCE = 3
    TARGET = 4
    INCOMPLETE = 5
    FATAL = 7
    VOLUME = 8
    DURATION = 10
    STATE = 11
    INTERRUPTED = 130


EXIT_OF_SIDE: Mapping[Side, ExitCode] = {
    "source": ExitCode.SOURCE,
    "target": ExitCode.TARGET,
}

# A run with several faults ends with the one that a rerun helps least.
_WORST_FIRST = (
    ExitCode.STATE,
    ExitCode.FATAL,
    ExitCode.TARGET,
    ExitCode.SOURCE,
    ExitCode.USAGE,
    ExitCode.OTHER,
    ExitCode.INCOMPLETE,
)


def worst(codes: Iterable[int]) -> ExitCode:
    """The exit code of a run whose faults have these; DONE without any."""
    found = set(codes)
    return next((code for code in _WORST_FIRST if int(code) in found), ExitCode.DONE)


class CopystreamError(Exception):
    """Base of all errors shown to a user: one sentence of what happened, one of what to do.

    ``reason`` is the bare cause ("connection refused"), for errors that build on this one; empty
    where the message says no more than that. ``side`` is the side whose cluster it is about, None
    where it is about neither.
    """

    exit_code = ExitCode.OTHER
    reason = ""
    side: Side | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def family(self) -> str:
        """The name of this kind of error in ``-o json``: its class, after the side."""
        return type(self).__name__


class UsageError(CopystreamError):
    """The command line or the environment asks for something impossible."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """A configuration file or property cannot be used; the message names file and key."""


class ClusterError(CopystreamError):
    """The cluster of one side cannot be reached, cannot be used, or refuses us.

    ``side`` decides the exit code: 3 for the source, 4 for the target.
    """

    def __init__(
        self, side: Side, message: str, *, hint: str | None = None, reason: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.side = side
        self.reason = reason
        self.exit_code = EXIT_OF_SIDE[side]

    @property
    def family(self) -> str:
        kind = type(self).__name__.removeprefix("Cluster")
        return ("Source" if self.side == "source" else "Target") + kind


class StateError(CopystreamError):
    """Stored state does not belong to what the clusters hold now."""

    exit_code = ExitCode.STATE


class IncompleteError(CopystreamError):
    """The work stopped early; running the same command again goes on."""

    exit_code = ExitCode.INCOMPLETE
