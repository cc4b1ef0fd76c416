"""Topics and their configs, by confluent-kafka's AdminClient.

Every error is a SourceError or TargetError by side. Creating topics reports per topic, since
one that fails says nothing about the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from replicator.cluster import broker_errors
from replicator.cluster.brokers import REQUEST_TIMEOUT
from replicator.cluster.cluster import Cluster
from replicator.cluster.failures import Unsupported, failure, library_reason, unreachable
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
}

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

    def describe_topic_configs(self, topics: Iterable[str]) -> dict[str, TopicConfigs]:
        """Configs of existing topics. Raises for the first one that cannot be described."""
        kafka = _library()
        found: dict[str, TopicConfigs] = {}
        for name, answer in self._describe(kafka.ResourceType.TOPIC, list(topics)).items():
            if isinstance(answer, CopystreamError):
                raise answer
            known = {e.name: e for e in answer if e.value is not None and not e.is_sensitive}
            found[name] = TopicConfigs(
                overrides={key: e.value for key, e in known.items() if _set_on_topic(e)},
                effective={key: e.value for key, e in known.items()},
            )
        return found

    def topic_defaults(self) -> dict[str, str]:
        """What a new topic gets for retention, size, policy, compression and timestamp type.

        Read from one broker's settings, which takes DESCRIBE_CONFIGS on Cluster; empty where
        that is denied, since it only serves warnings.
        """
        kafka = _library()
        brokers = sorted(self._cluster.brokers)
        if not brokers:
            return {}
        answer = self._describe(kafka.ResourceType.BROKER, [str(brokers[0])])[str(brokers[0])]
        if isinstance(answer, CopystreamError):
            _log.debug("defaults of new topics are not known: %s", answer)
            return {}
        settings = {e.name: e.value for e in answer if e.value is not None}
        defaults: dict[str, str] = {}
        for key, sources in _BROKER_DEFAULTS.items():
            for name, factor in sources:
                if name in settings:
                    value = settings[name]
                    # -1 means "for ever" in every unit.
                    defaults[key] = value if factor == 0 else str(_scaled(int(value), factor))
                    break
        return defaults

    def create_topics(
        self, specs: Sequence[TopicSpec], *, timeout: float | None = None
    ) -> dict[str, CopystreamError]:
        """Create topics with their configs in one request each, and wait until they can be used.

        Returns the topics that failed, with the reason; all others have a leader for every
        partition. Configs go into the request itself: set afterwards, a wrong cleanup policy
        could act in between (KAFKA-12254).
        """
        kafka = _library()
        backoff = self._retry.start(timeout)
        failed: dict[str, CopystreamError] = {}
        pending = {spec.name: spec for spec in specs}
        uncertain: set[str] = set()
        while pending:
            waiting: dict[str, CopystreamError] = {}
            futures = self._client().create_topics(
                [
                    kafka.NewTopic(
                        spec.name,
                        num_partitions=spec.partitions,
                        replication_factor=spec.replication_factor,
                        config=dict(spec.configs),
                    )
                    for spec in pending.values()
                ],
                **_timeout(backoff),
            )
            for name, future in futures.items():
                problem = _problem(future.result)
                if problem is None or (
                    # Our own earlier attempt made it, and only its answer was lost.
                    problem.code() == broker_errors.TOPIC_ALREADY_EXISTS and name in uncertain
                ):
                    continue
                error = self._error(problem, f"create topic {name}", f"CREATE on Topic {name}")
                if problem.code() < 0 or broker_errors.is_temporary(problem.code()):
                    waiting[name] = error
                    uncertain.add(name)
                else:
                    failed[name] = error
            pending = {name: pending[name] for name in waiting}
            if pending and not backoff.pause():
                failed.update(waiting)
                break
        created = {spec.name: spec.partitions for spec in specs if spec.name not in failed}
        if created:
            self._cluster.await_leaders(created, timeout=backoff.remaining())
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
        if self._admin is None:
            # librdkafka would write its connection troubles to stderr; they come back as errors.
            self._admin = _library().AdminClient(
                {**self._cluster.config.librdkafka(), "log_level": 0}
            )
        return self._admin

    def _describe(self, kind: Any, names: Sequence[str]) -> dict[str, list[Any] | CopystreamError]:
        """Config entries per resource, or why there are none; temporary errors retried."""
        kafka = _library()

        noun = "topic" if kind == kafka.ResourceType.TOPIC else "broker"
        scope = "Topic {}" if kind == kafka.ResourceType.TOPIC else "Cluster"
        found: dict[str, list[Any] | CopystreamError] = {}
        backoff = self._retry.start()
        pending = list(dict.fromkeys(names))
        while pending:
            futures = self._client().describe_configs(
                [kafka.ConfigResource(kind, name) for name in pending], **_timeout(backoff)
            )
            waiting: list[str] = []
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
                if problem.code() < 0 or broker_errors.is_temporary(problem.code()):
                    waiting.append(name)
            pending = waiting
            if pending and not backoff.pause():
                break
        return found

    def _error(self, problem: KafkaError, doing: str, acl: str) -> CopystreamError:
        code: int = problem.code()
        side, name = self._cluster.side, self._cluster.name
        if problem.name() == "_UNSUPPORTED_FEATURE":
            unsupported = failure(
                Unsupported,
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


def _scaled(value: int, factor: int) -> int:
    return value if value < 0 else value * factor


def _timeout(backoff: Backoff) -> dict[str, float]:
    """The limit of one attempt, in seconds as the AdminClient takes it."""
    return {"request_timeout": max(1.0, min(REQUEST_TIMEOUT, backoff.remaining()))}


def _problem(result: Callable[[], object]) -> KafkaError | None:
    """The error a finished or pending AdminClient future holds."""
    from confluent_kafka import KafkaException  # noqa: PLC0415 - as above

    try:
        result()
    except KafkaException as error:
        problem: KafkaError = error.args[0]
        return problem
    return None
