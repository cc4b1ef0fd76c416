"""Clusters that outlive the command that started them, for ``copystream lab``.

``<cache>/lab/<lab>/<cluster>`` is a cluster's directory; ``cluster.json`` in it says which
processes serve it. That file is all that ``lab status`` and ``lab down`` go by.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from replicator.errors import UsageError
from replicator.lab.jars import cache_dir
from replicator.lab.process import Process

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_RECORD = "cluster.json"
_END_TIMEOUT = 10.0


class Broker(Struct):
    address: str  # HOST:PORT
    process: Process


class ClusterRecord(Struct):
    name: str
    version: str
    cluster_id: str
    brokers: list[Broker]

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.address for broker in self.brokers)

    @property
    def state(self) -> Literal["running", "degraded", "down"]:
        """By the brokers' processes: all there, some, none."""
        alive = [broker.process.alive() for broker in self.brokers]
        return "running" if all(alive) else "degraded" if any(alive) else "down"

    def save(self, directory: Path) -> None:
        temporary = directory / f".{_RECORD}"
        temporary.write_bytes(msgspec.json.encode(self))
        temporary.rename(directory / _RECORD)

    def end(self) -> None:
        """Kills the brokers that still run."""
        for broker in self.brokers:
            broker.process.send(signal.SIGKILL)
        for broker in self.brokers:
            broker.process.wait(_END_TIMEOUT)


def lab_dir(lab: str) -> Path:
    """The directory of one lab; raises UsageError when ``lab`` cannot name one."""
    if not _NAME.fullmatch(lab):
        raise UsageError(
            f"{lab!r} cannot name a lab", hint="use letters, digits, dashes and underscores"
        )
    return labs_dir() / lab


def labs_dir() -> Path:
    """Where the labs are; lock it to start or end one."""
    return cache_dir() / "lab"


def labs() -> list[str]:
    """The names of the labs there are, running or not."""
    return sorted(path.name for path in labs_dir().glob("*") if _NAME.fullmatch(path.name))


def records(lab: str) -> Iterator[ClusterRecord]:
    """The clusters of one lab."""
    for path in sorted(lab_dir(lab).glob(f"*/{_RECORD}")):
        yield msgspec.json.decode(path.read_bytes(), type=ClusterRecord)


def remove(lab: str) -> list[ClusterRecord]:
    """Kills a lab's brokers and removes its data; what there was."""
    found = list(records(lab))
    for record in found:
        record.end()
    shutil.rmtree(lab_dir(lab), ignore_errors=True)
    return found
