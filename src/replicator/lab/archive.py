"""A class archive (AppCDS) of the broker: it more than halves a broker's start and its CPU.

Made once for each Java and class path by starting a broker and letting it write the archive at
its exit. The JVM itself ignores an archive that does not fit.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from pathlib import Path

from replicator.lab.errors import LabError
from replicator.lab.jars import cache_dir, locked
from replicator.lab.java import class_path, find_java
from replicator.lab.node import Node, wait_ready
from replicator.lab.ports import HOST, free_ports

_log = logging.getLogger(__name__)

_START_TIMEOUT = 90.0
_WRITE_TIMEOUT = 60.0


def class_archive(libs: Path) -> Path | None:
    """The archive for the brokers of ``libs``; None, with a warning, when it cannot be made."""
    java = Path(find_java()).resolve()
    key = f"{java} {java.stat().st_mtime_ns} {class_path(libs)}"
    home = cache_dir() / "kafka" / "archives"
    archive = home / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.jsa"
    if not archive.exists():
        with locked(home):
            if not archive.exists():
                try:
                    _make(archive, libs)
                except LabError as error:
                    _log.warning("brokers will start slowly, no class archive: %s", error)
                    return None
    return archive


def _make(archive: Path, libs: Path) -> None:
    for left_over in archive.parent.glob(".train-*"):  # by a killed process: the lock is ours
        shutil.rmtree(left_over)
    with tempfile.TemporaryDirectory(prefix=".train-", dir=archive.parent) as scratch:
        made = Path(scratch, "broker.jsa")
        port, controller_port = free_ports(2)
        node = Node(
            0,
            Path(scratch, "node"),
            libs=libs,
            jvm=["-Xmx512m", "-Xlog:cds=off", f"-XX:ArchiveClassesAtExit={made}"],
            port=port,
            controller_port=controller_port,
        )
        node.format(
            "AAAAAAAAAAAAAAAAAAAAAA",
            {"controller.quorum.voters": f"0@{HOST}:{controller_port}"},
        )
        node.start()
        try:
            wait_ready([node], _START_TIMEOUT)
        finally:
            node.stop(_WRITE_TIMEOUT)
        if not made.exists():
            raise LabError(f"the broker wrote no class archive; the end of its log:\n{node.tail()}")
        made.rename(archive)
