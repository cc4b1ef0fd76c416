"""The brokers of one cluster: which there are, and one control connection to each.

A connection is opened when it is first needed and again after a loss, and is trusted only
after it has answered with the id of this cluster. One lock guards what is known about the
brokers and each connection has a lock of its own, so that a broker that hangs holds up only
the threads that ask it.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from typing import Any, TypeVar

from replicator.cluster import questions
from replicator.cluster.config import ClientConfig, format_address
from replicator.cluster.connection import Connection, api_name
from replicator.cluster.decode import DecodeError
from replicator.cluster.errors import ProtocolFault, Unreachable, WrongCluster, unreachable
from replicator.cluster.questions import MetadataAnswer, Question
from replicator.cluster.retry import Backoff, RetryPolicy
from replicator.errors import CopystreamError
from replicator.terms import Side

# Seconds for one TCP connection with its handshake, and for one exchange on it. Both are well
# below the deadline of an operation, so that a stopped broker leaves time to ask another.
CONNECT_TIMEOUT = 10.0
REQUEST_TIMEOUT = 10.0

# An exchange that begins just before the deadline still gets this long.
_SHORTEST = 0.1

# Seconds that the first broker gets of a question that any of them can answer, and by how much more
# there is in the next round: one that hangs, but was not noticed yet, must leave time for others.
FIRST_TRY = 1.0
_LONGER = 3.0

CROWDED = (
    "Its max.connections.per.ip, max.connections or connection_creation_rate (KIP-612) may be "
    "too low"
)

R = TypeVar("R")

_log = logging.getLogger(__name__)


class _Channel:
    """The control connection to one broker, and when a quota lets it be used again."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: Connection | None = None
        self.free_at = 0.0
        self.failed = False  # the last exchange, or the attempt to connect

    @property
    def live(self) -> bool:
        return self.connection is not None and not self.connection.closed


class Brokers:
    """Asks brokers of one cluster, over connections it keeps. Thread-safe.

    ``addresses`` are those that the brokers advertise, by broker id; ``cluster_id`` is empty
    before first contact. Every error is a ``ClusterError``.
    """

    def __init__(self, config: ClientConfig, side: Side, retry: RetryPolicy) -> None:
        self.config = config
        self.side: Side = side
        self.cluster_id = ""
        self.addresses: dict[int, tuple[str, int]] = {}
        self._retry = retry
        self._lock = threading.Lock()
        self._bootstrap = _Channel()
        self._channels: dict[int, _Channel] = {}
        self._reached: set[int] = set()
        self._crowded: set[int] = set()  # brokers that have been seen to limit connections

    @property
    def name(self) -> str:
        """The cluster as messages name it: bootstrap addresses and, once known, its id."""
        text = self.config.bootstrap_text
        return f"{text} ({self.cluster_id})" if self.cluster_id else text

    @property
    def where(self) -> str:
        return f"{self.side} cluster {self.name}"

    def connect(self) -> None:
        """First contact, by the first bootstrap address that answers; each is tried once."""
        with self._bootstrap.lock:
            if not self._bootstrap.live:
                self._bootstrap.connection = self._open_bootstrap(self._retry.start())

    def ask(
        self,
        broker: int | None,
        question: Question[R],
        backoff: Backoff,
        limit: float = REQUEST_TIMEOUT,
    ) -> R:
        """Ask one broker (None: whichever a bootstrap address leads to) once, for at most ``limit``
        seconds, with as many before that for a connection and for others who ask it.

        Raises Unreachable when there is no answer, ProtocolFault when it makes no sense.
        """
        if broker is not None and broker not in self.addresses:
            self.learn(self.ask_any(questions.metadata([]), backoff))
        channel = self._channel(broker)
        if not channel.lock.acquire(timeout=_limit(limit, backoff)):
            raise unreachable(
                self.side,
                self.where,
                f"broker {self._address(broker)} still owes another answer",
                hint="the broker is overloaded or stopped, or a firewall drops the traffic",
            )
        try:
            self._await_quota(channel, backoff)
            channel.failed = True
            connection = channel.connection
            if connection is None or connection.closed:
                connection = channel.connection = (
                    self._open_bootstrap(backoff, limit)
                    if broker is None
                    else self.open(broker, backoff, limit)
                )
            version = connection.version(question.api_key, question.lowest, question.highest)
            request = question.build(version)
            answer: Any = connection.call(request, timeout=_limit(limit, backoff))
            channel.failed = False
            throttle: timedelta = getattr(answer, "throttle_time", timedelta())
            if throttle > timedelta():
                channel.free_at = self._retry.clock() + throttle.total_seconds()
            return self._read(connection, request, answer, question)
        finally:
            channel.lock.release()

    def _channel(self, broker: int | None) -> _Channel:
        if broker is None:
            return self._bootstrap
        with self._lock:
            found = self._channels.get(broker)
            connection = None if found is None else found.connection
            elsewhere = (
                found is self._bootstrap
                and connection is not None
                and (connection.host, connection.port) != self.addresses.get(broker)
            )
            if found is None or elsewhere:
                found = self._channels[broker] = _Channel()
            return found

    def ask_any(self, question: Question[R], backoff: Backoff) -> R:
        """Ask one broker after the other until one answers, again and again to the deadline; each
        gets a second at first, and more when none has answered.
        """
        limit = FIRST_TRY
        while True:
            trouble: Unreachable | None = None
            for broker in self._by_readiness():
                try:
                    return self.ask(broker, question, backoff, min(limit, REQUEST_TIMEOUT))
                except Unreachable as error:
                    trouble = error
            if trouble is not None and not backoff.pause():
                raise trouble
            limit *= _LONGER

    def open(self, broker: int, backoff: Backoff, limit: float = CONNECT_TIMEOUT) -> Connection:
        """A fresh connection to one broker, which the caller owns, within ``limit`` seconds."""
        address = self.addresses.get(broker)
        if address is None:
            raise unreachable(
                self.side,
                self.where,
                f"broker {broker} is not up",
                hint="see whether the broker is running",
            )
        try:
            connection, _ = self._open(*address, _limit(limit, backoff))
        except Unreachable as error:
            if broker in self._reached or address in self.config.bootstrap:
                raise
            raise self._advertised_unreachable(broker, format_address(*address), error) from error
        self._reached.add(broker)
        return connection

    def open_data(self, broker: int, backoff: Backoff) -> Connection:
        """The same, for a lane. A broker that takes no new connection but answers on an old one is
        told by name: it limits connections, and those that there are must serve.
        """
        try:
            return self.open(broker, backoff)
        except Unreachable as error:
            if not self._answers(broker):
                raise
            if broker not in self._crowded:
                self._crowded.add(broker)
                _log.warning(
                    "%s: broker %d takes no more connections from here, and answers on those that "
                    "there are: the copy goes on with fewer. %s",
                    self.where,
                    broker,
                    CROWDED,
                )
            reason = f"broker {broker} takes no more connections ({error.reason})"
            raise unreachable(self.side, self.where, reason, hint=CROWDED) from error

    def _answers(self, broker: int) -> bool:
        """Whether a broker answers just now on the connection that there is."""
        channel = self._channel(broker)
        if not channel.live:
            return False
        try:
            self.ask(broker, questions.metadata([]), self._retry.start(FIRST_TRY), FIRST_TRY)
        except CopystreamError:
            return False
        return True

    def learn(self, answer: MetadataAnswer) -> None:
        """Take over what a broker tells about its cluster. Raises WrongCluster for another's."""
        self._check_cluster(answer, "a broker")
        with self._lock:
            self.addresses = answer.brokers

    def close(self) -> None:
        """Close all control connections; an exchange that hangs is cut short."""
        with self._lock:
            channels = [self._bootstrap, *self._channels.values()]
        for channel in channels:
            if not channel.lock.acquire(timeout=_SHORTEST):
                if channel.connection is not None:
                    channel.connection.abort()
                if not channel.lock.acquire(timeout=_SHORTEST):
                    continue  # it is being opened; its thread closes it, or ends with the process
            if channel.connection is not None:
                channel.connection.close()
                channel.connection = None
            channel.lock.release()

    def _by_readiness(self) -> list[int | None]:
        """Those that answered last time first, and of these the ones with a connection; the
        bootstrap address last unless it has one.
        """

        def order(broker: int | None) -> tuple[bool, bool, bool]:
            channel = self._bootstrap if broker is None else self._channels.get(broker)
            live = channel is not None and channel.live
            bootstrap = broker is None
            failed = channel is not None and channel.failed
            return (failed, not live, not bootstrap if live else bootstrap)

        with self._lock:
            return sorted([*self.addresses, None], key=order)

    def _address(self, broker: int | None) -> str:
        address = None if broker is None else self.addresses.get(broker)
        return self.config.bootstrap_text if address is None else format_address(*address)

    def _read(
        self, connection: Connection, request: Any, answer: object, question: Question[R]
    ) -> R:
        try:
            return question.read(answer)
        except DecodeError as error:
            connection.close()
            raise ProtocolFault(
                self.side,
                f"{self.where}: broker {connection.address} answered {api_name(request)}Request "
                f"with impossible content: {error}",
                hint="is this a Kafka broker or one compatible with it? Its log may say more",
            ) from error

    def _await_quota(self, channel: _Channel, backoff: Backoff) -> None:
        """Wait as long as the broker asked with its last answer (KIP-219)."""
        seconds = channel.free_at - self._retry.clock()
        if seconds > 0 and not backoff.wait(seconds):
            raise unreachable(
                self.side,
                self.where,
                f"a quota delays requests by {seconds:.0f} s",
                hint="raise the request quota of this client on the cluster, or try later",
            )

    def _open_bootstrap(self, backoff: Backoff, limit: float = CONNECT_TIMEOUT) -> Connection:
        problems: list[CopystreamError] = []
        for host, port in self.config.bootstrap:
            try:
                connection, answer = self._open(host, port, _limit(limit, backoff))
            except CopystreamError as error:
                problems.append(error)
                continue
            with self._lock:
                self.cluster_id = answer.cluster_id
                self.addresses = answer.brokers
                for broker, address in answer.brokers.items():
                    known = self._channels.get(broker)
                    if address == (host, port) and (known is None or not known.live):
                        self._channels[broker] = self._bootstrap  # one connection serves for both
            return connection
        if len(problems) == 1:
            raise problems[0]
        for problem in problems:
            if not isinstance(problem, Unreachable):
                raise problem
        reasons = "; ".join(e.reason for e in problems if isinstance(e, Unreachable))
        raise unreachable(
            self.side,
            self.where,
            f"no bootstrap address can be reached: {reasons}",
            hint=problems[0].hint or "",
        )

    def _open(self, host: str, port: int, timeout: float) -> tuple[Connection, MetadataAnswer]:
        """A connection that has proved to belong to this cluster, all within ``timeout``."""
        question = questions.metadata([])
        deadline = time.monotonic() + timeout
        connection = Connection.open(host, port, self.config, self.side, timeout=timeout)
        try:
            version = connection.version(question.api_key, question.lowest, question.highest)
            request = question.build(version)
            left = max(deadline - time.monotonic(), _SHORTEST)
            answer = self._read(
                connection, request, connection.call(request, timeout=left), question
            )
            self._check_cluster(answer, connection.address)
        except BaseException:
            connection.close()
            raise
        return connection, answer

    def _check_cluster(self, answer: MetadataAnswer, address: str) -> None:
        if self.cluster_id and answer.cluster_id != self.cluster_id:
            raise WrongCluster(
                self.side,
                f"{self.where}: {address} answers for another cluster, {answer.cluster_id}",
                hint="addresses of two clusters are mixed up, or one was set up anew: check "
                "the bootstrap list and the brokers' advertised.listeners",
            )

    def _advertised_unreachable(
        self, broker: int, address: str, error: Unreachable
    ) -> CopystreamError:
        return unreachable(
            self.side,
            f"{self.where} answers at its bootstrap address, but its broker {broker} advertises "
            f"{address}, which cannot be used from here",
            error.reason,
            hint="set advertised.listeners on the broker to an address this machine can reach "
            f"(Docker, port forwards and NAT need that), or make {address} reachable",
        )


def _limit(seconds: float, backoff: Backoff) -> float:
    return min(seconds, max(backoff.remaining(), _SHORTEST))
