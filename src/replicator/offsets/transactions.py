"""Open transactions of the source: what they hold back from a reader of committed records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from copycore.batch import Batch
from replicator.cluster import Cluster, RunningTransaction
from replicator.errors import CopystreamError
from replicator.offsets.log_end import ASK_TIMEOUT, last_batches
from replicator.report.model import OpenTransaction
from replicator.terms import TopicPartition

PATIENCE = timedelta(seconds=10)  # as PartitionCopy's transaction_limit


def open_transactions(
    source: Cluster, held: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, OpenTransaction]:
    """``held``: last stable offset and high watermark of partitions where they differ.

    Producer and time are given where the source tells them (KIP-664; READ on Topic). Any thread may
    call.
    """
    found: dict[TopicPartition, RunningTransaction] = {}
    batches: dict[TopicPartition, Batch | None] = {}
    with suppress(CopystreamError):
        found = source.open_transactions(held, timeout=ASK_TIMEOUT)
        batches = last_batches(source, {tp: one.start for tp, one in found.items()})
    told = {}
    for tp, (stable, high) in held.items():
        one, batch = found.get(tp), batches.get(tp)
        told[tp] = OpenTransaction(
            topic=tp[0],
            partition=tp[1],
            offset=stable,
            records=high - stable,
            producer_id=None if one is None else one.producer_id,
            since=None if batch is None else _moment(batch.max_timestamp),
        )
    return told


def _moment(timestamp: int) -> str | None:
    """A record's time in ms as local ISO 8601; None where it is no time."""
    try:
        return datetime.fromtimestamp(timestamp / 1000).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None


def standing(transactions: Iterable[OpenTransaction], now: datetime) -> Iterator[OpenTransaction]:
    """Those that a copy would wait for in vain if they stayed as they are: not just begun."""
    for one in transactions:
        if one.since is None or datetime.fromisoformat(one.since) <= now - PATIENCE:
            yield one


def held_text(one: OpenTransaction) -> str:
    """One line for people."""
    who = "" if one.producer_id is None else f" of producer {one.producer_id}"
    when = "" if one.since is None else f", open since {one.since}"
    return (
        f"{one.topic}-{one.partition}: {one.records:,} offsets from {one.offset} on lie behind "
        f"an open transaction{who}{when}"
    )
