"""One run of each contestant on a seeded topic, and what it cost.

Everything is read from outside: the target's end offsets every few milliseconds say when the
first record and when all records are there, /proc says what the processes used until then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from msgspec import Struct

import mirror
from limit import EndOffsets
from replicator.lab import LabCluster
from replicator.lab.process import Process
from workloads import Batches, Workload, admin_of, create, delete

POLL = 0.02  # seconds between looks at the target
DEADLINE = 900.0  # for one run
KEPT = ("__consumer_offsets", "__transaction_state")


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


class Bench(Struct):
    """The two clusters, and the topic that every contestant copies."""

    source: LabCluster
    target: LabCluster
    directory: Path
    workload: Workload
    batches: Batches
    each: int  # batches in every partition
    copier_cpus: str = ""  # taskset's list, empty: any
    bytes: int = 0  # on the wire, known once it is seeded

    @property
    def topic(self) -> str:
        return f"bench-{self.workload.name}"

    @property
    def records(self) -> int:
        return self.workload.partitions * self.each * self.batches.records

    def seed(self) -> None:
        create(
            self.source.bootstrap,
            self.topic,
            self.workload.partitions,
            {"message.timestamp.type": "LogAppendTime"} if self.workload.append_time else {},
        )
        self.bytes = int(self.raw("produce", self.source)["bytes"])
        self.verify(self.source)

    def clear(self, cluster: LabCluster) -> None:
        """Deletes all topics but Kafka's own, and returns when they are gone.

        A broker goes on answering for a while for the partitions of a topic it lists no more.
        """
        admin = admin_of(cluster.bootstrap)
        asking = EndOffsets(cluster.bootstrap, self.topic, self.workload.partitions)
        deadline = time.monotonic() + 60
        while True:
            topics = [name for name in admin.list_topics(timeout=30).topics if name not in KEPT]
            if topics:
                delete(cluster.bootstrap, topics)
            elif max(asking.ask()) < 0:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"topics of {cluster.name} do not go away: {topics}")
            time.sleep(0.05)
        asking.close()

    def verify(self, cluster: LabCluster) -> None:
        """Raises RuntimeError unless every partition holds exactly its records."""
        asking = EndOffsets(cluster.bootstrap, self.topic, self.workload.partitions)
        ends = asking.ask()
        asking.close()
        wanted = self.each * self.batches.records
        if set(ends) != {wanted}:
            raise RuntimeError(f"{cluster.name} holds {min(ends)} to {max(ends)}, not {wanted}")

    def start_raw(self, direction: str, cluster: LabCluster) -> subprocess.Popen[str]:
        command = [sys.executable, str(Path(__file__).with_name("limit.py")), direction]
        command += ["--bootstrap", cluster.bootstrap, "--topic", self.topic]
        command += ["--partitions", str(self.workload.partitions)]
        command += ["--batches", str(self.batches.file), "--each", str(self.each)]
        return subprocess.Popen(self.placed(command), stdout=subprocess.PIPE, text=True)

    def raw(self, direction: str, cluster: LabCluster) -> dict[str, float]:
        return finish_raw(self.start_raw(direction, cluster))

    def placed(self, command: Sequence[str]) -> list[str]:
        return [*(["taskset", "-c", self.copier_cpus] if self.copier_cpus else []), *command]


def finish_raw(process: subprocess.Popen[str]) -> dict[str, float]:
    output, _ = process.communicate(timeout=DEADLINE)
    if process.returncode != 0:
        raise RuntimeError("the limit's process failed; its message is above")
    figures: dict[str, float] = json.loads(output)
    return figures


def run_copystream(bench: Bench) -> Run:
    """The binary as a user runs it who is in a hurry."""
    return run_throttled(bench, "off", "copystream")


def run_throttled(bench: Bench, throttle: str, name: str) -> Run:
    output = bench.directory / "copystream.json"
    with output.open("w") as stdout:
        started = time.monotonic()
        process = start_copystream(bench, throttle, stdout)
    run = _watch(bench, name, process, started)
    if process.wait(60) != 0:
        raise RuntimeError(f"copystream ended with {process.returncode}: {output.read_text()}")
    bench.verify(bench.target)
    return run


def start_copystream(bench: Bench, throttle: str, stdout: IO[str]) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("copystream")), "copy"]
    command += ["--source", bench.source.bootstrap, "--target", bench.target.bootstrap]
    command += ["--throttle", throttle, "--progress", "none", "-o", "json", bench.topic]
    return subprocess.Popen(bench.placed(command), stdout=stdout)


def run_mirror(bench: Bench) -> Run:
    """MirrorMaker 2, ended when all is there: by itself it goes on for ever."""
    started = time.monotonic()
    codec = bench.workload.codec
    process = mirror.start(bench.source, bench.target, bench.topic, codec, bench.directory)
    try:
        run = _watch(bench, "mm2", process, started)
    finally:
        process.kill()
        process.wait()
    mirror.check_tuning(bench.directory, codec)
    bench.verify(bench.target)
    return run


def run_limit(bench: Bench) -> Run:
    """The slower one of reading everything and writing everything, each alone."""
    create(bench.target.bootstrap, bench.topic, bench.workload.partitions)
    before = Costs.of(bench, 0.0)
    fetched = bench.raw("fetch", bench.source)
    produced = bench.raw("produce", bench.target)
    return _raw_run(bench, "limit", before, fetched, produced)


def run_limit_together(bench: Bench) -> Run:
    """Reading and writing everything at the same time, by two processes that share nothing."""
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
    bench.verify(bench.target)
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
    asking = EndOffsets(bench.target.bootstrap, bench.topic, bench.workload.partitions)
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
