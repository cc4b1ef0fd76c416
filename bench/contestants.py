"""One run of each contestant on a seeded topic, and what it cost.

Everything is read from outside: the target's end offsets every few milliseconds say when the
first record and when all records are there, /proc says what the processes used until then.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import IO, Any

from msgspec import Struct

import mirror
from limit import EndOffsets
from replicator.lab.process import Process
from stage import DEADLINE, Bench, finish_raw
from workloads import create

POLL = 0.02  # seconds between looks at the target


class Run(Struct):
    """What one run of one contestant took; times in seconds, sizes in bytes."""

    contestant: str
    workload: str
    bytes: int  # on the wire
    records: int
    wall: float  # from the first record on the target to the last
    first: float  # from the start of the process to the first record on the target
    cpu: float  # of the copier, within wall
    cpu_total: float  # of the copier, from its start
    source_cpu: float  # of the brokers, within wall
    target_cpu: float
    rss: int  # peak of the copier
    others: float  # share of all cores that went to processes outside the run, within wall


def run_copystream(bench: Bench) -> Run:
    """The binary as a user runs it."""
    return run_with(bench, "copystream")


def run_with(bench: Bench, name: str, *options: str) -> Run:
    bench.prepare()
    output = bench.directory / "copystream.json"
    with output.open("w") as stdout:
        started = time.monotonic()
        process = start_copystream(bench, stdout, *options)
    run = _watch(bench, name, process, started)
    if process.wait(60) != 0:
        raise RuntimeError(f"copystream ended with {process.returncode}: {output.read_text()}")
    bench.verify(bench.target, bench.wanted)
    return run


def start_copystream(bench: Bench, stdout: IO[str], *options: str) -> subprocess.Popen[bytes]:
    command = [*bench.copier, "copy"]
    command += ["--source", bench.source.bootstrap, "--target", bench.target.bootstrap]
    if bench.workload.target_partitions:
        command += ["--partitioner", "murmur2"]
    command += [*options, "--progress", "none", "-o", "json", bench.topic]
    return subprocess.Popen(bench.placed(command), stdout=stdout)


def run_mirror(bench: Bench) -> Run:
    """MirrorMaker 2, stopped once everything is on the target: it never ends by itself.

    It leaves every record in its partition, whatever the target's partition count.
    """
    bench.prepare()
    started = time.monotonic()
    codec = bench.workload.codec
    process = mirror.start(bench.source, bench.target, bench.topic, codec, bench.directory)
    try:
        run = _watch(bench, "mm2", process, started)
    finally:
        process.kill()
        process.wait()
    mirror.check_tuning(bench.directory, codec)
    bench.verify(bench.target, [*bench.kept, *[0] * (bench.targets - bench.workload.partitions)])
    return run


def run_limit(bench: Bench) -> Run:
    """Reads everything, then writes everything, each alone; returns the slower of the two."""
    bench = bench.densely()
    create(bench.target.bootstrap, bench.topic, bench.workload.partitions)
    before = Costs.of(bench, 0.0)
    fetched = bench.raw("fetch", bench.source)
    produced = bench.raw("produce", bench.target)
    return _raw_run(bench, "limit", before, fetched, produced)


def run_limit_together(bench: Bench) -> Run:
    """Reading and writing everything at the same time, by two processes that share nothing."""
    bench = bench.densely()
    create(bench.target.bootstrap, bench.topic, bench.workload.partitions)
    before = Costs.of(bench, 0.0)
    both = [bench.start_raw("fetch", bench.source), bench.start_raw("produce", bench.target)]
    fetched, produced = map(finish_raw, both)
    return _raw_run(bench, "limit-together", before, fetched, produced)


def _raw_run(
    bench: Bench, name: str, before: Costs, fetched: dict[str, float], produced: dict[str, float]
) -> Run:
    if fetched["bytes"] != bench.bytes:
        raise RuntimeError(f"fetched {fetched['bytes']} bytes, not {bench.bytes}")
    bench.verify(bench.target, bench.dense)
    after = Costs.of(bench, fetched["cpu"] + produced["cpu"])
    wall = max(fetched["wall"], produced["wall"])
    return after.run(bench, name, before, wall=wall, first=0.0, rss=0)


class Costs(Struct):
    """What has been used up to one moment, in seconds; of the machine, all cores together."""

    now: float
    copier: float
    source: float
    target: float
    observer: float
    machine: float

    @classmethod
    def of(cls, bench: Bench, copier: float) -> Costs:
        source, target = bench.source.cpu_seconds(), bench.target.cpu_seconds()
        observer = time.process_time()
        return cls(time.monotonic(), copier, source, target, observer, _machine_cpu())

    def run(
        self, bench: Bench, name: str, since: Costs, *, wall: float, first: float, rss: int
    ) -> Run:
        """The run that these costs end and those of ``since`` begin."""
        copier = self.copier - since.copier
        source, target = self.source - since.source, self.target - since.target
        known = copier + source + target + self.observer - since.observer
        cores = (self.now - since.now) * (os.cpu_count() or 1)
        return Run(
            contestant=name,
            workload=bench.workload.name,
            bytes=bench.bytes,
            records=bench.records,
            wall=wall,
            first=first,
            cpu=copier,
            cpu_total=self.copier,
            source_cpu=source,
            target_cpu=target,
            rss=rss,
            others=max(0.0, self.machine - since.machine - known) / cores,
        )


def _machine_cpu() -> float:
    """Seconds that all cores were busy since boot, time stolen by the host included."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) / os.sysconf("SC_CLK_TCK")


def _watch(bench: Bench, name: str, process: subprocess.Popen[Any], started: float) -> Run:
    """Follows a copier from outside until all records are on the target."""
    copier = Process.of(process.pid)
    asking = EndOffsets(bench.target.bootstrap, bench.topic, bench.targets)
    first: Costs | None = None
    cpu, peak = 0.0, 0
    if max(asking.ask()) > 0:
        raise RuntimeError(f"{name} began on a target that was not empty")
    try:
        while True:
            count = sum(max(0, end) for end in asking.ask())
            cpu = max(cpu, copier.cpu_seconds())
            peak = max(peak, copier.memory()[1])
            costs = Costs.of(bench, cpu)
            if count and first is None:
                first = costs
            if first is not None and count >= bench.records:
                break
            if costs.now - started > DEADLINE:
                raise RuntimeError(f"{name} has copied {count} of {bench.records} records")
            if process.poll() is not None and process.returncode != 0:
                raise RuntimeError(f"{name} ended with {process.returncode}")
            time.sleep(POLL)
    finally:
        asking.close()
    wall, until_first = costs.now - first.now, first.now - started
    return costs.run(bench, name, first, wall=wall, first=until_first, rss=peak)
