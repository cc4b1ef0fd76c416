"""The topics that hold copystream's state: made where they are missing, checked at every start.

State is lost where such a topic deletes what is old, and has no single order where it has several
partitions. A wrong config is put right where this user may do so, and told; what cannot be put
right is refused before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from replicator.cluster import Cluster, Denied, TopicMeta, Unreachable
from replicator.cluster import errors as broker_errors
from replicator.cluster.admin import Admin, TopicSpec
from replicator.errors import ClusterError, CopystreamError
from replicator.state import OFFSET_MAP_TOPIC, REGISTRY_TOPIC
from replicator.state.records import MARKER, FillerKey
from replicator.state.topics import StateWriter

TOPICS = (REGISTRY_TOPIC, OFFSET_MAP_TOPIC)
POLICY = "compact"
REPLICAS = 3  # as Kafka's own state has; fewer where there are fewer brokers
LARGEST_RECORD = 1_048_588  # bytes: Kafka's own limit of a batch, which chunks are cut for
SEGMENT = 100 << 20  # bytes, as Kafka's own state has: a batch must fit into one
FILLERS = 100_000  # written at once
RIGHTS = "DESCRIBE, READ and WRITE"


class StateTopics(Struct):
    """What was found: ``warnings`` for the user, and ``lost``, what tells of lost records."""

    warnings: list[str] = []
    lost: list[str] = []


def check(cluster: Cluster, admin: Admin, *, change: bool) -> StateTopics:
    """Look at the state topics of a target; with ``change`` make and mend them.

    Raises ``ClusterError`` where they cannot be used as they are, naming all that are wrong.
    """
    result = StateTopics()
    found = cluster.metadata(TOPICS)
    missing = [name for name in TOPICS if _missing(cluster, found[name])]
    if missing and change:
        _create(cluster, admin, missing)
    result.lost += [f"{name} was not there" for name in missing]
    there = [name for name in TOPICS if name not in missing]
    extents = _extents(cluster, there)
    for name, (start, end) in extents.items():
        if start == end:
            result.lost.append(f"{name} is empty")
        elif start > 0:
            lost = f"{name} begins at offset {start}: what was before has been deleted"
            result.lost.append(lost)
            result.warnings.append(f"the state topic {lost}, and with it perhaps state of copies")
    _check_partitions(cluster, {name: found[name] for name in there}, extents, result)
    for name in there:
        _check_configs(cluster, admin, name, result, change=change)
        _check_replicas(cluster, found[name], result)
    return result


def restore_registry(cluster: Cluster, writer: StateWriter, newest: int) -> list[str]:
    """Take the registry's log end beyond ``newest``, the newest generation in the offset map.

    A claim's offset is its holder's generation. Where the registry was lost, new claims would have
    older generations than the map, and what their holders write would count for nothing. Returns
    the warning, if any.
    """
    tp = (REGISTRY_TOPIC, 0)
    end = cluster.list_offsets([tp], "latest")[tp].offset
    if end > newest:
        return []
    for at in range(end, newest + 1, FILLERS):
        count = min(FILLERS, newest + 1 - at)
        writer.write(REGISTRY_TOPIC, [(FillerKey().encode(), MARKER)] * count)
    return [
        f"{REGISTRY_TOPIC} had lost its records, and {OFFSET_MAP_TOPIC} has not: the copy goes on "
        "with what that holds"
    ]


def _missing(cluster: Cluster, topic: TopicMeta) -> bool:
    if not topic.error:
        return False
    # To who may not DESCRIBE a topic, brokers do not tell whether there is one.
    if topic.error in (
        broker_errors.UNKNOWN_TOPIC_OR_PARTITION,
        broker_errors.TOPIC_AUTHORIZATION_FAILED,
    ):
        return True
    raise cluster.error(
        topic.error, f"look at topic {topic.name}", acl=f"DESCRIBE on Topic {topic.name}"
    )


def _create(cluster: Cluster, admin: Admin, names: Sequence[str]) -> None:
    replicas = min(REPLICAS, len(cluster.brokers))
    configs = {
        "cleanup.policy": POLICY,
        "compression.type": "producer",
        "max.message.bytes": str(LARGEST_RECORD),
        "segment.bytes": str(SEGMENT),
    }
    specs = [TopicSpec(name, 1, replicas, configs) for name in names]
    # Another copystream may have been quicker.
    failed = {
        name: error
        for name, error in admin.create_topics(specs).items()
        if cluster.metadata([name])[name].error
    }
    for error in failed.values():
        if isinstance(error, Unreachable):
            raise error
    if failed:
        raise _not_created(cluster, failed, replicas)


def _not_created(
    cluster: Cluster, failed: Mapping[str, CopystreamError], replicas: int
) -> CopystreamError:
    """One error for all that are missing: who may make topics is asked once."""
    denied = any(isinstance(error, Denied) for error in failed.values())
    reason = next(iter(failed.values())).reason
    message = (
        f"target cluster {cluster.name}: the state of copies is kept there in {_and(failed)}, "
        f"which cannot be found or made: {reason}"
    )
    make = " && ".join(
        f"kafka-topics --bootstrap-server {cluster.config.bootstrap_text} --create --topic {name} "
        f"--partitions 1 --replication-factor {replicas} --config cleanup.policy={POLICY}"
        for name in failed
    )
    hint = (
        f"grant CREATE, {RIGHTS} on {_resources(failed)} to the user of this client; or let an "
        f"administrator make each with 1 partition, replication factor {replicas} and "
        f"cleanup.policy={POLICY}, and grant {RIGHTS} on them: {make}"
    )
    kind = Denied if denied else ClusterError
    return kind("target", message, hint=hint)


def _extents(cluster: Cluster, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Log start and end of each topic's partition 0."""
    partitions = [(name, 0) for name in names]
    starts = cluster.list_offsets(partitions, "earliest")
    ends = cluster.list_offsets(partitions, "latest")
    for name in names:
        code = starts[name, 0].error or ends[name, 0].error
        if code:
            raise cluster.error(code, f"read topic {name}", acl=f"{RIGHTS} on Topic {name}")
    return {name: (starts[name, 0].offset, ends[name, 0].offset) for name in names}


def _check_partitions(
    cluster: Cluster,
    topics: Mapping[str, TopicMeta],
    extents: Mapping[str, tuple[int, int]],
    result: StateTopics,
) -> None:
    refused: dict[str, int] = {}
    for name, topic in topics.items():
        count = len(topic.partitions)
        if count == 1:
            continue
        if extents[name][0] == extents[name][1]:
            refused[name] = count
        else:  # written by an earlier version, all of it to partition 0
            result.warnings.append(
                f"the state topic {name} has {count} partitions: only partition 0 is used"
            )
    if refused:
        counts = " and ".join(f"{name} has {count} partitions" for name, count in refused.items())
        raise ClusterError(
            "target",
            f"target cluster {cluster.name}: {counts}; a state topic has exactly 1, which gives "
            "one order of everything",
            hint=f"nothing is in it yet: delete {_and(refused)} and run again, so that copystream "
            f"makes it; or make it with 1 partition and cleanup.policy={POLICY}",
        )


def _check_configs(
    cluster: Cluster, admin: Admin, name: str, result: StateTopics, *, change: bool
) -> None:
    found = admin.describe_topic_configs([name])[name]
    if isinstance(found, Denied):
        result.warnings.append(
            f"the configs of the state topic {name} may not be read, so it is not known that its "
            f"cleanup.policy is {POLICY}: grant DESCRIBE_CONFIGS on Topic {name}"
        )
        return
    if isinstance(found, CopystreamError):
        raise found
    configs = found.effective
    wrong = {}
    policy = configs.get("cleanup.policy", POLICY)
    if policy != POLICY:
        wrong["cleanup.policy"] = POLICY
        result.lost.append(f"{name} had cleanup.policy={policy}")
    if int(configs.get("max.message.bytes", LARGEST_RECORD)) < LARGEST_RECORD:
        wrong["max.message.bytes"] = str(LARGEST_RECORD)
    if not wrong:
        return
    are = ", ".join(f"{key}={configs[key]}" for key in wrong)
    shall = ",".join(f"{key}={value}" for key, value in wrong.items())
    if change:
        try:
            admin.alter_topic_configs(name, wrong)
        except Unreachable:
            raise
        except CopystreamError as error:
            raise _not_mended(cluster, name, are, shall, error) from None
    had, was = ("had", "was") if change else ("has", "would be")
    why = ", by which records are deleted" if "delete" in policy else ""
    result.warnings.append(f"the state topic {name} {had} {are}{why}: it {was} set to {shall}")


def _not_mended(
    cluster: Cluster, name: str, are: str, shall: str, error: CopystreamError
) -> CopystreamError:
    message = (
        f"target cluster {cluster.name}: the state topic {name} has {are}, with which the state of "
        f"copies may be lost, and it cannot be set to {shall}: {error.reason}"
    )
    hint = (
        f"grant ALTER_CONFIGS on Topic {name} to the user of this client, or let an administrator "
        f"run: kafka-configs --bootstrap-server {cluster.config.bootstrap_text} --alter "
        f"--entity-type topics --entity-name {name} --add-config {shall}"
    )
    return Denied("target", message, hint=hint)


def _check_replicas(cluster: Cluster, topic: TopicMeta, result: StateTopics) -> None:
    replicas = len(topic.partitions[0].replicas)
    if replicas == 1 and len(cluster.brokers) > 1:
        result.warnings.append(
            f"the state topic {topic.name} has one replica on a cluster of "
            f"{len(cluster.brokers)} brokers: with broker {topic.partitions[0].replicas[0]} the "
            "state of all copies would be lost; give it more (kafka-reassign-partitions)"
        )


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)


def _resources(names: Iterable[str]) -> str:
    return _and(f"Topic {name}" for name in names)
