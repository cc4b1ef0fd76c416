"""Where all contestants run: two clusters, and the topic that is copied between them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct, structs

from expected import by_key, in_place
from gapped import COMPACTED, lay, thinned
from limit import EndOffsets
from replicator.lab import LabCluster
from workloads import Batches, Workload, admin_of, build, create, delete

DEADLINE = 900.0  # seconds for one run
KEPT = ("__consumer_offsets", "__transaction_state")


class Bench(Struct):
    """The two clusters, and the topic that every contestant copies."""

    source: LabCluster
    target: LabCluster
    directory: Path
    workload: Workload
    batches: Batches
    each: int  # batches in every partition
    copier: Sequence[str] = (str(Path(sys.executable).with_name("copystream")),)
    copier_cpus: str = ""  # taskset's list, empty: any
    # known once it is seeded:
    bytes: int = 0  # on the wire
    kept: Sequence[int] = ()  # records in each partition of the source
    wanted: Sequence[int] = ()  # in each of the target, when copystream is done

    @classmethod
    def of(
        cls,
        source: LabCluster,
        target: LabCluster,
        directory: Path,
        workload: Workload,
        gigabytes: float,  # of records, uncompressed
    ) -> Bench:
        batches = build(workload, source.bootstrap, directory)
        plain = workload.partitions * batches.records * workload.record
        each = max(1, round(gigabytes * 1e9 / plain))
        return cls(source, target, directory, workload, batches, each)

    @property
    def topic(self) -> str:
        return f"bench-{self.workload.name}"

    @property
    def targets(self) -> int:
        """Partitions of the target's topic."""
        return self.workload.target_partitions or self.workload.partitions

    @property
    def records(self) -> int:
        return sum(self.kept)

    @property
    def dense(self) -> list[int]:
        """The end offsets of partitions that have all batches, which may have holes."""
        return [self.each * self.batches.records] * self.workload.partitions

    def seed(self) -> None:
        """Fills the source's topic, and counts what a copy has to bring."""
        load, log_dir = self.workload, self.source.log_dir()
        configs = {"message.timestamp.type": "LogAppendTime"} if load.append_time else {}
        if load.gapped:
            choice = random.Random(self.topic)
            batches = [thinned(batch, choice) for batch in self.batches.batches]
            self.bytes = lay(log_dir, self.topic, load.partitions, batches, self.each)
            configs = COMPACTED
        create(self.source.bootstrap, self.topic, load.partitions, configs)
        if not load.gapped:
            self.bytes = int(self.raw("produce", self.source)["bytes"])
        self.verify(self.source, self.dense)
        logs = [log_dir / f"{self.topic}-{number}" for number in range(load.partitions)]
        self.kept = self.wanted = in_place(logs)
        if load.target_partitions:
            self.wanted = by_key(logs, self.batches.batches, load.target_partitions)

    def prepare(self) -> None:
        """Creates the target's topic where it is not to be as a copier would create it."""
        if self.workload.target_partitions:
            create(self.target.bootstrap, self.topic, self.targets)

    def densely(self) -> Bench:
        """As many records in batches without holes, for ``limit`` to write: brokers refuse batches
        with holes.
        """
        in_batches = self.workload.partitions * self.batches.records
        return structs.replace(self, each=max(1, round(self.records / in_batches)))

    def clear(self, cluster: LabCluster) -> None:
        """Deletes all topics but Kafka's own, and returns when they are gone.

        A broker goes on answering for a while for the partitions of a topic it lists no more.
        """
        admin = admin_of(cluster.bootstrap)
        asking = EndOffsets(cluster.bootstrap, self.topic, self.targets)
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

    def verify(self, cluster: LabCluster, wanted: Sequence[int]) -> None:
        """Raises RuntimeError unless each partition ends where ``wanted`` says."""
        asking = EndOffsets(cluster.bootstrap, self.topic, len(wanted))
        ends = asking.ask()
        asking.close()
        for number, (end, right) in enumerate(zip(ends, wanted, strict=True)):
            if end != right:
                raise RuntimeError(f"{cluster.name}: partition {number} holds {end}, not {right}")

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


def by_turns(names: Sequence[str], rounds: int) -> Iterator[str]:
    """All of them in each round, in the other direction than in the one before."""
    for number in range(rounds):
        yield from names if number % 2 == 0 else names[::-1]


def finish_raw(process: subprocess.Popen[str]) -> dict[str, float]:
    output, _ = process.communicate(timeout=DEADLINE)
    if process.returncode != 0:
        raise RuntimeError("the limit's process failed; its message is above")
    figures: dict[str, float] = json.loads(output)
    return figures
