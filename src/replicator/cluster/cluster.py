"""One Kafka cluster as copystream sees it: who leads what, where logs begin and end.

Metadata is asked for when something needs it or an answer shows that it is stale, never by a
timer. Temporary errors are retried until a deadline (30 s unless told otherwise); what is left
then is reported with Kafka's own code, or raised.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal, TypeVar

from replicator.cluster import broker_errors, messages
from replicator.cluster.connection import Connection
from replicator.cluster.decode import DecodeError
from replicator.cluster.failures import (
    ProtocolFault,
    Unreachable,
    WrongCluster,
    broker_failure,
    failure,
    unreachable,
)
from replicator.cluster.messages import (
    MetadataAnswer,
    OffsetResult,
    PartitionMeta,
    TopicMeta,
    TopicPartition,
)
from replicator.cluster.retry import Backoff, RetryPolicy
from replicator.config import ClientConfig, format_address
from replicator.errors import CopystreamError
from replicator.report import Side

# Seconds for one TCP connection with its handshake, and for one exchange on it. Both are well
# below the deadline of an operation, so that a stopped broker leaves time to ask another.
CONNECT_TIMEOUT = 10.0
REQUEST_TIMEOUT = 10.0

R = TypeVar("R")


class Cluster:
    """A cluster reached through ``config``, as the source or the target of a job.

    Thread-safe: one lock is held during each exchange with a broker, not while waiting to try
    again. There is one control connection per broker, opened on demand and again after a loss.

    Errors of every method are SourceError or TargetError by side; see ``failures``.
    """

    def __init__(
        self, config: ClientConfig, side: Side, *, retry: RetryPolicy | None = None
    ) -> None:
        self.config = config
        self.side: Side = side
        self.cluster_id = ""
        self.brokers: dict[int, tuple[str, int]] = {}
        self._retry = retry or RetryPolicy()
        self._lock = threading.RLock()
        self._controls: dict[int, Connection] = {}
        self._seed: Connection | None = None
        self._reached: set[int] = set()
        self._topics: dict[str, TopicMeta] = {}
        self._free_at: dict[Connection, float] = {}  # when a throttled connection may be used

    @property
    def name(self) -> str:
        """The cluster as messages name it: bootstrap addresses and, once known, its id."""
        text = self.config.bootstrap_text
        return f"{text} ({self.cluster_id})" if self.cluster_id else text

    def connect(self) -> None:
        """First contact: learn cluster id and brokers from the first address that answers.

        Every bootstrap address is tried once; nothing is retried, so that a wrong address is
        told at once.
        """
        with self._lock:
            self._open_seed()

    def metadata(
        self, topics: Sequence[str] | None = None, *, timeout: float | None = None
    ) -> dict[str, TopicMeta]:
        """Topics as the cluster sees them now; None asks for all. Missing ones have an error.

        Never creates a topic. ``timeout`` is in seconds (default: the retry policy's).
        """
        return self._metadata(topics, self._retry.start(timeout))

    def list_offsets(
        self,
        partitions: Iterable[TopicPartition],
        at: Literal["earliest", "latest"] | int,
        *,
        read_committed: bool = False,
        just_created: bool = False,
        timeout: float | None = None,
    ) -> dict[TopicPartition, OffsetResult]:
        """Log start, log end as consumers see it, or the first offset at a time in ms.

        "latest" is the high watermark, with ``read_committed`` the last stable offset. A
        timestamp past the last record gives offset -1. ``just_created`` waits for topics that
        the cluster does not know yet.
        """
        if isinstance(at, int):
            if at < 0:
                raise ValueError(f"timestamp {at} is negative")
            timestamp = at
        else:
            timestamp = messages.EARLIEST if at == "earliest" else messages.LATEST

        def ask(
            connection: Connection, epochs: Mapping[TopicPartition, int]
        ) -> tuple[Any, Callable[[Any], dict[TopicPartition, OffsetResult]]]:
            version = _version(connection, messages.LIST_OFFSETS)
            request = messages.list_offsets_request(
                version, epochs, timestamp, read_committed=read_committed
            )
            return request, lambda answer: messages.read_list_offsets(answer, epochs, timestamp)

        return self._ask_leaders(partitions, ask, just_created, self._retry.start(timeout))

    def leader_end_offsets(
        self,
        partitions: Iterable[TopicPartition],
        *,
        just_created: bool = False,
        timeout: float | None = None,
    ) -> dict[TopicPartition, OffsetResult]:
        """The leader's log end offset, records above the high watermark included.

        This is what a writer must know that wants to go on after a lost answer.
        """

        def ask(
            connection: Connection, epochs: Mapping[TopicPartition, int]
        ) -> tuple[Any, Callable[[Any], dict[TopicPartition, OffsetResult]]]:
            version = _version(connection, messages.OFFSET_FOR_LEADER_EPOCH)
            request = messages.epoch_end_request(version, epochs)
            return request, lambda answer: _known_ends(messages.read_epoch_end(answer, epochs))

        return self._ask_leaders(partitions, ask, just_created, self._retry.start(timeout))

    def partition_bytes(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Bytes on the leader's disk; partitions nobody may or can tell about are missing.

        An estimate for plans, so it takes DESCRIBE on Cluster but does not insist on it.
        """
        sizes: dict[TopicPartition, int] = {}
        wanted = list(dict.fromkeys(partitions))
        leaders, _, _ = self._route(wanted, False, self._retry.start(REQUEST_TIMEOUT))
        for broker, epochs in leaders.items():
            with suppress(CopystreamError):

                def ask(
                    connection: Connection, epochs: Mapping[TopicPartition, int] = epochs
                ) -> tuple[Any, Callable[[Any], dict[TopicPartition, int]]]:
                    version = _version(connection, messages.DESCRIBE_LOG_DIRS)
                    request = messages.describe_log_dirs_request(version, epochs)
                    return request, lambda answer: _summed(messages.read_log_dirs(answer))

                found = self._exchange(broker, ask, self._retry.start(REQUEST_TIMEOUT))
                sizes.update({key: size for key, size in found.items() if key in epochs})
        return sizes

    def init_producer_id(self, *, timeout: float | None = None) -> tuple[int, int]:
        """A new producer id and its epoch, for writing idempotently without transactions."""

        def ask(connection: Connection) -> tuple[Any, Callable[[Any], Any]]:
            version = _version(connection, messages.INIT_PRODUCER_ID)
            return messages.init_producer_id_request(version), lambda answer: answer

        backoff = self._retry.start(timeout)
        while True:
            answer = self._exchange_any(ask, backoff)
            code = int(answer.error_code)
            if code == broker_errors.NONE:
                try:
                    return messages.read_init_producer_id(answer)
                except DecodeError as error:
                    raise self._protocol_fault(f"answered InitProducerId with {error}") from error
            if not broker_errors.is_temporary(code) or not backoff.pause():
                raise self.error(
                    code,
                    "get a producer id",
                    acl="IDEMPOTENT_WRITE on Cluster, or WRITE on any Topic",
                )

    def data_connection(self, broker: int) -> Connection:
        """A fresh connection to one broker, which the caller owns. Not retried."""
        with self._lock:
            return self._open_broker(broker, self._retry.start(CONNECT_TIMEOUT))

    def await_leaders(
        self, topics: Mapping[str, int], *, timeout: float | None = None
    ) -> dict[str, TopicMeta]:
        """Wait until topics (name → partition count) exist and every leader serves them.

        A topic shows in the metadata of one broker before its leader knows of it, hence the
        offsets asked for at the end.
        """
        backoff = self._retry.start(timeout)
        while True:
            found = self._metadata(list(topics), backoff)
            waiting = [
                name
                for name, count in topics.items()
                if found[name].error
                or len(found[name].partitions) < count
                or any(p.leader < 0 for p in found[name].partitions.values())
            ]
            if not waiting:
                break
            code = found[waiting[0]].error
            temporary = broker_errors.is_temporary(code, just_created=True)
            if (code and not temporary) or not backoff.pause():
                raise self.error(
                    code or broker_errors.LEADER_NOT_AVAILABLE,
                    f"find a leader for every partition of topic {waiting[0]}",
                    acl=f"DESCRIBE on Topic {waiting[0]}",
                )
        everything = [(name, p) for name, topic in found.items() for p in topic.partitions]
        ends = self.list_offsets(
            everything, "latest", just_created=True, timeout=backoff.remaining()
        )
        for (topic, partition), end in ends.items():
            if end.error:
                raise self.error(
                    end.error,
                    f"use the new partition {topic}-{partition}",
                    acl=f"DESCRIBE on Topic {topic}",
                )
        return found

    def error(self, code: int, doing: str, *, acl: str) -> CopystreamError:
        """The error to raise for a Kafka error code; see ``failures.broker_failure``."""
        return broker_failure(code, self.side, self.name, doing, acl=acl)

    def close(self) -> None:
        """Close every control connection; data connections belong to their owners."""
        with self._lock:
            for connection in [*self._controls.values(), self._seed]:
                if connection is not None:
                    connection.close()
            self._controls.clear()
            self._free_at.clear()
            self._seed = None

    # Asking the leaders of partitions

    def _ask_leaders(
        self,
        partitions: Iterable[TopicPartition],
        ask: Callable[
            [Connection, Mapping[TopicPartition, int]],
            tuple[Any, Callable[[Any], dict[TopicPartition, OffsetResult]]],
        ],
        just_created: bool,
        backoff: Backoff,
    ) -> dict[TopicPartition, OffsetResult]:
        wanted = pending = list(dict.fromkeys(partitions))
        results: dict[TopicPartition, OffsetResult] = {}
        while pending:
            trouble: Unreachable | None = None
            leaders, settled, waiting = self._route(pending, just_created, backoff)
            results.update(settled)
            for broker, epochs in leaders.items():
                try:
                    answers = self._exchange(
                        broker,
                        lambda connection, epochs=epochs: ask(connection, epochs),  # type: ignore[misc]
                        backoff,
                    )
                except Unreachable as error:
                    trouble = error
                    waiting.update(dict.fromkeys(epochs, broker_errors.LEADER_NOT_AVAILABLE))
                    continue
                for key, result in answers.items():
                    if broker_errors.is_temporary(result.error, just_created=just_created):
                        waiting[key] = result.error
                    else:
                        results[key] = result
            pending = list(waiting)
            self._forget(key[0] for key in wanted if key not in results or results[key].error)
            if pending and not backoff.pause():
                if trouble is not None:
                    raise trouble
                results.update({key: OffsetResult(-1, -1, code) for key, code in waiting.items()})
                break
        return {key: results[key] for key in wanted}

    def _route(
        self, partitions: Sequence[TopicPartition], just_created: bool, backoff: Backoff
    ) -> tuple[
        dict[int, dict[TopicPartition, int]],
        dict[TopicPartition, OffsetResult],
        dict[TopicPartition, int],
    ]:
        """Partitions by leader with their epochs, those that failed for good, those to wait for."""
        with self._lock:
            unknown = dict.fromkeys(
                topic
                for topic, partition in partitions
                if topic not in self._topics or partition not in self._topics[topic].partitions
            )
        topics = self._metadata(list(unknown), backoff) if unknown else {}
        with self._lock:
            topics = {**self._topics, **topics}
        leaders: dict[int, dict[TopicPartition, int]] = {}
        settled: dict[TopicPartition, OffsetResult] = {}
        waiting: dict[TopicPartition, int] = {}
        for key in partitions:
            meta = topics[key[0]]
            partition = meta.partitions.get(key[1])
            code = meta.error
            if not code and partition is None:
                code = broker_errors.UNKNOWN_TOPIC_OR_PARTITION
            if partition is not None and partition.leader >= 0:
                leaders.setdefault(partition.leader, {})[key] = partition.leader_epoch
            elif not code:
                waiting[key] = broker_errors.LEADER_NOT_AVAILABLE
            elif broker_errors.is_temporary(code, just_created=just_created):
                waiting[key] = code
            else:
                settled[key] = OffsetResult(-1, -1, code)
        return leaders, settled, waiting

    # Metadata

    def _metadata(self, topics: Sequence[str] | None, backoff: Backoff) -> dict[str, TopicMeta]:
        asked = None if topics is None else list(dict.fromkeys(topics))

        def ask(connection: Connection) -> tuple[Any, Callable[[Any], MetadataAnswer]]:
            version = _version(connection, messages.METADATA)
            request = messages.metadata_request(version, asked)
            return request, lambda answer: messages.read_metadata(answer, asked)

        return self._absorb(self._exchange_any(ask, backoff))

    def _absorb(self, answer: MetadataAnswer) -> dict[str, TopicMeta]:
        """Take over brokers and topics; the topics with older leader epochs kept out."""
        with self._lock:
            self._check_cluster(answer, self.config.bootstrap_text)
            self.brokers = answer.brokers
            topics = {name: self._newest(topic) for name, topic in answer.topics.items()}
            for name, topic in topics.items():
                if topic.error:
                    self._topics.pop(name, None)
                else:
                    self._topics[name] = topic
            return topics

    def _newest(self, topic: TopicMeta) -> TopicMeta:
        """``topic`` with partitions that a lagging broker knows less well than we do replaced."""
        known = self._topics.get(topic.name)
        if known is None or known.topic_id != topic.topic_id:
            return topic

        def newer(number: int, seen: PartitionMeta) -> PartitionMeta:
            old = known.partitions.get(number, seen)
            return old if old.leader_epoch > seen.leader_epoch else seen

        return replace(topic, partitions={n: newer(n, p) for n, p in topic.partitions.items()})

    def _forget(self, topics: Iterable[str]) -> None:
        """Have the metadata of topics asked for again before the next use."""
        with self._lock:
            for topic in topics:
                self._topics.pop(topic, None)

    def _check_cluster(self, answer: MetadataAnswer, address: str) -> None:
        if self.cluster_id and answer.cluster_id != self.cluster_id:
            raise failure(
                WrongCluster,
                self.side,
                f"{self.side} cluster {self.name}: {address} answers for cluster "
                f"{answer.cluster_id}",
                hint="addresses of two clusters are mixed up, or one was set up anew: check "
                "the bootstrap list and the brokers' advertised.listeners",
            )

    # Exchanges and connections

    def _exchange_any(
        self, ask: Callable[[Connection], tuple[Any, Callable[[Any], R]]], backoff: Backoff
    ) -> R:
        """Ask whichever broker answers, until the deadline."""
        while True:
            with self._lock:
                brokers = sorted(self.brokers, key=lambda broker: broker not in self._controls)
            trouble: Unreachable | None = None
            for broker in [None, *brokers] if self._seed is not None else [*brokers, None]:
                try:
                    return self._exchange(broker, ask, backoff)
                except Unreachable as error:
                    trouble = error
            if trouble is not None and not backoff.pause():
                raise trouble

    def _exchange(
        self,
        broker: int | None,
        ask: Callable[[Connection], tuple[Any, Callable[[Any], R]]],
        backoff: Backoff,
    ) -> R:
        """One request to one broker (None: the bootstrap connection), and its checked answer."""
        self._await_throttle(broker, backoff)
        with self._lock:
            connection = self._control(broker, backoff)
            request, read = ask(connection)
            try:
                answer: Any = connection.call(
                    request, timeout=min(REQUEST_TIMEOUT, max(backoff.remaining(), 0.1))
                )
            finally:
                if connection.closed:
                    self._drop(connection)
            throttle: timedelta = getattr(answer, "throttle_time", timedelta())
            if throttle > timedelta():
                self._free_at[connection] = self._retry.clock() + throttle.total_seconds()
            try:
                return read(answer)
            except DecodeError as error:
                connection.close()
                self._drop(connection)
                raise self._protocol_fault(
                    f"broker {connection.address} answered {type(request).__name__} with "
                    f"impossible content: {error}"
                ) from error

    def _await_throttle(self, broker: int | None, backoff: Backoff) -> None:
        """Wait as long as the broker asked with its last answer (KIP-219)."""
        with self._lock:
            connection = self._seed if broker is None else self._controls.get(broker)
            free_at = self._free_at.pop(connection, 0.0) if connection is not None else 0.0
        seconds = free_at - self._retry.clock()
        if seconds > 0 and not backoff.wait(seconds):
            raise unreachable(
                self.side,
                f"{self.side} cluster {self.name}",
                f"a quota delays requests by {seconds:.0f} s",
                hint="raise the request quota of this client on the cluster, or try later",
            )

    def _control(self, broker: int | None, backoff: Backoff) -> Connection:
        if broker is None:
            return self._seed or self._open_seed()
        connection = self._controls.get(broker)
        if connection is None:
            connection = self._controls[broker] = self._open_broker(broker, backoff)
        return connection

    def _drop(self, connection: Connection) -> None:
        self._free_at.pop(connection, None)
        if self._seed is connection:
            self._seed = None
        for broker, control in list(self._controls.items()):
            if control is connection:
                del self._controls[broker]

    def _open_seed(self) -> Connection:
        failures: list[CopystreamError] = []
        for host, port in self.config.bootstrap:
            try:
                connection, answer = self._open(host, port, CONNECT_TIMEOUT)
            except CopystreamError as error:
                failures.append(error)
                continue
            self.cluster_id = answer.cluster_id
            self.brokers = answer.brokers
            self._seed = connection
            return connection
        raise self._first_contact_failed(failures)

    def _first_contact_failed(self, failures: list[CopystreamError]) -> CopystreamError:
        if len(failures) == 1:
            return failures[0]
        for error in failures:
            if not isinstance(error, Unreachable):
                return error
        reasons = "; ".join(error.reason for error in failures if isinstance(error, Unreachable))
        return unreachable(
            self.side,
            f"{self.side} cluster {self.name}",
            f"no bootstrap address can be reached: {reasons}",
            hint=failures[0].hint or "check the addresses",
        )

    def _open_broker(self, broker: int, backoff: Backoff) -> Connection:
        if broker not in self.brokers:
            self._metadata([], backoff)
        if broker not in self.brokers:
            raise unreachable(
                self.side,
                f"{self.side} cluster {self.name}",
                f"broker {broker} is not up",
                hint="see whether the broker is running",
            )
        host, port = self.brokers[broker]
        timeout = min(CONNECT_TIMEOUT, max(backoff.remaining(), 0.1))
        try:
            connection, _ = self._open(host, port, timeout)
        except Unreachable as error:
            if broker in self._reached or (host, port) in self.config.bootstrap:
                raise
            raise self._advertised_unreachable(broker, format_address(host, port), error) from error
        self._reached.add(broker)
        return connection

    def _advertised_unreachable(
        self, broker: int, address: str, error: Unreachable
    ) -> CopystreamError:
        return unreachable(
            self.side,
            f"{self.side} cluster {self.name} answers at its bootstrap address, but its broker "
            f"{broker} advertises {address}, which cannot be used from here",
            error.reason,
            hint="set advertised.listeners on the broker to an address this machine can reach "
            f"(Docker, port forwards and NAT need that), or make {address} reachable",
        )

    def _open(self, host: str, port: int, timeout: float) -> tuple[Connection, MetadataAnswer]:
        """A connection that has proved to belong to this cluster."""
        connection = Connection.open(host, port, self.config, self.side, timeout=timeout)
        try:
            request = messages.metadata_request(_version(connection, messages.METADATA), [])
            answer = messages.read_metadata(connection.call(request, timeout=timeout), [])
            self._check_cluster(answer, format_address(host, port))
        except DecodeError as error:
            connection.close()
            raise self._protocol_fault(
                f"broker {connection.address} answered Metadata with impossible content: {error}"
            ) from error
        except BaseException:
            connection.close()
            raise
        return connection, answer

    def _protocol_fault(self, what: str) -> CopystreamError:
        return failure(
            ProtocolFault,
            self.side,
            f"{self.side} cluster {self.name}: {what}",
            hint="is this a Kafka broker or one compatible with it? Its log may say more",
        )


def _version(connection: Connection, api_key: int) -> int:
    lowest, highest = messages.VERSIONS[api_key]
    return connection.version(api_key, lowest, highest)


def _known_ends(
    results: dict[TopicPartition, OffsetResult],
) -> dict[TopicPartition, OffsetResult]:
    """An end of -1 means "unknown" (``UNDEFINED_EPOCH_OFFSET``): worth another question."""
    return {
        key: replace(result, error=broker_errors.LEADER_NOT_AVAILABLE)
        if result.error == broker_errors.NONE and result.offset < 0
        else result
        for key, result in results.items()
    }


def _summed(sizes: Iterable[tuple[TopicPartition, int]]) -> dict[TopicPartition, int]:
    total: dict[TopicPartition, int] = {}
    for key, size in sizes:
        total[key] = total.get(key, 0) + size
    return total
