"""Which topics a run is about, and what each one's replica must look like.

Pure functions over facts that others gathered: nothing here talks to a cluster.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from replicator.cluster.configs import HELD_BACK, effects, pinned, safe
from replicator.errors import UsageError
from replicator.plan.conflict import refused
from replicator.plan.draft import Replica, SourceTopic, TargetState
from replicator.terms import internal_reason, is_internal_topic, valid_topic_name

NAMED = 10  # topics in a message; more would hide what it says


@dataclass(frozen=True, slots=True)
class TopicChoice:
    """The topics a run is about, in alphabetical order.

    ``skipped`` tells why a topic that a pattern matched is left out; ``unmatched`` are the
    arguments that no topic answers to.
    """

    topics: tuple[str, ...]
    skipped: Mapping[str, str]
    unmatched: tuple[str, ...]


def choose_topics(
    wanted: Sequence[str], exclude: Sequence[str], existing: Iterable[str]
) -> TopicChoice:
    """Choose among the source's topics by names and full-match regular expressions.

    A word that is the name of a topic means that topic, whatever it means as an expression.
    Exclusions win. Raises UsageError for an expression that is none, and for an internal topic
    asked for by name.
    """
    names = sorted(existing)
    known = frozenset(names)
    excluded: dict[str, str] = {}
    for word in exclude:
        for name in _matches(word, names, known):
            excluded.setdefault(name, f"excluded by {word!r}")
    topics: set[str] = set()
    skipped: dict[str, str] = {}
    unmatched: list[str] = []
    for word in wanted:
        reason = internal_reason(word)
        if reason is not None and (word in known or valid_topic_name(word)):
            raise UsageError(
                f"{word!r} is an {reason}",
                hint="internal topics belong to their cluster and are never copied: leave it out",
            )
        found = _matches(word, names, known)
        for name in found:
            reason = internal_reason(name)
            if reason is not None:
                skipped[name] = reason
            elif name in excluded:
                skipped[name] = excluded[name]
            else:
                topics.add(name)
        if not found:
            unmatched.append(word)
    return TopicChoice(tuple(sorted(topics)), skipped, tuple(unmatched))


def nothing_chosen(choice: TopicChoice) -> UsageError:
    """The error for arguments that match topics of which none may be copied."""
    reasons = [f"{name} ({why})" for name, why in choice.skipped.items()]
    more = f" and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return UsageError(
        f"no topic is left to copy: {', '.join(reasons[:NAMED])}{more}",
        hint="name other topics, or correct --exclude",
    )


def no_such_topic(word: str, existing: Iterable[str], *, cluster: str) -> UsageError:
    """The error for an argument that no topic answers to, with the nearest names as a hint."""
    near = difflib.get_close_matches(word, [n for n in existing if not is_internal_topic(n)])
    return UsageError(
        f"no topic of source cluster {cluster} matches {word!r}",
        hint=f"did you mean {' or '.join(near)}?"
        if near
        else "an expression must match the whole name, as in 'orders.*'; a topic that this user "
        "may not DESCRIBE is not seen",
    )


def _matches(word: str, names: Sequence[str], known: frozenset[str]) -> list[str]:
    if word in known:
        return [word]
    try:
        expression = re.compile(word)
    except re.error as error:
        raise UsageError(
            f"{word!r} is neither a topic nor a regular expression: {error}",
            hint="quote the expression for the shell, and write a literal dot as \\.",
        ) from error
    return [name for name in names if expression.fullmatch(name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTopic:
    """A topic that is already where the replica goes.

    ``state`` is for the caller to find out: "ours" means that it carries this flow's map,
    "foreign" that it holds records that no copy of this flow wrote. ``ours`` says whether any
    partition of it, chosen or not, carries the map. ``effective`` and ``unread`` are as in
    ``SourceTopic``.
    """

    partitions: int
    state: TargetState
    ours: bool = False
    effective: Mapping[str, str] | None = field(default_factory=dict)
    unread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """What planning needs to know of the target cluster."""

    topics: frozenset[str] = frozenset()
    defaults: Mapping[str, str] = field(default_factory=dict)  # configs of a new topic


def plan_topic(
    source: SourceTopic,
    target: TargetTopic | None,
    cluster: TargetFacts,
    *,
    replication_factor: int | None,
    now_ms: int,
    splitting: bool = False,
    partitions: int | None = None,
) -> Replica:
    """What to do about one topic: create it, fill it, go on with it, or refuse and say why.

    ``replication_factor`` overrides the source's; whether there are brokers enough the target
    says itself, since those that are down count. ``now_ms`` is the time on the target, for what
    its retention would do. With ``splitting`` records do not stay in their partition, and the
    target topic may have another number of them: ``partitions`` if it is to be created, None for
    the source's.
    ``judge`` says the rest, once it is known which configs a new topic can have.
    """
    replica = Replica(topic=source.name, partitions=source.partitions)
    if target is None:
        replica.create = True
        replica.partitions = partitions or source.partitions
        if not splitting:
            _refuse_other_count(replica, source, replica.partitions)
        _plan_configs(replica, source, cluster, now_ms)
        replica.replication_factor = replication_factor or source.replication_factor
        _refuse_colliding_name(replica, cluster)
        return replica
    replica.resume = target.state == "ours"
    replica.partitions = target.partitions
    if splitting:
        if partitions not in (None, target.partitions):
            replica.refuse(
                refused(
                    f"the target topic has {target.partitions} partitions, not {partitions}",
                    "leave --target-partitions out, or delete the topic and let copystream "
                    "create it",
                )
            )
    elif target.ours and target.partitions < source.partitions:
        replica.widen = source.partitions - target.partitions
        replica.partitions = source.partitions
    else:
        _refuse_other_count(replica, source, target.partitions)
    _refuse_foreign(replica, target)
    if target.effective is None:
        replica.warnings.append(
            f"whether the target topic would change or delete records is not known: {target.unread}"
        )
    return replica


def judge(
    replica: Replica,
    source: SourceTopic,
    target: Mapping[str, str],
    *,
    accept: bool,
    now_ms: int,
) -> None:
    """Refuse a topic whose records would be changed or deleted by the configs that are, or will
    be, in force on the target; with ``accept`` only warn. Everything else is a warning.
    """
    found = effects(source.effective, target, source.stored, now_ms)
    for text in found.harm:
        if accept:
            replica.warnings.append(text)
        else:
            replica.refuse(
                refused(
                    text,
                    "change the configs of the target topic; if that is what you want, "
                    "--accept-target-configs copies all the same",
                )
            )
    replica.warnings += found.notes


def _plan_configs(replica: Replica, source: SourceTopic, cluster: TargetFacts, now_ms: int) -> None:
    """The configs of a topic to be created: the source's, and what keeps records as they are."""
    replica.held_back = {k: v for k, v in sorted(source.overrides.items()) if k in HELD_BACK}
    carried = {k: v for k, v in source.overrides.items() if k not in HELD_BACK}
    replica.pinned = pinned(source.effective, carried, cluster.defaults)
    if source.effective is None:
        replica.pinned |= safe(cluster.defaults, source.stored, now_ms)
        replica.warnings.append(
            f"the topic is made without the configs of the source's: {source.unread}"
        )
    replica.configs = dict(sorted({**carried, **replica.pinned}.items()))


def _refuse_colliding_name(replica: Replica, cluster: TargetFacts) -> None:
    """Kafka refuses names that differ only in '.' and '_', which metrics cannot tell apart."""
    metric = replica.topic.replace(".", "_")
    for other in sorted(cluster.topics):
        if other != replica.topic and other.replace(".", "_") == metric:
            replica.refuse(
                refused(
                    f"the target has a topic {other!r}, and Kafka takes the two names for one",
                    "topic names may not differ only in '.' and '_' on one cluster",
                )
            )


def _refuse_other_count(replica: Replica, source: SourceTopic, partitions: int) -> None:
    if partitions != source.partitions:
        replica.refuse(
            refused(
                f"the target topic has {partitions} partitions, the source {source.partitions}",
                "partitions are copied one to one: let copystream create the target topic with "
                f"{source.partitions} partitions, or choose a --partitioner such as murmur2",
            )
        )


def _refuse_foreign(replica: Replica, target: TargetTopic) -> None:
    if target.state == "foreign":
        replica.refuse(
            refused(
                "the target topic already holds records that this copy did not write",
                "copy into an empty topic, delete the target topic first, or write after what it "
                "holds with --append and --from",
            )
        )
