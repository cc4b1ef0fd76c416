"""One blocking connection to one broker: handshake, control-plane calls, hand-over to a lane.

A connection is used by one thread at a time. After any failure it is closed: an answer that
arrives late must never be taken for the answer to a later request.

What a broker sends is bounded before it is read (reliability facts H1, H2): a frame is at most
64 MiB, and at most 256 KiB until ApiVersions has shown that the peer is a Kafka broker.
"""

from __future__ import annotations

import importlib
import io
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NoReturn

from replicator import __version__
from replicator.cluster.config import ClientConfig, format_address
from replicator.cluster.decode import DecodeError, decode_response
from replicator.cluster.errors import UNSUPPORTED_VERSION, ProtocolFault, Unsupported, unreachable
from replicator.errors import CopystreamError
from replicator.terms import Side

if TYPE_CHECKING:
    from kio.static.protocol import Entity

MAX_FRAME = 64 * 1024 * 1024
MAX_HANDSHAKE_FRAME = 256 * 1024

PRODUCE = 0
METADATA = 3
BROKER_REGISTRATION = 62  # brokers ask controllers for it (KIP-631)

# Kafka 4.x advertises Produce from version 0 for the sake of librdkafka (KAFKA-18659) and then
# refuses everything below 3.
_LOWEST_PRODUCE = 3

_API_NAMES = {
    0: "Produce",
    1: "Fetch",
    2: "ListOffsets",
    3: "Metadata",
    18: "ApiVersions",
    22: "InitProducerId",
    23: "OffsetForLeaderEpoch",
    35: "DescribeLogDirs",
    61: "DescribeProducers",
}

_INT32 = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class Call:
    """A request of one version, as bytes, and how its answer is read."""

    name: str  # of the API
    frame: Callable[[int, str], bytes]  # from a correlation id and a client id, with its length
    read: Callable[[memoryview], Any]  # of a response from its correlation id on; ValueError


class Connection:
    """A connection that has agreed on API versions with its broker.

    Every error is a ``ClusterError`` of ``side``: Unreachable for
    the network, ProtocolFault for a peer that is no correct broker, Unsupported for an old one.
    """

    def __init__(
        self, sock: socket.socket, host: str, port: int, config: ClientConfig, side: Side
    ) -> None:
        self.host = host
        self.port = port
        self.versions: Mapping[int, tuple[int, int]] = {}
        self._socket: socket.socket | None = sock
        self._client_id = config.client_id
        self._security_protocol = config.security_protocol
        self._side: Side = side
        self._where = f"{side} cluster {config.bootstrap_text}, broker {self.address}"
        self._correlation = 0
        self._answers = 0

    @property
    def address(self) -> str:
        return format_address(self.host, self.port)

    @classmethod
    def open(
        cls, host: str, port: int, config: ClientConfig, side: Side, *, timeout: float
    ) -> Connection:
        """Connect and agree on versions, all within ``timeout`` seconds."""
        # Before connecting: on a busy machine the import takes longer than some brokers let a
        # connection be idle (connections.max.idle.ms).
        from kio.schema.api_versions import v0, v3  # noqa: F401, PLC0415 - see the package's note

        deadline = time.monotonic() + timeout
        sock = _connect(host, port, config, side, deadline)
        connection = cls(sock, host, port, config, side)
        try:
            connection.versions = connection._agree(deadline)
        except BaseException:
            connection.close()
            raise
        return connection

    def version(self, api_key: int, lowest: int, highest: int) -> int:
        """The newest version of an API within ``lowest``–``highest`` that the broker speaks.

        Raises Unsupported, naming broker and API, when there is none.
        """
        name = _API_NAMES.get(api_key, f"API {api_key}")
        low, high = self.versions.get(api_key, (0, -1))
        best = min(high, highest)
        if best < max(low, lowest):
            speaks = f"speaks {name} {low} to {high}" if high >= low else f"does not speak {name}"
            raise Unsupported(
                self._side,
                f"{self._where} {speaks}; copystream needs a version from {lowest} to {highest}",
                hint="Kafka 2.8 and newer, and brokers compatible with it, are supported",
            )
        return best

    def call(self, request: Entity | Call, *, timeout: float) -> Any:
        """Send one request (a kio request of any API, or a ``Call``) and return its response.

        ``timeout`` is in seconds and covers the whole exchange, however slowly bytes arrive.
        """
        deadline = time.monotonic() + timeout
        call = request if isinstance(request, Call) else _kio_call(request)
        body = self._exchange(call, deadline, MAX_FRAME)
        try:
            return call.read(memoryview(body))
        except ValueError as error:
            self._not_kafka(f"sent a malformed {call.name}Response: {error}")

    def detach(self) -> socket.socket:
        """Give the socket, blocking and without a time-out, to the caller, who now owns it."""
        sock = self._open_socket()
        self._socket = None
        sock.settimeout(None)
        return sock

    def abort(self) -> None:
        """Have the exchange that another thread waits for fail at once."""
        sock = self._socket
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def closed(self) -> bool:
        return self._socket is None

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise unreachable(
                self._side, self._where, "the connection is closed", hint="run the command again"
            )
        return self._socket

    def _agree(self, deadline: float) -> Mapping[int, tuple[int, int]]:
        """ApiVersions v3, or v0 where the broker does not know v3 (KIP-511)."""
        from kio.schema.api_versions import v0, v3  # noqa: PLC0415 - see the package's note

        request = v3.ApiVersionsRequest(
            client_software_name="copystream", client_software_version=__version__
        )
        body = self._exchange(_kio_call(request), deadline, MAX_HANDSHAKE_FRAME)
        answer: v0.ApiVersionsResponse | v3.ApiVersionsResponse
        try:
            # A broker that does not know v3 answers in v0; the error code comes first in both.
            if body[4:6] == UNSUPPORTED_VERSION.to_bytes(2, "big"):
                older = _kio_call(v0.ApiVersionsRequest())
                body = self._exchange(older, deadline, MAX_HANDSHAKE_FRAME)
                answer = decode_response(v0.ApiVersionsResponse, body)
            else:
                answer = decode_response(v3.ApiVersionsResponse, body)
        except DecodeError as error:
            self._not_kafka(f"sent a malformed ApiVersionsResponse: {error}")
        if answer.error_code != 0:
            self._not_kafka(f"refused to tell its versions (error {int(answer.error_code)})")
        versions: dict[int, tuple[int, int]] = {}
        for entry in answer.api_keys:
            key, low, high = int(entry.api_key), int(entry.min_version), int(entry.max_version)
            if key in versions:
                self._not_kafka(f"listed API {key} twice in its versions")
            if not 0 <= low <= high:
                self._not_kafka(f"listed API {key} with versions {low} to {high}")
            versions[key] = (low, high)
        if not versions:
            self._not_kafka("listed no API at all in its versions")
        if METADATA not in versions and BROKER_REGISTRATION in versions:
            self.close()
            raise Unsupported(
                self._side,
                f"{self._where} is a KRaft controller, which serves brokers and no clients",
                hint="give a broker's listener (often port 9092) instead of the controller's "
                "(often 9093)",
            )
        if PRODUCE in versions:
            low, high = versions[PRODUCE]
            versions[PRODUCE] = (max(low, _LOWEST_PRODUCE), high)
        return versions

    def _exchange(self, call: Call, deadline: float, cap: int) -> bytearray:
        """Send a request; the response frame from its correlation id on."""
        sock = self._open_socket()
        self._correlation = (self._correlation + 1) & 0x7FFF_FFFF
        frame = call.frame(self._correlation, self._client_id)
        try:
            _set_deadline(sock, deadline)
            sock.sendall(frame)
            size = _INT32.unpack(self._receive(sock, 4, deadline))[0]
            if not 4 <= size <= cap:
                self._bad_size(size, sock)
            body = self._receive(sock, size, deadline)
        except TimeoutError:
            self._fail(
                f"no answer to {call.name} in time",
                hint="the broker is overloaded or stopped, or a firewall drops the traffic",
            )
        except OSError as error:
            self._lost(call.name, error)
        except CopystreamError:
            raise
        except BaseException:
            # Interrupted half-way, for instance by Ctrl-C: the stream has lost its place.
            self.close()
            raise
        correlation = _INT32.unpack_from(body)[0]
        if correlation != self._correlation:
            self._not_kafka(f"answered request {correlation} when {self._correlation} was asked")
        self._answers += 1
        return body

    def _receive(self, sock: socket.socket, size: int, deadline: float) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        got = 0
        while got < size:
            _set_deadline(sock, deadline)
            count = sock.recv_into(view[got:])
            if count == 0:
                raise ConnectionResetError(
                    f"closed by the broker {got} bytes into {size}"
                    if got
                    else "closed by the broker"
                )
            got += count
        return data

    def _bad_size(self, size: int, sock: socket.socket) -> NoReturn:
        """Name what speaks here, from the four bytes that should have been a length."""
        start = _INT32.pack(size)
        if start[0] == 0x15 and start[1] == 0x03:
            self._not_kafka(
                "answered with a TLS alert: this is a TLS port",
                hint="set security.protocol=SSL or SASL_SSL in the client properties, "
                "or use the plaintext listener",
            )
        if start == b"HTTP":
            self._not_kafka(
                "answered with HTTP: this is a web server",
                hint="give the address of a Kafka listener (often port 9092)",
            )
        self._not_kafka(f"announced a response of {size} bytes (first bytes {start!r})")

    def _lost(self, api: str, error: OSError) -> NoReturn:
        what = error.strerror or str(error) or "connection lost"
        if self._answers == 0:
            self._fail(
                f"connection closed before the first answer ({what})",
                hint="if the broker is just restarting, run the command again; if this is a TLS or "
                "SASL listener, check security.protocol "
                f"(now {self._security_protocol}) and the port",
            )
        if self._answers == 1 and not self._security_protocol.startswith("SASL"):
            self._fail(
                f"connection closed on the first request after the handshake ({what})",
                hint="a SASL listener does this to clients that do not log in: check "
                f"security.protocol (now {self._security_protocol}); if the broker is just "
                "restarting, run the command again",
            )
        self._fail(
            f"connection lost during {api} ({what})",
            hint="see whether the broker is up; the network between may be at fault",
        )

    def _fail(self, what: str, *, hint: str) -> NoReturn:
        self.close()
        raise unreachable(self._side, self._where, what, hint=hint)

    def _not_kafka(
        self, what: str, *, hint: str = "is this the address and port of a Kafka broker?"
    ) -> NoReturn:
        self.close()
        raise ProtocolFault(self._side, f"{self._where} {what}", hint=hint)


def api_name(request: Entity | Call) -> str:
    """Of the API, for people."""
    if isinstance(request, Call):
        return request.name
    return type(request).__name__.removesuffix("Request")


def _kio_call(request: Entity) -> Call:
    read = partial(decode_response, _response_type(type(request)))
    return Call(api_name(request), partial(_frame, request), read)


@cache
def _response_type(request_type: Any) -> Any:
    """kio's response class for a request class: same package, same version."""
    module = importlib.import_module(request_type.__module__.removesuffix("request") + "response")
    return getattr(module, request_type.__name__.removesuffix("Request") + "Response")


def _frame(request: Any, correlation: int, client_id: str) -> bytes:
    """A whole request frame: length, header, body."""
    from kio.serial import entity_writer  # noqa: PLC0415 - see the package's note on imports

    header_type = request.__header_schema__
    header = header_type(
        request_api_key=request.__api_key__,
        request_api_version=request.__version__,
        correlation_id=correlation,
        client_id=client_id,
    )
    out = io.BytesIO(b"\0\0\0\0")
    out.seek(4)
    entity_writer(header_type)(out, header)
    entity_writer(type(request))(out, request)
    frame = bytearray(out.getbuffer())
    _INT32.pack_into(frame, 0, len(frame) - 4)
    return bytes(frame)


def _set_deadline(sock: socket.socket, deadline: float) -> None:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    sock.settimeout(remaining)


def _connect(
    host: str, port: int, config: ClientConfig, side: Side, deadline: float
) -> socket.socket:
    """A TCP connection to the first address of ``host`` that takes one."""
    where = f"{side} cluster {config.bootstrap_text}"
    address = format_address(host, port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise unreachable(
            side,
            where,
            f"host name {host!r} cannot be resolved ({reason})",
            hint="check the spelling, or the DNS and hosts file of this machine",
        ) from error
    problem = OSError("no address")
    for family, kind, protocol, _, target in found:
        sock = socket.socket(family, kind, protocol)
        try:
            _set_deadline(sock, deadline)
            sock.connect(target)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            sock.close()
            problem = error
            continue
        except BaseException:
            sock.close()
            raise
        return sock
    if isinstance(problem, TimeoutError):
        reason = "no answer in time"
        hint = "a firewall may drop the traffic, or the host is down"
    elif isinstance(problem, ConnectionRefusedError):
        reason = "connection refused"
        hint = "is the broker running, and is this its port?"
    else:
        reason = problem.strerror or str(problem)
        hint = "check the address and the network"
    if address != config.bootstrap_text:  # else the cluster is named by it
        reason = f"{address}: {reason}"
    raise unreachable(side, where, reason, hint=hint) from problem
