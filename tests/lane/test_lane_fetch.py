"""How much a Fetch asks of each partition."""

from __future__ import annotations

import pytest

from kit.brokers.rig import Rig
from kit.brokers.scripted import SourceLog, batch

KIB = 1 << 10
SLAB = 1 << 20
LEAST = 64 * KIB


def log_of(partition: int, count: int, size: int) -> SourceLog:
    return SourceLog(b"t", partition, [batch(n, 1, bytes(size)) for n in range(count)])


def test_requests_carry_data_of_every_partition(rig: Rig) -> None:
    """This holds also after one partition was the only one for a while."""
    logs = [log_of(p, 150, 4000) for p in range(20)]
    ends = rig.pipe(*logs, slab=SLAB, memory=5 * (SLAB + LEAST))
    ends.target.hold = True
    rig.assign(ends, logs[0])
    rig.step(10)
    for log in logs[1:]:
        rig.assign(ends, log)
    ends.target.hold = False
    rig.run()
    sent = [len(request.batches) for request in ends.target.requests]
    assert sum(sent) == 20 * 150
    full = sum(count for count in sent if count >= 10)
    assert full >= 0.7 * sum(sent), sent


@pytest.mark.parametrize("rate", [0, 2_000_000])
def test_pieces_grow_unless_a_limit_holds_them_back(rig: Rig, rate: int) -> None:
    """Eight batches cost a source hardly more than one; but what waits for a rate takes memory."""
    rig.limit(rate)
    logs = [log_of(p, 60, 50 * KIB) for p in range(6)]
    ends = rig.pipe(*logs, slab=SLAB, memory=5 * (SLAB + LEAST))
    for log in logs:
        rig.assign(ends, log)
    rig.run(lambda: all(part.acked >= 30 for part in rig.parts), turns=20_000)
    asked = {
        part.max_bytes
        for request in ends.source.requests[3:]
        for part in request.partitions.values()
    }
    if rate:
        assert max(asked) <= 2 * LEAST
    else:
        assert max(asked) == 8 * len(logs[0].batches[0])


def test_what_a_rate_holds_back_leaves_memory_to_others(rig: Rig) -> None:
    """Although its records could fill the memory many times over."""
    slow = [log_of(p, 30, 50 * KIB) for p in range(12)]
    quick = log_of(12, 300, 2000)
    ends = rig.pipe(*slow, quick, slab=SLAB, memory=4 * (SLAB + LEAST))
    whole = rig.limit(0)
    rig.limit(10_000)
    for log in slow:
        rig.assign(ends, log)
    rig.step(20)
    rig.bucket = whole
    free = rig.assign(ends, quick)
    began = rig.now
    rig.run(lambda: free in rig.ended, turns=5000)
    assert rig.now - began < 2000


def test_what_waits_at_a_gate_leaves_memory_to_others(rig: Rig) -> None:
    """Each small fetch brings a batch of both, and one of them waits long for the map."""
    batches = 30
    gapped = SourceLog(b"t", 0, [batch(2 * n, 1, bytes(100)) for n in range(batches)])
    dense = log_of(1, batches, 100)
    rig.confirming = False
    ends = rig.pipe(gapped, dense, slab=SLAB, memory=4 * (SLAB + LEAST), limit=lambda: 250)
    waiting, free = rig.assign(ends, gapped), rig.assign(ends, dense)
    rig.run(lambda: free in rig.ended)
    assert free.records == batches
    assert waiting not in rig.ended
    rig.confirming = True
    rig.confirm()
    rig.run()
    assert (waiting.ending, waiting.records) == ("done", batches)
