"""Topics and their configs, by confluent-kafka's AdminClient.

Every error is a ``ClusterError``. Creating topics reports per topic, since
one that fails says nothing about the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from replicator.cluster import errors as broker_errors
from replicator.cluster.brokers import REQUEST_TIMEOUT
from replicator.cluster.cluster import Cluster
from replicator.cluster.errors import Unreachable, Unsupported, library_reason, unreachable
from replicator.cluster.retry import Backoff, RetryPolicy
from replicator.errors import CopystreamError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError
    from confluent_kafka.admin import AdminClient

# Broker settings that a topic without its own value falls back to, in order of precedence
# (``kafka.server.KafkaConfig.extractLogConfigMap``); the number converts to the topic's unit.
_BROKER_DEFAULTS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "retention.ms": (
        ("log.retention.ms", 1),
        ("log.retention.minutes", 60_000),
        ("log.retention.hours", 3_600_000),
    ),
    "retention.bytes": (("log.retention.bytes", 1),),
    "max.message.bytes": (("message.max.bytes", 1),),
    "cleanup.policy": (("log.cleanup.policy", 0),),
    "compression.type": (("compression.type", 0),),
    "message.timestamp.type": (("log.message.timestamp.type", 0),),
    "message.timestamp.before.max.ms": (("log.message.timestamp.before.max.ms", 1),),
    "message.timestamp.after.max.ms": (("log.message.timestamp.after.max.ms", 1),),
    "segment.bytes": (("log.segment.bytes", 1),),
    "delete.retention.ms": (("log.cleaner.delete.retention.ms", 1),),
    "min.compaction.lag.ms": (("log.cleaner.min.compaction.lag.ms", 1),),
    "max.compaction.lag.ms": (("log.cleaner.max.compaction.lag.ms", 1),),
}

# A controller refuses a request for more than 10,000 partitions
# (``ReplicationControlManager.MAX_PARTITIONS_PER_BATCH``), and takes long for many.
_PARTITIONS_PER_REQUEST = 2000

# Seconds without a topic taken until a quota on creations (KIP-599) is given up on. It is used up
# by what came before, dry runs included, and may take minutes to fill.
_QUOTA_PATIENCE = 300.0

# Seconds for the settings of one broker; another is asked where it does not answer.
_BROKER_PATIENCE = 5.0

# Seconds that one attempt gets where any broker can answer.
_ATTEMPT = 4.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TopicConfigs:
    """Configs of one topic, by Kafka's names.

    ``overrides`` are those set on the topic itself; ``effective`` has every value in force,
    wherever it comes from. Sensitive values, which brokers never tell, are in neither.
    """

    overrides: Mapping[str, str]
    effective: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to be created; the brokers choose where its replicas go."""

    name: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str] = field(default_factory=dict)


class Admin:
    """Administration of one cluster. Thread-safe; connects on first use."""

    def __init__(self, cluster: Cluster, *, retry: RetryPolicy | None = None) -> None:
        self._cluster = cluster
        self._retry = retry or RetryPolicy()
        self._admin: AdminClient | None = None

    def close(self) -> None:
        """Close its connections; it opens others if it is used again."""
        self._admin = None

    def describe_topic_configs(
        self, topics: Iterable[str]
    ) -> dict[str, TopicConfigs | CopystreamError]:
        """Configs of existing topics, or why those of one cannot be described."""
        kafka = _library()
        found: dict[str, TopicConfigs | CopystreamError] = {}
        backoff = self._retry.start()
        for name, answer in self._describe(kafka.ResourceType.TOPIC, list(topics), backoff).items():
            if isinstance(answer, CopystreamError):
                found[name] = answer
                continue
            known = {e.name: e for e in answer if e.value is not None and not e.is_sensitive}
            found[name] = TopicConfigs(
                overrides={key: e.value for key, e in known.items() if _set_on_topic(e)},
                effective={key: e.value for key, e in known.items()},
            )
        return found

    def topic_defaults(self) -> dict[str, str]:
        """What a new topic gets for the configs of ``_BROKER_DEFAULTS``.

        Read from the settings of the first broker that answers, which takes DESCRIBE_CONFIGS on
        Cluster; empty where that is denied or none answers.
        """
        kafka = _library()
        for broker in sorted(self._cluster.brokers):
            backoff = self._retry.start(_BROKER_PATIENCE)
            answer = self._describe(kafka.ResourceType.BROKER, [str(broker)], backoff)[str(broker)]
            if not isinstance(answer, CopystreamError):
                return _topic_defaults({e.name: e.value for e in answer if e.value is not None})
            _log.debug("defaults of new topics are not known: %s", answer)
            if not isinstance(answer, Unreachable):
                break
        return {}

    def create_topics(
        self, specs: Sequence[TopicSpec], *, timeout: float | None = None
    ) -> dict[str, CopystreamError]:
        """Create topics with their configs in one request each, and wait until they can be used.

        Returns the topics that failed, with the reason; all others have a leader for every
        partition.
        """
        backoff = self._retry.start(timeout)
        failed = self.request_topics(specs, timeout=timeout)
        created = {spec.name: spec.partitions for spec in specs if spec.name not in failed}
        if created:
            _, unready = self._cluster.await_leaders(created, timeout=backoff.remaining())
            for (name, _), error in unready.items():
                failed.setdefault(name, error)
        return failed

    def request_topics(
        self,
        specs: Sequence[TopicSpec],
        *,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> dict[str, CopystreamError]:
        """Have topics created, or with ``validate_only`` only looked at; returns those that the
        cluster refuses, with the reason.

        Configs go into the request itself: set afterwards, a wrong cleanup policy could act in
        between (KAFKA-12254). Temporary refusals are tried again until ``timeout`` seconds
        (default: the retry policy's) have passed without a topic being taken, so that a quota on
        creations (KIP-599) slows a copy down and does not end it.
        """
        kafka = _library()

        def ask(names: Sequence[str], options: dict[str, Any]) -> Mapping[str, Any]:
            chosen = [by_name[name] for name in names]
            found: Mapping[str, Any] = self._client().create_topics(
                [
                    kafka.NewTopic(
                        spec.name,
                        num_partitions=spec.partitions,
                        replication_factor=spec.replication_factor,
                        config=dict(spec.configs),
                    )
                    for spec in chosen
                ],
                validate_only=validate_only,
                **options,
            )
            return found

        def failure(name: str, problem: KafkaError, again: bool) -> CopystreamError | None:
            # Our own earlier attempt made it, and only its answer was lost.
            if problem.code() == broker_errors.TOPIC_ALREADY_EXISTS and again:
                return None
            return self._error(problem, f"create topic {name}", f"CREATE on Topic {name}")

        by_name = {spec.name: spec for spec in specs}
        sizes = {spec.name: spec.partitions for spec in specs}
        return self._each(sizes, ask, failure, timeout, patient=not validate_only)

    def widen_topics(
        self,
        counts: Mapping[str, int],
        *,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> dict[str, CopystreamError]:
        """Have partitions added to topics until each has as many as ``counts`` says, or with
        ``validate_only`` only see whether that is possible; returns those that are refused.
        """
        kafka = _library()

        def ask(names: Sequence[str], options: dict[str, Any]) -> Mapping[str, Any]:
            found: Mapping[str, Any] = self._client().create_partitions(
                [kafka.NewPartitions(name, counts[name]) for name in names],
                validate_only=validate_only,
                **options,
            )
            return found

        def failure(name: str, problem: KafkaError, again: bool) -> CopystreamError | None:
            if problem.code() == broker_errors.INVALID_PARTITIONS and again:
                return None  # as above: it has that many already
            return self._error(problem, f"add partitions to topic {name}", f"ALTER on Topic {name}")

        return self._each(counts, ask, failure, timeout, patient=not validate_only)

    def _each(
        self,
        sizes: Mapping[str, int],
        ask: Callable[[Sequence[str], dict[str, Any]], Mapping[str, Any]],
        failure: Callable[[str, KafkaError, bool], CopystreamError | None],
        timeout: float | None,
        *,
        patient: bool,
    ) -> dict[str, CopystreamError]:
        """Ask for topics, each with its partitions' number, in requests of a bearable size, those
        with temporary errors again. ``failure`` gives the error of one, and is told whether an
        earlier attempt may have done it. Unless ``patient``, a quota is not waited for.
        """
        backoff = self._retry.start(timeout)
        failed: dict[str, CopystreamError] = {}
        pending = list(sizes)
        uncertain: set[str] = set()
        slowed = False
        while pending:
            waiting: dict[str, CopystreamError] = {}
            throttled = False
            for names in _portions(pending, sizes):
                for name, future in ask(names, _timeout(backoff)).items():
                    problem = _problem(future.result)
                    if problem is None:
                        continue
                    error = failure(name, problem, name in uncertain)
                    if error is None:
                        continue
                    if problem.code() == broker_errors.THROTTLING_QUOTA_EXCEEDED:
                        throttled = True
                        (waiting if patient else failed)[name] = error
                    elif _is_temporary(problem):
                        waiting[name] = error
                        uncertain.add(name)
                    else:
                        failed[name] = error
            if throttled and patient and not slowed:
                slowed = True
                _log.warning(
                    "%s cluster %s limits how fast topics are created (controller_mutation_rate): "
                    "waiting for it",
                    self._cluster.side,
                    self._cluster.name,
                )
                backoff = self._retry.start(_QUOTA_PATIENCE)
            elif len(waiting) < len(pending):
                backoff = self._retry.start(_QUOTA_PATIENCE if slowed else timeout)
            pending = list(waiting)
            # A connection that a quota slows down is not answered until it is over.
            self._admin = None if pending else self._admin
            if pending and not backoff.pause():
                failed.update(waiting)
                break
        return failed

    def alter_topic_configs(self, topic: str, changes: Mapping[str, str | None]) -> None:
        """Set configs of one topic; None takes the topic's own value away."""
        kafka = _library()

        entries = [
            kafka.ConfigEntry(
                key,
                value or "",
                incremental_operation=kafka.AlterConfigOpType.DELETE
                if value is None
                else kafka.AlterConfigOpType.SET,
            )
            for key, value in changes.items()
        ]
        resource = kafka.ConfigResource(
            kafka.ResourceType.TOPIC, topic, incremental_configs=entries
        )
        futures = self._client().incremental_alter_configs(
            [resource], **_timeout(self._retry.start())
        )
        problem = _problem(next(iter(futures.values())).result)
        if problem is not None:
            raise self._error(
                problem, f"change configs of topic {topic}", f"ALTER_CONFIGS on Topic {topic}"
            )

    def _client(self) -> AdminClient:
        # Another thread may drop the client meanwhile, or make one too.
        admin = self._admin
        if admin is None:
            # librdkafka would write its connection troubles to stderr; they come back as errors.
            config = {**self._cluster.config.librdkafka(), "log_level": 0}
            admin = self._admin = _library().AdminClient(config)
        return admin

    def _describe(
        self, kind: Any, names: Sequence[str], backoff: Backoff
    ) -> dict[str, list[Any] | CopystreamError]:
        """Config entries per resource, or why there are none; temporary errors retried."""
        kafka = _library()

        noun = "topic" if kind == kafka.ResourceType.TOPIC else "broker"
        scope = "Topic {}" if kind == kafka.ResourceType.TOPIC else "Cluster"
        found: dict[str, list[Any] | CopystreamError] = {}
        pending = list(dict.fromkeys(names))
        while pending:
            client = self._client()  # held until all have answered
            futures = client.describe_configs(
                [kafka.ConfigResource(kind, name) for name in pending],
                **_timeout(backoff, _ATTEMPT),
            )
            waiting: list[str] = []
            answered = True
            for resource, future in futures.items():
                name = resource.name
                problem = _problem(future.result)
                if problem is None:
                    found[name] = list(future.result().values())
                    continue
                found[name] = self._error(
                    problem,
                    f"read configs of {noun} {name}",
                    f"DESCRIBE_CONFIGS on {scope.format(name)}",
                )
                if _is_temporary(problem):
                    waiting.append(name)
                    answered = answered and problem.code() > 0
            pending = waiting
            if not answered:
                self._admin = None  # the broker may hang: a new client asks one that answers
            if pending and not backoff.pause():
                break
        return found

    def _error(self, problem: KafkaError, doing: str, acl: str) -> CopystreamError:
        code: int = problem.code()
        side, name = self._cluster.side, self._cluster.name
        if problem.name() == "_UNSUPPORTED_FEATURE":
            unsupported = Unsupported(
                side,
                f"{side} cluster {name}: cannot {doing}: its brokers do not support that",
                hint="Kafka 2.8 and newer do: is a proxy or a compatible broker in between?",
            )
            unsupported.reason = "its brokers do not support that"
            return unsupported
        if code < 0:
            return unreachable(
                side,
                f"{side} cluster {name}",
                f"cannot {doing}: {library_reason(problem)}",
                hint="see whether the brokers, and the controller among them, are up",
            )
        return self._cluster.error(code, doing, acl=acl, detail=_detail(problem))


def _library() -> Any:
    """confluent_kafka.admin, untyped: it does not declare the classes it re-exports."""
    import confluent_kafka.admin  # noqa: PLC0415 - librdkafka is loaded by the first use of it

    return confluent_kafka.admin


def _detail(problem: KafkaError) -> str:
    """The broker's own message; empty where librdkafka had none and put in the code's name."""
    text = problem.str()
    return "" if text.startswith("Broker: ") else text


def _set_on_topic(entry: Any) -> bool:
    return bool(entry.source == _library().ConfigSource.DYNAMIC_TOPIC_CONFIG.value)


def _topic_defaults(settings: Mapping[str, str]) -> dict[str, str]:
    """The configs of a new topic, from the settings of a broker."""
    defaults: dict[str, str] = {}
    for key, sources in _BROKER_DEFAULTS.items():
        for name, factor in sources:
            if name in settings:
                value = settings[name]
                # -1 means without a limit in every unit.
                defaults[key] = value if factor == 0 else str(_scaled(int(value), factor))
                break
    return defaults


def _portions(names: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Names in their order, a few at a time, by the partitions of each."""
    portion: list[str] = []
    for name in names:
        if portion and sum(sizes[n] for n in portion) + sizes[name] > _PARTITIONS_PER_REQUEST:
            yield portion
            portion = []
        portion.append(name)
    yield portion


def _is_temporary(problem: KafkaError) -> bool:
    return problem.code() < 0 or broker_errors.is_temporary(problem.code())


def _scaled(value: int, factor: int) -> int:
    return value if value < 0 else value * factor


def _timeout(backoff: Backoff, most: float = REQUEST_TIMEOUT) -> dict[str, float]:
    """The limit of one attempt, in seconds as the AdminClient takes it."""
    return {"request_timeout": max(1.0, min(most, backoff.remaining()))}


def _problem(result: Callable[[], object]) -> KafkaError | None:
    """The error a finished or pending AdminClient future holds."""
    from confluent_kafka import KafkaException  # noqa: PLC0415 - as above

    try:
        result()
    except KafkaException as error:
        problem: KafkaError = error.args[0]
        return problem
    return None
