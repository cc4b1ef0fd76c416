"""A refused batch of several records is sent in smaller ones, until the record that the target
refuses is alone; and batches whose answer was lost are counted.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from copycore.partition import PartitionCopy, Refusal, Unanswered
from copycore.rebatch import Rebatcher
from kit.brokers.rig import EPOCH, PRODUCER, Rig
from kit.brokers.scripted import TargetLog
from kit.fakes.job import END, FakePart, World
from kit.fakes.world import PRODUCER as TASK_PRODUCER
from kit.fakes.world import make_task
from kit.logs.random_records import Merge
from kit.logs.truth import CODECS, DurableMap, RecordLog, Row, arrived, unpacked
from kit.oracle import batches as oracle
from replicator.engine.judge import Apart, Fail, Verdict, judge
from replicator.engine.splits import ALL
from replicator.engine.task import PartitionTask
from replicator.errors import ExitCode
from replicator.offsets.splits import fresh
from replicator.state.records import Point, SplitBinding

TOO_LARGE, LIST_TOO_LARGE, INVALID_TIMESTAMP = 10, 18, 32
LIMIT = 1048588  # bytes, as tasks are made


def settings_of(task: PartitionTask) -> tuple[int, int, int, bool]:
    return task.apart_until, task.single_until, task.batch_limit, task.unpack


# --- one step -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "too_large", "after"),
    [
        (Refusal(9, 500, False, True, 40), False, (40, 0, LIMIT, False)),
        (Refusal(9, 500, True, True, 40), False, (40, 0, LIMIT, False)),
        (Refusal(9, 500, False, False, 40), False, (0, 40, LIMIT, False)),
        (Refusal(9, 500, True, False, 40), False, (0, 40, LIMIT, False)),
        (Refusal(9, 500, True, False, 40), True, (0, 0, LIMIT, True)),
        (Refusal(9, 500, True, True, 40), True, (0, 0, LIMIT, True)),
        (Refusal(9, 500, False, False, 40), True, (0, 0, 250, False)),
        (Refusal(9, 500, False, True, 40), True, (0, 0, 250, False)),
        (Refusal(9, 4 * LIMIT, False, True, 40), True, (0, 0, LIMIT // 2, False)),
    ],
)
def test_what_a_refusal_changes(
    refusal: Refusal, too_large: bool, after: tuple[int, int, int, bool]
) -> None:
    """A batch too large says so of all; any other cause is in one record before ``source_next``."""
    task = make_task()
    task.take_apart(refusal, too_large=too_large)
    assert settings_of(task) == after


def test_batches_are_halved_once_no_compressed_one_passes() -> None:
    task = make_task()
    task.take_apart(Refusal(9, 5000, True, False, 40), too_large=True)
    assert settings_of(task) == (0, 0, LIMIT, True)
    task.take_apart(Refusal(9, 3000, False, False, 40), too_large=True)
    assert settings_of(task) == (0, 0, 1500, True)
    task.take_apart(Refusal(9, 700, False, False, 40), too_large=True)
    assert settings_of(task) == (0, 0, 350, True)


def test_an_earlier_offset_takes_nothing_back() -> None:
    task = make_task()
    for joined in (True, False):
        task.take_apart(Refusal(9, 500, False, joined, 40), too_large=False)
        task.take_apart(Refusal(9, 500, False, joined, 30), too_large=False)
    assert settings_of(task) == (40, 40, LIMIT, False)


# --- to the end, with real lanes ------------------------------------------------------------------


def mixed_log(rng: random.Random, codec: int, *, largest: int) -> RecordLog:
    """Records of up to ``largest`` bytes; in some batches they compress well."""
    log = RecordLog()
    at = 0
    for _ in range(12):
        count = rng.randrange(1, 9)
        content = []
        for n in range(at, at + count):
            size = rng.randrange(1, largest - 100)
            value = bytes(size) if rng.random() < 0.5 else rng.randbytes(size)
            content.append(Row(n, 10**12 + n, b"k%d" % n, value))
        hole = rng.randrange(2)
        log.add(content, codec, last=at + count - 1 + hole)
        at += count + hole
    return log


def inflated(whole: bytes) -> int:
    """Bytes of the batch if it is stored without compression."""
    codec = oracle.parse(whole)["attributes"] & 7
    return oracle.HEADER + len(unpacked(codec, whole[oracle.HEADER :]))


class Pursuit:
    """Assignments one after the other, as the driver makes them after refusals."""

    def __init__(self, log: RecordLog, merge: Merge, refuse: Callable[[bytes], int]) -> None:
        self.log, self.merge = log, merge
        self.target = TargetLog(b"to-t", 0, PRODUCER, EPOCH, refuse=refuse)
        self.durable = DurableMap(log.start, 0)
        self.task = make_task(end=log.end, start=log.start)
        self.rounds = 0

    def run(self, most: int) -> Verdict | None:
        """Until all is there, or a verdict is a fault; in ``most`` rounds."""
        while self.rounds < most:
            self.rounds += 1
            part = self.assign()
            if part.ending == "done":
                return None
            verdict = judge(self.task, part, "source", "target")
            if not isinstance(verdict, Apart):
                return verdict
            assert part.refused is not None
            self.task.take_apart(part.refused, too_large=verdict.too_large)
        raise AssertionError(f"not there after {most} rounds: {settings_of(self.task)}")

    def assign(self) -> PartitionCopy:
        task, at = self.task, self.durable.source_of(self.target.counter)
        rig = Rig(rebatcher=Rebatcher(merge=self.merge))
        try:
            ends = rig.pipe(self.log)
            ends.target.logs[b"to-t", 0] = self.target
            part = rig.assign(
                ends,
                self.log,
                start=at,
                counter=self.target.counter,
                known=[one for one in self.durable.segments if one[1] > self.target.counter],
                batch_limit=task.batch_limit,
                apart_until=task.apart_until,
                single_until=task.single_until,
                unpack=task.unpack,
            )
            rig.run()
        finally:
            rig.finish()
        for chunk in rig.chunks[part]:
            self.durable.report(chunk)
        return part

    def check(self, end: int) -> None:
        seen = self.log.seen(self.log.start, end, committed=True)
        assert [one.seen for one in arrived(self.target.batches)] == [one.seen for one in seen]
        assert [self.durable.source_of(n) for n in range(len(seen))] == [o.offset for o in seen]


@pytest.mark.parametrize("codec", range(5), ids=CODECS)
@pytest.mark.parametrize("merge", ["never", "auto", "always"])
@pytest.mark.parametrize("code", [TOO_LARGE, LIST_TOO_LARGE])
@pytest.mark.parametrize("limit", [3000, 9000, 40_000])
def test_an_unknown_limit_is_found(codec: int, merge: Merge, code: int, limit: int) -> None:
    """The target stores batches without compression, say, or has small segments: none of its
    configs tells how large a batch may be. All records are small enough.
    """
    seed = 100 * codec + limit
    log = mixed_log(random.Random(seed), codec, largest=2900)
    pursuit = Pursuit(log, merge, lambda whole: code if inflated(whole) > limit else 0)
    verdict = pursuit.run(most=12)
    assert verdict is None, f"seed {seed}"
    pursuit.check(log.end)


@pytest.mark.parametrize("codec", range(5), ids=CODECS)
def test_batches_stay_about_as_large_as_the_target_takes(codec: int) -> None:
    """Also batches that compress to almost nothing: their uncompressed size counts."""
    limit = 100_000
    log = RecordLog()
    for number in range(12):
        content = [Row(40 * number + n, 10**12, None, bytes(5000)) for n in range(40)]
        log.add(content, codec)
    pursuit = Pursuit(log, "auto", lambda whole: TOO_LARGE if inflated(whole) > limit else 0)
    assert pursuit.run(most=12) is None
    pursuit.check(log.end)
    assert max(map(inflated, pursuit.target.batches)) > limit / 4


@pytest.mark.parametrize("codec", range(5), ids=CODECS)
@pytest.mark.parametrize("merge", ["never", "always"])
@pytest.mark.parametrize("limit", [300, 3000])
def test_a_record_that_is_too_large_is_named(codec: int, merge: Merge, limit: int) -> None:
    """Halving ends with every record alone; everything before it is on the target."""
    seed = 7 * codec + limit
    log = mixed_log(random.Random(seed), codec, largest=limit)
    huge = log.end + 2
    content = [Row(n, 10**12 + n, None, b"x" * (3 * limit if n == huge else 9))
               for n in range(log.end, log.end + 5)]  # fmt: skip
    log.add(content, codec)
    log.add([Row(log.end, 10**12, None, b"last")], codec)
    pursuit = Pursuit(log, merge, lambda whole: TOO_LARGE if inflated(whole) > limit else 0)
    verdict = pursuit.run(most=16)
    assert isinstance(verdict, Fail), f"seed {seed}"
    assert (verdict.fault.kind, verdict.fault.offset) == ("record-too-large", huge)
    pursuit.check(huge)


@pytest.mark.parametrize("codec", range(5), ids=CODECS)
@pytest.mark.parametrize("merge", ["never", "always"])
@pytest.mark.parametrize("place", [0, 1, 17, -1])
def test_a_record_that_is_refused_is_named(codec: int, merge: Merge, place: int) -> None:
    seed = codec
    log = mixed_log(random.Random(seed), codec, largest=400)
    seen = log.seen(log.start, log.end, committed=True)
    guilty = seen[place]

    def refuse(whole: bytes) -> int:
        values = [one.value for one in arrived([whole])]
        return INVALID_TIMESTAMP if guilty.value in values else 0

    pursuit = Pursuit(log, merge, refuse)
    verdict = pursuit.run(most=5)
    assert isinstance(verdict, Fail), f"seed {seed}"
    assert (verdict.fault.kind, verdict.fault.offset) == ("timestamp-refused", guilty.offset)
    pursuit.check(guilty.offset)
    # After the repair that the hint asks for, the same goes on.
    pursuit.target.refuse = lambda _whole: 0
    assert pursuit.run(most=6) is None
    pursuit.check(log.end)


def test_several_refused_records_are_named_one_after_the_other() -> None:
    """Each is named once the records before it are on the target."""
    log = RecordLog()
    for number in range(6):
        log.add([Row(5 * number + n, 10**12, b"k", b"%d" % (5 * number + n)) for n in range(5)])
    guilty = {7, 8, 21}

    def refuse(whole: bytes) -> int:
        bad = any(int(one.value or b"") in guilty for one in arrived([whole]))
        return INVALID_TIMESTAMP if bad else 0

    pursuit = Pursuit(log, "never", refuse)
    for offset in sorted(guilty):
        verdict = pursuit.run(most=20)
        assert isinstance(verdict, Fail)
        assert verdict.fault.offset == offset
        pursuit.check(offset)
        guilty.remove(offset)
    assert pursuit.run(most=20) is None


# --- through the driver ---------------------------------------------------------------------------


def refuse_part(world: World, part: FakePart, refused: Refusal, code: int) -> None:
    part.refused = refused
    world.end_as(part, "target-error", "target", code)


def test_the_driver_tries_at_once_and_names_the_record(world: World) -> None:
    """The driver needs three steps without a pause, since nothing has to recover in between."""
    task = world.add()
    refusals = [
        Refusal(40, 4000, True, True, 40),
        Refusal(10, 1000, True, False, 30),
        Refusal(1, 100, False, False, 28),
    ]
    delivered = iter([0, 20, 7])
    times = []

    def script(part: FakePart) -> None:
        times.append(world.clock.now)
        world.write(part, next(delivered))
        refuse_part(world, part, refusals[len(times) - 1], INVALID_TIMESTAMP)

    world.script = script
    driver = world.run()
    settings = ("apart_until", "single_until", "unpack", "batch_limit")
    assert [tuple(part.rest[what] for what in settings) for part in world.parts] == [
        (0, 0, False, LIMIT),
        (40, 0, False, LIMIT),
        (40, 30, False, LIMIT),
    ]
    assert [part.start for part in world.parts] == [0, 0, 20]
    found = world.fault()
    assert (found.kind, found.side, found.offset) == ("timestamp-refused", "source", 27)
    assert found.exit_code == int(ExitCode.FATAL)
    assert "INVALID_TIMESTAMP (32)" in found.message
    assert times == [times[0]] * 3
    assert driver.recoveries == 2
    assert task.counts.records == 27


def test_the_driver_makes_batches_small_enough(world: World) -> None:
    task = world.add()
    refusals = [
        Refusal(40, 4000, True, True, 40),
        Refusal(30, 3000, False, False, 30),
        Refusal(15, 1400, False, False, 30),
    ]
    times = []

    def script(part: FakePart) -> None:
        times.append(world.clock.now)
        if len(world.parts) <= len(refusals):
            refuse_part(world, part, refusals[len(world.parts) - 1], TOO_LARGE)
        else:
            world.finish(part)

    world.script = script
    world.run()
    assert task.done
    assert [(part.rest["unpack"], part.rest["batch_limit"]) for part in world.parts] == [
        (False, LIMIT),
        (True, LIMIT),
        (True, 1500),
        (True, 700),
    ]
    assert times == [times[0]] * 4


def test_other_partitions_go_on_meanwhile(world: World) -> None:
    for topic in ("a", "b"):
        world.add(topic)

    def script(part: FakePart) -> None:
        if part.topic == "a":
            size = 5 if part.rest["single_until"] == 0 else 1
            refuse_part(world, part, Refusal(size, 500, False, False, 5), 87)
        else:
            world.finish(part)

    world.script = script
    world.run()
    assert world.fault(0).kind == "record-refused"
    assert world.tasks[1].done


# --- counting what was not answered ---------------------------------------------------------------


def totals(task: PartitionTask) -> tuple[int, int, int, int]:
    counts = task.counts
    return counts.records, counts.bytes, counts.plain_bytes, counts.batches


@pytest.mark.parametrize(
    ("counter", "after"),
    [
        (0, (0, 0, 0, 0)),
        (9, (0, 0, 0, 0)),
        (10, (10, 1000, 1000, 1)),
        (14, (10, 1000, 1000, 1)),
        (15, (15, 1100, 1000, 2)),
        (16, (16, 1170, 1070, 3)),
        (99, (16, 1170, 1070, 3)),
    ],
)
def test_what_the_log_shows_is_counted(counter: int, after: tuple[int, int, int, int]) -> None:
    task = make_task()
    task.unanswered = [
        Unanswered(0, 10, 10, 1000, False),
        Unanswered(0, 15, 5, 100, True),
        Unanswered(0, 16, 1, 70, False),
    ]
    task.count_stored({0: counter})
    assert totals(task) == after
    assert task.unanswered == [], "they are counted once"
    task.count_stored({0: 99})
    assert totals(task) == after


def test_each_target_partition_counts_for_itself() -> None:
    task = make_task()
    task.unanswered = [Unanswered(number, 10, 3, 50, False) for number in (0, 1, 2)]
    task.count_stored({0: 9, 1: 10})
    assert totals(task) == (3, 50, 50, 1)


def test_an_assignment_hands_them_over() -> None:
    task = make_task()
    for number in range(2):
        part = FakePart("orders", 0, start=0, end=9, counter=0, mapped=0)
        part.unanswered = [Unanswered(0, number, 1, 100, False)]
        task.take_result(part)  # type: ignore[arg-type]
    assert [one.behind for one in task.unanswered] == [0, 1]


@pytest.mark.parametrize("stored", [0, 10, 30])
def test_the_summary_has_those_of_a_split_partition(world: World, stored: int) -> None:
    task = world.add()
    binding = SplitBinding(
        task.binding.source_id, "orders", task.binding.target_id, TASK_PRODUCER, 0, "modulo", (0,)
    )
    state = fresh(binding, 0)
    # The stride of everything was cut and is durable.
    points = (*state.points, Point(100, (100,)))
    world.map_topic.take_over({"orders": 1})
    world.splits.restate(world.writer, {task.tp: replace(state, points=points)})
    task.progress = world.split_by("modulo")

    def script(part: FakePart) -> None:
        split = part.rest["split"]
        part.counters, part.arrivals = [100], [(100, 100)]
        if len(world.parts) == 1:
            part.unanswered = [Unanswered(0, 10 * n, 10, 100, False) for n in (1, 2, 3)]
            for at in range(0, stored, 10):
                world.target.log("orders").write(10, at)
            world.lose(part)
        elif split.have == [ALL]:  # counts what was cut
            world.end_as(part, "done")
        else:
            assert split.have == [stored]
            world.target.log("orders").write(100 - stored, stored)
            part.records = 100 - stored
            part.acked = part.position = END
            world.end_as(part, "done")

    world.script = script
    world.run()
    assert task.done
    assert world.target.log("orders").end == 100
    assert task.counts.records == 100


@pytest.mark.parametrize("stored", [0, 10, 30])
def test_the_summary_has_records_whose_answer_was_lost(world: World, stored: int) -> None:
    """Three batches are on their way when the connection breaks, and ``stored`` records arrive."""
    task = world.add()

    def script(part: FakePart) -> None:
        if len(world.parts) > 1:
            world.finish(part)
            return
        world.write(part, 20)
        part.unanswered = [Unanswered(0, 20 + 10 * n, 10, 100, False) for n in (1, 2, 3)]
        for _ in range(stored // 10):
            world.write(part, 10, acked=0)
            part.acked_counter += 10
        part.acked_counter = 20
        world.lose(part)

    world.script = script
    world.run()
    assert task.done
    assert world.parts[1].counter == 20 + stored
    assert task.counts.records == world.target.log("orders").end == 100
