"""What a fake broker may send instead of the correct answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kio.schema.errors import ErrorCode

from kit.fakebroker.wire import Request


@dataclass(frozen=True)
class Default:
    """The correct answer."""


@dataclass(frozen=True)
class Raw:
    """Exactly these bytes, the four of the length included; then the connection stays open."""

    data: bytes


@dataclass(frozen=True)
class Close:
    """Close the connection, after ``first`` bytes of the correct answer."""

    first: int = 0


@dataclass(frozen=True)
class Silence:
    """No answer, and the connection stays open."""


@dataclass(frozen=True)
class Drip:
    """The correct answer, byte by byte."""


@dataclass(frozen=True)
class Twice:
    """The correct answer, two times."""


@dataclass(frozen=True)
class Patched:
    """The correct answer, changed: ``change`` gets and returns a body (see ``fakebroker.wire``)."""

    change: Callable[[Any], Any]


@dataclass(frozen=True)
class Answered:
    """``make`` gets the request and the correct body, and returns a body, or bytes as ``Raw``."""

    make: Callable[[Request, Any], Any]


Answer = Default | Raw | Close | Silence | Drip | Twice | Patched | Answered


def with_partition_error(error: ErrorCode) -> Patched:
    """The correct ListOffsets or OffsetForLeaderEpoch answer, with one error everywhere."""

    def change(body: Any) -> Any:
        def partition(entry: Any) -> Any:
            return replace(entry, error_code=error)

        return replace(
            body,
            topics=tuple(
                replace(topic, partitions=tuple(partition(p) for p in topic.partitions))
                for topic in body.topics
            ),
        )

    return Patched(change)
