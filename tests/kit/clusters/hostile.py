"""A topic whose partitions hold what no correct broker stores, copied by the real binary between
two fake clusters.

Every partition begins with two good records and ends with one. A hostile one has between them, at
offsets 2 to 9, a piece of bytes that ends its copy: with a fault that names the place, no record
after it on the target, and no stored state by which a later run would begin after it. The
partitions beside it are copied.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kit.brokers.scripted import SourceLog
from kit.clusters.runner import Copier, Outcome, copy_arguments
from kit.fakebroker import FETCH, SPOKEN, FakeBroker, FakeCluster, PlacedLog
from kit.logs.truth import LATER, LZ4, RecordLog, Row, arrived, made, row, rows
from replicator.report.model import Fault

TOPIC = "t"
BEFORE = rows(0, -2)
CONTENT = [row(2), Row(3, LATER, None, b"abcabcabc" * 3), row(6), Row(7, 5, b"", b"")]
FIRST, AFTER = 2, 10
END = 41

SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")
# A copy of a few records takes 100 MiB, most of it libraries; --memory is 64 MiB.
MEMORY_CAP = 256 << 20
# The most Fetch requests for a partition, whatever its source sends: retries must end.
MOST_FETCHES = 12


@dataclass(frozen=True)
class Input:
    """The bytes in place of the records at offsets 2 to 9, and the fault that they must cause."""

    name: str
    piece: bytes
    says: str
    kind: str = "corrupt-batch"
    offset: int = FIRST
    last: bool = False  # nothing can be fetched after it

    @property
    def good(self) -> list[Row]:
        """The records in front of the place that is named: they are delivered."""
        return [one for one in CONTENT if one.offset < self.offset < AFTER]


@dataclass
class Sides:
    """The two clusters, with one broker each."""

    source: FakeBroker
    target: FakeBroker

    def copy(self, *arguments: str, cap: int = MEMORY_CAP) -> Outcome:
        """Run the binary to its end, within its memory."""
        command = copy_arguments(self.source.address, self.target.address, *arguments, TOPIC)
        with Copier(*command) as copier:
            peak, deadline = 0, time.monotonic() + (300 if SANITIZED else 60)
            while copier.running() and time.monotonic() < deadline:
                peak = max(peak, peak_memory(copier.process.pid))
                time.sleep(0.01)
            outcome = copier.wait(0.1)
        assert peak > 20 << 20, "nothing was measured"
        assert SANITIZED or peak < cap, f"{peak >> 20} MiB at most: {outcome}"
        return outcome

    def stored(self, partition: int) -> list[Row]:
        """What a consumer of the target sees."""
        log = self.target.cluster.logs.get((TOPIC, partition))
        return [] if log is None else arrived(log.batches)


def peak_memory(pid: int) -> int:
    """The most bytes that the process ever had resident, 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    sizes = [int(line.split()[1]) << 10 for line in status.splitlines() if line[:6] == "VmHWM:"]
    return sizes[0] if sizes else 0


@contextmanager
def two_clusters(*logs: SourceLog) -> Iterator[Sides]:
    source, target = FakeCluster("fake-source"), FakeCluster("fake-target")
    for log in logs:
        source.put(log)
    with (
        FakeBroker(source, versions=SPOKEN) as reading,
        FakeBroker(target, versions=SPOKEN) as writing,
    ):
        yield Sides(reading, writing)


# --- partitions -----------------------------------------------------------------------------------


def piece_log(partition: int, piece: bytes, *, last: bool = False) -> PlacedLog:
    log = PlacedLog(TOPIC.encode(), partition)
    log.put(0, FIRST, made(BEFORE))
    log.put(FIRST, END if last else AFTER, piece)
    if not last:
        log.put(END - 1, END, made([row(END - 1)]))
    return log


def sound_piece() -> bytes:
    """The same records at the same offsets, as they should have been."""
    return made(CONTENT, LZ4, last=AFTER - 1)


def good_log(partition: int) -> RecordLog:
    """Each kind of batch that has to be taken apart, and one that goes through."""
    log = RecordLog(TOPIC.encode(), partition).add(BEFORE)
    log.add(CONTENT, LZ4, last=AFTER - 1)
    log.messages(0, rows(10, -2)).messages(1, rows(12, -3), LZ4)
    log.add(rows(15, -3), append_time=LATER + 5)
    return log.add(rows(18, -2), horizon=LATER)


@dataclass
class Hostile:
    """The partitions of a topic: an input in each odd one, good records in each even one."""

    inputs: Sequence[Input]
    logs: list[SourceLog] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, one in enumerate(self.inputs):
            self.logs.append(good_log(2 * number))
            self.logs.append(piece_log(2 * number + 1, one.piece, last=one.last))

    def input_of(self, partition: int) -> Input:
        return self.inputs[partition // 2]

    def repaired(self, partition: int) -> SourceLog:
        return piece_log(partition, sound_piece())

    def check_faults(self, outcome: Outcome) -> None:
        """Each input has exactly its fault."""
        found = {fault.partition: fault for fault in outcome.expect(7).summary.faults}
        assert len(found) == len(outcome.summary.faults), outcome
        for number, one in enumerate(self.inputs):
            fault = found.pop(2 * number + 1, None)
            assert fault is not None, f"{one.name}: no fault"
            check_fault(fault, one)
        assert not found, f"faults of good partitions: {found}"

    def check_stored(self, sides: Sides, *, whole: bool = False) -> None:
        """Good partitions are copied, the others up to their input, or to their end."""
        for log in self.logs:
            if isinstance(log, RecordLog):
                expected = log.seen(0, log.end, committed=True)
            else:
                ours = [*CONTENT, row(END - 1)] if whole else self.input_of(log.partition).good
                expected = [*BEFORE, *ours]
            assert [one.seen for one in sides.stored(log.partition)] == [
                one.seen for one in expected
            ], f"partition {log.partition}: {self.input_of(log.partition).name}"

    def run(self, *options: str, cap: int = MEMORY_CAP) -> None:
        """Copy it, copy it again, and once more from a source that has been repaired."""
        with two_clusters(*self.logs) as sides:
            self.check_faults(sides.copy(*options, cap=cap))
            self.check_stored(sides)
            most = max(self.fetches(sides).values())
            assert most <= MOST_FETCHES, f"{most} Fetch requests for one partition"
            again = sides.copy(*options, cap=cap)
            self.check_faults(again)
            assert again.summary.records == 0
            self.check_stored(sides)
            for log in self.logs:
                if isinstance(log, PlacedLog):
                    sides.source.cluster.put(self.repaired(log.partition))
            assert sides.copy(*options).expect(0).summary.status == "done"
            self.check_stored(sides, whole=True)

    def fetches(self, sides: Sides) -> dict[int, int]:
        """Fetch requests by partition."""
        counts: dict[int, int] = {}
        for request in sides.source.asked(FETCH):
            for _, partition in request.body.partitions:
                counts[partition] = counts.get(partition, 0) + 1
        return counts


def check_fault(fault: Fault, one: Input) -> None:
    assert (fault.kind, fault.side, fault.topic) == (one.kind, "source", TOPIC), one.name
    assert fault.offset == one.offset, f"{one.name}: {fault}"
    assert one.says in fault.message, f"{one.name}: {fault.message}"
    assert f"{TOPIC}-{fault.partition} at offset {one.offset}" in fault.message
    assert "fake-source" in fault.cluster
    assert fault.hint
    assert fault.exit_code == 7
