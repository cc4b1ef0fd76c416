"""Runs brokers warm: a cold broker's CPU goes to its JIT, not to the records.

Batches of the workload are written and read back until a gigabyte costs about the same as the two
before. Then the seeded topic is copied until copies cost the same, too: a JIT that has only seen
the requests of ``limit`` has not compiled what a copy's requests need.
"""

from __future__ import annotations

from msgspec import structs

from contestants import run_copystream
from replicator.lab import LabCluster
from stage import Bench
from workloads import create

STEADY = 0.15  # three rounds in a row differ by less, relatively
LEAST = 3  # rounds
LEAST_COPIES = 2


def warm_up(bench: Bench, cluster: LabCluster, gigabytes: float, *, at_most: int) -> list[float]:
    """CPU seconds a gigabyte in each round of ``gigabytes``; the last ones are steady, unless
    ``at_most`` rounds were not enough for that."""
    size = bench.workload.partitions * bench.batches.size
    round_ = structs.replace(bench, each=max(1, int(gigabytes * 1e9 / size)))
    costs: list[float] = []
    while len(costs) < at_most:
        round_.clear(cluster)
        create(cluster.bootstrap, round_.topic, round_.workload.partitions)
        before = cluster.cpu_seconds()
        moved = round_.raw("produce", cluster)["bytes"]
        round_.raw("fetch", cluster)
        costs.append((cluster.cpu_seconds() - before) / moved * 1e9)
        recent = costs[-3:]
        if len(costs) >= LEAST and max(recent) <= min(recent) * (1 + STEADY):
            break
    round_.clear(cluster)
    return costs


def warm_up_by_copies(bench: Bench, *, at_most: int) -> list[float]:
    """CPU seconds a gigabyte that each copy of the seeded topic cost the target."""
    costs: list[float] = []
    while len(costs) < at_most:
        bench.clear(bench.target)
        run = run_copystream(bench)
        costs.append(run.target_cpu / run.bytes * 1e9)
        recent = costs[-LEAST_COPIES:]
        if len(recent) == LEAST_COPIES and max(recent) <= min(recent) * (1 + STEADY):
            break
    return costs
