"""The end-of-run table and the plan table."""

from __future__ import annotations

from typing import Any

import pytest

from replicator.cli.tables import plan_text, summary_text, table
from replicator.report.model import Fault, Limit, Plan, Summary, TopicPlan, TopicSummary


def unpainted(text: str, style: str) -> str:
    assert style
    return text


def topic(name: str, **changes: Any) -> TopicSummary:
    fields: dict[str, Any] = {
        "topic": name,
        "target_topic": name,
        "status": "done",
        "partitions": 2,
        "records": 1000,
        "bytes": 5_000_000,
        "batches": 10,
        "skipped_batches": 0,
        "passed_batches": 10,
        "rebatched_batches": 0,
    }
    return TopicSummary(**{**fields, **changes})


def summary(**changes: Any) -> Summary:
    fields: dict[str, Any] = {
        "status": "done",
        "exit_code": 0,
        "source": "a:9092",
        "target": "b:9092",
        "source_cluster_id": "A",
        "target_cluster_id": "B",
        "flow": "f",
        "elapsed": 2.0,
        "first_ack_after": 0.5,
        "records": 2000,
        "bytes": 10_000_000,
        "logical_bytes": None,
        "batches": 20,
        "skipped_batches": 0,
        "passed_batches": 10,
        "rebatched_batches": 0,
        "recoveries": 0,
        "throttle": "auto",
        "throttle_ms": 0,
        "throttled_by": "",
        "topics": [topic("orders"), topic("x", target_topic="y", created=True)],
    }
    return Summary(**{**fields, **changes})


def test_columns_are_aligned_and_nothing_is_cut() -> None:
    name = "t" * 249
    text = table(["A", "N"], ["left", "right"], [[name, "1"], ["b", "1,000"]])
    assert text.splitlines() == [
        f"A{' ' * 248}      N",
        f"{name}      1",
        f"b{' ' * 248}  1,000",
    ]


def test_a_finished_copy() -> None:
    assert summary_text(summary(), unpainted) == (
        "a:9092 → b:9092\n\n"
        "TOPIC   TARGET  PARTITIONS  RECORDS    BYTES  BATCHES  STATUS\n"
        "orders  same             2    1,000  5.00 MB       10  done\n"
        "x       y                2    1,000  5.00 MB       10  done, created\n"
        "total                    4    2,000  10.0 MB       20\n\n"
        "done; copied 2,000 records, 10.0 MB in 2.0s, 5.00 MB/s"
    )


def test_nothing_left_says_so_without_figures() -> None:
    idle = topic("orders", status="nothing-left", records=0, bytes=0, batches=0, resumed=True)
    text = summary_text(summary(status="nothing-left", topics=[idle]), unpainted)
    assert "nothing left, resumed" in text
    assert text.endswith(
        "nothing left to copy: the target has all from where the copy began to the end"
    )


@pytest.mark.parametrize("status", ["interrupted", "incomplete"])
def test_a_rerun_that_helps_is_named(status: str) -> None:
    text = summary_text(summary(status=status), unpainted)
    assert text.endswith("to go on: run the same command again")


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (
            Limit(name="max-bytes", value=20_000_000, used=19_999_000, next=131_133),
            "stopped by --max-bytes 20MB after 19999kB, the next batch has 131133B",
        ),
        (
            Limit(name="max-records", value=2010, used=2000, next=20),
            "stopped by --max-records 2010 after 2000, the next batch has 20",
        ),
        (
            Limit(name="max-records", value=2000, used=2000),
            "stopped by --max-records 2000 after 2000",
        ),
        (Limit(name="max-duration", value=5400.0, used=5400.1), "stopped by --max-duration 1h30m"),
    ],
)
def test_a_limit_tells_how_far_it_came_and_how_to_go_on(limit: Limit, told: str) -> None:
    assert summary_text(summary(status="limited", exit_code=8, limit=limit), unpainted).endswith(
        f"\n\n{told}; copied 2,000 records, 10.0 MB in 2.0s, 5.00 MB/s\n"
        "to go on: run the same command again"
    )


@pytest.mark.parametrize(
    ("limit", "least"),
    [
        (Limit(name="max-bytes", value=8192, used=0, next=131_133), "--max-bytes to 131133B"),
        (Limit(name="max-records", value=19, used=5, next=20), "--max-records to 20"),
    ],
)
def test_a_limit_below_one_batch_says_what_that_needs(limit: Limit, least: str) -> None:
    text = summary_text(summary(status="limited", exit_code=8, limit=limit), unpainted)
    assert text.endswith(
        f"to go on: raise {least} at least, which the next batch needs, and run the same command "
        "again"
    )


def test_faults_tell_where_why_and_what_to_do() -> None:
    faults = [
        Fault(
            kind="record-too-large",
            side="target",
            cluster="b:9092 (B)",
            topic="orders",
            partition=1,
            offset=17,
            message="orders-1 at offset 17 on target cluster b:9092 (B): too many bytes",
            hint="raise max.message.bytes of the target topic",
            exit_code=7,
        ),
        Fault(
            kind="source-deleted",
            side="source",
            cluster="a:9092 (A)",
            topic="x",
            message="x on source cluster a:9092 (A): the topic is gone",
            hint="leave it out",
            exit_code=7,
        ),
    ]
    text = summary_text(summary(status="failed", faults=faults), unpainted)
    assert (
        "record-too-large orders-1 at offset 17 on target cluster b:9092 (B): too many "
        "bytes\n"
        "  hint: raise max.message.bytes of the target topic\n"
        "source-deleted x on source cluster a:9092 (A): the topic is gone\n"
        "  hint: leave it out\n"
    ) in text
    assert "follow the hints above" in text


def test_notes_of_a_summary() -> None:
    noted = topic(
        "orders",
        held_back={"message.timestamp.type": "LogAppendTime"},
        warnings=["short retention"],
        skipped_batches=3,
    )
    text = summary_text(
        summary(topics=[noted], skipped={"a.internal": "internal"}, recoveries=2, logical_bytes=7),
        unpainted,
    )
    assert "done, 3 batches skipped" in text
    assert "held back orders: message.timestamp.type=LogAppendTime\n" in text
    assert "warning orders: short retention\n" in text
    assert "skipped a.internal: internal\n" in text
    assert "(7 B uncompressed)" in text
    assert text.endswith("recovered 2 times from the target's own log")


@pytest.mark.parametrize(
    ("throttle", "throttled_by", "text"),
    [
        ("auto", "limit", "held back 0.2s, most of it by --throttle auto"),
        ("20MB/s", "limit", "held back 0.2s, most of it by --throttle 20MB/s"),
        ("auto", "target quota", "held back 0.2s, most of it by the target's quota"),
    ],
)
def test_what_held_a_copy_back(throttle: str, throttled_by: str, text: str) -> None:
    """Shown if it took at least a tenth of the time."""
    held = summary(throttle=throttle, throttled_by=throttled_by, throttle_ms=200, elapsed=2.0)
    assert text in summary_text(held, unpainted).splitlines()
    held = summary(throttle=throttle, throttled_by=throttled_by, throttle_ms=200, elapsed=2.1)
    assert "held back" not in summary_text(held, unpainted)


def test_a_plan() -> None:
    plan = Plan(
        source="a:9092",
        target="b:9092",
        source_cluster_id="A",
        target_cluster_id="B",
        flow="f",
        records=600,
        bytes=None,
        topics=[
            TopicPlan(
                topic="new",
                target_topic="new",
                partitions=3,
                records=500,
                bytes=1_000_000,
                create=True,
                replication_factor=3,
                configs={"retention.ms": "1"},
            ),
            TopicPlan(topic="old", target_topic="old", partitions=1, records=100, resume=True),
            TopicPlan(topic="full", target_topic="full", partitions=1, records=0, resume=True),
            TopicPlan(
                topic="empty", target_topic="empty", partitions=1, target_partitions=4, records=5
            ),
            TopicPlan(
                topic="bad",
                target_topic="bad",
                partitions=1,
                records=0,
                conflict="3 partitions there",
                conflict_hint="leave it out",
            ),
        ],
    )
    assert plan_text(plan, unpainted) == (
        "a:9092 → b:9092\n\n"
        "TOPIC  TARGET  PARTITIONS  RECORDS    BYTES  WHAT\n"
        "new    same             3      500  1.00 MB  create, replication factor 3\n"
        "old    same             1      100        ?  go on\n"
        "full   same             1        0        ?  nothing left\n"
        "empty  same         1 → 4        5        ?  fill\n"
        "bad    same             1        0        ?  conflict\n"
        "total                   7      600        ?\n\n"
        "configs new: retention.ms=1\n"
        "conflict bad: 3 partitions there\n"
        "  hint: leave it out\n\n"
        "1 topic in conflict will not be copied; nothing has been changed (dry run)"
    )
