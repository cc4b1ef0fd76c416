"""How well a copy keeps to the rate it was given.

``make bench-rates`` runs it; ``bench/README.md`` says how to read it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from msgspec import Struct

from contestants import start_copystream
from macro import HEAP, save_as
from replicator.lab import LabCluster
from report import Verdict, print_verdicts
from stage import DEADLINE, Bench
from workloads import Batches, Workload, build, create

GOAL = 0.03  # off the rate, either way
SETTLE = 3.0  # seconds from the first bytes on the target to the measurement
SPARE = 1.5  # the source holds that much more than is measured
SIZES = (2 << 10, 16 << 10, 128 << 10, 900 << 10)  # of the batches, by turns


class Kept(Struct):
    """One copy under a limit; rates in bytes a second, on the target's disk."""

    rate: float
    partitions: int
    seconds: float
    achieved: float

    @property
    def off(self) -> float:
        return self.achieved / self.rate - 1


def main() -> int:
    given = arguments()
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="copystream-bench-") as scratch,
        LabCluster(name="source", heap=HEAP) as source,
        LabCluster(name="target", heap=HEAP) as target,
    ):
        batches = mixed(source, Path(scratch))
        for partitions in given.partitions:
            size = max(given.rates) * 1e6 * (given.seconds + SETTLE) * SPARE
            bench = Bench(
                source=source,
                target=target,
                directory=Path(scratch),
                workload=Workload("mixed", 1000, 0, "none", partitions, 1, None),
                batches=batches,
                each=max(1, round(size / partitions / batches.size)),
            )
            create(source.bootstrap, bench.topic, partitions)
            bench.raw("produce", source)
            for rate in given.rates:
                bench.clear(target)
                kept = measure(bench, rate * 1e6, given.seconds)
                found.append(kept)
                print(
                    f"{rate:g} MB/s, {partitions} partitions: {kept.achieved / 1e6:.2f} MB/s "
                    f"over {kept.seconds:.1f} s, {kept.off:+.1%}",
                    flush=True,
                )
            bench.clear(source)
    judged = [
        Verdict(f"{one.rate / 1e6:g} MB/s, {one.partitions}p", "off by", abs(one.off), GOAL, True)
        for one in found
    ]
    print_verdicts(judged)
    save_as("rates-", given, {"kept": found, "verdicts": judged})
    return 0


def arguments() -> Any:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rates", nargs="+", type=float, default=[5, 20, 100], help="in MB/s")
    parser.add_argument("--partitions", nargs="+", type=int, default=[12, 200])
    parser.add_argument("--seconds", type=float, default=30)
    return parser.parse_args()


def mixed(source: LabCluster, directory: Path) -> Batches:
    """Batches of all ``SIZES``, by turns."""
    kinds = [
        build(
            Workload(f"mixed-{size}", 1000, size, "none", 12, 1, None), source.bootstrap, directory
        ).batches
        for size in SIZES
    ]
    batches = [batch for turn in zip(*kinds, strict=True) for batch in turn]
    file = directory / "mixed.batches"
    file.write_bytes(b"".join(batches))
    return Batches(batches, 0, file)


def measure(bench: Bench, rate: float, seconds: float) -> Kept:
    """Measures by the sizes of the target's log files, which hold nothing but batches."""
    with (bench.directory / "copystream.json").open("w") as stdout:
        process = start_copystream(bench, stdout, "--throttle", f"{rate / 1e6:g}MB/s")
    deadline = time.monotonic() + DEADLINE
    while written(bench) == 0:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the copy does not begin")
        time.sleep(0.05)
    time.sleep(SETTLE)
    began, before = time.monotonic(), written(bench)
    time.sleep(seconds)
    ended, after = time.monotonic(), written(bench)
    if process.poll() is not None:
        raise RuntimeError("the copy was over before the measurement")
    process.send_signal(signal.SIGINT)
    process.wait(60)
    return Kept(
        rate=rate,
        partitions=bench.workload.partitions,
        seconds=ended - began,
        achieved=(after - before) / (ended - began),
    )


def written(bench: Bench) -> int:
    """Bytes in the topic's log files on the target; those of deleted topics have other names."""
    places = [
        bench.target.log_dir() / f"{bench.topic}-{number}"
        for number in range(bench.workload.partitions)
    ]
    return sum(file.stat().st_size for place in places for file in place.glob("*.log"))


if __name__ == "__main__":
    sys.exit(main())
