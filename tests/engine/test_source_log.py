"""A source whose log is not what it was: holes, remote storage, logs cut off or restored, gaps, and
open transactions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

import pytest

from copycore.partition import Unanswered
from kit.fakes.job import END, FakePart, World
from kit.oracle import batches as oracle
from replicator.cluster import RunningTransaction, Unsupported
from replicator.engine import driver, topic_watch
from replicator.errors import ClusterError, ExitCode
from replicator.report.model import Gap, OpenTransaction
from replicator.state.records import Epochs

Script = Callable[[FakePart], None]


def first_ends(world: World, ending: str, count: int = 30) -> Script:
    """The first assignment copies so many records and ends like that; the next one copies all."""

    def script(part: FakePart) -> None:
        if len(world.parts) == 1:
            world.write(part, count)
            world.end_as(part, ending)
        else:
            world.finish(part)

    return script


# --- nothing but empty answers --------------------------------------------------------------------


def test_a_hole_before_the_end_is_the_end(world: World) -> None:
    """The offsets of the hole were removed: the copy is done, and the hole is not stored for a
    later run.
    """
    task = world.add()
    before = len(world.state.records)
    world.script = first_ends(world, "empty")
    driver = world.run()
    assert task.done
    assert (task.fault, task.position, task.counts.records) == (None, 30, 30)
    assert (driver.recoveries, len(world.parts)) == (0, 1)
    assert len(world.state.records) == before
    assert world.stored_map().source_of(task.tp, 30) == 30


def test_remote_storage_that_gives_nothing_is_asked_again(world: World) -> None:
    """Before the local log start an empty answer proves nothing, however often it comes (C01)."""
    task = world.add()
    world.source.log("orders").local_start = 31

    def script(part: FakePart) -> None:
        if len(world.parts) <= 3:
            world.write(part, 10 if len(world.parts) == 1 else 0)
            world.end_as(part, "empty")
        else:
            world.finish(part)

    world.script = script
    driver = world.run()
    assert task.done
    assert [part.start for part in world.parts] == [0, 10, 10, 10]
    assert (task.counts.records, driver.recoveries) == (END, 3)


def test_remote_storage_that_never_gives_anything_is_a_fault(world: World) -> None:
    task = world.add()
    world.source.log("orders").local_start = END

    def script(part: FakePart) -> None:
        world.write(part, 10 if len(world.parts) == 1 else 0)
        world.end_as(part, "empty")

    world.script = script
    world.run()
    found = world.fault()
    assert not task.done
    assert (found.kind, found.side, found.offset) == ("unreachable", "source", 10)
    assert found.exit_code == int(ExitCode.INCOMPLETE)
    assert "remote storage gives nothing at offset 10" in found.message
    assert f"goes on to {END}" in found.message


def test_the_first_offset_of_the_local_log_may_be_a_hole(world: World) -> None:
    task = world.add()
    world.source.log("orders").local_start = 30
    world.script = first_ends(world, "empty")
    world.run()
    assert (task.done, len(world.parts)) == (True, 1)


def test_a_source_without_remote_storage_need_not_know_the_question(world: World) -> None:
    task = world.add()
    world.source.failures["earliest_local"] = Unsupported("source", "ListOffsets 8", hint="")
    world.script = first_ends(world, "empty")
    world.run()
    assert (task.done, len(world.parts)) == (True, 1)


@pytest.mark.parametrize("how", ["refused", "unreachable"])
def test_without_an_answer_nothing_is_taken_for_a_hole(world: World, how: str) -> None:
    task = world.add()
    log = world.source.log("orders")

    def script(part: FakePart) -> None:
        if len(world.parts) == 1:
            world.write(part, 30)
            if how == "refused":
                log.error = 6
            else:
                world.source.failures["earliest_local"] = ClusterError(
                    "source", "it is gone", hint=""
                )
            world.end_as(part, "empty")
        else:
            world.finish(part)

    def heal() -> None:
        log.error = 0

    world.inbox.ticks.append(heal)
    world.script = script
    driver = world.run()
    assert task.done
    assert task.counts.records == END
    assert driver.recoveries >= 1


# --- cut off or restored --------------------------------------------------------------------------


def test_a_log_whose_epoch_ends_before_the_position_was_cut_off(world: World) -> None:
    """An unclean election: the new leader wrote other records over what was copied (C20)."""
    task = world.add()

    def script(part: FakePart) -> None:
        part.epochs = [(0, 4)]
        world.write(part, 30)
        world.source.log("orders").epochs = [(0, 4), (20, 6)]
        world.lose(part)

    world.script = script
    world.run()
    found = world.fault()
    assert not task.done
    assert (found.kind, found.side, found.offset) == ("source-truncated", "source", 20)
    assert found.exit_code == int(ExitCode.STATE)
    assert "copied up to offset 30" in found.message
    assert "only what is before 20 (leader epoch 4 ends there)" in found.message
    assert len(world.parts) == 1


def test_a_log_that_ends_before_the_position_was_cut_off(world: World) -> None:
    """Without an epoch that is known, the leader's log end tells."""
    world.add()

    def script(part: FakePart) -> None:
        world.write(part, 30)
        world.source.log("orders").end = 25
        world.lose(part)

    world.script = script
    world.run()
    found = world.fault()
    assert (found.kind, found.offset, len(world.parts)) == ("source-truncated", 25, 1)
    assert "copied up to offset 30" in found.message
    assert "only what is before 25" in found.message


def test_a_log_that_does_not_know_the_epoch_yet_was_restored(world: World) -> None:
    """The log's current epoch is lower than that of records which were copied: an older disk."""
    world.add()

    def script(part: FakePart) -> None:
        part.epochs = [(0, 4), (20, 9)]
        world.write(part, 30)
        world.lose(part)

    world.script = script
    world.run()
    found = world.fault()
    assert (found.kind, found.exit_code) == ("source-truncated", int(ExitCode.STATE))
    assert "leader epoch 9, which was copied, is not known there" in found.message
    assert len(world.parts) == 1


@pytest.mark.parametrize("end", [30, 31, 60])
def test_an_epoch_that_ends_at_the_position_or_later_is_fine(world: World, end: int) -> None:
    task = world.add()

    def script(part: FakePart) -> None:
        if len(world.parts) == 1:
            part.epochs = [(0, 4)]
            world.write(part, 30)
            world.source.log("orders").epochs = [(0, 4), (end, 6)]
            world.lose(part)
        else:
            world.finish(part)

    world.script = script
    world.run()
    assert task.done
    assert world.parts[1].rest["epoch"] == 4
    assert world.parts[1].rest["new_epochs"] == ((0, 4),), "it was not stored"


@pytest.mark.parametrize("failure", ["error", "unsupported", "unreachable"])
def test_a_check_without_an_answer(world: World, failure: str) -> None:
    """A check that is refused or not answered is repeated; before Kafka 2.0 there is none."""
    task = world.add()
    log = world.source.log("orders")

    def script(part: FakePart) -> None:
        if len(world.parts) > 1:
            assert not log.epoch_error, "not before the source has answered"
            world.finish(part)
            return
        world.write(part, 30)
        if failure == "error":
            log.epoch_error = 75
        else:
            error = Unsupported if failure == "unsupported" else ClusterError
            world.source.failures["epochs"] = error("source", "no", hint="")
        world.lose(part)

    def heal() -> None:
        if world.clock.now > 5010:
            log.epoch_error = 0
            if failure == "unreachable":
                world.source.failures.clear()

    world.inbox.ticks.append(heal)
    world.script = script
    world.run()
    assert task.done
    assert task.counts.records == END


def test_a_leader_that_only_lost_an_epoch_is_believed(world: World) -> None:
    """The answer to the Fetch says that the log is another one, but the epoch ends late enough:
    the next assignment asks without it, the one after that with it again.
    """
    task = world.add()
    world.source.log("orders").epochs = [(0, 4), (90, 5)]

    def script(part: FakePart) -> None:
        match len(world.parts):
            case 1:
                part.epochs = [(0, 4)]
                world.write(part, 30)
                world.end_as(part, "diverged")
            case 2:
                world.write(part, 10)
                part.epochs = [(30, 5)]
                world.lose(part)
            case _:
                world.finish(part)

    world.script = script
    world.run()
    assert task.done
    assert [part.rest["epoch"] for part in world.parts] == [-1, 4, 5]
    assert [part.rest["fetched_epoch"] for part in world.parts] == [-1, -1, 5]
    assert task.epochs == Epochs(((0, 4), (30, 5)))


def test_a_diverged_log_that_was_cut_off_is_a_fault(world: World) -> None:
    """Without the epoch, the log's end still tells that what was copied is not there."""
    world.add()

    def script(part: FakePart) -> None:
        part.epochs = [(0, 4)]
        world.write(part, 30)
        world.source.log("orders").epochs = [(0, 4), (20, 6)]
        world.source.log("orders").end = 25
        world.end_as(part, "diverged")

    world.script = script
    world.run()
    assert world.fault().kind == "source-truncated"


# --- gaps -----------------------------------------------------------------------------------------


def gapped(world: World, start: int) -> Script:
    def script(part: FakePart) -> None:
        if len(world.parts) == 1:
            world.write(part, 30)
            world.source.log("orders").start = start
            world.lose(part)
        else:
            world.finish(part)

    return script


def test_a_gap_is_skipped_when_that_is_accepted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    task = world.add()
    world.accept_gap = True
    world.script = gapped(world, 45)
    with caplog.at_level(logging.WARNING, logger="replicator.engine"):
        world.run()
    assert task.done
    assert task.gaps == [Gap(topic="orders", partition=0, start=30, end=45)]
    second = world.parts[1]
    assert (second.start, second.counter, second.rest["mapped"]) == (45, 30, 30)
    assert task.counts.records == 30 + END - 45
    (line,) = [r.getMessage() for r in caplog.records if "--accept-gap" in r.getMessage()]
    assert line.startswith("orders-0: offsets 30 to 44 were deleted")


def test_a_gap_that_is_not_accepted_is_data_loss(world: World) -> None:
    task = world.add()
    world.script = gapped(world, 45)
    world.run()
    found = world.fault()
    assert (found.kind, found.offset, task.gaps) == ("data-loss", 30, [])
    assert "offsets 30 to 44" in found.message
    assert "--accept-gap" in found.hint


# --- open transactions ----------------------------------------------------------------------------

STARTED = 1_700_000_000_000  # ms
SINCE = datetime.fromtimestamp(STARTED / 1000).isoformat(timespec="seconds")


def open_transaction(world: World, *, start: int, producer: int = 4711) -> None:
    """An open transaction of which the source has the first batch."""
    log = world.source.log("orders")
    log.batches = [
        oracle.build(b"x", base_offset=start, count=1, max_timestamp=STARTED, producer_id=producer)
    ]
    world.source.running["orders", 0] = RunningTransaction(producer, start)


def held_at(part: FakePart, position: int, since: float) -> None:
    part.position = part.acked = part.held_at = position
    part.held_since = int(since * 1000)
    part.high_watermark = 250


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ("all", f" of producer 4711, open since {SINCE}"),
        ("producer", " of producer 4711"),
        ("nothing", ""),
        ("refused", ""),
    ],
)
def test_a_copy_that_an_open_transaction_holds_names_it(
    world: World, known: str, text: str
) -> None:
    """Named as far as known: DescribeProducers needs READ, and the batch may be gone (C08)."""
    task = world.add()
    open_transaction(world, start=30)
    if known == "producer":
        world.source.log("orders").batches = []
    elif known == "nothing":
        world.source.running.clear()
    elif known == "refused":
        world.source.failures["transactions"] = ClusterError("source", "denied", hint="")

    def script(part: FakePart) -> None:
        world.write(part, 30)
        held_at(part, 30, world.clock.now)
        world.end_as(part, "open-transaction")

    world.script = script
    world.run()
    found = world.fault()
    assert not task.done
    assert (found.kind, found.side, found.offset) == ("open-transaction", "source", 30)
    assert found.exit_code == int(ExitCode.INCOMPLETE)
    # Only offsets of this copy count: the log goes on to 250.
    assert found.message.endswith(
        f": orders-0: 70 offsets from 30 on lie behind an open transaction{text}"
    )
    assert "kafka-transactions.sh abort" in found.hint
    (held,) = task.held
    assert (held.offset, held.records) == (30, 70)
    assert held.producer_id == (4711 if "4711" in text else None)
    assert held.since == (SINCE if "since" in text else None)


def test_a_time_that_is_none_is_not_told(world: World) -> None:
    world.add()
    open_transaction(world, start=30)
    log = world.source.log("orders")
    log.batches = [oracle.build(b"x", base_offset=30, count=1, max_timestamp=2**63 - 1)]

    def script(part: FakePart) -> None:
        held_at(part, 30, world.clock.now)
        world.end_as(part, "open-transaction")

    world.script = script
    world.run()
    assert world.fault().message.endswith("an open transaction of producer 4711")


def test_a_follower_is_told_once_what_holds_it_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """After some seconds, and again only at another offset; it goes on waiting."""
    task = world.add(end=-1)
    open_transaction(world, start=30)
    began = world.clock.now
    told: list[tuple[float, str]] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "open transaction" in record.getMessage():
                told.append((world.clock.now - began, record.getMessage()))

    def script(part: FakePart) -> None:
        held_at(part, 30, world.clock.now)

    def go_on() -> None:
        (part,) = world.parts
        if world.clock.now > began + 60 and part.position == 30:
            part.position = part.acked = 40
        elif world.clock.now > began + 90 and part.position == 40 and part.held_at == 30:
            held_at(part, 40, world.clock.now)
        elif world.clock.now > began + 150:
            world.stop.request()

    world.script = script
    world.inbox.ticks.append(go_on)
    logger, handler = logging.getLogger("replicator.engine.doubts"), Heard()
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.WARNING, logger=logger.name):
            world.run()
    finally:
        logger.removeHandler(handler)
    assert [text.split(" lie ")[0] for _, text in told] == [
        "orders-0: 220 offsets from 30 on",
        "orders-0: 210 offsets from 40 on",
    ]
    assert 10 <= told[0][0] <= 10 + 2 * topic_watch.CHECK_INTERVAL
    assert 100 <= told[1][0] <= 100 + 2 * topic_watch.CHECK_INTERVAL
    assert told[0][1].endswith(f"producer 4711, open since {SINCE}")
    assert task.fault is None
    assert task.held == [
        OpenTransaction(
            topic="orders", partition=0, offset=40, records=210, producer_id=4711, since=SINCE
        )
    ], "for the summary"
    assert world.source.asked.count("transactions") == 2


def test_what_held_a_copy_back_once_is_forgotten(world: World) -> None:
    task = world.add(end=-1)
    task.held = [OpenTransaction(topic="orders", partition=0, offset=30, records=5)]

    def script(part: FakePart) -> None:
        held_at(part, 30, world.clock.now)
        part.position = part.acked = 36

    world.script = script
    world.inbox.ticks.append(world.stop.request)
    world.run()
    assert task.held == []


def test_a_copy_with_an_end_is_not_told_before_it_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add()
    world.script = lambda part: held_at(part, 30, world.clock.now)
    began = world.clock.now

    def stop() -> None:
        if world.clock.now > began + 60:
            world.stop.request()

    world.inbox.ticks.append(stop)
    world.run()
    assert "transactions" not in world.source.asked


# --- what arrived without an answer ---------------------------------------------------------------


def unanswered(world: World, part: FakePart, count: int, *, stored: bool) -> None:
    """A batch of the last request; the target has it or has not."""
    behind = part.acked_counter + count
    part.unanswered.append(Unanswered(0, behind, count, 100 * count, False))
    if stored:
        world.target.log("orders").write(count, part.acked_counter)


@pytest.mark.parametrize("stored", [True, False])
def test_at_the_end_the_log_tells_what_arrived_without_an_answer(
    world: World, stored: bool
) -> None:
    """The run is stopped, so no later assignment asks the target's log."""
    task = world.add()

    def script(part: FakePart) -> None:
        world.write(part, 30)
        unanswered(world, part, 5, stored=stored)

    world.script = script
    world.inbox.ticks.append(world.stop.request)
    world.run()
    assert task.stopped
    assert task.counts.records == (35 if stored else 30)
    assert task.counts.bytes == (500 if stored else 0)
    assert task.unanswered == []


def test_a_log_that_is_not_committed_yet_is_asked_again_for_a_while(world: World) -> None:
    task = world.add()
    log = world.target.log("orders")
    asked = 0

    def script(part: FakePart) -> None:
        world.write(part, 30)
        unanswered(world, part, 5, stored=True)
        log.high = 30

    def commit() -> None:
        nonlocal asked
        asked += world.target.asked[-1] == "latest"
        world.clock.now += 0.1
        if world.target.asked.count("latest") > 2:
            log.high = None

    world.script = script
    world.inbox.ticks.append(world.stop.request)
    world.target.on_ask = commit
    world.run()
    assert asked >= 2
    assert task.counts.records == 35


@pytest.mark.parametrize("failure", ["never committed", "unreachable"])
def test_a_target_that_cannot_tell_does_not_hold_the_end_up(world: World, failure: str) -> None:
    """Batches that may not have arrived are not counted."""
    task = world.add()

    def script(part: FakePart) -> None:
        world.write(part, 30)
        unanswered(world, part, 5, stored=True)
        if failure == "unreachable":
            world.target.failures["ends"] = ClusterError("target", "gone", hint="")
            world.target.failures["latest"] = ClusterError("target", "gone", hint="")
        else:
            world.target.log("orders").high = 30

    def pass_time() -> None:
        world.clock.now += 0.1

    world.script = script
    world.inbox.ticks.append(world.stop.request)
    world.target.on_ask = pass_time
    began = world.clock.now
    world.run()
    assert task.counts.records == 30
    assert world.clock.now - began <= driver.COUNT_PATIENCE + 5
