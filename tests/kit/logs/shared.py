"""Split partitions: target partitions that several producers write into, and what goes to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from copycore.partitioner import KINDS, choose_all
from copycore.split import Split
from kit.brokers.rig import EPOCH, Ends
from kit.brokers.scripted import TargetLog
from kit.logs.truth import RecordLog, Row, arrived
from kit.oracle import batches as oracle


@dataclass
class SharedLog:
    """A target partition that several producers write into."""

    topic: bytes
    partition: int
    logs: dict[int, TargetLog] = field(default_factory=dict)
    end: int = 0

    def append(self, whole: bytes) -> tuple[int, int]:
        producer = oracle.parse(whole)["producer_id"]
        new = TargetLog(self.topic, self.partition, producer, EPOCH)
        log = self.logs.setdefault(producer, new)
        before = log.counter
        code, offset = log.append(whole)
        if log.counter > before:
            first, last, _ = log.latest[-1]
            log.latest[-1] = (first, last, self.end)
            offset = self.end
            self.end += log.counter - before
        return code, offset

    def rows(self, producer: int) -> list[Row]:
        return arrived(self.logs[producer].batches) if producer in self.logs else []

    def have(self, producer: int) -> int:
        return self.logs[producer].counter if producer in self.logs else 0


def share_logs(ends: Ends, topic: bytes, count: int) -> list[SharedLog]:
    """``count`` partitions, spread over the pipe's targets in turn."""
    logs = [SharedLog(topic, number) for number in range(count)]
    for log in logs:
        broker = ends.targets[log.partition % len(ends.targets)]
        broker.logs[topic, log.partition] = log  # type: ignore[assignment]
    return logs


def outlets(ends: Ends, count: int) -> list[int]:
    return [number % len(ends.targets) for number in range(count)]


def evenly(count: int, partitioner: Any = "murmur2") -> Split:
    """A split from the very start."""
    return Split(partitioner, [0] * count, [0] * count)


def by_offset(
    keys: Sequence[bytes | None], offsets: Sequence[int], source: int, count: int
) -> list[int]:
    assert len(keys) == len(offsets)
    return [(7 * offset + source) % count for offset in offsets]


def expected(log: RecordLog, partitioner: Any, count: int, end: int) -> list[list[Row]]:
    """What goes to each target partition, decided record by record."""
    found: list[list[Row]] = [[] for _ in range(count)]
    for one in log.seen(0, end, committed=True):
        if callable(partitioner):
            (target,) = partitioner([one.key], [one.offset], log.partition, count)
        else:
            numbers = memoryview(one.offset.to_bytes(8, "little")).cast("B").cast("Q")
            kind = KINDS.index(partitioner)
            (target,) = choose_all(kind, [one.key], numbers, log.partition, count)
        found[target].append(one)
    return found


def check(logs: Sequence[SharedLog], producer: int, wanted: Sequence[Sequence[Row]]) -> None:
    for log, content in zip(logs, wanted, strict=True):
        assert [one.seen for one in log.rows(producer)] == [one.seen for one in content]
