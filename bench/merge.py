"""Whether merging small batches is chosen where it pays: ``--merge auto`` beside its fixed choices.

``make bench-merge`` runs it; ``bench/README.md`` says how to read it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from contestants import run_with
from macro import HEAP, save_as
from replicator.lab import LabCluster
from report import Verdict, print_table, print_verdicts
from stage import Bench, by_turns
from warmup import warm_up, warm_up_by_copies
from workloads import Workload

GOAL = 1.1  # times the wall of the better fixed choice
CHOICES = ("auto", "always", "never")
RECORD = 100  # bytes
MERGED = 1 << 20  # bytes; twice what becomes one batch
# Sizes of batches before compression, around those at which auto changes its mind, by codec; and
# the size of the load in GB: a broker takes some 20 µs a batch.
LOADS = {
    "none": ((600, 0.15), (4 << 10, 0.2), (16 << 10, 0.5), (28 << 10, 1.0), (64 << 10, 1.0)),
    "gzip": ((600, 0.15), (4 << 10, 0.2), (16 << 10, 0.3)),
    "snappy": ((600, 0.15), (4 << 10, 0.2), (16 << 10, 0.5)),
    "lz4": ((600, 0.15), (4 << 10, 0.2), (16 << 10, 0.5), (64 << 10, 0.5)),
    "zstd": ((600, 0.15), (4 << 10, 0.2), (16 << 10, 0.5), (40 << 10, 0.5)),
}


def main() -> int:
    given = arguments()
    walls: dict[str, dict[str, list[float]]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="copystream-bench-") as scratch,
        LabCluster(name="source", heap=HEAP) as source,
        LabCluster(name="target", heap=HEAP) as target,
    ):
        for codec in given.codecs:
            for size, gigabytes in LOADS[codec]:
                name = f"{codec}-{size}"
                # More of them than fit into a codec's window: none finds a batch a second time.
                distinct = max(8, MERGED // size)
                load = Workload(
                    name, RECORD, size, codec, 12, 1, None, rebatched=True, distinct=distinct
                )
                bench = Bench.of(source, target, Path(scratch), load, gigabytes * given.scale)
                warm_up(bench, target, min(0.2, gigabytes), at_most=4)
                bench.seed()
                warm_up_by_copies(bench, at_most=3)
                found = walls[name] = {choice: [] for choice in CHOICES}
                for choice in by_turns(CHOICES, given.rounds):
                    bench.clear(target)
                    run = run_with(bench, choice, "--merge", choice)
                    found[choice].append(run.wall)
                print_walls({name: found})
                bench.clear(target)
                bench.clear(source)
    print_walls(walls)
    judged = [
        Verdict(name, "of the better choice's", cost(found), GOAL, True)
        for name, found in walls.items()
    ]
    print_verdicts(judged)
    save_as("merge-", given, {"walls": walls, "verdicts": judged})
    return 0


def arguments() -> Any:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--codecs", nargs="+", choices=LOADS, default=list(LOADS))
    parser.add_argument("--rounds", type=int, default=3, help="medians are taken over these [3]")
    parser.add_argument("--scale", type=float, default=1.0, help="times the loads' sizes [1]")
    return parser.parse_args()


def cost(found: dict[str, list[float]]) -> float:
    """The time auto takes, over that of the better one."""
    middle = {choice: median(walls) for choice, walls in found.items()}
    return middle["auto"] / min(middle["always"], middle["never"])


def print_walls(walls: dict[str, dict[str, list[float]]]) -> None:
    rows = [["load", *(f"{choice}, s" for choice in CHOICES), "auto/better"]]
    for name, found in walls.items():
        times = [" ".join(f"{wall:.2f}" for wall in found[choice]) for choice in CHOICES]
        rows.append([name, *times, f"{cost(found):.2f}"])
    print_table(rows)


if __name__ == "__main__":
    sys.exit(main())
