"""Leader epochs of the source: by which a log that was cut off or restored is told from the one
that was copied.

A leader stamps every batch with its epoch, and knows where each epoch ends (KIP-101). Where the
epoch of the last batch copied ends before the position of the copy, the source no longer holds
what was copied, and other records may stand at those offsets (KIP-320).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

LATEST_EPOCHS = 100  # kept of a partition; the position of a copy is in one of the last


class Epochs(Struct, frozen=True):
    """The epochs of a partition as (source offset, epoch): no batch from there on has an older one,
    and none before has it.
    """

    starts: tuple[tuple[int, int], ...] = ()

    def at(self, offset: int) -> int:
        """The epoch of the batch before this source offset; −1 where it is not known."""
        return max((epoch for start, epoch in self.starts if start < offset), default=-1)

    def missing(self, others: Epochs, offset: int) -> tuple[tuple[int, int], ...]:
        """Those of ``others`` before this source offset that are not among these."""
        return tuple(pair for pair in others.starts if pair[0] < offset and pair not in self.starts)

    def merged(self, new: Sequence[tuple[int, int]]) -> Epochs:
        """With ``new`` ones, which replace those from their first offset on."""
        if not new:
            return self
        kept = [pair for pair in self.starts if pair[0] < new[0][0] and pair[1] < new[0][1]]
        return Epochs(tuple([*kept, *new][-LATEST_EPOCHS:]))
