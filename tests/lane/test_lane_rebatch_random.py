"""Random logs of real records through random settings: every record arrives once, and the map and
the gates are true at every moment.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from copycore.partition import PartitionCopy
from kit.brokers.rig import EPOCH, PRODUCER, Ends, Rig
from kit.brokers.scripted import TargetLog, span
from kit.logs.random_records import random_rebatcher, random_records
from kit.logs.truth import (
    DurableMap,
    RecordLog,
    Row,
    arrived,
    check_delivered,
    holes,
    outcome,
)
from kit.oracle import batches as oracle


@dataclass
class Case:
    """One partition of a random copy and what the map had when it began."""

    ends: Ends
    log: RecordLog
    part: PartitionCopy
    assigned: dict[str, Any]
    durable: DurableMap
    offsets: list[int]  # of the source's records, from the first counter on


def random_known(
    rng: random.Random, seen: list[Row], mapped: int, counter: int
) -> list[tuple[int, int]]:
    """Segments that an earlier session stored: of this log, or of what it was before cleaning."""
    true = holes(seen, mapped, counter)
    if rng.random() < 0.3 or not seen:
        return []
    if rng.random() < 0.5:
        return [one for one in true[: rng.randrange(len(true) + 1)] if one[1] > counter]
    # Records that are gone now made every later number larger, and joined or parted segments.
    known, source, number = [], seen[0].offset, counter
    for _ in range(rng.randrange(4)):
        number += rng.randrange(1, 6)
        source += rng.randrange(6, 12)
        known.append((source, number))
    return known


def random_pieces(rng: random.Random, start: int, end: int) -> dict[str, Any]:
    """Options that an earlier refusal may have asked for."""
    until = rng.randrange(start, max(start, end) + 1)
    what = rng.choice(["", "", "", "apart_until", "single_until"])
    return ({what: until} if what else {}) | {"unpack": rng.random() < 0.2}


def build(rig: Rig, rng: random.Random) -> list[Case]:
    cases = []
    for number in range(rng.randrange(1, 3)):
        topics = [b"t%d" % rng.randrange(2) for _ in range(rng.randrange(1, 4))]
        logs = [
            random_records(rng, topic, 10 * number + place) for place, topic in enumerate(topics)
        ]
        sizes = rng.choice([[1], [1, 90, 400, 5000], [1 << 20]])
        ends = rig.pipe(
            *logs,
            memory=rng.choice([1, 1 << 18, 1 << 22]),
            limit=lambda sizes=sizes: rng.choice(sizes),  # type: ignore[misc]
        )
        ends.target.hold = True
        cases += [random_case(rig, rng, ends, log) for log in logs]
    return cases


def random_case(rig: Rig, rng: random.Random, ends: Ends, log: RecordLog) -> Case:
    committed = rig.read_committed
    counter = rng.choice([0, 0, 3, 2**31 - rng.randrange(1, 20), 2**33 - 4])
    stable = log.stable if committed else log.end
    start = rng.choice([log.start, rng.randrange(log.start, max(stable, log.start) + 1)])
    mapped = max(0, start - rng.choice([0, 0, 3]))
    end = rng.choice([stable, stable, rng.randrange(start, max(stable, start) + 1)])
    seen = log.seen(start, end, committed=committed)
    known = random_known(rng, seen, mapped, counter)
    limit = rng.choice([1, 300, 3000, 1 << 27])
    assigned = {
        "start": start, "mapped": mapped, "end": end, "counter": counter, "known": known,
        "batch_limit": limit, **random_pieces(rng, start, end),
    }  # fmt: skip
    part = rig.assign(ends, log, **assigned)
    offsets = [one.offset for one in seen]
    return Case(ends, log, part, assigned, DurableMap(mapped, counter, known), offsets)


def look_at_requests(cases: list[Case], looked_at: dict[int, int]) -> None:
    """No batch may be in flight before the map has the source offsets of all its records."""
    of_place = {(id(case.ends), case.part.target_name, case.part.partition): case for case in cases}
    for ends in {id(case.ends): case.ends for case in cases}.values():
        new = ends.target.requests[looked_at.get(id(ends), 0) :]
        looked_at[id(ends)] = len(ends.target.requests)
        for request in new:
            for (name, partition), whole in request.batches.items():
                case = of_place[id(ends), name, partition]
                h = oracle.parse(whole)
                first = case.assigned["counter"]
                number = (h["base_sequence"] - first) % 2**31
                for place in range(number, number + h["count"]):
                    assert case.durable.source_of(first + place) == case.offsets[place]


def run(rig: Rig, rng: random.Random, cases: list[Case]) -> None:
    patience, looked_at = 40_000, dict[int, int]()
    of_part = {case.part: case for case in cases}
    while len(rig.ended) < len(rig.parts):
        patience -= 1
        assert patience, [(c.part.position, c.part.acked, c.part.ending) for c in cases]
        rig.step()  # targets only receive
        look_at_requests(cases, looked_at)
        if rng.random() < 0.3:
            # Chunks become durable in the order in which they were reported.
            done = rng.randrange(len(rig.unconfirmed) + 1)
            confirmed, rig.unconfirmed = rig.unconfirmed[:done], rig.unconfirmed[done:]
            for part, counter, chunk in confirmed:
                if chunk:
                    of_part[part].durable.report(chunk)
                part.confirm(counter)
        for ends in {id(case.ends): case.ends for case in cases}.values():
            if rng.random() < 0.7:
                ends.target.hold = False
                ends.target.serve()
                ends.target.hold = True
                look_at_requests(cases, looked_at)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), committed=st.booleans())
def test_every_record_arrives_and_the_map_is_true(seed: int, committed: bool) -> None:
    note(f"seed {seed}")
    rng = random.Random(seed)
    rig = Rig(
        read_committed=committed,
        request_bytes=rng.choice([1, 1000, 1 << 22]),
        confirming=False,
        check_crc=rng.random() < 0.3,
        rebatcher=random_rebatcher(rng),
    )
    rig.serving = lambda _ends: (rng.random() < 0.8, True)
    try:
        cases = build(rig, rng)
        run(rig, rng, cases)
        for case in cases:
            check_delivered(rig, case.ends, case.part, case.log, **case.assigned)
            event(f"rebatched: {case.part.rebatched > 0}, passed: {case.part.passed > 0}")
        assert rig.closed == []
    finally:
        rig.finish()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), side=st.sampled_from(["source", "target", "stop"]))
def test_a_copy_cut_anywhere_goes_on_with_other_settings(seed: int, side: str) -> None:
    """Cut by a lost connection or a stop, and gone on with from what the target's log says, by a
    session that makes other batches of the same records."""
    note(f"seed {seed}")
    rng = random.Random(seed)
    log = random_records(rng, b"t", 0)
    seen = log.seen(log.start, log.stable, committed=True)
    ending, _ = outcome(log, log.start, log.stable, committed=True)
    target = TargetLog(b"to-t", 0, PRODUCER, EPOCH)
    durable = DurableMap(log.start, 0)
    for attempt in range(6):
        rig = Rig(request_bytes=rng.choice([150, 1 << 22]), rebatcher=random_rebatcher(rng))
        rig.serving = lambda _ends: (rng.random() < 0.8, rng.random() < 0.8)
        try:
            ends = rig.pipe(log, limit=lambda: rng.choice([1, 150, 900]), buffer=4096)
            ends.target.intake = lambda: rng.choice([200, 3000])
            ends.target.logs[b"to-t", 0] = target
            mapped = durable.source_of(target.counter)
            part = rig.assign(
                ends,
                log,
                start=mapped,
                counter=target.counter,
                known=[one for one in durable.segments if one[1] > target.counter],
                batch_limit=rng.choice([300, 1 << 27]),
                **random_pieces(rng, mapped, log.stable),
            )
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
            for chunk in rig.chunks[part]:
                durable.report(chunk)
            assert part.acked_counter <= target.counter
            if part.ending == ending:
                break
        finally:
            rig.finish()
    assert part.ending == ending
    assert [one.seen for one in arrived(target.batches)] == [one.seen for one in seen]
    for number, one in enumerate(seen):
        assert durable.source_of(number) == one.offset


def test_random_logs_hold_what_they_should() -> None:
    """The kinds of batches that these tests are about do occur."""
    kinds: dict[str, int] = {}
    for seed in range(60):
        log = random_records(random.Random(seed), b"t", 0)
        for whole in log.batches:
            kinds[oracle.kind(whole)] = kinds.get(oracle.kind(whole), 0) + 1
        starts = [span(whole)[0] for whole in log.batches]
        assert starts == sorted(starts)
    assert min(kinds[kind] for kind in ("dense", "gapped", "log-append-time", "control")) > 20
    assert min(kinds["empty"], kinds["old-magic"]) > 5
