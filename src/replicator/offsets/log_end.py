"""Where the target's log of a kept partition ends: the one path for restart and retry.

With one writer the number of the next record is log end − base. The log end must be committed
(the leader's end and the high watermark agree), and where the last batch is still in the log, it
must be ours and end with the sequence that this number implies.

Everything here asks a cluster, keeps no state, and may be called in any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from msgspec import Struct

from copycore.batch import Batch, cut_slice
from replicator.cluster import Cluster
from replicator.state.records import Binding
from replicator.terms import TopicPartition

SEQUENCES = 1 << 31
ASK_TIMEOUT = 5.0  # seconds; the caller tries again
SCAN_BYTES = 1 << 20  # of a fetch
TAIL_BYTES = 64 << 10  # of a partition among many


class NotYet(Exception):
    """The target cannot tell now; ``code`` is Kafka's error code, 0 when replication lags."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ForeignWriter(Exception):
    """Another client wrote at target ``offset``."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


def counters(
    target: Cluster, bindings: Mapping[TopicPartition, Binding]
) -> dict[TopicPartition, int | Exception]:
    """The number of the next record of each target partition, or ``NotYet`` or ``ForeignWriter``.

    Raises what the cluster raises when it cannot be asked at all.
    """
    found: dict[TopicPartition, int | Exception] = {}
    tails: dict[TopicPartition, int] = {}
    for tp, extent in extents(target, bindings).items():
        base = bindings[tp].base
        if isinstance(extent, NotYet):
            found[tp] = extent
        elif extent.end < base:
            found[tp] = ForeignWriter(extent.end)
        else:
            found[tp] = extent.end - base
            if extent.end > max(base, extent.start):
                tails[tp] = extent.end - 1
    for tp, batch in last_batches(target, tails).items():
        counter = found[tp]
        if batch is None:
            found[tp] = NotYet(0)
        elif isinstance(counter, int) and not _ends_with(batch, bindings[tp], counter):
            found[tp] = ForeignWriter(tails[tp])
    return found


class Extent(Struct, frozen=True):
    """The offsets of a log, all of it committed; ``end`` is exclusive."""

    start: int
    end: int


def extents(
    target: Cluster, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, Extent | NotYet]:
    """Raises what the cluster raises when it cannot be asked at all."""
    # The leader's end first: if the high watermark read later equals it, all of it is committed.
    ends = target.leader_end_offsets(partitions, timeout=ASK_TIMEOUT)
    committed = target.list_offsets(partitions, "latest", timeout=ASK_TIMEOUT)
    starts = target.list_offsets(partitions, "earliest", timeout=ASK_TIMEOUT)
    found: dict[TopicPartition, Extent | NotYet] = {}
    for tp in partitions:
        codes = [known[tp].error for known in (ends, committed, starts)]
        if any(codes):
            found[tp] = NotYet(next(code for code in codes if code))
        elif ends[tp].offset != committed[tp].offset:
            found[tp] = NotYet(0)
        else:
            found[tp] = Extent(starts[tp].offset, ends[tp].offset)
    return found


def _ends_with(batch: Batch, binding: Binding, counter: int) -> bool:
    """Whether ``batch`` is our batch that ends with record number ``counter`` − 1."""
    return (
        batch.producer_id == binding.producer_id
        and batch.next_offset == binding.base + counter
        and (batch.base_sequence + batch.last_offset_delta) % SEQUENCES == (counter - 1) % SEQUENCES
    )


def last_batches(
    cluster: Cluster, offsets: Mapping[TopicPartition, int]
) -> dict[TopicPartition, Batch | None]:
    """The batch that holds each offset; None where it could not be fetched now."""
    found: dict[TopicPartition, Batch | None] = dict.fromkeys(offsets)
    if not offsets:
        return found
    topics = cluster.metadata(sorted({topic for topic, _ in offsets}), timeout=ASK_TIMEOUT)
    leaders: dict[int, list[TopicPartition]] = {}
    for topic, partition in offsets:
        meta = topics[topic].partitions.get(partition)
        if meta is not None and meta.leader >= 0:
            leaders.setdefault(meta.leader, []).append((topic, partition))
    for leader, partitions in leaders.items():
        found.update(_batches_at(cluster, leader, {tp: offsets[tp] for tp in partitions}))
    return found


def _batches_at(
    cluster: Cluster, leader: int, offsets: dict[TopicPartition, int]
) -> dict[TopicPartition, Batch | None]:
    """Those of one leader: many in one request, and alone what is too large for that."""
    found: dict[TopicPartition, Batch | None] = {}
    while offsets:
        answers = cluster.fetch(leader, offsets, TAIL_BYTES, timeout=ASK_TIMEOUT)
        first = next(iter(offsets))
        for tp, offset in list(offsets.items()):
            for batch in _batches(answers[tp]):
                if batch.base_offset <= offset < batch.next_offset:
                    found[tp] = batch
                    break
            if tp in found or tp == first:
                found.setdefault(tp, None)
                del offsets[tp]
    return found


def read_batches(cluster: Cluster, tp: TopicPartition, begin: int, end: int) -> Iterator[Batch]:
    """The batches that hold the offsets from ``begin`` up to ``end``, in order.

    Raises ``NotYet`` where they cannot be read now, and what the cluster raises.
    """
    if begin >= end:
        return
    topic, partition = tp
    meta = cluster.metadata([topic], timeout=ASK_TIMEOUT)[topic].partitions.get(partition)
    if meta is None or meta.leader < 0:
        raise NotYet(0)
    while begin < end:
        answers = cluster.fetch(meta.leader, {tp: begin}, SCAN_BYTES, timeout=ASK_TIMEOUT)
        batches = _batches(answers[tp])
        if not batches or batches[-1].next_offset <= begin:
            raise NotYet(0)
        for batch in batches:
            if begin < batch.next_offset and batch.base_offset < end:
                yield batch
        begin = batches[-1].next_offset


def _batches(data: bytes) -> list[Batch]:
    """The batches of one partition in a Fetch response, as far as they can be read; the caller
    asks again for others, and gives up after a while.
    """
    try:
        return list(cut_slice(data)[0]) if data else []
    except ValueError:
        return []
