"""One Kafka cluster as copystream sees it: who leads what, where logs begin and end.

Temporary errors are retried until a deadline (30 s unless told otherwise); what is left
then is reported with Kafka's own code, or raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from replicator.cluster import errors as broker_errors
from replicator.cluster import questions
from replicator.cluster.brokers import CONNECT_TIMEOUT, REQUEST_TIMEOUT, Brokers
from replicator.cluster.config import ClientConfig
from replicator.cluster.connection import Connection
from replicator.cluster.errors import broker_failure
from replicator.cluster.leaders import Leaders
from replicator.cluster.questions import (
    OffsetResult,
    RunningTransaction,
    TopicMeta,
)
from replicator.cluster.retry import RetryPolicy
from replicator.errors import CopystreamError
from replicator.terms import Side, TopicPartition

# Seconds at most between two looks at a topic that is just being created.
_CREATION_PAUSE = 0.1

_TIMESTAMPS = {
    "earliest": questions.EARLIEST,
    "earliest_local": questions.EARLIEST_LOCAL,
    "latest": questions.LATEST,
}


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
        self._leaders = Leaders(self._brokers)

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
        return self._leaders.metadata(topics, self._retry.start(timeout))

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
        return self._leaders.ask(
            partitions,
            lambda epochs: questions.list_offsets(epochs, timestamp, read_committed=read_committed),
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
        return self._leaders.ask(
            partitions,
            questions.epoch_ends,
            self._retry.start(timeout),
        )

    def epoch_end_offsets(
        self, epochs: Mapping[TopicPartition, int], *, timeout: float | None = None
    ) -> dict[TopicPartition, OffsetResult]:
        """Where leader epochs of the past end in the logs as they are now.

        The log end offset for the current one; -1 where a leader does not know the epoch. Where a
        leader gives no answer at all, the error is NETWORK_EXCEPTION.
        """
        return self._leaders.ask(
            epochs,
            lambda current: questions.epoch_ends(current, epochs),
            self._retry.start(timeout),
            apart=True,
        )

    def open_transactions(
        self, partitions: Iterable[TopicPartition], *, timeout: float | None = None
    ) -> dict[TopicPartition, RunningTransaction]:
        """The first open transaction of each partition that has one, as far as it can be told."""
        backoff = self._retry.start(timeout)
        wanted = list(dict.fromkeys(partitions))
        leaders = self._leaders.route(wanted, backoff).leaders
        found: dict[TopicPartition, RunningTransaction] = {}
        for answer in self._leaders.ask_each(
            leaders, questions.open_transactions, backoff
        ).values():
            if not isinstance(answer, CopystreamError):
                found.update(answer)
        return found

    def partition_bytes(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Bytes on the leader's disk; partitions whose size cannot be told are missing.

        An estimate for plans, so it takes DESCRIBE on Cluster but does not insist on it.
        """
        wanted = list(dict.fromkeys(partitions))
        backoff = self._retry.start(REQUEST_TIMEOUT)
        leaders = self._leaders.route(wanted, backoff).leaders
        sizes: dict[TopicPartition, int] = {}
        for broker, found in self._leaders.ask_each(leaders, questions.log_dirs, backoff).items():
            if not isinstance(found, CopystreamError):
                sizes.update({k: size for k, size in found.items() if k in leaders[broker]})
        return sizes

    def init_producer_id(self, *, timeout: float | None = None) -> tuple[int, int]:
        """A new producer id and its epoch, for writing idempotently without transactions."""
        backoff = self._retry.start(timeout)
        while True:
            answer = self._brokers.ask_any(questions.init_producer_id(), backoff)
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
            self._leaders.metadata([], backoff)
        return self._brokers.open_data(broker, backoff)

    def fetch(
        self, broker: int, offsets: Mapping[TopicPartition, int], limit: int, *, timeout: float
    ) -> dict[TopicPartition, bytes]:
        """What the log of a leader holds from some offsets on (``questions.fetch``). Not retried.

        It goes over the control connection, so it is not for bulk.
        """
        return self._brokers.ask(
            broker, questions.fetch(offsets, limit), self._retry.start(timeout), timeout
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
            found = self._leaders.metadata(list(topics), backoff)
            waiting = [name for name, count in topics.items() if not _complete(found[name], count)]
            temporary = all(
                broker_errors.is_temporary(
                    found[name].error or broker_errors.LEADER_NOT_AVAILABLE, just_created=True
                )
                for name in waiting
            )
            if not waiting or not temporary or not backoff.pause():
                break
        ends = self._leaders.ask(
            [(name, number) for name, count in topics.items() for number in range(count)],
            lambda epochs: questions.list_offsets(epochs, questions.LATEST, read_committed=False),
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


def _complete(topic: TopicMeta, partitions: int) -> bool:
    return (
        not topic.error
        and len(topic.partitions) >= partitions
        and all(partition.leader >= 0 for partition in topic.partitions.values())
    )
