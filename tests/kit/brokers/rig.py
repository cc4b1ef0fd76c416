"""A lane between scripted brokers, on a clock that only the test moves."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from copycore.allowance import Allowance
from copycore.bucket import Bucket
from copycore.lane import Lane
from copycore.partition import PartitionCopy
from copycore.rebatch import Rebatcher
from copycore.split import Split, Stride
from kit.brokers.scripted import (
    IN_FLIGHT,
    ProduceRequest,
    SourceBroker,
    SourceLog,
    TargetBroker,
    TargetLog,
)

if TYPE_CHECKING:
    from copycore.lane import Event
    from copycore.pipe import Pipe

PRODUCER = 7001
EPOCH = 3
MEMORY = 1 << 20
SLAB = 1 << 16  # bytes; a lane adds its margin


@dataclass
class Ends:
    """A pipe and the brokers at its ends; most pipes have one target."""

    pipe: Pipe
    source: SourceBroker
    target: TargetBroker
    targets: list[TargetBroker]


@dataclass
class Rig:
    """One lane, its pipes, and everything it reported. ``step`` takes one turn with all brokers."""

    read_committed: bool = True
    check_crc: bool = False
    bucket: Bucket | None = None  # above those of the partitions assigned from now on
    # Batches whose payload is no records cannot be taken apart.
    rebatcher: Rebatcher = field(default_factory=lambda: Rebatcher(merge="never"))
    allowance: Allowance | None = None
    request_bytes: int = 4 << 20
    request_timeout: int = 30_000
    poll_wait: int = 250
    linger: int = 0
    pause_limit: int = 0
    confirming: bool = True  # map segments become durable at once
    tcp: bool = False
    # What the lane, and what the brokers, have instead of their ends of a socket pair.
    near_end: Callable[[socket.socket], Any] = lambda sock: sock
    far_end: Callable[[socket.socket], Any] = lambda sock: sock

    now: int = 1_000_000  # ms
    tick: int = 1  # ms a step takes
    pipes: list[Ends] = field(default_factory=list)
    parts: list[PartitionCopy] = field(default_factory=list)
    ended: list[PartitionCopy] = field(default_factory=list)
    closed: list[tuple[Pipe, str, str]] = field(default_factory=list)
    chunks: dict[PartitionCopy, list[list[tuple[int, int]]]] = field(default_factory=dict)
    strides: dict[PartitionCopy, list[Stride]] = field(default_factory=dict)
    # With what was reported for the map, which may be a leader epoch without a segment.
    unconfirmed: list[tuple[PartitionCopy, int, list[tuple[int, int]]]] = field(
        default_factory=list
    )
    # Which pipes' brokers serve in a step; all of them unless a test says otherwise.
    serving: Callable[[Ends], tuple[bool, bool]] = lambda _ends: (True, True)

    def __post_init__(self) -> None:
        self.lane = Lane(
            b"test",
            read_committed=self.read_committed,
            check_crc=self.check_crc,
            rebatcher=self.rebatcher,
            allowance=self.allowance,
            request_bytes=self.request_bytes,
            request_timeout=self.request_timeout,
            poll_wait=self.poll_wait,
            linger=self.linger,
            pause_limit=self.pause_limit,
        )

    # --- setting up -----------------------------------------------------------------------------

    def pipe(
        self,
        *logs: SourceLog,
        fetch: int = 13,
        produce: int = 9,
        slab: int = SLAB,
        memory: int = MEMORY,
        limit: Callable[[], int] = lambda: 1 << 30,
        buffer: int | None = None,
        targets: int = 1,
    ) -> Ends:
        """A pipe with honest brokers. ``buffer`` bytes may wait in the lane's socket to the
        target; the kernel has a lower limit of its own.
        """
        source_near, source_far = self._sockets()
        source = self.far_end(source_far)
        pairs = [self._sockets() for _ in range(targets)]
        for near, far in pairs:
            if buffer is not None:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        brokers = [TargetBroker(self.far_end(far), []) for _, far in pairs]
        ends = Ends(
            self.lane.add_pipe(
                self.near_end(source_near),
                fetch,
                [(self.near_end(near), produce) for near, _ in pairs],
                slab,
                memory,
            ),
            SourceBroker(source, logs, limit),
            brokers[0],
            brokers,
        )
        self.pipes.append(ends)
        return ends

    def _sockets(self) -> tuple[socket.socket, socket.socket]:
        if not self.tcp:
            return socket.socketpair()
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            far, _ = server.accept()
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return near, far

    def assign(
        self,
        ends: Ends,
        log: SourceLog,
        *,
        start: int | None = None,
        mapped: int | None = None,
        end: int | None = None,
        counter: int = 0,
        base: int = 0,
        leader_epoch: int = 5,
        known: Sequence[tuple[int, int]] = (),
        batch_limit: int = 128 << 20,
        apart_until: int = 0,
        single_until: int = 0,
        unpack: bool = False,
        epoch: int = -1,
        known_epochs: Sequence[tuple[int, int]] = (),
        new_epochs: Sequence[tuple[int, int]] = (),
        transaction_limit: int = 10_000,
        split: Split | None = None,
        producer: int = PRODUCER,
        outlets: Sequence[int] = (0,),
    ) -> PartitionCopy:
        """Copy ``log`` to a topic of its name, from its start to its end unless told otherwise."""
        start = log.start if start is None else start
        part = PartitionCopy(
            log.topic.decode(),
            log.partition,
            source_name=log.topic,
            source_id=log.topic_id,
            target_name=b"to-" + log.topic,
            leader_epoch=leader_epoch,
            start=start,
            mapped=start if mapped is None else mapped,
            end=(log.stable if self.read_committed else log.end) if end is None else end,
            counter=counter,
            base_target=base,
            producer_id=producer,
            producer_epoch=EPOCH,
            known=known,
            batch_limit=batch_limit,
            apart_until=apart_until,
            single_until=single_until,
            unpack=unpack,
            epoch=epoch,
            fetched_epoch=epoch,
            known_epochs=known_epochs,
            new_epochs=new_epochs,
            transaction_limit=transaction_limit,
            split=split,
        )
        part.bucket = None if self.bucket is None else Bucket(self.bucket)
        place = (part.target_name, part.partition)
        if split is None and place not in ends.target.logs:
            ends.target.logs[place] = TargetLog(*place, PRODUCER, EPOCH, base, counter)
        self.parts.append(part)
        self.chunks[part] = []
        self.strides[part] = []
        self.lane.assign(ends.pipe, part, outlets)
        return part

    def copy(self, *logs: SourceLog, **pipe: Any) -> tuple[Ends, list[PartitionCopy]]:
        """A pipe with ``logs`` assigned, run until all of them have ended."""
        ends = self.pipe(*logs, **pipe)
        parts = [self.assign(ends, log) for log in logs]
        self.run()
        return ends, parts

    def limit(self, rate: float) -> Bucket:
        """So many bytes a second for all partitions assigned from now on; 0 is no limit."""
        self.bucket = Bucket()
        self.bucket.set_rates(self.now / 1000, rate, 0)
        return self.bucket

    # --- running --------------------------------------------------------------------------------

    def step(self, turns: int = 1) -> None:
        """The lane does what it can without waiting, then every broker serves."""
        for _ in range(turns):
            self.now += self.tick
            self.lane_step()
            for ends in self.pipes:
                reads, writes = self.serving(ends)
                if reads:
                    ends.source.serve()
                if writes:
                    for target in ends.targets:
                        target.serve()

    def lane_step(self, timeout: int = 0, passing: int = 0) -> None:
        """One step of the lane alone, waiting ``timeout`` real milliseconds at most. On the lane's
        clock ``passing`` milliseconds pass in it.
        """
        now = self.now
        for event in self.lane.step(now, timeout, lambda: now + passing):
            self._take(event)
        self.now += passing

    def _take(self, event: Event) -> None:
        if event[0] == "segments":
            _, part, segments = event
            if segments:  # else a leader epoch only
                self.chunks[part].append(list(segments))
            self.unconfirmed.append((part, segments.gate, list(segments)))
            if self.confirming:
                self.confirm()
        elif event[0] == "stride":
            _, part, stride = event
            self.strides[part].append(stride)
            self.unconfirmed.append((part, stride.start, []))
            if self.confirming:
                self.confirm()
        elif event[0] == "ended":
            assert event[1].ending is not None
            assert event[1] not in self.ended, "reported twice"
            self.ended.append(event[1])
        else:
            self.closed.append(event[1:])

    def confirm(self) -> None:
        """All chunks of the map so far are durable."""
        for part, counter, _ in self.unconfirmed:
            part.confirm(counter)
        self.unconfirmed.clear()

    def run(self, until: Callable[[], bool] | None = None, *, turns: int = 3000) -> None:
        """Steps until a condition holds; without one until every partition has ended."""
        done = until or (lambda: len(self.ended) == len(self.parts))
        for _ in range(turns):
            if done():
                return
            self.step()
        state = [(p.topic, p.partition, p.position, p.acked, p.ending) for p in self.parts]
        raise AssertionError(f"not there after {turns} turns: {state}")

    def fill(self, ends: Ends) -> None:
        """Until five requests are in flight to a target that holds its answers.

        It has answered the one before, with the first batch of every partition: a branch sends no
        second batch before that.
        """

        def answer(request: ProduceRequest) -> dict[str, Any]:
            ends.target.hold = True
            return ends.target.take(request)

        ends.target.once.append(answer)
        self.run(lambda: len(ends.target.pending) == IN_FLIGHT)
        assert len(ends.target.requests) == 1 + IN_FLIGHT

    # --- looking --------------------------------------------------------------------------------

    def segments(self, part: PartitionCopy) -> list[tuple[int, int]]:
        return [segment for chunk in self.chunks[part] for segment in chunk]

    @staticmethod
    def stored(ends: Ends, part: PartitionCopy) -> Sequence[bytes]:
        """The batches the target has of a partition, as they came."""
        return ends.target.logs[part.target_name, part.partition].batches

    @property
    def borrowed(self) -> int:
        return sum(ends.pipe.borrowed_bytes for ends in self.pipes)

    def finish(self) -> None:
        """The end of every test: whatever still runs is dropped, and no slab stays lent out."""
        self.lane.abandon("the test is over")
        self.step(2)
        try:
            assert self.lane.idle
            assert len(self.ended) == len(self.parts)
            assert self.borrowed == 0, f"{self.borrowed} bytes of slabs are still lent out"
        finally:
            self.lane.close()
            for ends in self.pipes:
                ends.source.close()
                for target in ends.targets:
                    target.close()
