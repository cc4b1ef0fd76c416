"""One Kafka cluster as copystream sees it: who leads what, where logs begin and end.

Metadata is asked for when something needs it or an answer shows that it is stale, never by a
timer. Temporary errors are retried until a deadline (30 s unless told otherwise); what is left
then is reported with Kafka's own code, or raised.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from replicator.cluster import errors as broker_errors
from replicator.cluster import questions as messages
from replicator.cluster.brokers import CONNECT_TIMEOUT, REQUEST_TIMEOUT, Brokers
from replicator.cluster.config import ClientConfig
from replicator.cluster.connection import Connection
from replicator.cluster.errors import Unreachable, broker_failure
from replicator.cluster.questions import (
    OffsetResult,
    PartitionMeta,
    Question,
    RunningTransaction,
    TopicMeta,
)
from replicator.cluster.retry import Backoff, RetryPolicy
from replicator.errors import CopystreamError
from replicator.terms import Side, TopicPartition

# Seconds at most between two looks at a topic that is just being created.
_CREATION_PAUSE = 0.1

_AT_ONCE = 16  # brokers that are asked at the same time

_TIMESTAMPS = {
    "earliest": messages.EARLIEST,
    "earliest_local": messages.EARLIEST_LOCAL,
    "latest": messages.LATEST,
}

R = TypeVar("R")
Epochs = Mapping[TopicPartition, int]
Ask = Callable[[Epochs], Question[dict[TopicPartition, OffsetResult]]]


@dataclass(slots=True)
class _Routes:
    """Partitions sorted by what to do about them."""

    leaders: dict[int, dict[TopicPartition, int]] = field(default_factory=dict)  # with epochs
    settled: dict[TopicPartition, OffsetResult] = field(default_factory=dict)
    waiting: dict[TopicPartition, int] = field(default_factory=dict)  # with error codes


class Cluster:
    """A cluster reached through ``config``, as the source or the target of a job. Thread-safe.

    There is one control connection per broker, opened on demand and again after a loss.
    Every method raises ``ClusterError``; see ``cluster.errors``.
    """

    def __init__(
        self, config: ClientConfig, side: Side, *, retry: RetryPolicy | None = None
    ) -> None:
        self.config = config
        self.side: Side = side
        self._retry = retry or RetryPolicy()
        self._brokers = Brokers(config, side, self._retry)
        self._lock = threading.Lock()
        self._topics: dict[str, TopicMeta] = {}
        self._stale: set[str] = set()

    @property
    def cluster_id(self) -> str:
        """The id all brokers of the cluster answer with; empty before first contact."""
        return self._brokers.cluster_id

    @property
    def name(self) -> str:
        """The cluster as messages name it: bootstrap addresses and, once known, its id."""
        return self._brokers.name

    @property
    def brokers(self) -> dict[int, tuple[str, int]]:
        """Advertised host and port of each broker that is up, by broker id."""
        return dict(self._brokers.addresses)

    def connect(self) -> None:
        """First contact: learn cluster id and brokers from the first address that answers.

        Every bootstrap address is tried once; nothing is retried, so that a wrong address is
        told at once.
        """
        self._brokers.connect()

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
        at: Literal["earliest", "earliest_local", "latest"] | int,
        *,
        read_committed: bool = False,
        apart: bool = False,
        timeout: float | None = None,
    ) -> dict[TopicPartition, OffsetResult]:
        """Log start, log end as consumers see it, or the first offset at a time in ms.

        "latest" is the high watermark, with ``read_committed`` the last stable offset;
        "earliest_local" is where the part of the log begins that is not only in remote storage,
        Unsupported before Kafka 3.6. A timestamp past the last record gives offset -1.
        Where a leader gives no answer at all, that is raised, or with ``apart`` the error
        NETWORK_EXCEPTION of its partitions.
        """
        if isinstance(at, int):
            if at < 0:
                raise ValueError(f"timestamp {at} is negative")
            timestamp = at
        else:
            timestamp = _TIMESTAMPS[at]
        return self._ask_leaders(
            partitions,
            lambda epochs: messages.list_offsets(epochs, timestamp, read_committed=read_committed),
            self._retry.start(timeout),
            apart=apart,
        )

    def leader_end_offsets(
        self,
        partitions: Iterable[TopicPartition],
        *,
        timeout: float | None = None,
    ) -> dict[TopicPartition, OffsetResult]:
        """The leader's log end offset, records above the high watermark included.

        This is what a writer must know that wants to go on after a lost answer.
        """
        return self._ask_leaders(
            partitions,
            messages.epoch_ends,
            self._retry.start(timeout),
        )

    def epoch_end_offsets(
        self, epochs: Mapping[TopicPartition, int], *, timeout: float | None = None
    ) -> dict[TopicPartition, OffsetResult]:
        """Where leader epochs of the past end in the logs as they are now.

        The log end offset for the current one; -1 where a leader does not know the epoch. Where a
        leader gives no answer at all, the error is NETWORK_EXCEPTION.
        """
        return self._ask_leaders(
            epochs,
            lambda current: messages.epoch_ends(current, epochs),
            self._retry.start(timeout),
            apart=True,
        )

    def open_transactions(
        self, partitions: Iterable[TopicPartition], *, timeout: float | None = None
    ) -> dict[TopicPartition, RunningTransaction]:
        """The first open transaction of each partition that has one, as far as it can be told."""
        backoff = self._retry.start(timeout)
        wanted = list(dict.fromkeys(partitions))
        leaders = self._route(wanted, backoff).leaders
        found: dict[TopicPartition, RunningTransaction] = {}
        for answer in self._ask_each(leaders, messages.open_transactions, backoff).values():
            if not isinstance(answer, CopystreamError):
                found.update(answer)
        return found

    def partition_bytes(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Bytes on the leader's disk; partitions nobody may or can tell about are missing.

        An estimate for plans, so it takes DESCRIBE on Cluster but does not insist on it.
        """
        wanted = list(dict.fromkeys(partitions))
        backoff = self._retry.start(REQUEST_TIMEOUT)
        leaders = self._route(wanted, backoff).leaders
        sizes: dict[TopicPartition, int] = {}
        for broker, found in self._ask_each(leaders, messages.log_dirs, backoff).items():
            if not isinstance(found, CopystreamError):
                sizes.update({k: size for k, size in found.items() if k in leaders[broker]})
        return sizes

    def init_producer_id(self, *, timeout: float | None = None) -> tuple[int, int]:
        """A new producer id and its epoch, for writing idempotently without transactions."""
        backoff = self._retry.start(timeout)
        while True:
            answer = self._brokers.ask_any(messages.init_producer_id(), backoff)
            if not answer.error:
                return answer.producer_id, answer.epoch
            if not broker_errors.is_temporary(answer.error) or not backoff.pause():
                raise self.error(
                    answer.error,
                    "get a producer id",
                    acl="IDEMPOTENT_WRITE on Cluster, or WRITE on any Topic",
                )

    def data_connection(self, broker: int) -> Connection:
        """A fresh connection to one broker, which the caller owns. Not retried.

        It has proved to lead to this cluster.
        """
        backoff = self._retry.start(CONNECT_TIMEOUT)
        if broker not in self._brokers.addresses:
            self._metadata([], backoff)
        return self._brokers.open_data(broker, backoff)

    def fetch(
        self, broker: int, offsets: Mapping[TopicPartition, int], limit: int, *, timeout: float
    ) -> dict[TopicPartition, bytes]:
        """What the log of a leader holds from some offsets on; see ``messages.fetch``. Not retried.

        It goes over the control connection, so it is not for bulk.
        """
        return self._brokers.ask(
            broker, messages.fetch(offsets, limit), self._retry.start(timeout), timeout
        )

    def await_leaders(
        self, topics: Mapping[str, int], *, timeout: float | None = None
    ) -> tuple[dict[str, TopicMeta], dict[TopicPartition, CopystreamError]]:
        """Wait until topics (name → partition count) exist and every leader serves them.

        Returns the topics, and the partitions that have none at the deadline. A topic shows in
        the metadata of one broker before its leader knows of it, hence the offsets asked for at
        the end.
        """
        backoff = self._retry.start(timeout, highest=_CREATION_PAUSE)
        while True:
            found = self._metadata(list(topics), backoff)
            waiting = [name for name, count in topics.items() if not _complete(found[name], count)]
            temporary = all(
                broker_errors.is_temporary(
                    found[name].error or broker_errors.LEADER_NOT_AVAILABLE, just_created=True
                )
                for name in waiting
            )
            if not waiting or not temporary or not backoff.pause():
                break
        ends = self._ask_leaders(
            [(name, number) for name, count in topics.items() for number in range(count)],
            lambda epochs: messages.list_offsets(epochs, messages.LATEST, read_committed=False),
            backoff,
            just_created=True,
            apart=True,
        )
        unready = {
            (name, partition): self.error(
                end.error,
                f"use the new partition {name}-{partition}",
                acl=f"DESCRIBE on Topic {name}",
            )
            for (name, partition), end in ends.items()
            if end.error
        }
        return found, unready

    def error(self, code: int, doing: str, *, acl: str, detail: str = "") -> CopystreamError:
        """The error to raise for a Kafka error code; see ``errors.broker_failure``."""
        return broker_failure(code, self.side, self.name, doing, acl=acl, detail=detail)

    def close(self) -> None:
        """Close every control connection; data connections belong to their owners."""
        self._brokers.close()

    def _ask_leaders(
        self,
        partitions: Iterable[TopicPartition],
        ask: Ask,
        backoff: Backoff,
        *,
        just_created: bool = False,
        apart: bool = False,
    ) -> dict[TopicPartition, OffsetResult]:
        """Ask each partition's leader, again where that may help, until the deadline.

        What still fails then has its error code in the result, unless a leader gave no answer
        at all, which is raised but for ``apart``. ``just_created`` waits for topics that the
        cluster does not know yet.
        """
        wanted = pending = list(dict.fromkeys(partitions))
        results: dict[TopicPartition, OffsetResult] = {}
        while pending:
            trouble: Unreachable | None = None
            routes = self._route(pending, backoff, just_created=just_created)
            results.update(routes.settled)
            waiting = routes.waiting
            for broker, answers in self._ask_each(routes.leaders, ask, backoff).items():
                if isinstance(answers, Unreachable):
                    trouble = None if apart else answers
                    lost = dict.fromkeys(routes.leaders[broker], broker_errors.NETWORK_EXCEPTION)
                    waiting.update(lost)
                    continue
                if isinstance(answers, CopystreamError):
                    raise answers
                for key, result in answers.items():
                    if broker_errors.is_temporary(result.error, just_created=just_created):
                        waiting[key] = result.error
                    else:
                        results[key] = result
            pending = list(waiting)
            self._distrust(key[0] for key in wanted if key not in results or results[key].error)
            if pending and not backoff.pause():
                if trouble is not None:
                    raise trouble
                results.update({key: OffsetResult(-1, -1, code) for key, code in waiting.items()})
                break
        return {key: results[key] for key in wanted}

    def _ask_each(
        self,
        leaders: Mapping[int, dict[TopicPartition, int]],
        ask: Callable[[Epochs], Question[R]],
        backoff: Backoff,
    ) -> dict[int, R | CopystreamError]:
        """Ask brokers at the same time, so that one that hangs takes no time from the others."""

        def one(broker: int) -> R | CopystreamError:
            try:
                return self._brokers.ask(broker, ask(leaders[broker]), backoff)
            except CopystreamError as error:
                return error

        if len(leaders) < 2:
            return {broker: one(broker) for broker in leaders}
        with ThreadPoolExecutor(min(len(leaders), _AT_ONCE)) as pool:
            return dict(zip(leaders, pool.map(one, leaders), strict=True))

    def _route(
        self, partitions: Sequence[TopicPartition], backoff: Backoff, *, just_created: bool = False
    ) -> _Routes:
        with self._lock:
            topics = dict(self._topics)
            unknown = dict.fromkeys(
                topic
                for topic, partition in partitions
                if topic not in topics
                or topic in self._stale
                or partition not in topics[topic].partitions
            )
        if unknown:
            topics.update(self._metadata(list(unknown), backoff))
        routes = _Routes()
        for key in partitions:
            topic = topics[key[0]]
            partition = topic.partitions.get(key[1])
            if partition is not None and partition.leader >= 0:
                routes.leaders.setdefault(partition.leader, {})[key] = partition.leader_epoch
                continue
            code = topic.error
            if not code:
                code = (
                    broker_errors.UNKNOWN_TOPIC_OR_PARTITION
                    if partition is None
                    else broker_errors.LEADER_NOT_AVAILABLE
                )
            if broker_errors.is_temporary(code, just_created=just_created):
                routes.waiting[key] = code
            else:
                routes.settled[key] = OffsetResult(-1, -1, code)
        return routes

    def _metadata(self, topics: Sequence[str] | None, backoff: Backoff) -> dict[str, TopicMeta]:
        names = None if topics is None else list(dict.fromkeys(topics))
        answer = self._brokers.ask_any(messages.metadata(names), backoff)
        self._brokers.learn(answer)
        with self._lock:
            found = {name: self._newest(topic) for name, topic in answer.topics.items()}
            for name, topic in found.items():
                self._stale.discard(name)
                if topic.error:
                    self._topics.pop(name, None)
                else:
                    self._topics[name] = topic
        return found

    def _newest(self, topic: TopicMeta) -> TopicMeta:
        """``topic``, with partitions that a lagging broker knows less well than we do replaced."""
        known = self._topics.get(topic.name)
        if known is None or known.topic_id != topic.topic_id:
            return topic

        def newer(number: int, seen: PartitionMeta) -> PartitionMeta:
            old = known.partitions.get(number, seen)
            return old if old.leader_epoch > seen.leader_epoch else seen

        return replace(topic, partitions={n: newer(n, p) for n, p in topic.partitions.items()})

    def _distrust(self, topics: Iterable[str]) -> None:
        """Have the metadata of topics asked for again before the next use."""
        with self._lock:
            self._stale.update(topics)


def _complete(topic: TopicMeta, partitions: int) -> bool:
    return (
        not topic.error
        and len(topic.partitions) >= partitions
        and all(partition.leader >= 0 for partition in topic.partitions.values())
    )
