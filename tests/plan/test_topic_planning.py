"""Which topics are taken, and what is planned for each: pure functions, tables of cases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicator.cluster.configs import HELD_BACK, Stored, batch_limit, pinned, safe
from replicator.errors import ExitCode, UsageError
from replicator.plan.draft import Draft, SourceTopic
from replicator.plan.topics import (
    TargetFacts,
    TargetTopic,
    choose_topics,
    judge,
    no_such_topic,
    nothing_chosen,
    plan_topic,
)
from replicator.report.model import TopicPlan
from replicator.terms import is_internal_topic

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
        ([".."], [], []),  # no topic has such a name, so it is an expression
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


STORED = ("records", "following", "largest_partition", "oldest_timestamp")
KEEPS_RECORDS = {
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.type": "CreateTime",
}


def source(**fields: Any) -> SourceTopic:
    stored = Stored(**{key: fields.pop(key) for key in STORED if key in fields})
    fields = {"name": "t", "partitions": 3, "replication_factor": 3, "stored": stored, **fields}
    return SourceTopic(**fields)


def plan(
    topic: SourceTopic | None = None,
    target: TargetTopic | None = None,
    facts: TargetFacts | None = None,
    *,
    accept: bool = False,
    **options: Any,
) -> TopicPlan:
    topic, facts = topic or source(), facts or TargetFacts()
    options = {"replication_factor": None, "now_ms": NOW, **options}
    found = plan_topic(topic, target, facts, **options)
    there = {**facts.defaults, **found.configs} if target is None else target.effective or {}
    judge(found, topic, there, accept=accept, now_ms=NOW)
    return Draft(parts=[], source=topic, replica=found, effective=there).report()


def test_a_missing_topic_is_created_like_the_source() -> None:
    overrides = {
        "retention.ms": "5000",
        "cleanup.policy": "compact,delete",
        **dict.fromkeys(HELD_BACK, "x"),
    }
    known = {"retention.ms": "5000", "cleanup.policy": "compact,delete"}
    found = plan(source(overrides=overrides, effective=known, records=10, bytes=20))
    assert found == TopicPlan(
        topic="t",
        target_topic="t",
        partitions=3,
        target_partitions=3,
        records=10,
        bytes=20,
        create=True,
        replication_factor=3,
        configs={"cleanup.policy": "compact,delete", "retention.ms": "5000", **KEEPS_RECORDS},
        pinned=KEEPS_RECORDS,
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
    # MirrorMaker 2's six, what would refuse old records, and what Kafka 4 no longer knows.
    assert {
        "follower.replication.throttled.replicas",
        "leader.replication.throttled.replicas",
        "message.timestamp.before.max.ms",
        "message.timestamp.difference.max.ms",
        "message.timestamp.type",
        "min.insync.replicas",
        "unclean.leader.election.enable",
        "message.format.version",
        "message.downconversion.enable",
    } == HELD_BACK


def test_replication_factor() -> None:
    assert plan(source(replication_factor=3)).replication_factor == 3
    assert plan(source(replication_factor=3), replication_factor=1).replication_factor == 1


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
    facts = TargetFacts(topics=frozenset(others))
    found = plan(source(name=name), facts=facts)
    assert (found.conflict is not None) is conflict


def test_a_target_topic_of_ours_is_widened() -> None:
    ours = TargetTopic(partitions=2, state="ours", ours=True)
    found = plan(source(partitions=5), ours)
    assert (found.widen, found.target_partitions, found.conflict) == (3, 5, None)
    others = TargetTopic(partitions=2, state="foreign", ours=True)
    assert "already holds records" in (plan(source(partitions=5), others).conflict or "")
    split = plan(source(partitions=5), ours, splitting=True)
    assert (split.widen, split.target_partitions, split.conflict) == (0, 2, None)


# What a new topic is made with


@pytest.mark.parametrize(
    ("of_source", "default", "set_to"),
    [
        ({"retention.ms": "1000"}, {"retention.ms": "2000"}, {"retention.ms": "1000"}),
        ({"retention.ms": "1000"}, {"retention.ms": "1000"}, {}),
        ({"retention.ms": "1000"}, {}, {"retention.ms": "1000"}),  # not known: set all the same
        ({"cleanup.policy": "compact,delete"}, {"cleanup.policy": "delete,compact"}, {}),
        ({"cleanup.policy": "delete"}, {"cleanup.policy": "compact"}, {"cleanup.policy": "delete"}),
        (
            {"max.message.bytes": "2000"},
            {"max.message.bytes": "1000"},
            {"max.message.bytes": "2000"},
        ),
        ({"max.message.bytes": "1000"}, {"max.message.bytes": "2000"}, {}),  # never lowered
        ({"delete.retention.ms": "5"}, {"delete.retention.ms": "6"}, {}),  # only where compacted
        (
            {"cleanup.policy": "compact", "delete.retention.ms": "5"},
            {"cleanup.policy": "compact", "delete.retention.ms": "6"},
            {"delete.retention.ms": "5"},
        ),
        ({"segment.bytes": "9000"}, {"segment.bytes": "8000"}, {}),
        (
            {"segment.bytes": "9000", "max.message.bytes": "500"},
            {"segment.bytes": "400", "max.message.bytes": "500"},
            {"segment.bytes": "9000"},
        ),
    ],
)
def test_what_is_set_where_the_defaults_differ(
    of_source: dict[str, str], default: dict[str, str], set_to: dict[str, str]
) -> None:
    found = pinned(of_source, {}, {**KEEPS_RECORDS, **default})
    assert found == set_to


def test_records_keep_their_times_whatever_the_defaults() -> None:
    assert pinned({}, {}, {}) == KEEPS_RECORDS
    assert pinned({}, {}, {"message.timestamp.type": "LogAppendTime"}) == KEEPS_RECORDS
    assert pinned({}, {}, KEEPS_RECORDS) == {}
    assert pinned(None, {}, KEEPS_RECORDS) == {}


def test_what_the_source_sets_itself_is_not_set_twice() -> None:
    overrides = {"retention.ms": "1000"}
    assert pinned(overrides, overrides, {**KEEPS_RECORDS, "retention.ms": "5"}) == {}


@pytest.mark.parametrize(
    ("defaults", "stored", "set_to"),
    [
        (
            {},
            Stored(),
            {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
        ),
        ({"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}, Stored(), {}),
        (
            {"cleanup.policy": "delete", "retention.ms": str(7 * DAY), "retention.bytes": "100"},
            Stored(oldest_timestamp=NOW - 8 * DAY, largest_partition=101),
            {"retention.ms": "-1", "retention.bytes": "-1"},
        ),
        (
            {"cleanup.policy": "delete", "retention.ms": str(7 * DAY), "retention.bytes": "100"},
            Stored(oldest_timestamp=NOW - 6 * DAY, largest_partition=100),
            {},
        ),
    ],
)
def test_a_topic_whose_source_may_not_be_read_deletes_nothing(
    defaults: dict[str, str], stored: Stored, set_to: dict[str, str]
) -> None:
    assert safe(defaults, stored, NOW) == set_to


@pytest.mark.parametrize(
    ("configs", "limit"),
    [
        ({}, 1048588),
        ({"max.message.bytes": "500", "segment.bytes": "400"}, 400),
        ({"max.message.bytes": "300", "segment.bytes": "400"}, 300),
        ({"segment.bytes": "400"}, 400),
    ],
)
def test_the_largest_batch(configs: dict[str, str], limit: int) -> None:
    assert batch_limit(configs) == limit


# What the target's configs would do


@pytest.mark.parametrize(
    ("keep", "of_source", "policy", "age", "harm"),
    [
        (7 * DAY, -1, "delete", 8 * DAY, True),
        (7 * DAY, 30 * DAY, "delete", 8 * DAY, True),
        (7 * DAY, 30 * DAY, "delete", 6 * DAY, False),
        (7 * DAY, 7 * DAY, "delete", 8 * DAY, False),  # the source deletes them as well
        (7 * DAY, 1 * DAY, "delete", 8 * DAY, False),
        (7 * DAY, 30 * DAY, "compact", 8 * DAY, False),
        (7 * DAY, 30 * DAY, "compact,delete", 8 * DAY, True),
        (7 * DAY, 30 * DAY, None, 8 * DAY, True),
        (-1, -1, "delete", 9000 * DAY, False),
        (7 * DAY, 30 * DAY, "delete", None, False),
        (None, 30 * DAY, "delete", 8 * DAY, False),
        ("nonsense", 30 * DAY, "delete", 8 * DAY, False),
    ],
)
def test_retention_that_would_delete_at_once(
    keep: Any, of_source: int, policy: str | None, age: int | None, harm: bool
) -> None:
    configs = {"retention.ms": keep, "cleanup.policy": policy}
    known = {key: str(value) for key, value in configs.items() if value is not None}
    topic = source(
        oldest_timestamp=None if age is None else NOW - age,
        effective={**known, "retention.ms": str(of_source)},
    )
    target = TargetTopic(partitions=3, state="empty", effective=known)
    found = plan(topic, target)
    assert (found.conflict is not None) is harm
    if harm:
        assert "retention (7 days)" in (found.conflict or "")
        assert "8 days old" in (found.conflict or "")
        assert found.conflict_exit_code == ExitCode.FATAL
        accepted = plan(topic, target, accept=True)
        assert accepted.conflict is None
        assert found.conflict in accepted.warnings


def test_a_compacted_source_keeps_records_whatever_its_retention() -> None:
    topic = source(
        effective={"cleanup.policy": "compact", "retention.ms": str(DAY)},
        oldest_timestamp=NOW - 8 * DAY,
    )
    both = {"cleanup.policy": "compact,delete", "retention.ms": str(7 * DAY)}
    found = plan(topic, TargetTopic(partitions=3, state="empty", effective=both))
    assert "8 days old" in (found.conflict or "")


def test_the_sources_retention_counts_once_it_is_carried_over() -> None:
    topic = source(overrides={"retention.ms": str(30 * DAY)}, oldest_timestamp=NOW - 8 * DAY)
    defaults = {"retention.ms": str(7 * DAY), "cleanup.policy": "delete"}
    found = plan(topic, facts=TargetFacts(defaults=defaults))
    assert (found.conflict, found.warnings) == (None, [])


def test_a_record_without_a_timestamp_is_not_old() -> None:
    target = TargetTopic(partitions=3, state="empty", effective={"retention.ms": "1000"})
    found = plan(source(oldest_timestamp=-1, effective={"retention.ms": "-1"}), target)
    assert found.conflict is None


@pytest.mark.parametrize(
    ("of_source", "of_target", "harm", "says"),
    [
        ({"max.message.bytes": "2000"}, {"max.message.bytes": "1000"}, False, "up to 1000 bytes"),
        ({"max.message.bytes": "2000"}, {"segment.bytes": "1000"}, False, "up to 1000 bytes"),
        ({"max.message.bytes": "1000"}, {"max.message.bytes": "1000"}, False, None),
        ({"compression.type": "producer"}, {"compression.type": "zstd"}, False, "type=zstd"),
        ({"compression.type": "zstd"}, {"compression.type": "zstd"}, False, None),
        ({}, {"compression.type": "producer"}, False, None),
        ({}, {"message.timestamp.type": "LogAppendTime"}, True, "timestamps would be lost"),
        ({"cleanup.policy": "delete"}, {"cleanup.policy": "compact"}, True, "compacts this topic"),
        ({"cleanup.policy": "compact"}, {"cleanup.policy": "compact"}, False, None),
        ({}, {"cleanup.policy": "compact"}, False, "compacts this topic"),
        (
            {"retention.ms": "-1"},
            {"retention.ms": str(7 * DAY)},
            False,
            "the source without a limit",
        ),
        ({"retention.bytes": "9"}, {"retention.bytes": "8"}, False, "the source 9"),
    ],
)
def test_what_the_target_would_do_to_records(
    of_source: dict[str, str], of_target: dict[str, str], harm: bool, says: str | None
) -> None:
    target = TargetTopic(partitions=3, state="empty", effective=of_target)
    found = plan(source(effective=of_source), target)
    assert (found.conflict is not None) is harm
    texts = [found.conflict or "", *found.warnings] if harm else found.warnings
    assert any(says in text for text in texts) if says else texts == []


def test_retention_by_size() -> None:
    target = TargetTopic(partitions=3, state="empty", effective={"retention.bytes": "1000"})
    stored = {"records": 1, "effective": {"retention.bytes": "-1"}}
    found = plan(source(largest_partition=1001, **stored), target)
    assert "keeps 1000 bytes of each partition" in (found.conflict or "")
    assert plan(source(largest_partition=1000, **stored), target).conflict is None
    assert plan(source(**stored), target).conflict is None
    # With nothing left to copy, no record can be lost.
    done = {**stored, "records": 0}
    assert plan(source(largest_partition=1001, **done), target).conflict is None
    assert plan(source(largest_partition=1001, following=True, **done), target).conflict


def test_configs_that_may_not_be_read_are_a_warning() -> None:
    hidden = source(effective=None, unread="denied; grant it")
    [warning] = plan(hidden).warnings
    assert "denied; grant it" in warning
    target = TargetTopic(partitions=3, state="empty", effective=None, unread="denied; grant it")
    [warning] = plan(source(), target).warnings
    assert "denied; grant it" in warning
