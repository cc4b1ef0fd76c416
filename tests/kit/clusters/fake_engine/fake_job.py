"""A ``CopyJob`` that ends as the variable FAKE_JOB says, and tells which settings it was given."""

import logging
import os
import time
import warnings
from collections.abc import Callable
from typing import Literal

import msgspec

from replicator.errors import ClusterError, StateError
from replicator.options.settings import CopySettings
from replicator.pace.throttle import Throttle
from replicator.process import StopSignal
from replicator.report.model import (
    Fault,
    Limit,
    PartitionProgress,
    Plan,
    Snapshot,
    Summary,
    TopicPlan,
    TopicSummary,
)

log = logging.getLogger("replicator.copy")

FAULT = Fault(
    kind="corrupt-batch",
    side="source",
    cluster="a:9092 (AAAA)",
    topic="orders",
    partition=3,
    offset=1200,
    message="orders-3 at offset 1200 on source cluster a:9092 (AAAA): it fails its CRC",
    hint="read it with another client to see whether the disk is damaged",
    exit_code=7,
)
LIMIT = Limit(name="max-records", value=1_234_568, used=1_234_567, next=20)


class CopyJob:
    def __init__(self, settings: CopySettings, new_throttle: Callable[[], Throttle | None]) -> None:
        self.settings = settings
        self.new_throttle = new_throttle
        self.throttle: Throttle | None = None
        self.mode = os.environ.get("FAKE_JOB", "done")
        self.started = time.monotonic()
        if self.mode == "refused":
            raise ClusterError(
                "target", "target b:9092: connection refused", hint="is the broker running?"
            )
        if self.mode == "recreated":
            raise StateError("topic orders was deleted and made again", hint="use another name")
        if self.mode == "leaky":
            raise ClusterError("target", "b:9092 refuses ssl.keystore.password=hunter2")
        if self.mode == "crash":
            raise ZeroDivisionError("division by zero")

    def plan(self) -> Plan:
        topics = [
            TopicPlan(
                topic="orders",
                target_topic="orders",
                partitions=4,
                records=1_234_567,
                bytes=2_000_000_000,
                create=True,
                replication_factor=1,
                configs={"cleanup.policy": "compact"},
                held_back={"message.timestamp.type": "LogAppendTime"},
                warnings=["the target's retention.ms would delete the oldest records at once"],
            )
        ]
        if self.mode == "conflict":
            topics.append(
                TopicPlan(
                    topic="payments",
                    target_topic="payments",
                    partitions=2,
                    records=10,
                    conflict="the target has 3 partitions, the source 2",
                    conflict_hint="delete the target topic, or copy without it",
                    conflict_exit_code=7,
                )
            )
        return Plan(
            source="a:9092",
            target="b:9092",
            source_cluster_id="AAAA",
            target_cluster_id="BBBB",
            flow=self._settings_text(),
            topics=topics,
            skipped=dict.fromkeys(
                ("__consumer_offsets", "mm2-offsets.a.internal"), "internal topic"
            ),
            warnings=["the state topics have one replica"],
            records=1_234_567,
            bytes=2_000_000_000,
        )

    def run(self, stop: StopSignal, tell: Callable[[Plan], None]) -> Summary:
        if self.mode == "told":
            tell(self.plan())
        if self.mode == "plan-only":
            raise AssertionError("a dry run must not run")
        log.info("what is done")
        log.debug("every decision")
        log.warning("started")
        if self.mode == "warn":
            warnings.warn("something is deprecated", DeprecationWarning, stacklevel=1)
        if self.mode == "stopped":
            stop.wait()
            time.sleep(0.5)  # what is in flight takes its time
            return self._summary("interrupted", 130)
        if self.mode == "throttled":
            while self.throttle is None:
                time.sleep(0.02)
                self.throttle = self.new_throttle()
        if self.mode == "deaf":
            while True:
                time.sleep(60)
        if self.mode in ("slow", "slow-fault", "blind"):
            deadline = self.started + float(os.environ.get("FAKE_SECONDS", "2"))
            while time.monotonic() < deadline:
                if stop.wait(0.05):
                    return self._summary("interrupted", 130)
        if self.mode in ("fault", "slow-fault"):
            return self._summary("failed", 7, faults=[FAULT])
        if self.mode == "limited":
            return self._summary("limited", 8, limit=LIMIT)
        if self.mode == "nothing":
            return self._summary("nothing-left", 0)
        return self._summary("done", 0)

    def snapshot(self) -> Snapshot:
        if self.mode == "blind":
            raise RuntimeError("no numbers")
        elapsed = time.monotonic() - self.started
        done = min(int(elapsed * 1000), 10_000)
        failed = self.mode == "slow-fault" and elapsed > 0.5
        return Snapshot(
            phase="copying",
            elapsed=elapsed,
            records=done,
            bytes=done * 1000,
            logical_bytes=done * 3000,
            batches=done // 100,
            skipped_batches=0,
            passed_batches=1,
            rebatched_batches=0,
            offsets_total=10_000,
            offsets_done=done,
            bytes_total=10_000_000,
            lag=10_000 - done,
            throttle="20MB/s",
            throttle_bytes=20_000_000,
            throttle_ms=int(elapsed * 100),
            throttled_by="limit",
            partitions_done=0,
            partitions_failed=int(failed),
            partitions=[
                PartitionProgress(
                    topic="orders",
                    partition=number,
                    state="failed" if failed and number == 3 else "copying",
                    start=0,
                    position=done // 2,
                    end=5000,
                    records=done // 2,
                    bytes=done * 500,
                )
                for number in (2, 3)
            ],
            recoveries=0,
            faults=[FAULT] if failed else [],
        )

    def _settings_text(self) -> str:
        """The flow's name carries the settings out to the test, or what replaced some of them."""
        if self.throttle is not None:
            return msgspec.json.encode(self.throttle).decode()
        fields = {
            name: getattr(self.settings, name)
            for name in CopySettings.__struct_fields__
            if name not in ("source", "target", "given")
        }
        for side in ("source", "target"):
            config = getattr(self.settings, side)
            fields[side] = {"bootstrap": config.bootstrap_text, "client_id": config.client_id}
        return msgspec.json.encode(fields).decode()

    def _summary(
        self,
        status: Literal["done", "nothing-left", "limited", "failed", "interrupted"],
        exit_code: int,
        faults: list[Fault] | None = None,
        limit: Limit | None = None,
    ) -> Summary:
        return Summary(
            status=status,
            exit_code=exit_code,
            source="a:9092",
            target="b:9092",
            source_cluster_id="AAAA",
            target_cluster_id="BBBB",
            flow=self._settings_text(),
            elapsed=2.0,
            first_ack_after=0.4,
            records=1_234_567,
            bytes=2_000_000_000,
            logical_bytes=5_000_000_000,
            batches=20_000,
            skipped_batches=7,
            passed_batches=1,
            rebatched_batches=0,
            recoveries=1,
            throttle="auto",
            throttle_ms=100,
            throttled_by="limit",
            topics=[
                TopicSummary(
                    topic="orders",
                    target_topic="orders",
                    status="failed" if faults else "done",
                    partitions=4,
                    records=1_234_567,
                    bytes=2_000_000_000,
                    batches=20_000,
                    skipped_batches=7,
                    passed_batches=1,
                    rebatched_batches=0,
                    created=True,
                    held_back={"message.timestamp.type": "LogAppendTime"},
                )
            ],
            faults=faults or [],
            limit=limit,
        )
