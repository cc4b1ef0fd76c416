"""What a whole lane costs, its sockets included: from a Fetch's answer to the last acknowledgement.

    pytest bench/micro/test_lane_speed.py --benchmark-enable

The brokers are one end of a socket pair each and answer with bytes made beforehand, so almost all
of the time is the lane's and the kernel's. All partitions have equally many batches; a request
therefore has one of each, and what answers it is known before it comes.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Any, Literal, NamedTuple

import lz4.frame
import pytest

from copycore.crc32c import crc32c
from copycore.lane import Lane
from copycore.partition import PartitionCopy
from copycore.rebatch import Rebatcher
from copycore.records import encode_records
from copycore.split import Split

KIB = 1024
MILLION = 1e6
TOPIC = b"orders"
PARTITIONS = 12
FETCH, PRODUCE = 12, 9
TIME = 1_700_000_000_000


Merge = Literal["auto", "always", "never"]


class Load(NamedTuple):
    """The records of each partition in one Fetch, and the number of requests they make."""

    batches: int
    records: int  # of a batch
    payload: bytes
    codec: int
    requests: int
    merge: Merge
    split: bool

    @property
    def slice(self) -> bytes:
        last = self.records - 1
        covered = struct.pack(">hiqqqhii", self.codec, last, TIME, TIME, -1, -1, -1, self.records)
        covered += self.payload
        body = struct.pack(">iibI", len(covered) + 9, 5, 2, crc32c(covered)) + covered
        return b"".join(struct.pack(">q", self.records * n) + body for n in range(self.batches))


def load(
    batches: int, records: int, *, codec: int = 0, merge: Merge = "never", split: bool = False
) -> Load:
    """Records of 100 bytes with a key of 8."""
    bodies = [
        (TIME, b"\x10" + struct.pack(">q", 977 * number) + b"\xb8\1" + bytes(92) + b"\0")
        for number in range(records)
    ]
    payload = encode_records(bodies)
    if codec:
        payload = lz4.frame.compress(payload, block_linked=False)
    requests = batches if merge == "never" and not split else 1
    return Load(batches, records, payload, codec, requests, merge, split)


def uvarint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def fetch_answer(sources: int, load: Load) -> bytes:
    end = load.batches * load.records
    records = load.slice
    body = struct.pack(">ibihi", 1, 0, 0, 0, 0) + b"\2\7" + TOPIC + bytes([sources + 1])
    for number in range(sources):
        body += struct.pack(">ihqqq", number, 0, end, end, 0) + b"\1" + struct.pack(">i", -1)
        body += uvarint(len(records) + 1) + records + b"\0"
    body += b"\0\0"
    return struct.pack(">i", len(body)) + body


def produce_answer(correlation: int, base: int) -> bytes:
    body = struct.pack(">ib", correlation, 0) + b"\2\7" + TOPIC + bytes([PARTITIONS + 1])
    for number in range(PARTITIONS):
        body += struct.pack(">ihqqq", number, 0, base, -1, 0) + b"\1\0\0"
    body += b"\0" + bytes(5)
    return struct.pack(">i", len(body)) + body


class Brokers:
    """The far ends: one answer to the one Fetch, one to each Produce that has come whole."""

    def __init__(self, load: Load) -> None:
        self.sources = 1 if load.split else PARTITIONS
        self.fetched = fetch_answer(self.sources, load)
        self.produced = [
            produce_answer(1 + number, load.records * number) for number in range(load.requests)
        ]

    def begin(self) -> tuple[socket.socket, socket.socket]:
        (source, self.source), (target, self.target) = socket.socketpair(), socket.socketpair()
        for sock in (self.source, self.target):
            sock.setblocking(False)
        self.to_send = memoryview(self.fetched)
        self.asked = False
        self.answered = 0
        self.inbox = bytearray()
        return source, target

    def serve(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.asked = self.asked or bool(self.source.recv(1 << 16))
            while self.asked and self.to_send:
                self.to_send = self.to_send[self.source.send(self.to_send) :]
        with contextlib.suppress(BlockingIOError):
            while got := self.target.recv(1 << 20):
                self.inbox += got
        at = 0
        while len(self.inbox) >= at + 4:
            (size,) = struct.unpack_from(">i", self.inbox, at)
            if len(self.inbox) < at + 4 + size:
                break
            at += 4 + size
            self.target.send(self.produced[self.answered])
            self.answered += 1
        del self.inbox[:at]

    def end(self) -> None:
        self.source.close()
        self.target.close()


def assigned(load: Load, number: int) -> PartitionCopy:
    split = Split("murmur2", [0] * PARTITIONS, [0] * PARTITIONS) if load.split else None
    return PartitionCopy(
        TOPIC.decode(),
        number,
        source_name=TOPIC,
        source_id=bytes(16),
        target_name=TOPIC,
        leader_epoch=0,
        start=0,
        mapped=0,
        end=load.batches * load.records,
        counter=0,
        base_target=0,
        producer_id=1,
        producer_epoch=0,
        split=split,
    )


def copy(load: Load, brokers: Brokers) -> float:
    """One Fetch's worth, by a lane of its own; the seconds of CPU that its steps took."""
    spent = 0.0
    source, target = brokers.begin()
    lane = Lane(
        b"bench",
        read_committed=True,
        check_crc=False,
        rebatcher=Rebatcher(merge=load.merge, batch_bytes=8 << 20),
        request_bytes=64 << 20,
    )
    pipe = lane.add_pipe(source, FETCH, [(target, PRODUCE)], 32 << 20, 128 << 20)
    parts = [assigned(load, number) for number in range(brokers.sources)]
    for part in parts:
        lane.assign(pipe, part, (0,) * (PARTITIONS if load.split else 1))
    running = len(parts)
    for _ in range(100_000):
        before = time.thread_time()
        for event in lane.step(0, 0, lambda: 0):
            if event[0] == "segments":
                event[1].confirm(event[2].gate)
            elif event[0] == "stride":
                event[1].confirm(event[2].start)
            elif event[0] == "ended":
                assert event[1].ending == "done", (event[1].ending, event[1].end_message)
                running -= 1
        spent += time.thread_time() - before
        if not running:
            break
        brokers.serve()
    lane.close()
    brokers.end()
    assert sum(part.records for part in parts) == brokers.sources * load.batches * load.records
    return spent


LOADS = {
    "pass 16 KiB batches on": load(100, 130),
    "pass 1 KiB batches on": load(1000, 8),
    "merge 1 KiB batches": load(200, 8, merge="always"),
    "merge 1 KiB batches, lz4": load(200, 8, codec=3, merge="always"),
    "merge 16 KiB batches, lz4": load(20, 150, codec=3, merge="always"),
    "split up 16 KiB batches": load(100, 130, split=True),
}


@pytest.mark.parametrize("name", LOADS)
def test_lane(measure: Any, name: str) -> None:
    chosen = LOADS[name]
    brokers = Brokers(chosen)
    amount = brokers.sources * chosen.batches * chosen.records / MILLION
    measure(f"lane: {name}", amount, "M records/s", None, copy, chosen, brokers)
