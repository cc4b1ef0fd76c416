"""What was copied, counted: by an assignment, a task, a topic or a whole run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypedDict

from msgspec import Struct

if TYPE_CHECKING:
    from copycore.partition import PartitionCopy


class Figures(TypedDict):
    """Counts under the names that reports have for them."""

    records: int
    bytes: int
    batches: int
    skipped_batches: int
    passed_batches: int
    rebatched_batches: int


class Counts(Struct, frozen=True, kw_only=True):
    """Acknowledged by the target, but for the batches of the source. In any thread."""

    records: int = 0
    bytes: int = 0  # on the wire, headers included
    plain_bytes: int = 0  # those of them that are in batches without compression
    batches: int = 0
    skipped: int = 0  # batches of the source: control, aborted, empty
    passed: int = 0  # unchanged but for their headers
    rebatched: int = 0  # their records put into new batches

    @classmethod
    def of(cls, part: PartitionCopy) -> Counts:
        """Of one assignment, so far."""
        return cls(
            records=part.records,
            bytes=part.bytes,
            plain_bytes=part.plain_bytes,
            batches=part.batches,
            skipped=part.skipped,
            passed=part.passed,
            rebatched=part.rebatched,
        )

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            records=self.records + other.records,
            bytes=self.bytes + other.bytes,
            plain_bytes=self.plain_bytes + other.plain_bytes,
            batches=self.batches + other.batches,
            skipped=self.skipped + other.skipped,
            passed=self.passed + other.passed,
            rebatched=self.rebatched + other.rebatched,
        )

    def figures(self) -> Figures:
        """For a snapshot or a summary."""
        return Figures(
            records=self.records,
            bytes=self.bytes,
            batches=self.batches,
            skipped_batches=self.skipped,
            passed_batches=self.passed,
            rebatched_batches=self.rebatched,
        )


def total(counts: Iterable[Counts]) -> Counts:
    return sum(counts, Counts())
