"""Lanes as threads: each runs a ``copycore.lane.Lane`` and takes orders from the job."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from copycore.frames import FETCH_KEY, FETCH_VERSIONS, PRODUCE_KEY, PRODUCE_VERSIONS
from copycore.lane import Lane
from copycore.partition import PartitionCopy
from copycore.segments import Segments
from copycore.split import Stride
from replicator.cluster import Cluster
from replicator.engine.aside import Then
from replicator.process import now_ms

if TYPE_CHECKING:
    from copycore.lane import Event
    from copycore.pipe import Pipe

# After a pause this long (SIGSTOP, a suspended machine) another copystream may have taken over, and
# the brokers may have forgotten our producer id: nothing more is sent on the old connections.
PAUSE_LIMIT_MS = 10_000
WAIT_MS = 500

PipeKey = tuple[int, tuple[int, ...], int]  # source broker, target brokers, slot

_log = logging.getLogger(__name__)


class LaneWorker:
    """One lane and its thread. Orders are queued and carried out between two steps of the lane.

    ``inbox`` receives ``(worker, event)`` for the job; ``segments`` is called in the lane's thread
    with each set of map segments that has to become durable, and ``strides`` with each stride.
    """

    def __init__(
        self,
        lane: Lane,
        inbox: queue.SimpleQueue[tuple[LaneWorker, Event] | Then | None],
        segments: Callable[[LaneWorker, PartitionCopy, Segments], None],
        strides: Callable[[LaneWorker, PartitionCopy, Stride], None],
        *,
        slab_bytes: int,
        pipe_bytes: int,
    ) -> None:
        self.lane = lane
        self._inbox = inbox
        self._segments = segments
        self._strides = strides
        self._slab_bytes = slab_bytes
        self._pipe_bytes = pipe_bytes
        self._orders: deque[Callable[[], None]] = deque()
        self._pipes: dict[PipeKey, Pipe] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="lane", daemon=True)
        self.failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def order(self, action: Callable[[], None]) -> None:
        """Carry ``action`` out in the lane's thread, soon."""
        self._orders.append(action)
        self.lane.wake()

    def connect(self, source: Cluster, target: Cluster, key: PipeKey) -> None:
        """Open the pipe for ``key`` unless it stands. Raises what the clusters raise."""
        pipe = self._pipes.get(key)
        if pipe is not None and pipe.open:
            return
        reading = source.data_connection(key[0])
        with ExitStack() as stack:
            stack.callback(reading.close)
            targets = []
            for broker in key[1]:
                writing = target.data_connection(broker)
                stack.callback(writing.close)
                targets.append((writing, writing.version(PRODUCE_KEY, *PRODUCE_VERSIONS)))
            fetch_version = reading.version(FETCH_KEY, *FETCH_VERSIONS)
            stack.pop_all()
        made = threading.Event()

        def add() -> None:
            self._pipes[key] = self.lane.add_pipe(
                reading.detach(),
                fetch_version,
                [(writing.detach(), version) for writing, version in targets],
                self._slab_bytes,
                self._pipe_bytes,
            )
            made.set()

        self.order(add)
        while not made.wait(1.0):
            if not self._thread.is_alive():
                raise RuntimeError("a lane has ended early") from self.failure

    def open_pipes(self) -> list[PipeKey]:
        """Pipes that stand, as far as is known; from any thread."""
        return [key for key, pipe in list(self._pipes.items()) if pipe.open]

    def assign(self, key: PipeKey, part: PartitionCopy, outlets: Sequence[int]) -> None:
        """Copy ``part`` through the pipe of ``key``; a pipe lost meanwhile ends it as lost.

        ``outlets``: for each of its branches, the place of its broker in the key.
        """

        def add() -> None:
            pipe = self._pipes[key]
            if pipe.open:
                self.lane.assign(pipe, part, outlets)
            else:
                self.lane.lose(part, "the connection was lost before it was used")
                self._inbox.put((self, ("ended", part)))

        self.order(add)

    def confirm(self, part: PartitionCopy, source: int) -> None:
        """Open the gate of ``part`` at this source offset: what was reported with it is durable."""
        self.order(lambda: part.confirm(source))

    def lose(self, part: PartitionCopy, reason: str) -> None:
        self.order(lambda: self.lane.lose(part, reason))

    def stop(self, part: PartitionCopy) -> None:
        self.order(lambda: self.lane.stop(part))

    def stop_all(self) -> None:
        self.order(self.lane.stop_all)

    def silence(self) -> int:
        """Milliseconds that the broker which is silent longest has owed an answer."""
        return self.lane.silence(now_ms())

    def drop_silent(self, key: PipeKey, silence: int, reason: str) -> None:
        """Close those connections of a pipe whose brokers have owed an answer so many ms."""

        def drop() -> None:
            pipe = self._pipes.get(key)
            if pipe is not None:
                self.lane.drop_silent(pipe, now_ms(), silence, reason)

        self.order(drop)

    def abandon(self, reason: str) -> None:
        """Close all connections, whatever is in flight."""
        self.order(lambda: self.lane.abandon(reason))

    def close(self) -> None:
        self._closing = True
        self.lane.wake()
        self._thread.join(10)

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as failure:  # the job ends loudly with it
            self.failure = failure
            self._inbox.put(None)
        finally:
            self.lane.close()

    def _loop(self) -> None:
        while not self._closing:
            while self._orders:
                self._orders.popleft()()
            for event in self.lane.step(now_ms(), WAIT_MS, now_ms):
                if event[0] == "segments":
                    self._segments(self, event[1], event[2])
                elif event[0] == "stride":
                    self._strides(self, event[1], event[2])
                elif event[0] == "closed":
                    _log.info("connection to %s lost: %s", event[2], event[3])
                else:
                    self._inbox.put((self, event))
