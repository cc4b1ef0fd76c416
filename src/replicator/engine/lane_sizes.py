"""How many lanes an engine has, how tasks are dealt out to them, and how much memory each may use.

Pure functions; safe from any thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from replicator.cluster import TopicMeta
from replicator.engine.task import PartitionTask
from replicator.engine.topic_watch import writing_leaders

PIPES_PER_BROKERS = 3  # connections of a lane to the same two brokers: some wait, one works
LARGEST_SLAB = 4 << 20  # bytes a Fetch brings; more does not make it faster
LEAST_SLAB = 256 << 10
SLABS_PER_PIPE = 4


class LaneSizes(NamedTuple):
    """How many lanes there are, and how many bytes each of their pipes may hold."""

    lanes: int
    slab_bytes: int
    pipe_bytes: int


def lane_count(asked: int, partitions: int) -> int:
    """Lanes for so many partitions; ``asked`` 0 lets the cores decide."""
    chosen = asked or max(1, min(4, (os.cpu_count() or 1) // 2))
    return max(1, min(chosen, partitions))


def lane_and_slot(number: int, lanes: int) -> tuple[int, int]:
    """The lane of a task, and which of the lane's connections to the same brokers it has."""
    return number % lanes, number // lanes % PIPES_PER_BROKERS


def lane_sizes(
    tasks: Sequence[PartitionTask],
    sources: Mapping[str, TopicMeta],
    targets: Mapping[str, TopicMeta],
    memory: int,
) -> LaneSizes:
    """For tasks that share ``memory`` bytes; each pair of source and target leaders has pipes."""
    pairs = {
        (
            _leader(sources[task.topic], task.partition),
            frozenset(writing_leaders(task, targets[task.target_topic]).values()),
        )
        for task in tasks
    }
    lanes = 1 + max(task.lane for task in tasks)
    slots = min(PIPES_PER_BROKERS, len(tasks))
    pipe_bytes = max(memory // (lanes * slots * len(pairs)), LEAST_SLAB * 2)
    slab_bytes = max(LEAST_SLAB, min(LARGEST_SLAB, pipe_bytes // SLABS_PER_PIPE))
    return LaneSizes(lanes, slab_bytes, pipe_bytes)


def _leader(topic: TopicMeta, partition: int) -> int:
    meta = topic.partitions.get(partition)
    return -1 if meta is None else meta.leader
