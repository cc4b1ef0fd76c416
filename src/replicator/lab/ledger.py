"""Numbered records that prove by themselves what became of them.

Each record says in its value which run, partition and place it belongs to and carries a checksum
of its own content. ``read_ledger`` can therefore tell loss, doubling, reordering and damage on the
target without a source at hand: after the source was deleted, say, or cut short.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Collection

from replicator.lab.logs import log_ranges
from replicator.lab.reading import read_records
from replicator.lab.seed import Payload, SeedError, Text, Writer


def ledger_value(run: str, partition: int, seq: int, body: bytes) -> bytes:
    """A value that names its place in the run and carries the checksum of its body."""
    return b"%s|%d|%d|%08x|%s" % (run.encode(), partition, seq, zlib.crc32(body), body)


class Ledger:
    """Writes numbered records into a topic: the next number of each partition is kept."""

    def __init__(self, topic: str, run: str, rng: random.Random) -> None:
        self.topic = topic
        self.run = run
        self.next: dict[int, int] = {}
        self._text = Text(rng)

    def write(
        self,
        writer: Writer,
        partitions: Collection[int],
        records: int,
        *,
        size: int = 200,
        timestamp: int | None = None,
    ) -> None:
        """Send ``records`` to each partition in turn, values of about ``size`` bytes."""
        for _ in range(records):
            for partition in partitions:
                seq = self.next.get(partition, 0)
                self.next[partition] = seq + 1
                value = ledger_value(self.run, partition, seq, self._text.take(size))
                writer.send(self.topic, partition, Payload(b"%d" % seq, value, [], timestamp))


def read_ledger(bootstrap: str, topic: str, run: str) -> dict[int, list[int]]:
    """The ledger numbers that a read-committed consumer sees, by partition, in log order.

    Raises ``SeedError`` for a record that is not of this run, lies in another partition than it
    was written to, or does not match its own checksum; ``LabError`` when the topic is absent, and
    what ``read_records`` raises.
    """
    ranges = log_ranges(bootstrap, [topic])
    found: dict[int, list[int]] = {partition: [] for _, partition in ranges}
    for message in read_records(bootstrap, ranges):
        partition = message.partition()
        found[partition].append(_ledger_seq(message.value() or b"", run, partition))
    return found


def _ledger_seq(value: bytes, run: str, partition: int) -> int:
    try:
        owner, place, seq, checksum, body = value.split(b"|", 4)
        right = int(checksum, 16) == zlib.crc32(body)
    except ValueError:
        right, owner, place, seq = False, b"", b"", b"-1"
    if not right or owner != run.encode() or int(place) != partition:
        raise SeedError(
            f"partition {partition} holds a record that is not of {run}: {value[:80]!r}"
        )
    return int(seq)
