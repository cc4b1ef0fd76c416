"""What became of each record: the difference of two partitions as a list of named changes.

Pure: takes two sequences of record prints (source order and target order) and says which
records are missing, doubled, reordered, altered or foreign. A print holds a digest of each thing
a consumer can see, so two records are the same when all four are equal.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from msgspec import Struct

Kind = Literal["missing", "doubled", "reordered", "altered", "foreign"]

FIELDS = ("timestamp", "key", "value", "headers")


class Print(NamedTuple):
    """One record: where it is, and digests of what a consumer sees of it."""

    offset: int
    timestamp: bytes
    key: bytes
    value: bytes
    headers: bytes

    @property
    def identity(self) -> tuple[bytes, ...]:
        return self[1:]


class Difference(Struct, kw_only=True, omit_defaults=True):
    """One record that is not on the target as it is on the source.

    ``missing``: on the source only. ``doubled``: once more on the target than on the source.
    ``reordered``: on both, but it would have to move to restore the order; the fewest moves are
    counted. ``altered``: at its place, with other content in ``fields``. ``foreign``: on the
    target only, and nothing like it is missing there. Offsets are of the record itself.
    """

    kind: Kind
    topic: str
    target_topic: str
    partition: int
    source_offset: int | None = None
    target_offset: int | None = None
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = (
            self.topic
            if self.topic == self.target_topic
            else (f"{self.topic} -> {self.target_topic}")
        )
        parts = [f"{self.kind}: {where} partition {self.partition}"]
        if self.source_offset is not None:
            parts.append(f"source offset {self.source_offset}")
        if self.target_offset is not None:
            parts.append(f"target offset {self.target_offset}")
        if self.fields:
            parts.append("differs in " + ", ".join(self.fields))
        return ", ".join(parts)


def classify(
    source: Sequence[Print],
    target: Sequence[Print],
    *,
    topic: str,
    target_topic: str,
    partition: int,
    whole: bool = True,
) -> list[Difference]:
    """Every change between the two sequences, in target order, then source order.

    ``whole`` False means that the sequences were cut off: what has no partner after the last
    pair is then left undecided. Among records that are equal to each other the choice which of
    them is missing or doubled is arbitrary.
    """
    unused: dict[tuple[bytes, ...], list[int]] = defaultdict(list)
    for index in range(len(source) - 1, -1, -1):
        unused[source[index].identity].append(index)

    partner: list[int | None] = []
    doubled: list[int] = []
    for index, record in enumerate(target):
        candidates = unused.get(record.identity)
        partner.append(candidates.pop() if candidates else None)
        if candidates is not None and partner[-1] is None:
            doubled.append(index)
    taken = {index for index in partner if index is not None}

    matched = [(index, mate) for index, mate in enumerate(partner) if mate is not None]
    in_order = _longest_rising([mate for _, mate in matched])
    anchors = [matched[i] for i in in_order]
    anchored = {index for index, _ in anchors}

    def difference(
        kind: Kind, at_source: int | None, at_target: int | None, fields: tuple[str, ...] = ()
    ) -> Difference:
        return Difference(
            kind=kind,
            topic=topic,
            target_topic=target_topic,
            partition=partition,
            source_offset=None if at_source is None else source[at_source].offset,
            target_offset=None if at_target is None else target[at_target].offset,
            fields=fields,
        )

    last_target = max((index for index, _ in matched), default=-1)
    last_source = max(taken, default=-1)
    found: list[Difference] = [
        difference("reordered", mate, index) for index, mate in matched if index not in anchored
    ]
    found += [
        difference("doubled", None, index)
        for index in doubled
        if whole or index <= last_target or not matched
    ]

    twice = set(doubled)
    edges = [(-1, -1), *anchors, (len(target), len(source))]
    for (target_low, source_low), (target_high, source_high) in pairwise(edges):
        lost = [i for i in range(source_low + 1, source_high) if i not in taken]
        strange = [
            i for i in range(target_low + 1, target_high) if partner[i] is None and i not in twice
        ]
        if not whole and matched:
            lost = [i for i in lost if i <= last_source]
            strange = [i for i in strange if i <= last_target]
        for index in strange:
            mate = next((i for i in lost if len(_equal(source[i], target[index])) >= 2), None)
            if mate is None:
                found.append(difference("foreign", None, index))
                continue
            lost.remove(mate)
            same = _equal(source[mate], target[index])
            changed = tuple(name for name in FIELDS if name not in same)
            found.append(difference("altered", mate, index, changed))
        found += [difference("missing", index, None) for index in lost]
    return found


def _equal(left: Print, right: Print) -> tuple[str, ...]:
    return tuple(
        name
        for name, mine, other in zip(FIELDS, left.identity, right.identity, strict=True)
        if mine == other
    )


def _longest_rising(values: Sequence[int]) -> list[int]:
    """Indices of a longest strictly rising subsequence (patience sorting, O(n log n))."""
    tops: list[int] = []  # smallest last value of a rising run of each length
    top_index: list[int] = []
    before: list[int] = []
    for index, value in enumerate(values):
        pile = bisect_left(tops, value)
        before.append(top_index[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(value)
            top_index.append(index)
        else:
            tops[pile] = value
            top_index[pile] = index
    run: list[int] = []
    index = top_index[-1] if top_index else -1
    while index >= 0:
        run.append(index)
        index = before[index]
    return run[::-1]
