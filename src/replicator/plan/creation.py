"""Topics that a copy creates or widens on the target, and what the target makes of their configs.

A config that the target refuses never costs a topic: it is brought into the range that the target
takes, or left out, and both are told. Everything else that is refused is a conflict of that topic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from replicator.cluster import Denied, Unreachable
from replicator.cluster import errors as broker_errors
from replicator.cluster.admin import Admin, TopicSpec
from replicator.cluster.errors import BrokerError
from replicator.errors import CopystreamError, ExitCode
from replicator.report.model import TopicPlan

# Each round of refusals takes at least one config from a topic; Kafka has about 40.
_ROUNDS = 50

_BOUND = re.compile(r"Value must be (?:at least|no more than) (-?\d+)")

# ``StripedReplicaPlacer``, whose count has brokers in it that are down.
_BROKERS = re.compile(r"only (\d+) broker\(s\) are registered")

# What some refusals are about, where they do not name the config.
_UNNAMED = {"Tiered Storage functionality is disabled": "remote.storage.enable"}


def create(
    admin: Admin, plans: Iterable[TopicPlan], *, validate_only: bool, lower_factor: bool
) -> None:
    """Create the topics of ``plans``, or see what would come of it.

    With ``lower_factor`` a topic gets fewer replicas where the target has too few brokers. Changes
    the configs of a plan to those that the target takes, and notes a conflict where it refuses the
    topic. Does not wait until the topics can be used.
    """
    pending = list(plans)
    wanted = [(plan, plan.replication_factor or 1) for plan in pending]
    failed: dict[str, CopystreamError] = {}
    for _ in range(_ROUNDS):
        if not pending:
            break
        failed = admin.request_topics(
            [_spec(plan, plan.configs) for plan in pending], validate_only=validate_only
        )
        again: list[TopicPlan] = []
        unclear: list[TopicPlan] = []
        for plan in pending:
            error = failed.get(plan.target_topic)
            if error is None:
                continue
            if validate_only and _code(error) == broker_errors.THROTTLING_QUOTA_EXCEEDED:
                plan.warnings.append(
                    "whether the target takes the topic is not known: it limits how fast topics "
                    "are created"
                )
            elif _code(error) == broker_errors.INVALID_REPLICATION_FACTOR:
                most = _most_replicas(plan, error)
                if lower_factor and most > 0:
                    plan.replication_factor = most
                    again.append(plan)
                else:
                    refuse(plan, error)
                    plan.conflict_exit_code = int(ExitCode.FATAL)
            elif _code(error) != broker_errors.INVALID_CONFIG or not plan.configs:
                refuse(plan, error)
            elif _give_way(plan, error):
                again.append(plan)
            else:
                unclear.append(plan)
        _try_each(admin, unclear)
        pending = again + [plan for plan in unclear if plan.conflict is None]
    for plan in pending:
        refuse(plan, failed[plan.target_topic])
    for plan, factor in wanted:
        found = plan.replication_factor or 1
        if found < factor:
            plan.warnings.append(
                f"replication factor {found} instead of {factor}: the target has {found} broker(s)"
            )


def _most_replicas(plan: TopicPlan, error: CopystreamError) -> int:
    """The largest replication factor that the target may take, by its refusal of a larger one."""
    below = (plan.replication_factor or 1) - 1
    said = _BROKERS.search(error.detail if isinstance(error, BrokerError) else "")
    return below if said is None else min(below, int(said[1]))


def widen(admin: Admin, plans: Iterable[TopicPlan], *, validate_only: bool) -> None:
    """Add the partitions that ``plans`` ask for, or see whether that is possible."""
    wanted = {plan.target_topic: plan for plan in plans}
    if not wanted:
        return
    counts = {name: plan.target_partitions for name, plan in wanted.items()}
    for name, error in admin.widen_topics(counts, validate_only=validate_only).items():
        if not validate_only or _code(error) != broker_errors.THROTTLING_QUOTA_EXCEEDED:
            refuse(wanted[name], error)


def refuse(plan: TopicPlan, error: CopystreamError) -> None:
    """Note the error of a cluster as the conflict of one topic."""
    plan.conflict = without_cluster(error.message)
    plan.conflict_hint = error.hint
    plan.conflict_exit_code = int(error.exit_code)
    if isinstance(error, Denied):
        plan.conflict_kind = "denied"
    elif isinstance(error, Unreachable):
        plan.conflict_kind = "unreachable"


def without_cluster(message: str) -> str:
    """A cluster's error for where the cluster is named already."""
    return re.sub(r"^(?:source|target) cluster .*?: (?=cannot )", "", message)


def _give_way(plan: TopicPlan, error: CopystreamError) -> bool:
    """Change the config that the error is about; False where that is not clear."""
    why = error.detail if isinstance(error, BrokerError) else ""
    keys = [key for key in plan.configs if _names(why, key)]
    keys = keys or [key for text, key in _UNNAMED.items() if text in why and key in plan.configs]
    if len(keys) != 1:
        return False
    (key,) = keys
    bound = _BOUND.search(why)
    if bound is None or key in plan.adjusted:
        _leave_out(plan, key, why)
    else:
        plan.adjusted[key] = f"{plan.configs[key]} on the source: {why}"
        plan.configs[key] = bound[1]
    return True


def _names(text: str, key: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(key)}(?![\w]|\.\w)", text) is not None


def _leave_out(plan: TopicPlan, key: str, why: str) -> None:
    plan.left_out[key] = f"{plan.configs.pop(key)} on the source: {why}"
    plan.adjusted.pop(key, None)
    plan.pinned.pop(key, None)


def _try_each(admin: Admin, plans: Sequence[TopicPlan]) -> None:
    """Find out which configs are refused by adding one at a time, of all topics at once."""
    wanted = {plan.target_topic: _by_weight(plan) for plan in plans}
    taken: dict[str, dict[str, str]] = {plan.target_topic: {} for plan in plans}
    for step in range(max(map(len, wanted.values()), default=0)):
        asked = [p for p in plans if step < len(wanted[p.target_topic]) and p.conflict is None]
        for plan in asked:
            key = wanted[plan.target_topic][step]
            taken[plan.target_topic][key] = plan.configs[key]
        specs = [_spec(plan, taken[plan.target_topic]) for plan in asked]
        failed = admin.request_topics(specs, validate_only=True)
        for plan in asked:
            error = failed.get(plan.target_topic)
            if error is None or _code(error) == broker_errors.THROTTLING_QUOTA_EXCEEDED:
                continue
            if _code(error) == broker_errors.INVALID_CONFIG:
                key = wanted[plan.target_topic][step]
                del taken[plan.target_topic][key]
                _leave_out(plan, key, error.detail if isinstance(error, BrokerError) else "")
            else:
                refuse(plan, error)


def _by_weight(plan: TopicPlan) -> list[str]:
    """The configs that keep records as they are come first: what contradicts them has to go."""
    first = ("cleanup.policy", "message.timestamp.type", "retention.ms", "retention.bytes")
    return sorted(plan.configs, key=lambda key: (key not in first, key))


def _spec(plan: TopicPlan, configs: dict[str, str]) -> TopicSpec:
    return TopicSpec(
        plan.target_topic, plan.target_partitions, plan.replication_factor or 1, configs
    )


def _code(error: CopystreamError) -> int:
    return error.code if isinstance(error, BrokerError) else 0
