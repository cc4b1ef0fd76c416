"""A refused batch of several records: it is sent in ever smaller pieces, until the record that the
target refuses is alone. Merged batches first come as those of the source, then record by record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from copycore.partition import PartitionCopy, Refusal
from copycore.rebatch import Rebatcher
from kit.brokers.rig import Ends, Rig
from kit.brokers.scripted import ProduceRequest, batch
from kit.logs.random_records import Merge
from kit.logs.truth import CODECS, DurableMap, RecordLog, Row, arrived, row
from kit.oracle import batches as oracle

INVALID_TIMESTAMP = 32


def refusing(ends: Ends, guilty: bytes) -> list[bytes]:
    """The target refuses every batch with a record of that value; those are in the result."""
    refused: list[bytes] = []

    def refuse(request: ProduceRequest) -> dict[str, Any]:
        errors = {
            place: (INVALID_TIMESTAMP, b"no")
            for place, whole in request.batches.items()
            if any(one.value == guilty for one in arrived([whole]))
        }
        refused.extend(request.batches[place] for place in errors)
        return ends.target.take(request, errors)

    ends.target.hook = refuse
    return refused


def log_of(codec: int, step: int, guilty: int, *, dense: bool = False) -> RecordLog:
    """Ten batches of two records, one of which the target refuses; ``step`` 2 leaves a hole
    between them. Unless they are dense, they end with a hole.
    """
    log = RecordLog()
    for number in range(10):
        at = (2 if dense else 3) * number
        content = [
            row(offset, b"guilty" if offset == guilty else b"v") for offset in (at, at + step)
        ]
        log.add(content, codec, last=at + (1 if dense else 2))
    return log


def refusal_of(whole: bytes, source_next: int, *, joined: bool) -> Refusal:
    header = oracle.parse(whole)
    compressed = bool(header["attributes"] & 7)
    return Refusal(header["count"], len(whole), compressed, joined, source_next)


class Copy:
    """Assignments one after the other, each beginning where the target's log says."""

    def __init__(self, rig: Rig, ends: Ends, log: RecordLog) -> None:
        self.rig, self.ends, self.log = rig, ends, log
        self.durable = DurableMap(0, 0)
        self.counter = 0

    def assign(self, **settings: Any) -> PartitionCopy:
        """Run an assignment until it ends."""
        at = self.durable.source_of(self.counter)
        part = self.rig.assign(
            self.ends,
            self.log,
            start=at,
            counter=self.counter,
            known=[one for one in self.durable.segments if one[1] > self.counter],
            **settings,
        )
        self.rig.run()
        for chunk in self.rig.chunks[part]:
            self.durable.report(chunk)
        stored = self.rig.stored(self.ends, part)
        self.counter = sum(oracle.parse(whole)["count"] for whole in stored)
        assert part.acked_counter == self.counter
        return part

    def check(self, end: int) -> None:
        """The target has every record before ``end``, and the map is true of each."""
        seen = self.log.seen(0, end, committed=True)
        stored = self.rig.stored(self.ends, self.rig.parts[0])
        assert [one.seen for one in arrived(stored)] == [one.seen for one in seen]
        assert [self.durable.source_of(n) for n in range(len(seen))] == [one.offset for one in seen]


@pytest.mark.parametrize("codec", range(5), ids=CODECS)
@pytest.mark.parametrize("inside", [0, 1], ids=["first record", "second record"])
@pytest.mark.parametrize(("step", "merge"), [(1, "never"), (2, "never"), (1, "always")])
def test_a_refused_batch_is_taken_apart_until_the_record_is_alone(
    make_rig: Callable[..., Rig], codec: int, inside: int, step: int, merge: Merge
) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge=merge))
    guilty = 18 + inside * step
    log = log_of(codec, step, guilty)
    ends = rig.pipe(log)
    refused = refusing(ends, b"guilty")
    copy = Copy(rig, ends, log)

    first = copy.assign()
    assert (first.ending, first.end_code) == ("target-error", INVALID_TIMESTAMP)
    assert first.refused is not None
    assert first.refused == refusal_of(refused[0], first.refused.source_next, joined=True)
    assert first.refused.records > 2
    assert first.refused.source_next > guilty
    assert first.acked == 0

    second = copy.assign(apart_until=first.refused.source_next)
    assert (second.ending, second.end_offset) == ("target-error", 18)
    assert second.refused == refusal_of(refused[1], 18 + step + 1, joined=False)
    assert second.refused.records == 2
    assert second.acked_counter == 12
    assert second.batches == 6, "one each"
    copy.check(18)

    third = copy.assign(single_until=second.refused.source_next)
    assert (third.ending, third.end_offset) == ("target-error", guilty)
    assert third.refused == refusal_of(refused[2], guilty + 1, joined=False)
    assert third.refused.records == 1
    assert third.batches == inside, "the record before it in its batch"
    copy.check(guilty)

    ends.target.hook = None  # the target's configs are corrected
    last = copy.assign(single_until=second.refused.source_next)
    assert last.ending == "done"
    assert last.refused is None
    copy.check(log.end)


@pytest.mark.parametrize("codec", range(5), ids=CODECS)
@pytest.mark.parametrize("guilty", [0, 1, 12, 13, 19])
def test_a_refused_batch_of_the_source_is_taken_apart(rig: Rig, codec: int, guilty: int) -> None:
    """The refused batch was passed through unchanged."""
    log = log_of(codec, 1, guilty, dense=True)
    ends = rig.pipe(log)
    refused = refusing(ends, b"guilty")
    copy = Copy(rig, ends, log)
    base = guilty // 2 * 2

    first = copy.assign()
    assert first.passed > 0
    assert (first.ending, first.end_offset) == ("target-error", base)
    assert first.refused == refusal_of(refused[0], base + 2, joined=False)
    assert len(refused[0]) == len(log.batches[base // 2])
    copy.check(base)

    second = copy.assign(single_until=first.refused.source_next)
    assert (second.ending, second.end_offset) == ("target-error", guilty)
    assert second.refused == refusal_of(refused[1], guilty + 1, joined=False)
    assert second.refused.records == 1
    copy.check(guilty)


def test_after_the_refused_batch_merging_goes_on(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge="always"))
    log = RecordLog()
    for number in range(40):
        log.add([Row(number, 5, None, b"x" * 2000)])
    ends = rig.pipe(log, slab=1 << 14)
    part = rig.assign(ends, log, apart_until=4)
    rig.run()
    assert part.ending == "done"
    assert 4 < part.batches < 20
    assert part.passed < 10


def test_a_hole_after_the_refused_batch_changes_nothing(rig: Rig) -> None:
    """The next batch begins after the hole, and is not joined with the refused one."""
    log = log_of(0, 1, 19)
    ends = rig.pipe(log)
    refused = refusing(ends, b"guilty")
    copy = Copy(rig, ends, log)
    part = copy.assign(apart_until=20)
    assert part.refused == refusal_of(refused[0], 20, joined=False)
    copy.check(18)


def test_only_the_first_refusal_is_told(rig: Rig) -> None:
    """The target refuses each batch in flight after it for its sequence."""
    log = log_of(0, 1, 3, dense=True)
    ends = rig.pipe(log)
    refused = refusing(ends, b"guilty")
    part = rig.assign(ends, log)
    rig.run()
    assert len(ends.target.requests) > 2, "others were in flight"
    assert (part.end_code, part.end_offset) == (INVALID_TIMESTAMP, 2)
    assert part.refused == refusal_of(refused[0], 4, joined=False)


def test_a_refusal_while_the_rest_goes_out_after_a_fault_of_the_source(rig: Rig) -> None:
    """The records before a damaged batch are still sent to the target, which refuses them."""
    log = log_of(0, 1, 2, dense=True)
    log.batches[6] = batch(12, -1, b"x", last_offset_delta=1)
    ends = rig.pipe(log)
    refused = refusing(ends, b"guilty")
    part = rig.assign(ends, log)
    rig.run()
    assert (part.ending, part.end_side, part.end_offset) == ("target-error", "target", 2)
    assert part.refused == refusal_of(refused[0], 4, joined=False)
