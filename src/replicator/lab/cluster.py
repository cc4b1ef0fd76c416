"""A Kafka cluster of one or three brokers for tests, benchmarks and trying things by hand."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from replicator.lab.archive import class_archive
from replicator.lab.errors import LabError
from replicator.lab.jars import default_version, kafka_libs
from replicator.lab.node import Node, wait_ready
from replicator.lab.ports import HOST, free_ports
from replicator.lab.process import Process
from replicator.lab.registry import Broker, ClusterRecord

# JVM options for a broker that is up early and never fast: for tests, not for measurements.
QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

_PORT_ATTEMPTS = 5
_READY_TIMEOUT = 90.0
_STOP_TIMEOUT = 20.0
_PRIVATE = re.compile(r"copystream-lab-(\d+)-(\d+)-")


class LabCluster:
    """``nodes`` brokers that are controllers too, on free ports of the loopback interface.

    ``data_dir`` None means a private directory, in memory (/dev/shm) if ``memory``, that goes
    with ``stop``. A given one must hold no cluster yet; it is kept, and ``start`` after ``stop``
    goes on with it.
    ``heap`` is Java's -Xmx, ``properties`` win over those chosen here, ``jvm`` are more options
    for Java. Unless ``detached`` the brokers are killed when this process dies, however it does.
    Broker ids are 0 to ``nodes`` − 1, and a ``node`` argument is such an id.
    """

    def __init__(
        self,
        *,
        name: str,
        nodes: int = 1,
        version: str | None = None,
        data_dir: Path | None = None,
        heap: str = "512m",
        properties: Mapping[str, str] | None = None,
        jvm: Sequence[str] = (),
        memory: bool = True,
        detached: bool = False,
    ) -> None:
        if nodes not in (1, 3):
            raise LabError(f"a lab cluster has 1 or 3 nodes, not {nodes}")
        self.name = name
        self.version = version or default_version()
        self.cluster_id = _new_cluster_id()
        self._count = nodes
        self._given_dir = data_dir
        self._heap = heap
        self._properties = dict(properties or {})
        self._jvm = list(jvm)
        self._memory = memory
        self._detached = detached
        self._directory: Path | None = None
        self._nodes: list[Node] = []

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def bootstrap(self) -> str:
        """HOST:PORT of every broker, with commas."""
        return ",".join(node.address for node in self._nodes)

    def start(self) -> Self:
        """Starts all brokers and returns when they serve; raises LabError with a broker's log."""
        libs = kafka_libs(self.version)
        archive = class_archive(libs)
        jvm = [f"-Xmx{self._heap}", "-Xms64m"]
        if not any("GC" in option for option in self._jvm):
            jvm.append("-XX:+UseG1GC")
        jvm += self._jvm
        if archive is not None:
            jvm += [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
        try:
            for attempt in range(1, _PORT_ATTEMPTS + 1):
                if self._directory is None:
                    self._prepare(libs, jvm)
                for node in self._nodes:
                    node.start(detached=self._detached)
                self._remember()
                try:
                    self.wait_ready(_READY_TIMEOUT)
                    break
                except LabError:
                    taken = any(node.port_was_taken() for node in self._nodes)
                    if not taken or attempt == _PORT_ATTEMPTS:
                        raise
                    self.stop()
                    self._forget()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends all brokers; a private data directory is removed."""
        private = self._given_dir is None
        for node in self._nodes:
            if node.running() and not private:
                node.send(signal.SIGTERM)
        for node in self._nodes:
            if private:
                node.kill()  # its data is not read again
            else:
                node.stop(_STOP_TIMEOUT)
        if private and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def stop_node(self, node: int = 0) -> None:
        """A clean stop: the broker hands over its partitions if it can."""
        self._nodes[node].stop(_STOP_TIMEOUT)

    def start_node(self, node: int = 0) -> None:
        """Starts a stopped or killed broker on its old port and data, until it serves again."""
        self._nodes[node].start(detached=self._detached)
        self._remember()
        self.wait_ready(_READY_TIMEOUT)

    def restart(self, node: int = 0) -> None:
        self.stop_node(node)
        self.start_node(node)

    def kill(self, node: int = 0) -> None:
        """kill -9."""
        self._nodes[node].kill()

    def pause(self, node: int = 0) -> None:
        """SIGSTOP: connections stay open and nothing answers; returns when it has stopped."""
        self._nodes[node].pause()

    def resume(self, node: int = 0) -> None:
        """SIGCONT. After more than broker.session.timeout.ms of pause the controller holds the
        broker for dead until its next heartbeat, so requests may fail for a moment."""
        self._nodes[node].send(signal.SIGCONT)

    def wait_ready(self, timeout: float = _READY_TIMEOUT) -> None:
        """Returns when every broker that runs or has just died serves and sees the others."""
        wait_ready([node for node in self._nodes if node.process is not None], timeout)

    def pids(self) -> list[int]:
        return [process.pid for process in self.processes()]

    def processes(self) -> list[Process]:
        """The running brokers' processes."""
        return [node.process for node in self._nodes if node.process and node.running()]

    def log_dir(self, node: int = 0) -> Path:
        """Where the broker keeps its partitions (log.dirs)."""
        return self._nodes[node].data

    def broker_log(self, node: int = 0) -> Path:
        """The file with what the broker printed."""
        return self._nodes[node].log

    def cpu_seconds(self) -> float:
        """User and system time of all brokers since the first start, ended lives included.

        What a broker spends between the signal that ends it and its end is not in it.
        """
        return sum(node.cpu_seconds() for node in self._nodes)

    def _remember(self) -> None:
        if self._directory is not None:
            brokers = [Broker(node.address, node.process) for node in self._nodes if node.process]
            record = ClusterRecord(self.name, self.version, self.cluster_id, brokers)
            record.save(self._directory)

    def _forget(self) -> None:
        """Removes what ``_prepare`` made, for another try on other ports."""
        for node in self._nodes:
            shutil.rmtree(node.directory, ignore_errors=True)
        self._directory = None

    def _prepare(self, libs: Path, jvm: Sequence[str]) -> None:
        directory = self._given_dir or _private_dir(self.name, memory=self._memory)
        if (directory / "node-0").exists():
            raise LabError(f"{directory} holds a cluster already", hint="give an empty directory")
        self._directory = directory
        ports = free_ports(2 * self._count)
        self._nodes = [
            Node(
                index,
                directory / f"node-{index}",
                libs=libs,
                jvm=jvm,
                port=ports[2 * index],
                controller_port=ports[2 * index + 1],
            )
            for index in range(self._count)
        ]
        properties = {**self._base_properties(), **self._properties}
        with ThreadPoolExecutor(self._count) as formatters:
            list(formatters.map(lambda node: node.format(self.cluster_id, properties), self._nodes))

    def _base_properties(self) -> dict[str, str]:
        replicas = str(self._count)
        quorum = str(min(2, self._count))
        voters = ",".join(f"{node.index}@{HOST}:{node.controller_port}" for node in self._nodes)
        return {
            "controller.quorum.voters": voters,
            "auto.create.topics.enable": "false",
            # a broker that was killed is missed, and taken back, within seconds
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "300",
            "group.initial.rebalance.delay.ms": "0",
            "default.replication.factor": replicas,
            "min.insync.replicas": quorum,
            "offsets.topic.num.partitions": "3",
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.num.partitions": "3",
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": quorum,
            # the default of 128 MB is a quarter of the heap
            "log.cleaner.dedupe.buffer.size": str(8 << 20),
            # deleted topics give their memory back at once, not after a minute
            "log.segment.delete.delay.ms": "500",
        }


def _new_cluster_id() -> str:
    """A random id as Kafka makes them: tools take one that begins with a dash for an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not text.startswith("-"):
            return text


def _private_dir(name: str, *, memory: bool) -> Path:
    shared_memory = Path("/dev/shm")
    base = shared_memory if memory and shared_memory.is_dir() else Path(tempfile.gettempdir())
    _sweep(base)
    owner = Process.of(os.getpid())
    prefix = f"copystream-lab-{owner.pid}-{owner.started}-{name}-"
    return Path(tempfile.mkdtemp(prefix=prefix, dir=base))


def _sweep(base: Path) -> None:
    """Removes the private directories of processes that were killed before they could."""
    for directory in base.glob("copystream-lab-*"):
        match = _PRIVATE.match(directory.name)
        if match and not Process(int(match[1]), int(match[2])).alive():
            shutil.rmtree(directory, ignore_errors=True)
