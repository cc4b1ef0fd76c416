"""Leader epochs of the source: told to the source with each Fetch, and durable before the records
that came with them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st

from copycore.partition import PartitionCopy
from copycore.rebatch import Rebatcher
from kit.brokers.rig import Ends, Rig
from kit.brokers.scripted import Asked, FetchRequest, SourceLog, batch, framed
from kit.logs.expected import expect
from kit.logs.random_records import random_rebatcher, random_records
from kit.logs.shared import by_offset, evenly, outlets, share_logs
from kit.logs.truth import RecordLog, arrived, rows
from kit.oracle import batches as oracle


@pytest.fixture
def waiting(make_rig: Callable[..., Rig]) -> Rig:
    """No part of the map is durable before the test says so."""
    return make_rig(confirming=False)


def log_of(count: int, *epochs: tuple[int, int]) -> SourceLog:
    """Batches of one record each."""
    return SourceLog(b"t", 0, [batch(n) for n in range(count)], epochs=list(epochs))


def asked(ends: Ends) -> list[tuple[int, int]]:
    """Offset and last fetched epoch of each Fetch, of the one partition there is."""
    found: list[Asked] = [one for r in ends.source.requests for one in r.partitions.values()]
    return [(one.offset, one.fetched_epoch) for one in found]


def sent(ends: Ends) -> int:
    """Records that were sent to the target."""
    return sum(
        oracle.parse(whole)["count"]
        for request in ends.target.requests
        for whole in request.batches.values()
    )


# --- the last fetched epoch -----------------------------------------------------------------------


@pytest.mark.parametrize("version", [11, 12, 13])
def test_each_fetch_tells_the_epoch_of_the_batch_before(rig: Rig, version: int) -> None:
    """The epoch tells the leader which log was read (KIP-320); Fetch 11 has no field for it."""
    log = log_of(6, (0, 3), (2, 4), (4, 9))
    ends, (part,) = rig.copy(log, fetch=version, limit=lambda: 1)
    assert part.ending == "done"
    known = [-1, 3, 3, 4, 4, 9] if version > 11 else [-1] * 6
    assert asked(ends) == list(zip(range(6), known, strict=True))


def test_a_copy_that_goes_on_tells_the_epoch_it_was_given(rig: Rig) -> None:
    log = log_of(4, (0, 3))
    ends = rig.pipe(log, limit=lambda: 1)
    rig.assign(ends, log, start=2, counter=2, epoch=3)
    rig.run()
    assert asked(ends) == [(2, 3), (3, 3)]


def test_batches_that_are_left_out_have_an_epoch_too(rig: Rig) -> None:
    """Control batches, empty ones, aborted records."""
    flags = oracle.TRANSACTIONAL
    log = SourceLog(
        b"t",
        0,
        [
            batch(0),
            batch(1, producer_id=9, attributes=flags),
            oracle.control_batch(0, base_offset=2, producer_id=9),
            batch(3, 0, b"", last_offset_delta=1),
            batch(5),
        ],
        aborted=[(9, 1, 2)],
        epochs=[(0, 1), (1, 2), (2, 3), (3, 4), (5, 5)],
    )
    ends, (part,) = rig.copy(log, limit=lambda: 1)
    assert (part.ending, part.skipped) == ("done", 3)
    assert asked(ends) == [(0, -1), (1, 1), (2, 2), (3, 3), (5, 4)]
    assert [epoch for _, epoch in part.epochs] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("magic", [0, 1])
def test_old_formats_have_no_epoch(rig: Rig, magic: int) -> None:
    log = RecordLog(epochs=[(0, 3)]).add(rows(0, -1)).messages(magic, rows(1, -2))
    log.add(rows(3, -1))
    ends, (part,) = rig.copy(log, limit=lambda: 1)
    assert part.ending == "done"
    assert (1, 3) in asked(ends)
    assert {epoch for offset, epoch in asked(ends) if offset in (2, 3)} == {-1}
    assert part.epochs == [(0, 3)]


# --- what waits for an epoch ----------------------------------------------------------------------


def test_the_first_epoch_is_durable_before_the_first_record(waiting: Rig) -> None:
    log = log_of(3, (0, 3))
    ends = waiting.pipe(log)
    part = waiting.assign(ends, log)
    waiting.step(20)
    assert part.epochs == [(0, 3)]
    assert waiting.unconfirmed == [(part, 0, [])], "no segment comes with it"
    assert ends.target.requests == []
    waiting.confirm()
    waiting.run()
    assert list(waiting.stored(ends, part)) == expect(log).produced
    assert waiting.unconfirmed == []


@pytest.mark.parametrize(
    "known", [{"epoch": 3}, {"known_epochs": [(0, 3)]}], ids=["of the batch before", "stored"]
)
def test_an_epoch_that_is_known_holds_nothing_back(waiting: Rig, known: dict[str, Any]) -> None:
    log = log_of(3, (0, 3))
    ends = waiting.pipe(log)
    part = waiting.assign(ends, log, **known)
    waiting.run()
    assert (part.ending, part.records, part.epochs) == ("done", 3, [])
    assert waiting.unconfirmed == []


def test_an_epoch_that_is_stored_for_later_offsets_only_is_new(waiting: Rig) -> None:
    """The log was written anew in that epoch, from further ahead."""
    log = log_of(3, (0, 3))
    ends = waiting.pipe(log)
    part = waiting.assign(ends, log, known_epochs=[(2, 3)])
    waiting.step(20)
    assert (part.epochs, ends.target.requests) == ([(0, 3)], [])
    waiting.confirm()
    waiting.run()


def test_epochs_that_were_found_but_not_stored_are_reported_first(waiting: Rig) -> None:
    """An earlier assignment found them, and ended before they were durable."""
    log = log_of(6, (0, 3), (2, 4))
    ends = waiting.pipe(log)
    part = waiting.assign(
        ends, log, start=4, counter=4, epoch=4, known_epochs=[(0, 3)], new_epochs=[(2, 4)]
    )
    waiting.step(20)
    assert waiting.unconfirmed == [(part, 4, [])]
    assert (part.epochs, ends.target.requests) == ([(2, 4)], [])
    waiting.confirm()
    waiting.run()
    assert (part.ending, part.records) == ("done", 2)


@pytest.mark.parametrize("limit", [1, 1 << 20], ids=["a slice each", "one slice"])
def test_a_new_epoch_holds_back_what_comes_with_it_and_nothing_before(
    waiting: Rig, limit: int
) -> None:
    log = log_of(6, (0, 3), (2, 4), (5, 7))
    ends = waiting.pipe(log, limit=lambda: limit)
    part = waiting.assign(ends, log, epoch=3)
    waiting.run(lambda: part.position == 6)
    waiting.step(20)
    if limit == 1:
        assert (sent(ends), part.records) == (2, 2)
        (_, first, _), (_, second, _) = waiting.unconfirmed
        assert (first, second) == (2, 5)
        part.confirm(2)
        waiting.step(20)
        assert (sent(ends), part.records) == (5, 5)
        part.confirm(5)
    else:
        # One report for both: then both are durable at once.
        assert (sent(ends), part.records) == (2, 2)
        assert waiting.unconfirmed == [(part, 2, [])]
        waiting.confirm()
    assert part.epochs == [(2, 4), (5, 7)]
    waiting.run()
    assert list(waiting.stored(ends, part)) == expect(log).produced


def test_an_epoch_that_begins_with_a_marker_holds_the_next_records_back(waiting: Rig) -> None:
    """A new leader's first batch may be the end of a transaction."""
    marker = oracle.control_batch(1, base_offset=2, producer_id=9)
    log = SourceLog(b"t", 0, [batch(0, 2), marker, batch(3, 2)], epochs=[(0, 3), (2, 4)])
    ends = waiting.pipe(log, limit=lambda: 1)
    part = waiting.assign(ends, log, epoch=3)
    waiting.run(lambda: part.position == 5)
    waiting.step(20)
    assert (sent(ends), part.epochs) == (2, [(2, 4)])
    assert waiting.unconfirmed == [(part, 3, [(3, 2)])]
    waiting.confirm()
    waiting.run()
    assert part.records == 4


def test_an_epoch_with_a_marker_at_the_end_is_told_without_an_event(waiting: Rig) -> None:
    """No record waits for that epoch; the caller takes it from the partition."""
    marker = oracle.control_batch(1, base_offset=2, producer_id=9)
    log = SourceLog(b"t", 0, [batch(0, 2), marker], epochs=[(0, 3), (2, 4)])
    ends = waiting.pipe(log)
    part = waiting.assign(ends, log, epoch=3)
    waiting.run()
    assert (part.ending, part.acked, part.epochs) == ("done", 3, [(2, 4)])
    assert waiting.unconfirmed == []


def test_an_epoch_waits_although_the_segment_is_known(waiting: Rig) -> None:
    """An earlier try wrote the segment; the epoch came later."""
    log = SourceLog(b"t", 0, [batch(0, 2), batch(5, 2)], epochs=[(0, 3), (5, 4)])
    ends = waiting.pipe(log)
    part = waiting.assign(ends, log, epoch=3, known=[(5, 2)])
    waiting.step(20)
    assert (sent(ends), waiting.segments(part)) == (2, [])
    assert waiting.unconfirmed == [(part, 2, [])]
    waiting.confirm()
    waiting.run()
    assert (part.ending, part.records) == ("done", 4)


def test_a_segment_before_a_new_epoch_holds_both_back(waiting: Rig) -> None:
    log = SourceLog(
        b"t", 0, [batch(0, 2), batch(5, 2), batch(7)], epochs=[(0, 3), (7, 4)]
    )  # fmt: skip
    ends = waiting.pipe(log)
    part = waiting.assign(ends, log, epoch=3)
    waiting.step(20)
    assert (sent(ends), waiting.unconfirmed) == (2, [(part, 5, [(5, 2)])])
    waiting.confirm()
    waiting.run()
    assert part.records == 5


def test_a_merged_batch_waits_for_the_epochs_of_all_its_records(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(rebatcher=Rebatcher(merge="always"), confirming=False)
    log = RecordLog(epochs=[(0, 3), (3, 4)]).add(rows(0, -3)).add(rows(3, -2))
    ends = rig.pipe(log)
    part = rig.assign(ends, log, epoch=3)
    rig.step(20)
    assert ends.target.requests == []
    assert rig.unconfirmed == [(part, 3, [])]
    rig.confirm()
    rig.run()
    (whole,) = rig.stored(ends, part)
    assert [one.seen for one in arrived([whole])] == [
        one.seen for one in log.seen(0, 5, committed=True)
    ]


# --- where a position lies in a hole --------------------------------------------------------------


def epoch_before(part: PartitionCopy, offset: int) -> int:
    return max((epoch for start, epoch in part.epochs if start < offset), default=-1)


def test_an_epoch_is_known_for_every_offset_of_the_hole_before_it(rig: Rig) -> None:
    """Epoch 4 began at 3, but its first records are gone. A later copy begins at offset 6, where
    the map has the next record: were 3 the epoch before it, which ends at 3, the source would be
    taken for a log that was cut off."""
    log = SourceLog(b"t", 0, [batch(0, 2), batch(6, 2)], epochs=[(0, 3), (3, 4)])
    _, (part,) = rig.copy(log)
    assert rig.segments(part) == [(6, 2)]
    for offset in range(1, 9):
        assert log.epoch_end(epoch_before(part, offset)) >= offset
    assert epoch_before(part, 2) == 3, "that of what is copied, where nothing is known to follow"


def test_an_epoch_is_known_at_the_end_of_a_hole_that_a_batch_has_shown(rig: Rig) -> None:
    """The same for a copy that ended in the hole: it is remembered that it came so far."""
    log = SourceLog(b"t", 0, [batch(0, 2), batch(6, 2)], epochs=[(0, 3), (3, 4)])
    ends = rig.pipe(log)
    part = rig.assign(ends, log, end=5)
    rig.run()
    assert (part.ending, part.acked) == ("done", 5)
    assert log.epoch_end(epoch_before(part, 5)) >= 5


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_no_position_is_taken_for_one_of_another_log(seed: int) -> None:
    """Whatever is cleaned away: of each offset that a copy may begin at, the epoch that is known
    to be before it ends there or later, as the source's leader sees it."""
    note(f"seed {seed}")
    rng = random.Random(seed)
    log = random_records(rng, b"t", 0)
    # Old formats have no epoch, and are older than any batch that has one.
    assume(all(whole[16] == 2 for whole in log.batches))
    starts = sorted(log.place(n)[0] for n, whole in enumerate(log.batches) if whole[16] == 2)
    log.epochs = [(0, 0)]
    for start in starts:
        if start and rng.random() < 0.4:
            log.epochs.append((start, log.epochs[-1][1] + rng.randrange(1, 3)))
    offsets = [one.offset for content in log.content for one in content]
    log.clean(set(rng.sample(offsets, len(offsets) // 2)))
    rig = Rig(rebatcher=random_rebatcher(rng))
    rig.tick = 20
    try:
        ends = rig.pipe(log, limit=lambda: rng.choice([1, 300, 5000]))
        part = rig.assign(ends, log, end=log.stable)
        rig.run()
        places = [part.acked, *(source for source, _ in rig.segments(part))]
        for offset in places:
            epoch = epoch_before(part, offset)
            assert epoch < 0 or log.epoch_end(epoch) >= offset
        # A leader that is asked with that epoch says so itself.
        for source, number in rig.segments(part):
            ends = rig.pipe(log)
            again = rig.assign(
                ends,
                log,
                start=source,
                end=log.stable,
                counter=number,
                epoch=epoch_before(part, source),
            )
            rig.run(lambda again=again: again in rig.ended)  # type: ignore[misc]
            assert again.ending == part.ending
    finally:
        rig.finish()


# --- another log ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [12, 13])
def test_a_log_that_was_written_anew_ends_the_copy(rig: Rig, version: int) -> None:
    """After what was fetched before has been delivered (C20)."""
    log = log_of(4, (0, 3))
    good = SourceLog(b"good", 0, [batch(n) for n in range(30)])
    ends = rig.pipe(log, good, fetch=version, limit=lambda: 1)
    part, neighbour = rig.assign(ends, log), rig.assign(ends, good)
    ends.target.hold = True
    rig.run(lambda: part.position == 3)
    log.epochs = [(0, 3), (2, 5)]
    log.batches = [batch(n, 1, b"others") for n in range(9)]
    rig.run(lambda: part.ending is not None)
    assert (part.ending, part.end_side, part.end_offset, part.end_message) == (
        "diverged", "source", 3, None,
    )  # fmt: skip
    ends.target.hold = False
    rig.run()
    assert (part.acked, part.acked_counter, part.records) == (3, 3, 3)
    assert list(rig.stored(ends, part)) == expect(log_of(3, (0, 3))).produced
    assert (neighbour.ending, rig.closed) == ("done", [])


def test_fetch_11_cannot_tell(rig: Rig) -> None:
    """With Fetch 11 only the caller's check before the assignment finds it."""
    log = log_of(6, (0, 3), (2, 5))
    ends = rig.pipe(log, fetch=11)
    part = rig.assign(ends, log, start=4, counter=4, epoch=3)
    rig.run()
    assert part.ending == "done"


def test_an_unknown_epoch_asks_for_no_comparison(rig: Rig) -> None:
    log = log_of(6, (0, 3), (2, 5))
    ends = rig.pipe(log)
    part = rig.assign(ends, log, start=4, counter=4)
    rig.run()
    assert (part.ending, part.records) == ("done", 2)


def test_other_tags_of_an_answer_say_nothing(rig: Rig) -> None:
    """Tag 1 is the current leader, tag 2 a snapshot."""
    log = log_of(3, (0, 3))
    ends = rig.pipe(log)

    def tagged(request: FetchRequest, answer: dict[str, Any]) -> bytes:
        tags = [(1, b"\1\2\3"), (2, b""), (99, bytes(300))]
        return framed(request.correlation, oracle.fetch_response(request.version, answer, tags))

    ends.source.hook = tagged
    part = rig.assign(ends, log)
    rig.run()
    assert (part.ending, part.records) == ("done", 3)


# --- split partitions -----------------------------------------------------------------------------


def test_epochs_of_a_split_partition_come_with_its_strides(waiting: Rig) -> None:
    """A stride is durable before its records are sent, and what is known by then goes with it."""
    log = RecordLog(epochs=[(0, 3), (4, 5)])
    for n in range(4):
        log.add(rows(2 * n, -2))
    ends = waiting.pipe(log, limit=lambda: 1)
    logs = share_logs(ends, b"to-t", 2)
    part = waiting.assign(ends, log, split=evenly(2, by_offset), outlets=outlets(ends, 2))
    seen: list[tuple[int, list[tuple[int, int]]]] = []
    for _ in range(100):
        waiting.step()
        for number in range(len(seen), len(waiting.strides[part])):
            stride = waiting.strides[part][number]
            seen.append((stride.start, list(part.epochs)))
            assert ends.target.requests == [] or sent(ends) <= stride.start
        waiting.confirm()
    waiting.run()
    assert [epochs for start, epochs in seen if start < 4] == [[(0, 3)]] * 2
    assert [epochs for start, epochs in seen if start >= 4] == [[(0, 3), (4, 5)]] * 2
    assert waiting.chunks[part] == []
    assert sum(log.have(7001) for log in logs) == 8
    assert asked(ends) == [(0, -1), (2, 3), (4, 3), (6, 5)]
