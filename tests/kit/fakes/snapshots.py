"""Snapshots of a running copy, made up for the tests of the progress display."""

from __future__ import annotations

from typing import Any

from replicator.report.model import PartitionProgress, Snapshot


def partition(number: int, position: int, **changes: Any) -> PartitionProgress:
    fields: dict[str, Any] = {
        "topic": "orders",
        "partition": number,
        "state": "copying",
        "start": 0,
        "position": position,
        "end": 1000,
        "records": position,
        "bytes": position * 100,
    }
    return PartitionProgress(**{**fields, **changes})


def snapshot(elapsed: float, done: int, **changes: Any) -> Snapshot:
    fields: dict[str, Any] = {
        "phase": "copying",
        "elapsed": elapsed,
        "records": done,
        "bytes": done * 100,
        "logical_bytes": None,
        "batches": done,
        "skipped_batches": 0,
        "passed_batches": 10,
        "rebatched_batches": 0,
        "offsets_total": 4000,
        "offsets_done": done,
        "bytes_total": None,
        "lag": 4000 - done,
        "throttle": "off",
        "throttle_bytes": None,
        "throttle_ms": 0,
        "throttled_by": "",
        "partitions_done": 0,
        "partitions_failed": 0,
        "partitions": [],
        "recoveries": 0,
    }
    return Snapshot(**{**fields, **changes})
