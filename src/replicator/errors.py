"""Errors a user can meet, each with a hint and a documented exit code.

Exit codes: 0 done · 1 other · 2 usage or configuration · 3 source unreachable or denied ·
4 target unreachable or denied · 5 incomplete, a rerun helps · 7 incomplete, a rerun will not
help · 8 --max-bytes or --max-records reached · 10 --max-duration reached (both as rclone's) ·
11 state does not match (for example a recreated topic) · 130 interrupted, state saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import ClassVar, Literal


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


EXIT_OF_SIDE: Mapping[Literal["source", "target"], ExitCode] = {
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
    where the message says no more than that.
    """

    exit_code = ExitCode.OTHER
    reason = ""
    side: ClassVar[Literal["source", "target"] | None] = None  # whose cluster it is about

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CopystreamError):
    """The command line or the environment asks for something impossible."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """A configuration file or property cannot be used; the message names file and key."""


class SourceError(CopystreamError):
    """The source cluster cannot be reached, or refuses us."""

    exit_code = ExitCode.SOURCE
    side = "source"


class TargetError(CopystreamError):
    """The target cluster cannot be reached, or refuses us."""

    exit_code = ExitCode.TARGET
    side = "target"


class StateError(CopystreamError):
    """Stored state does not belong to what the clusters hold now."""

    exit_code = ExitCode.STATE


class IncompleteError(CopystreamError):
    """The work stopped early; running the same command again goes on."""

    exit_code = ExitCode.INCOMPLETE


class FatalError(CopystreamError):
    """The work stopped early and running the same command again stops at the same place."""

    exit_code = ExitCode.FATAL


class BrokerError(CopystreamError):
    """A broker answered with an error code.

    ``code`` is the wire value and ``name`` Kafka's name for it; ``retriable`` follows
    ``org.apache.kafka.common.protocol.Errors``; ``detail`` is the broker's own message.
    """

    def __init__(
        self,
        code: int,
        name: str,
        message: str,
        *,
        retriable: bool,
        hint: str | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.name = name
        self.detail = detail
        self.retriable = retriable
