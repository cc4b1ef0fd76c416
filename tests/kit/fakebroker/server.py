"""The sockets and threads of the fake broker."""

from __future__ import annotations

import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from kio.schema.errors import ErrorCode

from kit.fakebroker import (
    api_versions,
    create_topics,
    describe_configs,
    describe_log_dirs,
    fetch,
    find_coordinator,
    init_producer_id,
    list_offsets,
    metadata,
    offset_for_leader_epoch,
    produce,
    wire,
)
from kit.fakebroker.answers import (
    Answer,
    Answered,
    Close,
    Default,
    Drip,
    Patched,
    Raw,
    Silence,
    Twice,
)
from kit.fakebroker.api_versions import MODERN
from kit.fakebroker.cluster import FakeCluster
from kit.fakebroker.wire import Request, encode, parse

HOST = "127.0.0.1"

_APIS: Mapping[int, Callable[[FakeBroker, Request], Any]] = {
    wire.PRODUCE: produce.answer,
    wire.FETCH: fetch.answer,
    wire.LIST_OFFSETS: list_offsets.answer,
    wire.METADATA: metadata.answer,
    wire.FIND_COORDINATOR: find_coordinator.answer,
    wire.API_VERSIONS: api_versions.answer,
    wire.CREATE_TOPICS: create_topics.answer,
    wire.INIT_PRODUCER_ID: init_producer_id.answer,
    wire.OFFSET_FOR_LEADER_EPOCH: offset_for_leader_epoch.answer,
    wire.DESCRIBE_CONFIGS: describe_configs.answer,
    wire.DESCRIBE_LOG_DIRS: describe_log_dirs.answer,
}


class FakeBroker:
    """One broker on a free loopback port, alone or as ``node`` of ``cluster``."""

    def __init__(
        self,
        cluster: FakeCluster | None = None,
        *,
        node: int = 0,
        versions: Mapping[int, tuple[int, int]] = MODERN,
    ) -> None:
        self.cluster = cluster or FakeCluster()
        self.node = node
        self.versions = dict(versions)
        self.throttle = timedelta()
        self.fetch_limit = 1 << 30  # bytes of records in an answer
        self.requests: list[Request] = []
        self.connections = 0
        self._script: defaultdict[int, deque[Answer]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.cluster.advertised[node] = (HOST, self.port)
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.stopped = False

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def answer(self, api_key: int, *answers: Answer) -> None:
        """From now on answer one API with these in turn, and then always with the last one."""
        with self._lock:
            self._script[api_key] = deque(answers)

    def asked(self, api_key: int) -> list[Request]:
        with self._lock:
            return [request for request in self.requests if request.api_key == api_key]

    def partition_error(self, key: tuple[str, int], epoch: int) -> ErrorCode:
        """The error of a broker that does not lead the partition, or is asked with another
        epoch.
        """
        cluster = self.cluster
        if key[1] >= cluster.topics.get(key[0], 0):
            return ErrorCode.unknown_topic_or_partition
        if cluster.leaders.get(key, 0) != self.node:
            return ErrorCode.not_leader_or_follower
        current = cluster.epochs.get(key, 0)
        if epoch >= 0 and epoch != current:
            stale = epoch < current
            return ErrorCode.fenced_leader_epoch if stale else ErrorCode.unknown_leader_epoch
        return ErrorCode.none

    def drop_connections(self) -> None:
        """Close every open connection, as a restart does."""
        with self._lock:
            victims = list(self._open)
        for sock in victims:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._accept, daemon=True)
        self._threads.append(thread)
        thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self.cluster.changed:
            self.stopped = True
            self.cluster.changed.notify_all()  # wakes threads that wait for records
        # A blocked accept() is not woken by close(), but by shutdown().
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a thread of the fake broker hangs"

    def _accept(self) -> None:
        while not self.stopped:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(sock)
                self.connections += 1
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with suppress(OSError), sock:
                while (frame := _receive_frame(sock)) is not None:
                    request = parse(frame)
                    with self._lock:
                        self.requests.append(request)
                        script = self._script[request.api_key]
                        answer = (
                            script.popleft()
                            if len(script) > 1
                            else (script[0] if script else Default())
                        )
                    if not self._send(sock, request, answer):
                        return
        finally:
            with self._lock:
                self._open.discard(sock)

    def _send(self, sock: socket.socket, request: Request, answer: Answer) -> bool:
        """Send one answer; False to hang up afterwards."""

        def body() -> Any:
            return _APIS[request.api_key](self, request)

        def correct() -> bytes:
            return encode(request, body())

        match answer:
            case Default():
                sock.sendall(correct())
            case Raw(data):
                sock.sendall(data)
            case Close(first):
                if first:
                    sock.sendall(correct()[:first])
                return False
            case Silence():
                pass
            case Twice():
                sock.sendall(correct() * 2)
            case Drip():
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in correct():
                    sock.sendall(bytes([byte]))
            case Patched(change):
                sock.sendall(encode(request, change(body())))
            case Answered(make):
                made = make(request, body())
                sock.sendall(made if isinstance(made, bytes) else encode(request, made))
        return True


def _receive_frame(sock: socket.socket) -> bytes | None:
    header = _receive(sock, 4)
    if header is None:
        return None
    return _receive(sock, struct.unpack(">i", header)[0])


def _receive(sock: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            return None
        data += part
    return data
