"""The expected result of a partition's copy, worked out batch by batch from the ground truth.

For logs of batches that hold anything: what cannot be passed through is no records, and ends the
copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kit.brokers.rig import EPOCH, PRODUCER
from kit.brokers.scripted import Aborted, SourceLog, rewritten, span
from kit.oracle import batches as oracle


@dataclass
class Expected:
    produced: list[bytes] = field(default_factory=list)
    segments: list[tuple[int, int]] = field(default_factory=list)  # new ones: (source, counter)
    position: int = 0
    counter: int = 0
    skipped: int = 0
    refused: tuple[str, int] | None = None  # ending and offset of the first batch that cannot pass
    ending: str = "done"  # of what has none


def expect(
    log: SourceLog,
    *,
    start: int | None = None,
    end: int | None = None,
    counter: int = 0,
    read_committed: bool = True,
) -> Expected:
    """The outcome for a log whose aborted transactions are known by their offsets."""
    begin = log.start if start is None else start
    readable = log.stable if read_committed else log.end
    stop = readable if end is None else end
    out = Expected(position=begin, counter=counter)
    goes_on_at = begin  # where the present segment expects its next batch
    for whole in log.batches:
        first, after = span(whole)
        if after <= begin:
            continue
        kind = oracle.kind(whole)
        if out.position >= stop:
            break
        # A batch that contradicts itself may be wrong about its offsets too.
        if kind in ("malformed", "old-magic"):
            out.refused = ("malformed", first)
            return out
        if first >= stop:
            # Offsets before a batch that is shown are known to be gone.
            out.position = stop if first < readable else out.position
            break
        if kind in ("control", "empty") or (read_committed and _is_aborted(whole, log.aborted)):
            out.skipped += 1
            out.position = after
            continue
        if kind != "dense" or first < out.position or after > stop:
            out.refused = ("unknown-codec" if kind == "unknown-codec" else "malformed", first)
            return out
        if first != goes_on_at:
            out.segments.append((first, out.counter))
        out.produced.append(rewritten(whole, PRODUCER, EPOCH, out.counter))
        out.counter += after - first
        out.position = goes_on_at = after
    if out.position < stop:
        out.ending = "empty"
    return out


def _is_aborted(whole: bytes, aborted: Sequence[Aborted]) -> bool:
    h = oracle.parse(whole)
    if not h["attributes"] & oracle.TRANSACTIONAL:
        return False
    return any(
        h["producer_id"] == producer and first <= h["base_offset"] <= last
        for producer, first, last in aborted
    )
