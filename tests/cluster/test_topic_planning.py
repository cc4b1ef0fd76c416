"""Which topics are taken, and what is planned for each: pure functions, tables of cases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicator.cluster.topics import (
    HELD_BACK,
    SourceTopic,
    TargetFacts,
    TargetTopic,
    choose_topics,
    is_internal_topic,
    no_such_topic,
    nothing_chosen,
    plan_topic,
)
from replicator.errors import ExitCode, UsageError
from replicator.report import TopicPlan

DAY = 86_400_000
NOW = 1_700_000_000_000

TOPICS = [
    "__consumer_offsets",
    "a.checkpoints.internal",
    "mm2-offsets.a.internal",
    ".hidden",
    "orders",
    "orders.eu",
    "ordersXeu",
    "payments",
    "test-orders",
]


@pytest.mark.parametrize(
    ("wanted", "exclude", "topics"),
    [
        (["orders"], [], ["orders"]),
        (["orders", "orders"], [], ["orders"]),
        (["payments", "orders"], [], ["orders", "payments"]),
        (["orders.eu"], [], ["orders.eu"]),  # the name wins over the expression
        (["orders.eu|nothing"], [], ["orders.eu", "ordersXeu"]),
        (["order"], [], []),  # an expression matches the whole name
        (["orders.*"], [], ["orders", "orders.eu", "ordersXeu"]),
        (["(?i)ORDERS"], [], ["orders"]),
        ([".*"], [], ["orders", "orders.eu", "ordersXeu", "payments", "test-orders"]),
        ([".*"], ["orders.*"], ["payments", "test-orders"]),
        ([".*"], ["orders.eu"], ["orders", "ordersXeu", "payments", "test-orders"]),
        (["orders"], ["orders"], []),
        ([".*", "orders"], ["test-.*", "pay.*", "ordersXeu"], ["orders", "orders.eu"]),
    ],
)
def test_choice(wanted: list[str], exclude: list[str], topics: list[str]) -> None:
    assert list(choose_topics(wanted, exclude, TOPICS).topics) == topics


def test_why_a_topic_was_left_out() -> None:
    choice = choose_topics([".*", "gone", "x+"], ["pay.*"], TOPICS)
    assert dict(choice.skipped) == {
        "__consumer_offsets": "internal topic: its name begins with '__'",
        "a.checkpoints.internal": "internal topic: MirrorMaker 2's checkpoints",
        "mm2-offsets.a.internal": "internal topic: MirrorMaker 2's state",
        ".hidden": "internal topic: its name begins with '.'",
        "payments": "excluded by 'pay.*'",
    }
    assert choice.unmatched == ("gone", "x+")


@pytest.mark.parametrize(
    ("name", "internal"),
    [
        ("__consumer_offsets", True),
        ("__x", True),
        ("_schemas", False),
        (".x", True),
        ("mm2-offset-syncs.b.internal", True),
        ("copystream-map.internal", True),
        ("copystream-registry.internal", True),
        ("b.checkpoints.internal", True),
        ("x-internal", False),
        ("audit.internal", False),
        ("mm2-like", False),
        ("copystream-load-test", False),
        ("internal", False),
        ("internal.x", False),
        ("heartbeats", False),
    ],
)
def test_internal_names(name: str, internal: bool) -> None:
    assert is_internal_topic(name) is internal


@pytest.mark.parametrize("word", ["__consumer_offsets", "mm2-offsets.a.internal", "__not_there"])
def test_an_internal_topic_by_name_is_an_error(word: str) -> None:
    with pytest.raises(UsageError, match="internal topic") as caught:
        choose_topics([word], [], TOPICS)
    assert caught.value.exit_code == ExitCode.USAGE


def test_an_expression_for_internal_topics_takes_none() -> None:
    choice = choose_topics(["__.*"], [], TOPICS)
    assert choice.topics == ()
    assert list(choice.skipped) == ["__consumer_offsets"]
    error = nothing_chosen(choice)
    assert error.exit_code == ExitCode.USAGE
    assert "__consumer_offsets (internal topic: its name begins with '__')" in error.message


def test_the_message_of_many_topics_that_are_left_out_stays_short() -> None:
    error = nothing_chosen(choose_topics([".*"], ["t.*"], [f"t{n}" for n in range(1000)]))
    assert len(error.message) < 400
    assert error.message.endswith(" and 990 more")


@pytest.mark.parametrize("word", ["orders(", "[a-", "*", "a{2,1}"])
def test_a_word_that_is_no_expression(word: str) -> None:
    for wanted, exclude in (([word], []), (["orders"], [word])):
        with pytest.raises(UsageError, match="neither a topic nor a regular expression"):
            choose_topics(wanted, exclude, TOPICS)


def test_a_mistyped_name_gets_the_nearest_ones() -> None:
    error = no_such_topic("order", TOPICS, cluster="a:9092 (id)")
    assert "no topic of source cluster a:9092 (id) matches 'order'" in error.message
    assert "orders" in (error.hint or "")
    assert "whole name" in (no_such_topic("zzz", TOPICS, cluster="a").hint or "")


NAMES = st.from_regex(r"[a-z._-]{1,12}", fullmatch=True)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(NAMES, unique=True, max_size=20))
def test_every_topic_is_taken_or_told_why_not(names: list[str]) -> None:
    choice = choose_topics([".*"], ["a.*"], names)
    assert sorted([*choice.topics, *choice.skipped]) == sorted(names)
    assert not any(is_internal_topic(name) for name in choice.topics)
    for name in names:
        if not is_internal_topic(name):
            assert choose_topics([name], [], names).topics == (name,)


# Planning


def source(**fields: Any) -> SourceTopic:
    return SourceTopic(**{"name": "t", "partitions": 3, "replication_factor": 3, **fields})


def plan(
    topic: SourceTopic | None = None,
    target: TargetTopic | None = None,
    facts: TargetFacts | None = None,
    **options: Any,
) -> TopicPlan:
    options = {"replication_factor": None, "now_ms": NOW, **options}
    return plan_topic(topic or source(), target, facts or TargetFacts(brokers=3), **options)


def test_a_missing_topic_is_created_like_the_source() -> None:
    overrides = {
        "retention.ms": "5000",
        "cleanup.policy": "compact,delete",
        **dict.fromkeys(HELD_BACK, "x"),
    }
    found = plan(source(overrides=overrides, records=10, bytes=20))
    assert found == TopicPlan(
        topic="t",
        target_topic="t",
        partitions=3,
        target_partitions=3,
        records=10,
        bytes=20,
        create=True,
        replication_factor=3,
        configs={"cleanup.policy": "compact,delete", "retention.ms": "5000"},
        held_back=dict.fromkeys(HELD_BACK, "x"),
    )


@pytest.mark.parametrize(
    ("there", "asked", "made", "conflict"),
    [
        (None, None, 3, None),
        (None, 8, 8, None),
        (5, None, 5, None),
        (5, 5, 5, None),
        (5, 8, 5, "has 5 partitions, not 8"),
    ],
)
def test_partitions_of_a_topic_that_is_split(
    there: int | None, asked: int | None, made: int, conflict: str | None
) -> None:
    target = None if there is None else TargetTopic(partitions=there, state="empty")
    found = plan(target=target, splitting=True, partitions=asked)
    assert (found.partitions, found.target_partitions) == (3, made)
    assert found.create is (there is None)
    assert (conflict or "") in (found.conflict or "")
    assert (found.conflict is None) == (conflict is None)


def test_what_is_held_back() -> None:
    # MirrorMaker 2's six, and what Kafka 4 no longer knows.
    assert {
        "follower.replication.throttled.replicas",
        "leader.replication.throttled.replicas",
        "message.timestamp.difference.max.ms",
        "message.timestamp.type",
        "min.insync.replicas",
        "unclean.leader.election.enable",
        "message.format.version",
        "message.downconversion.enable",
    } == HELD_BACK


@pytest.mark.parametrize(
    ("of_source", "brokers", "wanted", "factor", "warned", "refused"),
    [
        (3, 3, None, 3, False, False),
        (3, 1, None, 1, True, False),
        (1, 3, None, 1, False, False),
        (1, 3, 3, 3, False, False),
        (3, 3, 1, 1, False, False),
        (1, 1, 3, 3, False, True),
    ],
)
def test_replication_factor(
    of_source: int, brokers: int, wanted: int | None, factor: int, warned: bool, refused: bool
) -> None:
    found = plan(
        source(replication_factor=of_source),
        facts=TargetFacts(brokers=brokers),
        replication_factor=wanted,
    )
    assert found.replication_factor == factor
    assert bool(found.warnings) is warned
    assert (found.conflict is not None) is refused
    if refused:
        assert found.conflict_exit_code == ExitCode.FATAL
        assert found.conflict_hint == "--replication-factor 1 or less"


@pytest.mark.parametrize(
    ("partitions", "state", "resume", "conflict"),
    [
        (3, "empty", False, None),
        (3, "ours", True, None),
        (3, "foreign", False, "already holds records"),
        (2, "empty", False, "has 2 partitions, the source 3"),
        (4, "ours", True, "has 4 partitions, the source 3"),
        (4, "foreign", False, "has 4 partitions, the source 3"),
    ],
)
def test_an_existing_target(
    partitions: int, state: Any, resume: bool, conflict: str | None
) -> None:
    found = plan(
        source(overrides={"retention.ms": "1", "message.timestamp.type": "LogAppendTime"}),
        TargetTopic(partitions=partitions, state=state),
    )
    assert not found.create
    assert found.resume is resume
    assert found.configs == {}
    assert found.held_back == {}
    assert found.replication_factor is None
    if conflict is None:
        assert found.conflict is None
        assert found.conflict_exit_code == 0
    else:
        assert conflict in (found.conflict or "")
        assert found.conflict_hint
        assert found.conflict_exit_code == ExitCode.FATAL


@pytest.mark.parametrize(
    ("name", "others", "conflict"),
    [
        ("a.b", {"a_b"}, True),
        ("a_b", {"a.b"}, True),
        ("a.b", {"a.b", "a-b", "ab"}, False),
    ],
)
def test_names_kafka_takes_for_one(name: str, others: set[str], conflict: bool) -> None:
    facts = TargetFacts(brokers=3, topics=frozenset(others))
    found = plan(source(name=name), facts=facts)
    assert (found.conflict is not None) is conflict


def test_another_name_on_the_target() -> None:
    found = plan(target_name="a.t")
    assert (found.topic, found.target_topic) == ("t", "a.t")


@pytest.mark.parametrize(
    ("retention", "policy", "age", "warned"),
    [
        ("604800000", "delete", 8 * DAY, True),
        ("604800000", "delete", 6 * DAY, False),
        ("604800000", "compact", 8 * DAY, False),
        ("604800000", "compact,delete", 8 * DAY, True),
        ("604800000", None, 8 * DAY, True),
        ("-1", "delete", 9000 * DAY, False),
        ("604800000", "delete", None, False),
        (None, "delete", 8 * DAY, False),
        ("nonsense", "delete", 8 * DAY, False),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_retention_that_would_delete_at_once(
    retention: str | None, policy: str | None, age: int | None, warned: bool, exists: bool
) -> None:
    configs = {"retention.ms": retention, "cleanup.policy": policy}
    known = {key: value for key, value in configs.items() if value is not None}
    topic = source(oldest_timestamp=None if age is None else NOW - age, effective=known)
    target = TargetTopic(partitions=3, state="empty", effective=known) if exists else None
    found = plan(topic, target, TargetFacts(brokers=3, defaults=known))
    assert bool(found.warnings) is warned
    if warned:
        [warning] = found.warnings
        assert "retention (7 days)" in warning
        assert "8 days old" in warning


def test_the_sources_retention_counts_once_it_is_carried_over() -> None:
    topic = source(overrides={"retention.ms": str(30 * DAY)}, oldest_timestamp=NOW - 8 * DAY)
    defaults = {"retention.ms": str(7 * DAY), "cleanup.policy": "delete"}
    assert plan(topic, facts=TargetFacts(brokers=3, defaults=defaults)).warnings == []


def test_a_record_without_a_timestamp_is_not_old() -> None:
    defaults = {"retention.ms": "1000"}
    found = plan(source(oldest_timestamp=-1), facts=TargetFacts(brokers=3, defaults=defaults))
    assert found.warnings == []


@pytest.mark.parametrize(
    ("of_source", "of_target", "says"),
    [
        ({"max.message.bytes": "2000"}, {"max.message.bytes": "1000"}, "up to 1000 bytes"),
        ({"max.message.bytes": "1000"}, {"max.message.bytes": "1000"}, None),
        ({}, {"max.message.bytes": "1000"}, None),
        ({"compression.type": "producer"}, {"compression.type": "zstd"}, "compression.type=zstd"),
        ({"compression.type": "zstd"}, {"compression.type": "zstd"}, None),
        ({}, {"compression.type": "producer"}, None),
        ({}, {"message.timestamp.type": "LogAppendTime"}, "timestamps would be lost"),
        ({"cleanup.policy": "delete"}, {"cleanup.policy": "compact"}, "compacts this topic"),
        ({"cleanup.policy": "compact"}, {"cleanup.policy": "compact"}, None),
        ({}, {"cleanup.policy": "compact"}, None),
    ],
)
def test_what_the_target_would_do_to_records(
    of_source: dict[str, str], of_target: dict[str, str], says: str | None
) -> None:
    target = TargetTopic(partitions=3, state="empty", effective=of_target)
    found = plan(source(effective=of_source), target)
    if says is None:
        assert found.warnings == []
    else:
        [warning] = found.warnings
        assert says in warning


def test_retention_by_size() -> None:
    defaults = {"retention.bytes": "1000", "cleanup.policy": "delete"}
    facts = TargetFacts(brokers=3, defaults=defaults)
    [warning] = plan(source(largest_partition=1001), facts=facts).warnings
    assert "keeps 1000 bytes of each partition" in warning
    assert plan(source(largest_partition=1000), facts=facts).warnings == []
    assert plan(source(), facts=facts).warnings == []
