"""How tasks are dealt out to lanes, and how much memory each pipe may use."""

from __future__ import annotations

import pytest

from kit.fakes.world import FakeCluster, make_task
from replicator.engine.lane_sizes import (
    LARGEST_SLAB,
    LEAST_SLAB,
    PIPES_PER_BROKERS,
    LaneSizes,
    lane_and_slot,
    lane_count,
    lane_sizes,
)
from replicator.engine.task import PartitionTask


@pytest.mark.parametrize(
    ("asked", "partitions", "lanes"), [(3, 10, 3), (3, 2, 2), (8, 1, 1), (1, 1000, 1), (5, 0, 1)]
)
def test_no_lane_is_without_a_partition(asked: int, partitions: int, lanes: int) -> None:
    assert lane_count(asked, partitions) == lanes


def test_tasks_are_dealt_out_by_turns() -> None:
    dealt = [lane_and_slot(number, 2) for number in range(8)]
    assert [lane for lane, _ in dealt] == [0, 1] * 4
    assert [slot for _, slot in dealt] == [0, 0, 1, 1, 2, 2, 0, 0]
    assert {slot for _, slot in dealt} == set(range(PIPES_PER_BROKERS))


def sizes(leaders: list[tuple[int, int]], memory: int, *, lanes: int = 1) -> LaneSizes:
    """Lane sizes for a topic with one partition for each pair of leaders (source, target)."""
    source, target = FakeCluster("source"), FakeCluster("target")
    source.add("orders", len(leaders))
    target.add("orders", len(leaders))
    tasks: list[PartitionTask] = []
    for number, (reading, writing) in enumerate(leaders):
        source.log("orders", number).leader = reading
        target.log("orders", number).leader = writing
        tasks.append(make_task("orders", number, lane=number % lanes))
    return lane_sizes(tasks, source.metadata(["orders"]), target.metadata(["orders"]), memory)


def test_the_pipes_of_all_lanes_share_the_memory() -> None:
    memory = 768 << 20
    one = sizes([(0, 0)] * 6, memory)
    assert one == LaneSizes(1, LARGEST_SLAB, memory // 3)
    assert sizes([(0, 0)] * 6, memory, lanes=2).pipe_bytes == memory // 6
    assert sizes([(0, 0), (0, 1), (1, 0)] * 2, memory).pipe_bytes == memory // 9
    assert sizes([(0, 0)], memory).pipe_bytes == memory, "one partition has one pipe"


def test_a_pipe_can_always_hold_two_slabs() -> None:
    few = sizes([(n, n) for n in range(9)], 1)
    assert (few.slab_bytes, few.pipe_bytes) == (LEAST_SLAB, 2 * LEAST_SLAB)


def test_a_partition_without_a_leader_takes_memory_too() -> None:
    assert sizes([(0, 0), (-1, 0)], 1 << 30).pipe_bytes == (1 << 30) // 4
