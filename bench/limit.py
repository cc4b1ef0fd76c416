"""The limit: how fast the brokers send and take whole batches that no client opens.

``fetch`` reads all partitions of a topic over a few connections into one reused buffer each and
throws the bytes away. ``produce`` sends prebuilt batches, one for each of several partitions a
request, over a few connections with requests pipelined, acks=-1, and checks every answer. Both
print one JSON object: bytes, seconds of wall and CPU. Standard library only, and no code of
copystream: what limits the engine must not be measured by the engine.

    limit.py fetch   --bootstrap HOST:PORT --topic T --partitions N
    limit.py produce --bootstrap HOST:PORT --topic T --partitions N --batches FILE --each COUNT
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

CONNECTIONS = 2
REQUEST_BYTES = 1 << 20  # a produce request carries about this much
IN_FLIGHT = 4
PREBUILT_BYTES = 4 << 20  # of different requests for each group of partitions
FETCH_BYTES = 8 << 20  # of a whole answer
PARTITION_BYTES = 1 << 20
FETCH_BUFFER = FETCH_BYTES + (2 << 20)  # a broker may exceed the limit by one batch
SOCKET_BUFFER = 1 << 20

PRODUCE, FETCH, LIST_OFFSETS = 0, 1, 2


def connect(address: str) -> socket.socket:
    host, _, port = address.split(",", maxsplit=1)[0].rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    return connection


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def framed(api: int, version: int, body: bytes) -> bytes:
    """A request with header v1."""
    header = struct.pack(">hhi", api, version, 0) + string("limit")
    return struct.pack(">i", len(header) + len(body)) + header + body


def receive_into(connection: socket.socket, view: memoryview) -> None:
    got = 0
    while got < len(view):
        count = connection.recv_into(view[got:])
        if not count:
            raise ConnectionError("the broker closed the connection")
        got += count


def receive(connection: socket.socket, buffer: bytearray) -> memoryview:
    """One response, without its size, in ``buffer``."""
    view = memoryview(buffer)
    receive_into(connection, view[:4])
    (size,) = struct.unpack_from(">i", view)
    receive_into(connection, view[:size])
    return view[:size]


class EndOffsets:
    """Asks one broker for the end offsets of a topic's partitions, over one connection."""

    def __init__(self, address: str, topic: str, partitions: int) -> None:
        self._connection = connect(address)
        wanted = b"".join(struct.pack(">iiq", index, -1, -1) for index in range(partitions))
        body = struct.pack(">ibi", -1, 0, 1) + string(topic) + struct.pack(">i", partitions)
        self._request = framed(LIST_OFFSETS, 4, body + wanted)
        self._first = 4 + 4 + 4 + 2 + len(topic.encode()) + 4
        self._partitions = partitions
        self._buffer = bytearray(1 << 16)

    def ask(self) -> list[int]:
        """One offset for each partition; −1 where it is not there, or not led (yet)."""
        self._connection.sendall(self._request)
        answer = receive(self._connection, self._buffer)
        offsets = [-1] * self._partitions
        for entry in range(self._partitions):
            at = self._first + 26 * entry
            index, error, _, offset, _ = struct.unpack_from(">ihqqi", answer, at)
            if error == 0:
                offsets[index] = offset
        return offsets

    def close(self) -> None:
        self._connection.close()


Figures = dict[str, float]  # bytes, wall and cpu in seconds


def fetch(address: str, topic: str, partitions: int) -> Figures:
    """Reads everything there is now."""
    asking = EndOffsets(address, topic, partitions)
    ends = asking.ask()
    asking.close()

    def run(mine: Sequence[int]) -> int:
        connection = connect(address)
        buffer = bytearray(FETCH_BUFFER)
        positions = {index: 0 for index in mine if ends[index] > 0}
        total = 0
        while positions:
            fields = [
                struct.pack(">iiqqi", index, -1, position, -1, PARTITION_BYTES)
                for index, position in positions.items()
            ]
            body = struct.pack(">iiiibiii", -1, 500, 1, FETCH_BYTES, 0, 0, -1, 1) + string(topic)
            body += struct.pack(">i", len(fields)) + b"".join(fields) + struct.pack(">i", 0)
            connection.sendall(framed(FETCH, 11, body + string("")))
            answer = receive(connection, buffer)
            got = _read_fetch(answer, positions, ends)
            total += got
            # a partition that was served goes to the end, so that all get their turn
            positions = dict(sorted(positions.items(), key=lambda item: item[1] / ends[item[0]]))
        connection.close()
        return total

    return _timed([partial(run, share) for share in _shares(partitions)])


def _read_fetch(answer: memoryview, positions: dict[int, int], ends: list[int]) -> int:
    """Moves ``positions`` past the batches in a Fetch v11 answer; returns the batches' bytes."""
    _, _, error, _, topics = struct.unpack_from(">iihii", answer)
    if error or topics > 1:
        raise RuntimeError(f"Fetch answered error {error} with {topics} topics")
    if topics == 0:
        return 0
    (length,) = struct.unpack_from(">h", answer, 18)
    at = 20 + length
    (count,) = struct.unpack_from(">i", answer, at)
    at += 4
    total = 0
    for _ in range(count):
        index, error, _, _, _, aborted = struct.unpack_from(">ihqqqi", answer, at)
        if error:
            raise RuntimeError(f"Fetch of partition {index} answered error {error}")
        at += 34 + 16 * max(aborted, 0) + 4
        (size,) = struct.unpack_from(">i", answer, at)
        at += 4
        end = at + size
        while at + 61 <= end:
            base, length = struct.unpack_from(">qi", answer, at)
            if at + 12 + length > end:
                break
            (last_delta,) = struct.unpack_from(">i", answer, at + 23)
            positions[index] = base + last_delta + 1
            total += 12 + length
            at += 12 + length
        at = end
        if positions[index] >= ends[index]:
            del positions[index]
    return total


def produce(
    address: str, topic: str, partitions: int, batches: Sequence[bytes], each: int
) -> Figures:
    """Writes ``each`` batches to every partition, going round ``batches``."""
    largest = max(len(batch) for batch in batches)
    group = max(1, REQUEST_BYTES // largest)
    turns = min(len(batches), max(1, PREBUILT_BYTES // (largest * min(group, partitions))))

    def prebuild(mine: Sequence[int]) -> list[tuple[int, list[tuple[bytes, int]]]]:
        parts = [mine[start : start + group] for start in range(0, len(mine), group)]
        return [
            (
                len(part),
                [_produce_request(topic, part, batches, turn * group) for turn in range(turns)],
            )
            for part in parts
        ]

    def run(prebuilt: list[tuple[int, list[tuple[bytes, int]]]]) -> int:
        connection = connect(address)
        buffer = bytearray(1 << 16)
        waiting: deque[int] = deque()
        total = 0
        for turn in range(each):
            for count, requests in prebuilt:
                while len(waiting) >= IN_FLIGHT:
                    _check_produce(receive(connection, buffer), topic, waiting.popleft())
                request, size = requests[turn % turns]
                connection.sendall(request)
                waiting.append(count)
                total += size
        while waiting:
            _check_produce(receive(connection, buffer), topic, waiting.popleft())
        connection.close()
        return total

    return _timed([partial(run, prebuild(share)) for share in _shares(partitions)])


def _produce_request(
    topic: str, part: Sequence[int], batches: Sequence[bytes], first: int
) -> tuple[bytes, int]:
    """A Produce v7 request with one batch for each partition of ``part``; its batches' bytes."""
    body = bytearray(struct.pack(">hhii", -1, -1, 60000, 1) + string(topic))
    body += struct.pack(">i", len(part))
    size = 0
    for place, index in enumerate(part):
        batch = batches[(first + place) % len(batches)]
        body += struct.pack(">ii", index, len(batch)) + batch
        size += len(batch)
    return framed(PRODUCE, 7, bytes(body)), size


def _check_produce(answer: memoryview, topic: str, partitions: int) -> None:
    at = 4 + 4 + 2 + len(topic.encode()) + 4
    for entry in range(partitions):
        index, error = struct.unpack_from(">ih", answer, at + 30 * entry)
        if error:
            raise RuntimeError(f"Produce to partition {index} answered error {error}")


def _shares(partitions: int) -> list[range]:
    """The partitions of each connection."""
    return [range(first, partitions, CONNECTIONS) for first in range(min(CONNECTIONS, partitions))]


def _timed(runs: Sequence[Callable[[], int]]) -> Figures:
    """Runs each of ``runs``, which give the bytes they moved, in a thread of its own."""
    cpu, wall = time.process_time(), time.monotonic()
    with ThreadPoolExecutor(len(runs)) as threads:
        moved = sum(threads.map(lambda run: run(), runs))
    return {
        "bytes": moved,
        "wall": time.monotonic() - wall,
        "cpu": time.process_time() - cpu,
    }


def load_batches(path: Path) -> list[bytes]:
    """Batches written one after the other: each begins with its base offset and length."""
    data = path.read_bytes()
    batches = []
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at + 8)
        batches.append(data[at : at + 12 + length])
        at += 12 + length
    return batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("direction", choices=["fetch", "produce"])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--batches", type=Path)
    parser.add_argument("--each", type=int)
    given = parser.parse_args()
    if given.direction == "produce" and (given.batches is None or given.each is None):
        parser.error("produce needs --batches and --each")
    batches = load_batches(given.batches) if given.batches else []
    if given.direction == "fetch":
        figures = fetch(given.bootstrap, given.topic, given.partitions)
    else:
        figures = produce(given.bootstrap, given.topic, given.partitions, batches, given.each)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
