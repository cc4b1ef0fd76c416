"""The position of a copy, read from the target's log: every answer that the log can give."""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec
import pytest

from kit.fakes.world import PRODUCER, FakeCluster, Log
from kit.oracle import batches as oracle
from replicator.cluster.errors import Unreachable
from replicator.offsets.log_end import SEQUENCES, ForeignWriter, NotYet, counters, last_batches
from replicator.state.records import Binding

Answer = int | Exception
BINDING = Binding(
    source_id="", target_topic="", target_id="", base=0, producer_id=PRODUCER, producer_epoch=0
)


@pytest.fixture
def target() -> FakeCluster:
    cluster = FakeCluster("target")
    cluster.add("orders", 3)
    return cluster


def ask(target: FakeCluster, topic: str = "orders", *, base: int = 0) -> Answer:
    binding = msgspec.structs.replace(BINDING, base=base)
    (answer,) = counters(target, {(topic, 0): binding}).values()  # type: ignore[arg-type]
    return answer


def check_foreign(answer: Answer, offset: int) -> None:
    assert isinstance(answer, ForeignWriter)
    assert answer.offset == offset


def check_not_yet(answer: Answer, code: int) -> None:
    assert isinstance(answer, NotYet)
    assert answer.code == code


# --- it can be told -------------------------------------------------------------------------------


def test_an_empty_log(target: FakeCluster) -> None:
    assert ask(target) == 0
    assert target.fetched == [], "there is no batch to look at"


def test_our_batches(target: FakeCluster) -> None:
    log = target.log("orders")
    log.write(3, 0)
    log.write(4, 3)
    assert ask(target) == 7
    assert target.fetched == [("orders", 0)]


def test_our_batches_after_records_from_before_the_copy(target: FakeCluster) -> None:
    """The topic was emptied before: its offsets continue."""
    log = target.log("orders")
    log.start = log.end = 500
    assert ask(target, base=500) == 0
    log.write(2, 0)
    assert ask(target, base=500) == 2


@pytest.mark.parametrize("counter", [SEQUENCES - 1, SEQUENCES, SEQUENCES + 1, 3 * SEQUENCES + 8])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_sequences_that_have_wrapped(target: FakeCluster, counter: int, count: int) -> None:
    log = target.log("orders")
    log.end = counter - count
    log.write(count, counter - count)
    assert ask(target) == counter


def test_the_tail_deleted_by_retention(target: FakeCluster) -> None:
    """No batch is left to read, so only the log's end tells the position."""
    log = target.log("orders")
    log.write(9, 0)
    log.start = 9
    log.batches.clear()
    assert ask(target) == 9
    assert target.fetched == []


def test_the_beginning_deleted_by_retention(target: FakeCluster) -> None:
    log = target.log("orders")
    log.write(5, 0)
    log.write(4, 5)
    log.start = 5
    del log.batches[0]
    assert ask(target) == 9
    assert target.fetched == [("orders", 0)]


def test_the_target_topic_has_another_name(target: FakeCluster) -> None:
    target.add("copy-of-orders")
    target.log("copy-of-orders").write(6, 0)
    assert ask(target, "copy-of-orders") == 6


# --- not now --------------------------------------------------------------------------------------


@pytest.mark.parametrize("high", [0, 4, 6])
def test_what_is_not_committed_yet_is_waited_for(target: FakeCluster, high: int) -> None:
    """Such a record may be lost with its leader, and the answer would have been too high."""
    log = target.log("orders")
    log.write(7, 0)
    log.high = high
    check_not_yet(ask(target), 0)
    log.high = 7
    assert ask(target) == 7


def test_the_leaders_end_is_asked_for_first(target: FakeCluster) -> None:
    """If it were asked for last, records that arrive in between would look uncommitted or be
    missed.
    """
    ask(target)
    assert target.asked[:2] == ["ends", "latest"]


@pytest.mark.parametrize("code", [3, 5, 6, 9, 74, 75, -1])
def test_an_error_is_passed_on(target: FakeCluster, code: int) -> None:
    target.log("orders").error = code
    check_not_yet(ask(target), code)


def test_a_tail_that_cannot_be_fetched(target: FakeCluster) -> None:
    log = target.log("orders")
    log.write(7, 0)
    log.batches.clear()
    check_not_yet(ask(target), 0)


def test_a_tail_without_a_leader(target: FakeCluster) -> None:
    log = target.log("orders")
    log.write(7, 0)
    log.leader = -1
    check_not_yet(ask(target), 0)
    assert target.fetches == 0


def test_a_tail_whose_topic_is_unknown_to_this_broker(target: FakeCluster) -> None:
    target.log("orders").write(7, 0)
    target.topics["orders"].error = 3
    check_not_yet(ask(target), 0)


def broken_length(_: bytes) -> bytes:
    return struct.pack(">qi", 6, -1) + bytes(70)


@pytest.mark.parametrize(
    "tamper",
    [broken_length, lambda data: data[:40], lambda _: b"", lambda _: b"\0" * 100],
    ids=["impossible length", "cut short", "nothing", "zeros"],
)
def test_a_malformed_tail_is_no_answer(
    target: FakeCluster, tamper: Callable[[bytes], bytes]
) -> None:
    target.log("orders").write(7, 0)
    target.tampered = tamper  # type: ignore[assignment]
    check_not_yet(ask(target), 0)


@pytest.mark.parametrize("question", ["ends", "latest", "earliest", "metadata", "fetch"])
def test_an_unreachable_cluster_is_told(target: FakeCluster, question: str) -> None:
    target.log("orders").write(7, 0)
    target.failures[question] = Unreachable("target", "gone")
    with pytest.raises(Unreachable):
        ask(target)


# --- another client -------------------------------------------------------------------------------


def test_another_producer_at_the_tail(target: FakeCluster) -> None:
    log = target.log("orders")
    log.write(7, 0)
    log.write(1, 0, producer=PRODUCER + 1)
    check_foreign(ask(target), 7)


def test_a_writer_without_an_id_at_the_tail(target: FakeCluster) -> None:
    log = target.log("orders")
    log.write(7, 0)
    log.write(2, -1, producer=-1)
    check_foreign(ask(target), 8)


def test_foreign_records_in_the_middle_show_in_the_sequence(target: FakeCluster) -> None:
    log = target.log("orders")
    log.write(7, 0)
    log.write(1, 0, producer=9)
    log.write(3, 7)
    check_foreign(ask(target), 10)


def test_a_tail_cut_inside_a_batch_whose_sequence_would_fit(target: FakeCluster) -> None:
    log = target.log("orders")
    log.write(3, 0)
    log.write(5, 1)  # its last number is 5, as the sixth record's has to be
    log.end = 6
    check_foreign(ask(target), 5)


@pytest.mark.parametrize("sequence", [0, 2, 4, 2**31 - 1])
def test_a_sequence_that_does_not_fit(target: FakeCluster, sequence: int) -> None:
    log = target.log("orders")
    log.write(3, 0)
    log.write(3, sequence)
    check_foreign(ask(target), 5)


def test_a_log_that_ends_before_the_copy_began(target: FakeCluster) -> None:
    log = target.log("orders")
    log.end = 40
    check_foreign(ask(target, base=50), 40)


def test_a_batch_that_reaches_beyond_the_end(target: FakeCluster) -> None:
    """The tail was cut inside a batch, which Kafka never does: the copy does not go on."""
    log = target.log("orders")
    log.write(3, 0)
    log.write(5, 3)
    log.end = 6
    check_foreign(ask(target), 5)


# --- many -----------------------------------------------------------------------------------------


def test_each_partition_has_its_own_answer(target: FakeCluster) -> None:
    ours, theirs, late = (target.log("orders", p) for p in range(3))
    ours.write(4, 0)
    theirs.write(4, 0, producer=1)
    late.write(4, 0)
    late.high = 2
    answers = counters(target, dict.fromkeys([("orders", p) for p in range(3)], BINDING))  # type: ignore[arg-type]
    assert answers["orders", 0] == 4
    check_foreign(answers["orders", 1], 3)
    check_not_yet(answers["orders", 2], 0)
    assert target.asked.count("ends") == 1, "one question for all of them"


def test_partitions_of_several_leaders(target: FakeCluster) -> None:
    for number in range(3):
        log = target.log("orders", number)
        log.leader = number % 2
        log.write(number + 1, 0)
    answers = counters(target, dict.fromkeys([("orders", p) for p in range(3)], BINDING))  # type: ignore[arg-type]
    assert answers == {("orders", p): p + 1 for p in range(3)}
    assert target.fetches == 2


def test_no_partitions_no_answers(target: FakeCluster) -> None:
    assert counters(target, {}) == {}  # type: ignore[arg-type]
    assert target.fetches == 0


# --- the batch that holds an offset ---------------------------------------------------------------


def test_the_batch_that_holds_an_offset(target: FakeCluster) -> None:
    log = target.log("orders")
    for sequence in (0, 3, 6):
        log.write(3, sequence)
    for offset in range(9):
        (found,) = last_batches(target, {("orders", 0): offset}).values()  # type: ignore[arg-type]
        assert found is not None
        assert found.base_offset == offset // 3 * 3
        assert found.base_offset <= offset < found.next_offset


def test_many_are_asked_for_at_once_and_large_ones_alone(target: FakeCluster) -> None:
    count = 50
    target.add("many", count)
    for p in range(count):
        log = target.log("many", p)
        size = 100_000 if p % 10 == 5 else 10
        log.batches.append(oracle.build(bytes(size), base_offset=0, count=1))
        log.end = 1
    found = last_batches(target, {("many", p): 0 for p in range(count)})  # type: ignore[arg-type]
    assert len(found) == count
    assert all(batch is not None for batch in found.values())
    assert target.fetches <= 1 + 5


def test_an_offset_in_a_hole_has_no_batch(target: FakeCluster) -> None:
    log = Log(end=20, batches=[oracle.build(b"x", base_offset=10, count=2)])
    target.topics["orders"].partitions[0] = log
    assert last_batches(target, {("orders", 0): 5}) == {("orders", 0): None}  # type: ignore[arg-type]
    assert last_batches(target, {("orders", 0): 15}) == {("orders", 0): None}  # type: ignore[arg-type]
