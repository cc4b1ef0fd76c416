"""copystream, MirrorMaker 2 and the brokers' own limit, side by side on two local clusters.

``make bench`` runs it; ``bench/README.md`` says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from contestants import Run, run_copystream, run_limit, run_limit_together, run_mirror
from replicator.lab import LabCluster, default_version
from report import medians, print_runs, print_verdicts, verdicts
from stage import Bench, by_turns
from warmup import warm_up, warm_up_by_copies
from workloads import WORKLOADS

RESULTS = Path(__file__).with_name("results")
HEAP = "1g"
SMOKE_GOAL = 2.0
QUICK = ["1k-none", "1k-lz4", "100b-lz4"]
SMOKE = ["1k-lz4"]

Contestant = Callable[[Bench], Run]
CONTESTANTS: dict[str, Contestant] = {
    "copystream": run_copystream,
    "mm2": run_mirror,
    "limit": run_limit,
    "limit-together": run_limit_together,
}


def main() -> int:
    given = arguments()
    chosen = [workload for workload in WORKLOADS if workload.name in given.workloads]
    if given.own_core and (os.cpu_count() or 1) < 2:
        sys.exit("--own-core needs two cores")
    runs: list[Run] = []
    warm: dict[str, dict[str, list[float]]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="copystream-bench-") as scratch,
        LabCluster(name="source", heap=HEAP) as source,
        LabCluster(name="target", heap=HEAP) as target,
    ):
        if given.own_core:
            pin(source, target, cpus="0")
        for workload in chosen:
            bench = Bench.of(source, target, Path(scratch), workload, given.gb * workload.share)
            bench.copier_cpus = "1" if given.own_core else ""
            steps = warm[workload.name] = {}
            for cluster in (source, target):
                steps[cluster.name] = warm_up(
                    bench, cluster, given.warm_gb * workload.warmth, at_most=given.warm_rounds
                )
            bench.seed()
            steps["target, by copies"] = warm_up_by_copies(bench, at_most=given.warm_copies)
            for what, costs in steps.items():
                shown = " ".join(f"{cost:.2f}" for cost in costs)
                print(f"{workload.name}: {what} warmed up, CPU s/GB: {shown}", flush=True)
            for name in by_turns(given.contestants, given.rounds):
                bench.clear(target)
                run = CONTESTANTS[name](bench)
                runs.append(run)
                print_runs([run])
            bench.clear(target)
            bench.clear(source)
    middle = medians(runs)
    found = verdicts(middle, chosen, own_core=given.own_core)
    print_runs(middle)
    print_verdicts(found)
    save(given, warm, runs, middle, found)
    if given.smoke:
        by = {run.contestant: run for run in middle}
        times = by["mm2"].wall / by["copystream"].wall
        if times < SMOKE_GOAL:
            print(f"only {times:.1f} times faster than MirrorMaker 2, not {SMOKE_GOAL:g}")
            return 1
    return 0


def arguments() -> Any:
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="0.5 GB of three loads, one round")
    size.add_argument(
        "--smoke",
        action="store_true",
        help=f"0.5 GB of one load, one round; fails below {SMOKE_GOAL:g} times MM2's speed",
    )
    parser.add_argument("--gb", type=float, help="uncompressed size of a full load [2]")
    parser.add_argument("--rounds", type=int, help="medians are taken over these [3]")
    parser.add_argument("--workloads", nargs="+", choices=names)
    parser.add_argument("--contestants", nargs="+", choices=list(CONTESTANTS))
    parser.add_argument(
        "--own-core",
        action="store_true",
        help="both brokers on core 0, the copier on core 1; copystream against reading and "
        "writing at the same time",
    )
    given = parser.parse_args()
    small = given.quick or given.smoke
    given.gb = given.gb or (0.5 if small else 2.0)
    given.rounds = given.rounds or (1 if small else 3)
    given.workloads = given.workloads or (QUICK if given.quick else SMOKE if given.smoke else names)
    given.warm_gb = 0.3 if given.smoke else 0.5 if given.quick else 1.0
    given.warm_rounds = 2 if given.smoke else 6 if given.quick else 8
    given.warm_copies = 1 if small else 5
    if given.smoke:
        given.contestants = ["copystream", "mm2"]
    elif given.contestants is None and given.own_core:
        given.contestants = ["copystream", "limit-together"]
    elif given.contestants is None:
        given.contestants = ["copystream", "mm2", "limit"]
    return given


def pin(*clusters: LabCluster, cpus: str) -> None:
    for cluster in clusters:
        for pid in cluster.pids():
            command = ["taskset", "-a", "-p", "-c", cpus, str(pid)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def save(
    given: Any,
    warm: dict[str, dict[str, list[float]]],
    runs: Sequence[Run],
    middle: Sequence[Run],
    found: Sequence[Any],
) -> None:
    save_as(
        "macro-",
        given,
        {
            "warm_up_cpu_s_per_gb": warm,
            "runs": runs,
            "medians": middle,
            "verdicts": found,
        },
    )


def save_as(kind: str, given: Any, results: Mapping[str, Any]) -> None:
    """Results of one benchmark, with everything needed to tell them from others."""
    now = datetime.now(UTC)
    document = {
        "when": now.isoformat(timespec="seconds"),
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "kafka": default_version(),
        "arguments": vars(given),
        **results,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{kind}{now:%Y%m%dT%H%M%SZ}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document)))
    print(f"written to {path}")


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
