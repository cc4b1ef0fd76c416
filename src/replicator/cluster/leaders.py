"""Which broker leads which partition, and questions to all leaders at the same time.

Metadata is asked for when something needs it or an answer shows that it is stale, never by a
timer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from replicator.cluster import errors as broker_errors
from replicator.cluster import questions
from replicator.cluster.brokers import Brokers
from replicator.cluster.errors import Unreachable
from replicator.cluster.questions import OffsetResult, PartitionMeta, Question, TopicMeta
from replicator.cluster.retry import Backoff
from replicator.errors import CopystreamError
from replicator.terms import TopicPartition

_AT_ONCE = 16  # brokers that are asked at the same time

R = TypeVar("R")
Epochs = Mapping[TopicPartition, int]
Ask = Callable[[Epochs], Question[dict[TopicPartition, OffsetResult]]]


@dataclass(slots=True)
class Routes:
    """Partitions sorted by what to do about them."""

    leaders: dict[int, dict[TopicPartition, int]] = field(default_factory=dict)  # with epochs
    settled: dict[TopicPartition, OffsetResult] = field(default_factory=dict)
    waiting: dict[TopicPartition, int] = field(default_factory=dict)  # with error codes


class Leaders:
    """The leaders of one cluster's partitions, as far as they were needed. Thread-safe.

    Every error is a ``ClusterError``.
    """

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._lock = threading.Lock()  # guards what follows
        self._topics: dict[str, TopicMeta] = {}
        self._stale: set[str] = set()

    def ask(
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
            routes = self.route(pending, backoff, just_created=just_created)
            results.update(routes.settled)
            waiting = routes.waiting
            for broker, answers in self.ask_each(routes.leaders, ask, backoff).items():
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

    def ask_each(
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

    def route(
        self, partitions: Sequence[TopicPartition], backoff: Backoff, *, just_created: bool = False
    ) -> Routes:
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
            topics.update(self.metadata(list(unknown), backoff))
        routes = Routes()
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

    def metadata(self, topics: Sequence[str] | None, backoff: Backoff) -> dict[str, TopicMeta]:
        names = None if topics is None else list(dict.fromkeys(topics))
        answer = self._brokers.ask_any(questions.metadata(names), backoff)
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
