"""Holes in the source: batches that are skipped, the map segments after them, and the gate."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.brokers.rig import EPOCH, PRODUCER, Rig
from kit.brokers.scripted import FetchRequest, SourceLog, TargetLog, batch, span
from kit.logs.expected import expect
from kit.oracle import batches as oracle

TRANSACTIONAL = oracle.TRANSACTIONAL


def of_producer(base: int, producer: int, count: int = 1, text: bytes = b"data") -> bytes:
    return batch(base, count, text, attributes=TRANSACTIONAL, producer_id=producer)


def marker(base: int, producer: int, commit: bool) -> bytes:
    return oracle.control_batch(int(commit), base_offset=base, producer_id=producer)


def empty(base: int, span: int) -> bytes:
    """What the cleaner leaves of a producer's last batch."""
    return batch(base, 0, b"", last_offset_delta=span - 1, producer_id=3)


# --- the gate -------------------------------------------------------------------------------------


def test_records_after_a_hole_wait_for_their_segment(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(confirming=False)
    log = SourceLog(b"t", 0, [batch(0, 2), batch(5, 2), batch(7, 1), batch(11, 1)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log)
    rig.step(50)
    assert part.records == 2
    assert part.position == 12, "fetching goes on while the gate is shut"
    assert rig.chunks[part] == [[(5, 2), (11, 5)]], "one chunk for what one fetch brought"
    part.confirm(11)
    rig.step(20)
    assert part.records == 2, "an offset inside the chunk opens nothing"
    part.confirm(5)
    rig.run()
    assert part.ending == "done"
    assert list(rig.stored(ends, part)) == expect(log).produced


def test_each_chunk_has_its_own_gate(make_rig: Callable[..., Rig]) -> None:
    """When chunks become durable out of order, records that wait for an earlier one still wait."""
    rig = make_rig(confirming=False)
    log = SourceLog(b"t", 0, [batch(0), batch(3), batch(6), batch(9)])
    ends = rig.pipe(log, limit=lambda: 1)
    part = rig.assign(ends, log)
    rig.run(lambda: part.position == 10)
    rig.step(5)
    assert rig.chunks[part] == [[(3, 1)], [(6, 2)], [(9, 3)]]
    assert part.records == 1
    for source, records in ((6, 1), (9, 1), (3, 4)):
        part.confirm(source)
        rig.step(20)
        assert part.records == records
    assert part in rig.ended


def test_a_first_batch_after_the_start_begins_a_segment(make_rig: Callable[..., Rig]) -> None:
    """The log's start was asked for, and compaction has removed what was there."""
    rig = make_rig(confirming=False)
    log = SourceLog(b"t", 0, [batch(20, 2)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log, start=12, counter=6)
    rig.step(20)
    assert (part.records, rig.segments(part)) == (0, [(20, 6)])
    part.confirm(20)
    rig.run()
    assert (part.ending, part.records, part.acked) == ("done", 2, 22)


def test_a_gate_does_not_hold_other_partitions(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(confirming=False)
    gated = SourceLog(b"t", 0, [batch(4)])
    free = SourceLog(b"t", 1, [batch(n) for n in range(9)])
    ends = rig.pipe(gated, free)
    waiting = rig.assign(ends, gated, start=0)
    going = rig.assign(ends, free)
    rig.run(lambda: going in rig.ended)
    assert waiting.records == 0
    rig.confirm()
    rig.run()
    assert waiting.ending == "done"


def test_dense_logs_need_no_segment(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [batch(n) for n in range(20)])
    _, (part,) = rig.copy(log, limit=lambda: 100)
    assert rig.chunks[part] == []


# --- what the map knows already ------------------------------------------------------------------

HOLES = SourceLog(b"t", 0, [batch(0, 2), batch(5, 2), batch(7, 1), batch(11, 3), batch(20, 1)])


@pytest.mark.parametrize(
    ("known", "reported"),
    [
        ([(5, 2), (11, 5), (20, 8)], []),
        ([(5, 2), (11, 5)], [(20, 8)]),
        ([(5, 2), (12, 5), (20, 8)], [(11, 5), (20, 8)]),
        ([(5, 2), (7, 4), (11, 5), (20, 8)], []),
        ([(30, 1), (40, 8)], [(0, 0), (5, 2), (11, 5), (20, 8)]),
        ([(5, 2), (9, 3), (11, 5), (20, 8)], [(5, 2), (11, 5), (20, 8)]),
        ([(5, 2), (11, 5), (15, 7), (20, 8)], [(11, 5), (20, 8)]),
        ([(5, 2), (11, 5), (20, 8), (30, 11)], []),
    ],
    ids=[
        "all", "some", "another hole", "one within a run", "none inside the first batch",
        "none inside a later batch", "none where a batch goes on", "more than there is",
    ],
)  # fmt: skip
def test_durable_segments_are_not_reported_again(
    rig: Rig, known: list[tuple[int, int]], reported: list[tuple[int, int]]
) -> None:
    """A report voids all that follow: only where the source differs from what is known."""
    ends = rig.pipe(HOLES)
    part = rig.assign(ends, HOLES, known=known)
    rig.run()
    assert part.ending == "done"
    assert rig.segments(part) == reported
    assert list(rig.stored(ends, part)) == expect(HOLES).produced


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    known=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), max_size=6),
    true=st.integers(0, 4),
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=4),
)
def test_the_map_is_true_whatever_was_known(
    known: list[tuple[int, int]], true: int, sizes: list[int]
) -> None:
    rig = Rig()
    try:
        ahead = expect(HOLES).segments[:true]
        for source, count in known:
            before = ahead[-1] if ahead else (0, 0)
            ahead.append((before[0] + count + source - 1, before[1] + count))
        turn = itertools.cycle(sizes)
        part = rig.assign(rig.pipe(HOLES, limit=lambda: next(turn)), HOLES, known=ahead)
        rig.run()
        segments = {0: 0} | {counter: source for source, counter in ahead}
        for chunk in rig.chunks[part]:
            first = chunk[0][1]
            segments = {n: s for n, s in segments.items() if n < first}
            segments |= {counter: source for source, counter in chunk}
        sources = [offset for whole in HOLES.batches for offset in range(*span(whole))]
        for counter, offset in enumerate(sources):
            begin = max(n for n in segments if n <= counter)
            assert segments[begin] + counter - begin == offset
    finally:
        rig.finish()


def test_known_segments_lie_ahead(rig: Rig) -> None:
    ends = rig.pipe(HOLES)
    with pytest.raises(ValueError, match="come after the counter"):
        rig.assign(ends, HOLES, counter=2, known=[(5, 2)])


# --- what is skipped ------------------------------------------------------------------------------


def test_markers_and_empty_batches_leave_holes(rig: Rig) -> None:
    log = SourceLog(
        b"t",
        0,
        [
            of_producer(0, 8, 2),
            marker(2, 8, commit=True),
            batch(3, 1),
            empty(4, 3),
            marker(7, 9, commit=False),
            batch(8, 2),
            marker(10, 8, commit=True),
        ],
    )
    ends, (part,) = rig.copy(log)
    outcome = expect(log)
    assert part.ending == "done"
    assert list(rig.stored(ends, part)) == outcome.produced
    assert rig.segments(part) == outcome.segments == [(3, 2), (8, 3)]
    assert part.skipped == 4
    assert part.acked == 11, "the marker at the end counts as passed"
    assert part.acked_counter == 5


@pytest.mark.parametrize("limit", [1, 150, 1 << 30], ids=["batch-wise", "some", "all-at-once"])
@pytest.mark.parametrize("committed", [True, False], ids=["committed", "uncommitted"])
def test_aborted_transactions(make_rig: Callable[..., Rig], limit: int, committed: bool) -> None:
    """Interleaved producers, the abort list never sorted, transactions across many fetches."""
    log = SourceLog(
        b"t",
        0,
        [
            of_producer(0, 11, 2, b"aborted a"),
            of_producer(2, 12, 1, b"committed"),
            of_producer(3, 13, 1, b"aborted b"),
            batch(4, 1, b"plain, by nobody"),
            batch(5, 1, b"plain of producer 11", producer_id=11),
            of_producer(6, 11, 1, b"aborted a, goes on"),
            marker(7, 11, commit=False),
            of_producer(8, 11, 1, b"committed later"),
            marker(9, 12, commit=True),
            of_producer(10, 13, 3, b"aborted b, goes on"),
            marker(13, 11, commit=True),
            marker(14, 13, commit=False),
            of_producer(15, 13, 1, b"aborted b again"),
            marker(16, 13, commit=False),
            of_producer(17, 13, 1, b"committed at last"),
            marker(18, 13, commit=True),
        ],
        aborted=[(11, 0, 7), (13, 3, 14), (13, 15, 16)],
    )
    rig = make_rig(read_committed=committed)
    ends, (part,) = rig.copy(log, limit=lambda: limit)
    outcome = expect(log, read_committed=committed)
    assert part.ending == "done"
    assert list(rig.stored(ends, part)) == outcome.produced
    assert rig.segments(part) == outcome.segments
    assert part.skipped == outcome.skipped == (11 if committed else 6)
    assert part.acked == 19


def test_the_last_stable_offset_bounds_a_committed_copy(rig: Rig) -> None:
    """An open transaction: nothing after its first record is read, and the copy is complete."""
    log = SourceLog(
        b"t", 0, [batch(0, 2), of_producer(2, 5), batch(3, 4)], last_stable=2, high_watermark=7
    )
    _, (part,) = rig.copy(log)
    assert (part.ending, part.acked, part.records) == ("done", 2, 2)


def test_markers_without_a_transaction_change_nothing(rig: Rig) -> None:
    """H15: markers of other producers, odd control records, and entries that match no batch."""
    log = SourceLog(
        b"t",
        0,
        [
            marker(0, 70, commit=False),
            oracle.control_batch(0, key=b"\0", base_offset=1, producer_id=71),
            oracle.control_batch(9, base_offset=2, producer_id=71),
            oracle.control_batch(0, version=-1, base_offset=3, producer_id=71),
            batch(4, 1, b"noise", attributes=oracle.CONTROL | TRANSACTIONAL, producer_id=71),
            oracle.control_batch(
                0, base_offset=5, attributes=oracle.CONTROL | TRANSACTIONAL | 2, producer_id=71
            ),  # compressed, as no marker is
            of_producer(6, 71, 1, b"kept"),
            marker(7, 71, commit=True),
        ],
    )
    ends = rig.pipe(log)
    part = rig.assign(ends, log)

    def confuse(_request: FetchRequest, answer: dict[str, Any]) -> dict[str, Any]:
        answer["topics"][0][1][0]["aborted"] = [(99, 2**62), (98, 0), (98, 0), (-1, -5)]
        return answer

    ends.source.hook = confuse
    rig.run()
    outcome = expect(log)
    assert part.ending == "done"
    assert list(rig.stored(ends, part)) == outcome.produced
    assert part.skipped == outcome.skipped == 7


def test_two_entries_and_one_marker(rig: Rig) -> None:
    """H15: the broker names a transaction twice; its end is still its end."""
    log = SourceLog(
        b"t",
        0,
        [of_producer(0, 5), marker(1, 5, commit=False), of_producer(2, 5), marker(3, 5, True)],
        aborted=[(5, 0, 1), (5, 0, 1)],
    )
    ends, (part,) = rig.copy(log)
    assert list(rig.stored(ends, part)) == expect(log).produced
    assert part.records == 1


def test_odd_markers_do_not_end_a_transaction(rig: Rig) -> None:
    """A control record that is no marker: what follows is still part of the aborted one."""
    log = SourceLog(
        b"t",
        0,
        [
            of_producer(0, 5),
            oracle.control_batch(2, base_offset=1, producer_id=5),
            of_producer(2, 5),
            marker(3, 5, commit=False),
            batch(4),
        ],
        aborted=[(5, 0, 3)],
    )
    ends, (part,) = rig.copy(log)
    assert list(rig.stored(ends, part)) == expect(log).produced
    assert (part.records, part.acked) == (1, 5)


def test_a_commit_marker_does_not_end_an_aborted_transaction(rig: Rig) -> None:
    """A correct log has none there; in consumers, too, only the abort marker ends it."""
    log = SourceLog(
        b"t",
        0,
        [
            of_producer(0, 5),
            marker(1, 5, commit=True),
            of_producer(2, 5),
            marker(3, 5, commit=False),
            of_producer(4, 5),
        ],
        aborted=[(5, 0, 3)],
    )
    ends, (part,) = rig.copy(log)
    assert list(rig.stored(ends, part)) == expect(log).produced
    assert part.records == 1


def test_a_log_of_nothing_but_holes(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [marker(n, 5, commit=True) for n in range(8)])
    ends, (part,) = rig.copy(log, limit=lambda: 1)
    assert (part.ending, part.acked, part.records, part.skipped) == ("done", 8, 0, 8)
    assert ends.target.requests == []
    assert rig.chunks[part] == []


# --- going on -------------------------------------------------------------------------------------


def test_a_second_assignment_goes_on_where_the_first_stopped(rig: Rig) -> None:
    log = SourceLog(
        b"t", 0, [batch(0, 3), marker(3, 5, commit=True), batch(4, 2), empty(6, 2), batch(8, 2)]
    )
    ends = rig.pipe(log)
    first = rig.assign(ends, log, end=6)
    rig.run()
    assert (first.acked, first.acked_counter) == (6, 5)
    second = rig.assign(ends, log, start=first.acked, counter=first.acked_counter)
    rig.run()
    assert second.ending == "done"
    assert list(rig.stored(ends, second)) == expect(log).produced
    assert rig.segments(first) + rig.segments(second) == expect(log).segments


def test_batches_before_the_asked_offset_are_passed_over(rig: Rig) -> None:
    """A broker may start its slice earlier; the copy begins where it was told to."""
    log = SourceLog(b"t", 0, [batch(0, 2), batch(2, 2), batch(4, 2)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log, start=4, counter=4)
    ends.target.logs[part.target_name, 0] = TargetLog(
        part.target_name, 0, PRODUCER, EPOCH, base=0, counter=4
    )

    def from_the_start(_request: FetchRequest, answer: dict[str, Any]) -> dict[str, Any]:
        answer["topics"][0][1][0]["records"] = b"".join(log.batches)
        return answer

    ends.source.hook = from_the_start
    rig.run()
    assert (part.ending, part.records, part.skipped) == ("done", 2, 0)
    assert list(rig.stored(ends, part)) == expect(log, start=4, counter=4).produced


def test_holes_passed_before_the_assignment_start_a_segment(rig: Rig) -> None:
    """The map has record 5 at offset 5; offsets 5 and 6 were control batches, passed already."""
    log = SourceLog(b"t", 0, [batch(7, 2), batch(9, 1)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log, start=7, mapped=5, counter=5)
    rig.run()
    assert part.ending == "done"
    assert rig.segments(part) == [(7, 5)]


def test_a_copy_that_goes_on_where_the_map_is_needs_no_segment(rig: Rig) -> None:
    log = SourceLog(b"t", 0, [batch(7, 2), batch(9, 1)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log, start=7, mapped=7, counter=5)
    rig.run()
    assert part.ending == "done"
    assert rig.segments(part) == []
