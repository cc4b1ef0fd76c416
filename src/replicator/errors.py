"""Errors a user can meet, each with a hint and a documented exit code.

``ExitCode`` is the one list of exit codes; the program's help is made from it, and README.md and
docs/errors.md are compared with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

from replicator.terms import Side


class ExitCode(IntEnum):
    """How a command ends. ``short`` says it in the program's help; 8 and 10 are rclone's."""

    short: str

    def __new__(cls, value: int, short: str) -> ExitCode:
        code = int.__new__(cls, value)
        code._value_ = value
        code.short = short
        return code

    DONE = 0, "done"
    OTHER = 1, "other"
    USAGE = 2, "usage"
    SOURCE = 3, "source"
    TARGET = 4, "target"
    INCOMPLETE = 5, "incomplete and a rerun helps"
    FATAL = 7, "incomplete and a rerun will not help"
    VOLUME = 8, "a limit of volume reached"
    DURATION = 10, "a limit of time reached"
    STATE = 11, "state does not match"
    INTERRUPTED = 130, "interrupted"


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
