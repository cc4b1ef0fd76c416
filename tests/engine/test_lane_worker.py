"""A lane's thread: orders, connections that are never leaked, pauses, failures that are told."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from copycore.lane import Lane
from copycore.partition import PartitionCopy
from copycore.segments import Segments
from copycore.split import Stride
from kit.brokers.scripted import SourceBroker, TargetBroker, TargetLog
from kit.logs.truth import RecordLog, arrived, rows
from replicator.cluster.errors import Unreachable, Unsupported
from replicator.engine.lanes import LaneWorker, PipeKey
from replicator.errors import CopystreamError

DEADLINE = 30.0  # real seconds until a test says that something never happens
KEY = (1, (2,), 0)


def until(condition: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never happens"
        meanwhile()
        time.sleep(0.001)


class FakePipe:
    open = True


class FakeLane:
    """Steps do nothing but wait for the next order."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.threads: set[int] = set()
        self.pipes: list[tuple[Any, ...]] = []
        self.said: list[tuple[Any, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        self.closed = False
        self._woken = threading.Event()

    def wake(self) -> None:
        self._woken.set()

    def step(self, now: int, timeout: int, clock: Callable[[], int]) -> list[tuple[Any, ...]]:
        self._woken.wait(0.02)
        self._woken.clear()
        self.steps.append(now)
        self.threads.add(threading.get_ident())
        if self.failure is not None:
            raise self.failure
        events, self.events = self.events, []
        return events

    def add_pipe(self, *arguments: Any) -> FakePipe:
        self.pipes.append(arguments)
        return FakePipe()

    def assign(self, pipe: FakePipe, part: Any, outlets: Any) -> None:
        assert outlets == [0]
        self.said.append(("assign", part))

    def lose(self, part: Any, reason: str) -> None:
        self.said.append(("lose", part, reason))

    def stop(self, part: Any) -> None:
        self.said.append(("stop", part))

    def stop_all(self) -> None:
        self.said.append(("stop_all",))

    def abandon(self, reason: str) -> None:
        self.said.append(("abandon", reason))

    def close(self) -> None:
        self.closed = True


class FakeConnection:
    """A negotiated connection that has or has not a version in common."""

    def __init__(self, sock: socket.socket, refusal: CopystreamError | None) -> None:
        self.sock = sock
        self.refusal = refusal
        self.closed = False
        self.detached = False

    def version(self, _key: int, _lowest: int, highest: int) -> int:
        if self.refusal is not None:
            raise self.refusal
        return highest

    def detach(self) -> socket.socket:
        self.detached = True
        return self.sock

    def close(self) -> None:
        self.closed = True
        self.sock.close()


class FakeCluster:
    """Hands out the near ends of socket pairs and keeps the far ones."""

    def __init__(self) -> None:
        self.refusal: CopystreamError | None = None
        self.old: CopystreamError | None = None
        self.asked: list[int] = []
        self.connections: list[FakeConnection] = []
        self.far: list[socket.socket] = []

    def data_connection(self, broker: int) -> FakeConnection:
        self.asked.append(broker)
        if self.refusal is not None:
            raise self.refusal
        near, far = socket.socketpair()
        self.far.append(far)
        self.connections.append(FakeConnection(near, self.old))
        return self.connections[-1]

    def close(self) -> None:
        for sock in [*self.far, *(connection.sock for connection in self.connections)]:
            sock.close()


class Setup:
    def __init__(self, lane: Any) -> None:
        self.lane = lane
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.segments: list[tuple[Any, list[tuple[int, int]]]] = []
        self.strides: list[tuple[Any, Stride]] = []
        self.refusal: Exception | None = None
        self.source, self.target = FakeCluster(), FakeCluster()
        self.worker = LaneWorker(
            lane,
            self.inbox,
            self._segments,
            self._strides,
            slab_bytes=1 << 16,
            pipe_bytes=1 << 20,
        )

    def _strides(self, worker: LaneWorker, part: Any, stride: Stride) -> None:
        self.strides.append((part, stride))

    def _segments(self, worker: LaneWorker, part: Any, segments: Segments) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.segments.append((part, list(segments)))
        worker.confirm(part, segments.gate)

    def connect(self, key: PipeKey = KEY) -> None:
        self.worker.connect(self.source, self.target, key)  # type: ignore[arg-type]

    def close(self) -> None:
        self.worker.close()
        self.source.close()
        self.target.close()


@pytest.fixture
def setup() -> Iterator[Setup]:
    made = Setup(FakeLane())
    made.worker.start()
    yield made
    made.close()


# --- orders ---------------------------------------------------------------------------------------


def test_orders_are_carried_out_in_turn_and_in_the_lanes_thread(setup: Setup) -> None:
    threads = []
    for number in range(50):
        setup.worker.order(lambda n=number: threads.append((n, threading.get_ident())))  # type: ignore[misc]
    until(lambda: len(threads) == 50)
    assert [number for number, _ in threads] == list(range(50))
    assert {thread for _, thread in threads} == setup.lane.threads
    assert threading.get_ident() not in setup.lane.threads


def test_what_a_lane_is_told(setup: Setup) -> None:
    said = setup.lane.said
    part: Any = SimpleNamespace(confirm=lambda counter: said.append(("confirm", counter)))
    setup.connect()
    setup.worker.assign(KEY, part, [0])
    setup.worker.confirm(part, 8)
    setup.worker.lose(part, "why")
    setup.worker.stop(part)
    setup.worker.stop_all()
    until(lambda: len(said) == 5)
    assert said == [
        ("assign", part),
        ("confirm", 8),
        ("lose", part, "why"),
        ("stop", part),
        ("stop_all",),
    ]


def test_events_go_to_the_job_and_segments_to_the_map(setup: Setup) -> None:
    part: Any = SimpleNamespace(confirm=lambda _: None)
    setup.lane.events = [
        ("segments", part, Segments([5], [2])),
        ("closed", FakePipe(), "source", "gone"),
        ("ended", part),
    ]
    setup.lane.wake()
    assert setup.inbox.get(timeout=DEADLINE) == (setup.worker, ("ended", part))
    assert setup.segments == [(part, [(5, 2)])]
    assert setup.inbox.empty()


def test_closing_ends_the_thread_and_the_lane(setup: Setup) -> None:
    setup.worker.close()
    assert setup.lane.closed
    assert setup.worker.failure is None
    assert setup.inbox.empty()


# --- connecting -----------------------------------------------------------------------------------


def test_a_pipe_is_opened_once(setup: Setup) -> None:
    setup.connect()
    setup.connect()
    setup.connect((1, (2,), 1))
    assert setup.source.asked == [1, 1]
    assert setup.target.asked == [2, 2]
    reading, fetch, targets, slab, memory = setup.lane.pipes[0]
    ((writing, produce),) = targets
    assert (fetch, produce, slab, memory) == (13, 9, 1 << 16, 1 << 20)
    assert reading is setup.source.connections[0].sock
    assert writing is setup.target.connections[0].sock


def test_a_pipe_to_several_brokers(setup: Setup) -> None:
    setup.connect((1, (2, 5), 0))
    assert setup.target.asked == [2, 5]
    targets = setup.lane.pipes[0][2]
    assert targets == [(one.sock, 9) for one in setup.target.connections]
    assert all(one.detached and not one.closed for one in setup.target.connections)


def test_a_pipe_that_was_lost_is_opened_again(setup: Setup) -> None:
    setup.connect()
    setup.worker._pipes[KEY].open = False  # type: ignore[misc]
    setup.connect()
    assert len(setup.lane.pipes) == 2


@pytest.mark.parametrize("what", ["unreachable target", "old source", "old target"])
def test_a_pipe_that_cannot_be_opened_leaks_no_connection(setup: Setup, what: str) -> None:
    """Tried every second or two for minutes, a leak would be hundreds of sockets (D5)."""
    if what == "unreachable target":
        setup.target.refusal = Unreachable("target", "refused")
    elif what == "old source":
        setup.source.old = Unsupported("source", "too old")
    else:
        setup.target.old = Unsupported("target", "too old")
    with pytest.raises((Unreachable, Unsupported, Unsupported)):
        setup.connect()
    made = setup.source.connections + setup.target.connections
    assert made
    assert all(connection.closed and not connection.detached for connection in made)
    assert setup.lane.pipes == []


def test_an_assignment_to_a_lost_pipe_ends_as_lost(setup: Setup) -> None:
    """Lost between connecting and assigning."""
    setup.connect()
    setup.worker._pipes[KEY].open = False  # type: ignore[misc]
    part: Any = object()
    setup.worker.assign(KEY, part, [0])
    assert setup.inbox.get(timeout=DEADLINE) == (setup.worker, ("ended", part))
    assert setup.lane.said == [("lose", part, "the connection was lost before it was used")]


# --- failing --------------------------------------------------------------------------------------


def test_a_lane_that_fails_is_told_and_closed(setup: Setup) -> None:
    setup.lane.failure = MemoryError("no slab")
    setup.lane.wake()
    assert setup.inbox.get(timeout=DEADLINE) is None
    assert setup.worker.failure is setup.lane.failure
    until(lambda: setup.lane.closed)


def test_a_failure_outside_the_lane_is_told_too(setup: Setup) -> None:
    setup.refusal = ValueError("no segment")
    setup.lane.events = [("segments", object(), [(1, 1)])]
    setup.lane.wake()
    assert setup.inbox.get(timeout=DEADLINE) is None
    assert setup.worker.failure is setup.refusal


def test_connecting_to_a_lane_that_has_ended_does_not_hang(setup: Setup) -> None:
    setup.lane.failure = MemoryError("no slab")
    setup.lane.wake()
    assert setup.inbox.get(timeout=DEADLINE) is None
    with pytest.raises(RuntimeError, match="a lane has ended early") as caught:
        setup.connect()
    assert caught.value.__cause__ is setup.lane.failure


# --- the real thing -------------------------------------------------------------------------------


def test_a_partition_through_a_lane_of_its_own_thread() -> None:
    """Real lane, real thread, scripted brokers: segments are confirmed by the job on the way."""
    log = RecordLog()
    for n in range(50):
        log.add(rows(n * 3, -2))
    setup = Setup(Lane(b"test", read_committed=True, check_crc=True))
    setup.worker.start()
    try:
        setup.connect()
        source = SourceBroker(setup.source.far[0], [log], lambda: 1000)
        target = TargetBroker(setup.target.far[0], [TargetLog(b"to-t", 0, 7)])
        part = PartitionCopy(
            "t",
            0,
            source_name=b"t",
            source_id=log.topic_id,
            target_name=b"to-t",
            leader_epoch=0,
            start=0,
            mapped=0,
            end=log.end,
            counter=0,
            base_target=0,
            producer_id=7,
            producer_epoch=0,
        )
        setup.worker.assign(KEY, part, [0])

        def serve() -> None:
            source.serve()
            target.serve()

        until(lambda: not setup.inbox.empty(), serve)
        assert setup.inbox.get() == (setup.worker, ("ended", part))
        assert (part.ending, part.records) == ("done", 100)
        assert (part.rebatched, part.passed) == (50, 0), "small ones are merged"
        got = arrived(target.logs[b"to-t", 0].batches)
        assert [one.seen for one in got] == [
            one.seen for one in log.seen(0, log.end, committed=True)
        ]
        # Every batch but the first follows a hole.
        found = [segment for _, segments in setup.segments for segment in segments]
        assert found == [(n * 3, n * 2) for n in range(1, 50)]
    finally:
        setup.close()
