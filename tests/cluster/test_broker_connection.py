"""One connection to brokers that answer wrongly, slowly or not at all, and to other servers."""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from kit.clusters.connected import config_for, wait_until
from kit.fakebroker import (
    API_VERSIONS,
    METADATA,
    MODERN,
    Answer,
    Close,
    Default,
    Drip,
    FakeBroker,
    Patched,
    Raw,
    Silence,
    Twice,
)
from replicator.cluster import Connection, ProtocolFault, Unreachable, Unsupported
from replicator.cluster import questions as messages
from replicator.cluster.config import ClientConfig
from replicator.cluster.connection import MAX_FRAME, MAX_HANDSHAKE_FRAME
from replicator.errors import CopystreamError
from replicator.terms import Side

HOST = "127.0.0.1"


def open_to(broker: FakeBroker, side: Side = "source", timeout: float = 10.0) -> Connection:
    return Connection.open(HOST, broker.port, config_for(broker), side, timeout=timeout)


def ask_metadata(connection: Connection, timeout: float = 10.0) -> Any:
    return connection.call(messages.metadata([]).build(12), timeout=timeout)


def assert_helpful(error: CopystreamError, side: Side, address: str) -> None:
    """Every error names the side and the address, says what to do, and has the side's code."""
    assert side in error.message
    assert address in error.message
    assert error.hint
    assert error.side == side
    assert int(error.exit_code) == (3 if side == "source" else 4)


@contextmanager
def tcp_server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that is no Kafka broker: ``serve`` gets the first connection."""
    listener = socket.create_server((HOST, 0))

    def run() -> None:
        with suppress(OSError):
            sock, _ = listener.accept()
            with sock:
                serve(sock)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
        assert not thread.is_alive()


def open_port(port: int, timeout: float = 10.0) -> Connection:
    config = ClientConfig(bootstrap=((HOST, port),))
    return Connection.open(HOST, port, config, "target", timeout=timeout)


# The handshake


def test_versions_are_those_advertised_with_produce_from_3(broker: FakeBroker) -> None:
    connection = open_to(broker)
    assert connection.versions == {**MODERN, 0: (3, 13)}
    assert connection.version(0, 0, 9) == 9
    assert connection.version(METADATA, 11, 12) == 12
    [request] = broker.asked(API_VERSIONS)
    assert request.version == 3
    assert request.client_id == "copystream"
    assert request.body.client_software_name == "copystream"
    connection.close()


def test_a_broker_without_api_versions_3_is_asked_in_version_0(broker: FakeBroker) -> None:
    # KIP-511: such a broker answers in version 0, with its error first.
    refusal = struct.pack(">iihi", 10, 1, int(ErrorCode.unsupported_version), 0)
    broker.answer(API_VERSIONS, Raw(refusal), Default())
    connection = open_to(broker)
    assert connection.versions[METADATA] == (0, 13)
    assert [request.version for request in broker.asked(API_VERSIONS)] == [3, 0]
    connection.close()


def test_a_repeated_unsupported_version_is_an_error_not_a_loop(broker: FakeBroker) -> None:
    refusals = [struct.pack(">iihi", 10, n, int(ErrorCode.unsupported_version), 0) for n in (1, 2)]
    broker.answer(API_VERSIONS, *map(Raw, refusals))
    with pytest.raises(ProtocolFault, match="refused to tell its versions") as caught:
        open_to(broker)
    assert_helpful(caught.value, "source", broker.address)
    assert len(broker.asked(API_VERSIONS)) == 2


def keys(*entries: tuple[int, int, int]) -> Patched:
    def change(body: Any) -> Any:
        entry = body.api_keys[0]
        return replace(
            body,
            api_keys=tuple(
                replace(entry, api_key=key, min_version=low, max_version=high)
                for key, low, high in entries
            ),
        )

    return Patched(change)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (keys(), "no API at all"),
        (keys((3, 0, 12), (3, 0, 11)), "API 3 twice"),
        (keys((3, 9, 8)), "API 3 with versions 9 to 8"),
        (keys((3, -1, 8)), "API 3 with versions -1 to 8"),
        (keys((3, -5, -2)), "API 3 with versions -5 to -2"),
        (Patched(lambda body: replace(body, error_code=ErrorCode.invalid_request)), "error 42"),
    ],
)
def test_impossible_versions_are_refused(broker: FakeBroker, answer: Answer, says: str) -> None:
    broker.answer(API_VERSIONS, answer)
    with pytest.raises(ProtocolFault, match=says) as caught:
        open_to(broker, "target")
    assert_helpful(caught.value, "target", broker.address)


@pytest.mark.parametrize(
    ("versions", "says"),
    [({3: (0, 8), 18: (0, 2)}, "speaks Metadata 0 to 8"), ({18: (0, 2)}, "not speak Metadata")],
)
def test_a_broker_that_is_too_old_is_named_with_what_it_lacks(
    versions: dict[int, tuple[int, int]], says: str
) -> None:
    with FakeBroker(versions=versions) as broker:
        connection = open_to(broker)
        with pytest.raises(Unsupported, match=says) as caught:
            connection.version(METADATA, 11, 12)
        connection.close()
        assert_helpful(caught.value, "source", broker.address)
        assert "2.8" in (caught.value.hint or "")


# Frames (H1, H2)


@pytest.mark.parametrize("size", [-1, -(2**31), 0, 3, MAX_HANDSHAKE_FRAME + 1, 2**31 - 1])
def test_a_frame_size_out_of_bounds_is_refused_before_the_handshake(
    broker: FakeBroker, size: int
) -> None:
    broker.answer(API_VERSIONS, Raw(struct.pack(">i", size) + b"\0" * 64))
    with pytest.raises(ProtocolFault, match=f"response of {size} bytes") as caught:
        open_to(broker)
    assert_helpful(caught.value, "source", broker.address)


@pytest.mark.parametrize("size", [-1, 0, 3, MAX_FRAME + 1, 2**31 - 1])
def test_a_frame_size_out_of_bounds_is_refused_afterwards(broker: FakeBroker, size: int) -> None:
    broker.answer(METADATA, Raw(struct.pack(">i", size) + b"\0" * 64))
    connection = open_to(broker)
    with pytest.raises(ProtocolFault, match=f"response of {size} bytes"):
        ask_metadata(connection)
    assert connection.closed


def test_an_answer_that_comes_byte_by_byte_is_read(broker: FakeBroker) -> None:
    broker.answer(API_VERSIONS, Drip())
    broker.answer(METADATA, Drip())
    connection = open_to(broker)
    assert ask_metadata(connection).cluster_id == broker.cluster.cluster_id
    connection.close()


@pytest.mark.parametrize("first", [0, 1, 4, 8, 20])
def test_a_cut_answer_is_a_lost_connection(broker: FakeBroker, first: int) -> None:
    connection = open_to(broker)
    assert ask_metadata(connection).cluster_id
    broker.answer(METADATA, Close(first))
    with pytest.raises(Unreachable, match="connection lost during Metadata") as caught:
        ask_metadata(connection)
    assert_helpful(caught.value, "source", broker.address)
    assert connection.closed
    with pytest.raises(Unreachable, match="is closed"):
        ask_metadata(connection)


def test_a_wrong_correlation_id_is_refused(broker: FakeBroker) -> None:
    broker.answer(METADATA, Raw(struct.pack(">ii", 60, 4711) + b"\0" * 56))
    connection = open_to(broker)
    with pytest.raises(ProtocolFault, match="answered request 4711 when 2 was asked"):
        ask_metadata(connection)
    assert connection.closed


def test_two_answers_to_one_request_are_noticed_with_the_next(broker: FakeBroker) -> None:
    broker.answer(METADATA, Twice())
    connection = open_to(broker)
    ask_metadata(connection)
    with pytest.raises(ProtocolFault, match="answered request 2 when 3 was asked"):
        ask_metadata(connection)


def test_a_malformed_answer_is_refused(broker: FakeBroker) -> None:
    broker.answer(METADATA, Raw(struct.pack(">ii", 12, 2) + b"\0\xff\xff\xff\xff\xff\xff\xff"))
    connection = open_to(broker)
    with pytest.raises(ProtocolFault, match="malformed MetadataResponse") as caught:
        ask_metadata(connection)
    assert_helpful(caught.value, "source", broker.address)
    assert connection.closed


def test_no_answer_ends_at_the_timeout_and_closes(broker: FakeBroker) -> None:
    broker.answer(METADATA, Silence())
    connection = open_to(broker)
    before = time.monotonic()
    with pytest.raises(Unreachable, match="no answer to Metadata in time"):
        ask_metadata(connection, timeout=0.2)
    assert 0.2 <= time.monotonic() - before < 5
    # A late answer must not be read as the answer to something else.
    assert connection.closed


def test_an_interrupted_call_closes_the_connection(broker: FakeBroker) -> None:
    broker.answer(METADATA, Silence())
    connection = open_to(broker)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        if wait_until(lambda: bool(broker.asked(METADATA))):
            signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        ask_metadata(connection)
    thread.join(10)
    assert connection.closed


# First contact


def test_a_refused_connection(unused_port: int) -> None:
    with pytest.raises(Unreachable, match="connection refused") as caught:
        open_port(unused_port)
    assert_helpful(caught.value, "target", f"{HOST}:{unused_port}")
    assert caught.value.reason.endswith("connection refused")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 300])
def test_a_host_that_does_not_resolve(host: str) -> None:
    config = ClientConfig(bootstrap=((host, 9092),))
    with pytest.raises(Unreachable, match="cannot be resolved") as caught:
        Connection.open(host, 9092, config, "source", timeout=10)
    assert_helpful(caught.value, "source", host)


def reply(data: bytes) -> Callable[[socket.socket], None]:
    def serve(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(data)
        sock.recv(4096)  # until the client hangs up

    return serve


def hang_up(sock: socket.socket) -> None:
    sock.recv(4096)


def hold(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


@pytest.mark.parametrize(
    ("serve", "kind", "says", "hint"),
    [
        (reply(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ProtocolFault, "web server", "9092"),
        (reply(b"\x15\x03\x03\x00\x02\x02\x0a"), ProtocolFault, "TLS port", "security.protocol"),
        (reply(b"220 mail.example.com ESMTP\r\n"), ProtocolFault, "announced a response", "Kafka"),
        (reply(b"\0\0\0\x20" + b"\xaa" * 32), ProtocolFault, "answered request", "Kafka"),
        (hang_up, Unreachable, "closed before the first answer", "security.protocol"),
    ],
)
def test_a_peer_that_is_no_kafka_broker(
    serve: Callable[[socket.socket], None], kind: type[CopystreamError], says: str, hint: str
) -> None:
    with tcp_server(serve) as port:
        with pytest.raises(kind, match=says) as caught:
            open_port(port)
        assert_helpful(caught.value, "target", f"{HOST}:{port}")
        assert hint in (caught.value.hint or "")


def test_a_peer_that_says_nothing() -> None:
    with (
        tcp_server(hold) as port,
        pytest.raises(Unreachable, match="no answer to ApiVersions in time"),
    ):
        open_port(port, timeout=0.2)


def test_a_listener_that_wants_a_login(broker: FakeBroker) -> None:
    # Kafka's SASL listeners answer ApiVersions and hang up on anything else.
    broker.answer(METADATA, Close())
    connection = open_to(broker)
    with pytest.raises(Unreachable, match="first request after the handshake") as caught:
        ask_metadata(connection)
    assert "SASL" in (caught.value.hint or "")


# Hand-over


def test_a_detached_socket_is_blocking_and_owned_by_the_caller(broker: FakeBroker) -> None:
    connection = open_to(broker)
    sock = connection.detach()
    assert connection.closed
    connection.close()
    assert sock.gettimeout() is None
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getpeername() == (HOST, broker.port)
    sock.close()
    with pytest.raises(Unreachable):
        connection.detach()
