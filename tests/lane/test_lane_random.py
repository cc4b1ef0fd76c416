"""Random logs through random pipes in random order: every stream is what the oracle expects."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from copycore.partition import PartitionCopy
from kit.brokers.rig import Ends, Rig
from kit.brokers.scripted import Aborted, Peer, SourceLog, batch, span
from kit.logs.expected import Expected, expect
from kit.oracle import batches as oracle


@dataclass
class Copy:
    ends: Ends
    log: SourceLog
    part: PartitionCopy
    counter: int
    expected: Expected


def random_log(rng: random.Random, topic: bytes, partition: int, *, broken: bool) -> SourceLog:
    """Batches, holes, transactions of several producers, and sometimes a batch that cannot be
    passed through.
    """
    batches: list[bytes] = []
    aborted: list[Aborted] = []
    open_since: dict[int, int] = {}
    offset = rng.choice([0, 0, 17, 2**40])
    for number in range(rng.randrange(1, 25)):
        kind = rng.random()
        producer = rng.randrange(3)
        count = rng.randrange(1, 6)
        text = b"%d " % number * rng.randrange(rng.choice([1, 10, 100]))
        if kind < 0.5:
            batches.append(batch(offset, count, text, attributes=rng.randrange(5)))
        elif kind < 0.7:
            open_since.setdefault(producer, offset)
            flags = oracle.TRANSACTIONAL | rng.choice([0, oracle.DELETE_HORIZON])
            batches.append(batch(offset, count, text, attributes=flags, producer_id=producer))
        elif kind < 0.85:
            count = 1
            commit = rng.random() < 0.5
            first = open_since.pop(producer, None)
            if first is not None and not commit:
                aborted.append((producer, first, offset))
            batches.append(
                oracle.control_batch(int(commit), base_offset=offset, producer_id=producer)
            )
        elif kind < 0.92:
            batches.append(batch(offset, 0, b"", last_offset_delta=count - 1))
        elif kind < 0.95 and broken:
            batches.append(
                rng.choice(
                    [
                        batch(offset, count, text, attributes=oracle.LOG_APPEND_TIME),
                        batch(offset, count, text, last_offset_delta=count + 1),
                        batch(offset, count, text, attributes=6),
                        batch(offset, -5, text, last_offset_delta=count - 1),
                    ]
                )
            )
            count += 2
        # else: nothing, as compaction leaves it
        offset += count
    if not batches:
        batches.append(batch(offset, 1, b"only"))
    log = SourceLog(topic, partition, batches, aborted)
    if rng.random() < 0.3:
        log.high_watermark = log.end + rng.randrange(5)  # a hole at the tail
    # An open transaction bounds what may be read as committed.
    log.last_stable = min([log.end, *open_since.values()])
    return log


def jitter(rng: random.Random, peer: Peer, sizes: list[int]) -> None:
    peer.window = lambda: rng.choice(sizes)


def build(rig: Rig, rng: random.Random, *, broken: bool) -> list[Copy]:
    """One to three pipes with one to five partitions each, none like the other."""
    copies = []
    for number in range(rng.randrange(1, 4)):
        topics = [b"t%d" % rng.randrange(2) for _ in range(rng.randrange(1, 6))]
        logs = [
            random_log(rng, topic, 10 * number + place, broken=broken)
            for place, topic in enumerate(topics)
        ]
        ends = rig.pipe(
            *logs,
            fetch=rng.choice([11, 12, 13]),
            produce=rng.choice([7, 8, 9]),
            memory=rng.choice([1, 1 << 18, 1 << 22]),
            limit=lambda: rng.choice([1, 90, 400, 5000]),
            buffer=rng.choice([None, 4096]),
        )
        jitter(rng, ends.source, rng.choice([[1 << 20], [1, 2, 70, 500], [300, 2000]]))
        jitter(rng, ends.target, rng.choice([[1 << 20], [1, 2, 30, 60], [100, 500]]))
        ends.target.intake = lambda: rng.choice([200, 3000, 1 << 20])
        ends.target.per_turn = lambda: rng.choice([0, 1, 2, 5])
        for log in logs:
            counter = rng.choice([0, 0, 3, 2**31 - rng.randrange(1, 20), 2**33 - 4])
            start = log.start - rng.randrange(2) if log.start else 0
            behind = [span(whole)[1] for whole in log.batches]
            end = rng.choice([None, None, rng.choice([start, *behind])])
            if end is not None and rig.read_committed:
                end = min(end, log.stable)
            part = rig.assign(ends, log, start=start, end=end, counter=counter)
            expected = expect(
                log, start=start, end=end, counter=counter, read_committed=rig.read_committed
            )
            copies.append(Copy(ends, log, part, counter, expected))
    return copies


def check_budget(rig: Rig) -> None:
    for ends in rig.pipes:
        # A slab is borrowed only below the limit; one is always allowed.
        assert ends.pipe.borrowed_bytes <= (1 << 22) + (1 << 18)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    committed=st.booleans(),
    broken=st.booleans(),
    limited=st.booleans(),
)
def test_every_stream_is_the_expected_one(
    seed: int, committed: bool, broken: bool, limited: bool
) -> None:
    note(f"seed {seed}")
    rng = random.Random(seed)
    rig = Rig(
        read_committed=committed,
        request_bytes=rng.choice([1, 150, 1000, 1 << 22]),
        confirming=False,
        check_crc=rng.random() < 0.3,
    )
    rig.limit(200_000.0 if limited else 0.0)
    rig.serving = lambda _ends: (rng.random() < 0.8, rng.random() < 0.8)
    try:
        copies = build(rig, rng, broken=broken)
        patience = 40_000
        while len(rig.ended) < len(rig.parts):
            rig.step()
            check_budget(rig)
            if rng.random() < 0.3:
                rig.confirm()
            patience -= 1
            assert patience, [(c.part.position, c.part.acked, c.part.ending) for c in copies]
        for copy in copies:
            check(rig, copy)
        assert rig.closed == []
    finally:
        rig.finish()


def check(rig: Rig, copy: Copy) -> None:
    part, expected = copy.part, copy.expected
    assert list(rig.stored(copy.ends, part)) == expected.produced
    assert rig.segments(part) == expected.segments
    assert part.records == expected.counter - copy.counter
    assert part.batches == len(expected.produced)
    if expected.refused is None:
        event(expected.ending)
        assert (part.ending, part.end_message) == (expected.ending, None)
        assert part.acked == part.position == expected.position
        assert part.acked_counter == expected.counter
        assert part.skipped == expected.skipped
    else:
        event("refused")
        assert (part.ending, part.end_offset) == expected.refused


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), side=st.sampled_from(["source", "target", "stop"]))
def test_a_copy_cut_anywhere_goes_on_to_the_same_end(seed: int, side: str) -> None:
    """Cut by a lost connection or a stop, and gone on with from what the target's log says."""
    note(f"seed {seed}")
    rng = random.Random(seed)
    rig = Rig(confirming=True, request_bytes=rng.choice([150, 1 << 22]))
    rig.serving = lambda _ends: (rng.random() < 0.8, rng.random() < 0.8)
    try:
        log = random_log(rng, b"t", 0, broken=False)
        whole = expect(log)
        segments = {0: log.start}  # counter → source offset, as the durable map has them
        stored: list[bytes] = []
        counter = 0
        for attempt in range(6):
            ends = rig.pipe(log, limit=lambda: rng.choice([1, 150, 900]), buffer=4096)
            ends.target.intake = lambda: rng.choice([200, 3000])
            # The map tells where the record with this number is looked for.
            first = max(number for number in segments if number <= counter)
            start = segments[first] + counter - first
            part = rig.assign(ends, log, start=start, end=log.stable, counter=counter)
            cut_at = rng.randrange(1, 60) if attempt < 5 else 1 << 30
            for _ in range(10_000):
                if part in rig.ended:
                    break
                if cut_at == 0 and side == "stop":
                    rig.lane.stop(part)
                elif cut_at == 0:
                    getattr(ends, side).close()
                cut_at -= 1
                rig.step()
            assert part in rig.ended
            for _ in range(200):  # what the lane had sent still arrives at an open connection
                ends.target.serve()
            for source, number in rig.segments(part):
                segments = {n: s for n, s in segments.items() if n < number} | {number: source}
            stored += rig.stored(ends, part)
            assert part.acked_counter <= ends.target.logs[b"to-t", 0].counter
            counter = ends.target.logs[b"to-t", 0].counter
            if part.ending == whole.ending:
                break
        assert part.ending == whole.ending
        assert stored == whole.produced
        assert sum(span(one)[1] for one in stored) == counter
    finally:
        rig.finish()
