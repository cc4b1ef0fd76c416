"""Topics that a copy creates or widens on the target, and what the target makes of their configs.

A config that the target refuses never costs a topic: it is brought into the range that the target
takes, or left out, and both are told. Everything else that is refused is a conflict of that topic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from replicator.cluster import errors as broker_errors
from replicator.cluster.admin import Admin, TopicSpec
from replicator.cluster.errors import BrokerError
from replicator.errors import CopystreamError, ExitCode
from replicator.plan.conflict import Conflict
from replicator.plan.draft import Replica

# Each round of refusals takes at least one config from a topic; Kafka has about 40.
_ROUNDS = 50

_BOUND = re.compile(r"Value must be (?:at least|no more than) (-?\d+)")

# ``StripedReplicaPlacer``, whose count has brokers in it that are down.
_BROKERS = re.compile(r"only (\d+) broker\(s\) are registered")

# What some refusals are about, where they do not name the config.
_UNNAMED = {"Tiered Storage functionality is disabled": "remote.storage.enable"}


def create(
    admin: Admin, replicas: Iterable[Replica], *, validate_only: bool, lower_factor: bool
) -> None:
    """Create the topics of ``replicas``, or see what would come of it.

    With ``lower_factor`` a topic gets fewer replicas where the target has too few brokers. Changes
    configs to those that the target takes, and notes a conflict where it refuses the topic. Does
    not wait until the topics can be used.
    """
    pending = list(replicas)
    wanted = [(replica, replica.replication_factor or 1) for replica in pending]
    failed: dict[str, CopystreamError] = {}
    for _ in range(_ROUNDS):
        if not pending:
            break
        failed = admin.request_topics(
            [_spec(replica, replica.configs) for replica in pending], validate_only=validate_only
        )
        again: list[Replica] = []
        unclear: list[Replica] = []
        for replica in pending:
            error = failed.get(replica.topic)
            if error is None:
                continue
            if validate_only and _code(error) == broker_errors.THROTTLING_QUOTA_EXCEEDED:
                replica.warnings.append(
                    "whether the target takes the topic is not known: it limits how fast topics "
                    "are created"
                )
            elif _code(error) == broker_errors.INVALID_REPLICATION_FACTOR:
                most = _most_replicas(replica, error)
                if lower_factor and most > 0:
                    replica.replication_factor = most
                    again.append(replica)
                else:
                    replica.refuse(Conflict.of_error(error, exit_code=ExitCode.FATAL))
            elif _code(error) != broker_errors.INVALID_CONFIG or not replica.configs:
                replica.refuse(Conflict.of_error(error))
            elif _give_way(replica, error):
                again.append(replica)
            else:
                unclear.append(replica)
        _try_each(admin, unclear)
        pending = again + [replica for replica in unclear if replica.conflict is None]
    for replica in pending:
        replica.refuse(Conflict.of_error(failed[replica.topic]))
    for replica, factor in wanted:
        found = replica.replication_factor or 1
        if found < factor:
            replica.warnings.append(
                f"replication factor {found} instead of {factor}: the target has {found} broker(s)"
            )


def _most_replicas(replica: Replica, error: CopystreamError) -> int:
    """The largest replication factor that the target may take, by its refusal of a larger one."""
    below = (replica.replication_factor or 1) - 1
    said = _BROKERS.search(error.detail if isinstance(error, BrokerError) else "")
    return below if said is None else min(below, int(said[1]))


def widen(admin: Admin, replicas: Iterable[Replica], *, validate_only: bool) -> None:
    """Add the partitions that ``replicas`` ask for, or see whether that is possible."""
    wanted = {replica.topic: replica for replica in replicas}
    if not wanted:
        return
    counts = {name: replica.partitions for name, replica in wanted.items()}
    for name, error in admin.widen_topics(counts, validate_only=validate_only).items():
        if not validate_only or _code(error) != broker_errors.THROTTLING_QUOTA_EXCEEDED:
            wanted[name].refuse(Conflict.of_error(error))


def _give_way(replica: Replica, error: CopystreamError) -> bool:
    """Change the config that the error is about; False where that is not clear."""
    why = error.detail if isinstance(error, BrokerError) else ""
    keys = [key for key in replica.configs if _names(why, key)]
    keys = keys or [key for text, key in _UNNAMED.items() if text in why and key in replica.configs]
    if len(keys) != 1:
        return False
    (key,) = keys
    bound = _BOUND.search(why)
    if bound is None or key in replica.adjusted:
        _leave_out(replica, key, why)
    else:
        replica.adjusted[key] = f"{replica.configs[key]} on the source: {why}"
        replica.configs[key] = bound[1]
    return True


def _names(text: str, key: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(key)}(?![\w]|\.\w)", text) is not None


def _leave_out(replica: Replica, key: str, why: str) -> None:
    replica.left_out[key] = f"{replica.configs.pop(key)} on the source: {why}"
    replica.adjusted.pop(key, None)
    replica.pinned.pop(key, None)


def _try_each(admin: Admin, replicas: Sequence[Replica]) -> None:
    """Find out which configs are refused by adding one at a time, of all topics at once."""
    wanted = {replica.topic: _by_weight(replica) for replica in replicas}
    taken: dict[str, dict[str, str]] = {replica.topic: {} for replica in replicas}
    for step in range(max(map(len, wanted.values()), default=0)):
        asked = [p for p in replicas if step < len(wanted[p.topic]) and p.conflict is None]
        for replica in asked:
            key = wanted[replica.topic][step]
            taken[replica.topic][key] = replica.configs[key]
        specs = [_spec(replica, taken[replica.topic]) for replica in asked]
        failed = admin.request_topics(specs, validate_only=True)
        for replica in asked:
            error = failed.get(replica.topic)
            if error is None or _code(error) == broker_errors.THROTTLING_QUOTA_EXCEEDED:
                continue
            if _code(error) == broker_errors.INVALID_CONFIG:
                key = wanted[replica.topic][step]
                del taken[replica.topic][key]
                _leave_out(replica, key, error.detail if isinstance(error, BrokerError) else "")
            else:
                replica.refuse(Conflict.of_error(error))


def _by_weight(replica: Replica) -> list[str]:
    """The configs that keep records as they are come first: what contradicts them has to go."""
    first = ("cleanup.policy", "message.timestamp.type", "retention.ms", "retention.bytes")
    return sorted(replica.configs, key=lambda key: (key not in first, key))


def _spec(replica: Replica, configs: dict[str, str]) -> TopicSpec:
    return TopicSpec(replica.topic, replica.partitions, replica.replication_factor or 1, configs)


def _code(error: CopystreamError) -> int:
    return error.code if isinstance(error, BrokerError) else 0
