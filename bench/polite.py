"""What ``--throttle auto`` costs on an idle target, and what it leaves to another writer.

``make bench-polite`` runs it; ``bench/README.md`` says how to read it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from msgspec import Struct

from contestants import run_with, start_copystream
from foreground import Foreground, Second
from limit import EndOffsets
from macro import HEAP, save_as
from replicator.lab import LabCluster
from report import Verdict, print_table, print_verdicts
from stage import DEADLINE, Bench, by_turns
from warmup import warm_up, warm_up_by_copies
from workloads import WORKLOADS, create

COST_GOAL = 0.1  # of full speed
SHARE_GOAL = 0.8  # of the application's throughput
P99_GOAL = 2.0  # times its latency; one of the two has to be reached
SETTLE = 6.0  # seconds until the application is at its pace
LEAST = 4  # whole seconds of a copy beside the application

TOPIC = "application"
PARTITIONS = 6
APPLICATIONS: dict[str, float | None] = {"steady": 30e6, "greedy": None}  # bytes a second
# Retention deletes the application's older records, so that its log fits in memory.
KEEP = {"retention.bytes": "50000000", "segment.bytes": "20000000", "file.delete.delay.ms": "1000"}
CUT_OFTEN = {"log.retention.check.interval.ms": "1000"}


class Duel(Struct):
    """An application on the target, alone (before a copy and after it) and beside it."""

    application: str
    throttle: str
    copied: float  # bytes a second
    seconds: int  # measured
    rate_alone: float  # bytes a second
    rate: float
    p99_alone: float  # ms
    p99: float

    @property
    def share(self) -> float:
        return self.rate / self.rate_alone

    @property
    def slower(self) -> float:
        return self.p99 / self.p99_alone


def main() -> int:
    given = arguments()
    workload = next(w for w in WORKLOADS if w.name == given.workload)
    with (
        tempfile.TemporaryDirectory(prefix="copystream-bench-") as scratch,
        LabCluster(name="source", heap=HEAP) as source,
        LabCluster(name="target", heap=HEAP, properties=CUT_OFTEN) as target,
    ):
        bench = Bench.of(source, target, Path(scratch), workload, given.gb)
        for cluster in (source, target):
            warm_up(bench, cluster, 1.0, at_most=given.warm_rounds)
        bench.seed()
        warm_up_by_copies(bench, at_most=given.warm_copies)
        walls: dict[str, list[float]] = {"off": [], "auto": []}
        for throttle in by_turns(("off", "auto"), given.rounds):
            bench.clear(target)
            run = run_with(bench, throttle, "--throttle", throttle)
            walls[throttle].append(run.wall)
            speed = run.bytes / run.wall / 1e6
            print(f"alone, {throttle}: {speed:.0f} MB/s, others {run.others:.0%}", flush=True)
        duels = []
        for application in given.applications:
            for throttle in ("auto", "off"):
                duels.append(duel(bench, application, throttle, given.quiet, given.longest))
                print_duels(duels[-1:])
    found = verdicts(walls, duels)
    print_duels(duels)
    print_verdicts(found)
    save_as("polite-", given, {"walls": walls, "duels": duels, "verdicts": found})
    return 0


def arguments() -> Any:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--workload", choices=names, default="1k-none")
    parser.add_argument("--gb", type=float, default=4.0, help="size of the copy [4]")
    parser.add_argument("--rounds", type=int, default=3, help="of the copy alone [3]")
    parser.add_argument("--warm-rounds", type=int, default=8)
    parser.add_argument("--warm-copies", type=int, default=4)
    parser.add_argument("--applications", nargs="*", choices=APPLICATIONS, default=[*APPLICATIONS])
    parser.add_argument("--quiet", type=float, default=10, help="seconds alone, twice [10]")
    parser.add_argument("--longest", type=float, default=40, help="seconds of the copy [40]")
    return parser.parse_args()


def duel(bench: Bench, application: str, throttle: str, quiet: float, longest: float) -> Duel:
    """The application for a while, then a copy beside it until the copy ends or ``longest`` seconds
    have passed, then the application alone again: brokers become quicker, machines slower.
    """
    bench.clear(bench.target)
    bench.prepare()
    create(bench.target.bootstrap, TOPIC, PARTITIONS, KEEP)
    asking = EndOffsets(bench.target.bootstrap, bench.topic, bench.targets)
    rate = APPLICATIONS[application]
    with Foreground(bench.target.bootstrap, TOPIC, PARTITIONS, rate) as foreground:
        alone = watch_alone(foreground, quiet)
        with (bench.directory / "copystream.json").open("w") as stdout:
            process = start_copystream(bench, stdout, "--throttle", throttle)
        deadline = time.monotonic() + DEADLINE
        while max(asking.ask()) <= 0:
            if time.monotonic() > deadline:
                raise RuntimeError("the copy does not begin")
            time.sleep(0.02)
        first = last = time.monotonic()
        while process.poll() is None and last - first < longest:
            time.sleep(0.05)
            last = time.monotonic()
            copied = sum(max(0, end) for end in asking.ask())
        beside = foreground.between(first, last)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        if process.wait(60) not in (0, 130):
            raise RuntimeError(f"copystream ended with {process.returncode}")
        alone += watch_alone(foreground, quiet)
    asking.close()
    if len(beside) < LEAST:
        raise RuntimeError(f"the copy took only {last - first:.1f} s: give it more with --gb")
    return Duel(
        application=application,
        throttle=throttle,
        copied=copied / bench.records * bench.bytes / (last - first),
        seconds=len(beside),
        rate_alone=mean(second.bytes for second in alone),
        rate=mean(second.bytes for second in beside),
        p99_alone=p99(alone),
        p99=p99(beside),
    )


def watch_alone(foreground: Foreground, quiet: float) -> list[Second]:
    time.sleep(SETTLE)
    began = time.monotonic()
    time.sleep(quiet)
    return foreground.between(began, time.monotonic())


def p99(seconds: Sequence[Second]) -> float:
    found = sorted(latency for second in seconds for latency in second.latencies)
    return found[int(0.99 * (len(found) - 1))]


def verdicts(walls: dict[str, list[float]], duels: Sequence[Duel]) -> list[Verdict]:
    cost = 1 - median(walls["off"]) / median(walls["auto"])
    found = [Verdict("alone", "cost of auto", cost, COST_GOAL, at_most=True)]
    for one in duels:
        if one.throttle != "auto":
            continue
        kept = Verdict(one.application, "throughput kept", one.share, SHARE_GOAL)
        slower = Verdict(one.application, "p99, times", one.slower, P99_GOAL, at_most=True)
        found.append(slower if slower.reached and not kept.reached else kept)
    return found


def print_duels(duels: Sequence[Duel]) -> None:
    rows = [["application", "copy", "its MB/s", "s", "MB/s alone", "beside", "kept"]]
    rows[0] += ["p99 ms alone", "beside", "times"]
    rows += [
        [
            one.application,
            one.throttle,
            f"{one.copied / 1e6:.0f}",
            str(one.seconds),
            f"{one.rate_alone / 1e6:.1f}",
            f"{one.rate / 1e6:.1f}",
            f"{one.share:.0%}",
            f"{one.p99_alone:.1f}",
            f"{one.p99:.1f}",
            f"{one.slower:.1f}",
        ]
        for one in duels
    ]
    print_table(rows)


if __name__ == "__main__":
    sys.exit(main())
