"""The sockets and threads of the fake broker."""

from __future__ import annotations

import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Self

from fakebroker.answers import (
    MODERN,
    Answer,
    Close,
    Default,
    Drip,
    Patched,
    Raw,
    Request,
    Silence,
    Twice,
    encode,
    parse,
    response,
)

HOST = "127.0.0.1"


@dataclass
class FakeCluster:
    """What the brokers of one cluster agree on. Leaders and epochs are 0 where not given."""

    cluster_id: str = "fake-cluster-id"
    advertised: dict[int, tuple[str, int]] = field(default_factory=dict)
    topics: dict[str, int] = field(default_factory=dict)
    leaders: dict[tuple[str, int], int] = field(default_factory=dict)
    epochs: dict[tuple[str, int], int] = field(default_factory=dict)
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    last_producer_id: int = 999


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
        self.requests: list[Request] = []
        self.connections = 0
        self._script: defaultdict[int, deque[Answer]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.cluster.advertised[node] = (HOST, self.port)
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def answer(self, api_key: int, *answers: Answer) -> None:
        """From now on answer one API with these in turn, the last one for ever."""
        with self._lock:
            self._script[api_key] = deque(answers)

    def asked(self, api_key: int) -> list[Request]:
        with self._lock:
            return [request for request in self.requests if request.api_key == api_key]

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
        self._stopped = True
        # A blocked accept() is not woken by close(), but by shutdown().
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a thread of the fake broker hangs"

    def _accept(self) -> None:
        while not self._stopped:
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

        def correct() -> bytes:
            return encode(request.correlation, response(self, request))

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
                sock.sendall(encode(request.correlation, change(response(self, request))))
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
