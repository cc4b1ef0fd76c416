"""A broker whose topics may lie in remote storage: Kafka's own LocalTieredStorage, a directory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from replicator.lab.jars import cache_dir, default_version, locked

TIERED_TOPIC = {
    "remote.storage.enable": "true",
    "segment.bytes": "1048576",
    "local.retention.ms": "1000",
    "retention.ms": "-1",
}


def tiered_properties(directory: Path) -> dict[str, str]:
    """The properties of a cluster of one broker that keeps remote segments in ``directory``."""
    return {
        "remote.log.storage.system.enable": "true",
        "remote.log.storage.manager.class.name": (
            "org.apache.kafka.server.log.remote.storage.LocalTieredStorage"
        ),
        "remote.log.storage.manager.class.path": str(_jar()),
        "remote.log.metadata.manager.listener.name": "PLAINTEXT",
        "rsm.config.dir": str(directory),
        "rlmm.config.remote.log.metadata.topic.replication.factor": "1",
        "rlmm.config.remote.log.metadata.topic.num.partitions": "2",
        "remote.log.manager.task.interval.ms": "200",
        "log.retention.check.interval.ms": "200",
        "log.initial.task.delay.ms": "200",
    }


def _jar() -> Path:
    """The test jar of kafka-storage, fetched once by Maven."""
    version = default_version()
    home = cache_dir() / "kafka" / version / "tiered"
    jar = home / f"kafka-storage-{version}-test.jar"
    with locked(home):
        if not jar.exists():
            maven = shutil.which("mvn")
            assert maven is not None, "Maven is needed to fetch LocalTieredStorage"
            artifact = f"org.apache.kafka:kafka-storage:{version}:jar:test"
            command = [maven, "-q", "-B", "dependency:copy", f"-Dartifact={artifact}"]
            command += [f"-DoutputDirectory={home}"]
            subprocess.run(command, check=True, timeout=300, stdin=subprocess.DEVNULL)
    return jar
