"""MirrorMaker 2 from Kafka's own jars, tuned as well as it can be for a bulk copy.

What makes the difference: the producer compresses as the topic does (its default is not at
all), batches of 1 MB, five requests in flight (Connect's default is one), large fetches and
polls, four tasks, offset commits and every side job (heartbeats, checkpoints, offset syncs,
config and ACL sync) off. ``check_tuning`` reads back from its log that the settings took effect:
Connect drops overrides silently when they are written in the wrong place.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from replicator.lab import LabCluster, java_tool

TASKS = 4

# Kafka's own options for its tools (kafka-run-class.sh, connect-mirror-maker.sh)
JVM = (
    "-Xms256m",
    "-Xmx2g",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
)

CONSUMER = {
    "auto.offset.reset": "earliest",
    "max.poll.records": "10000",
    "fetch.max.bytes": str(64 << 20),
    "max.partition.fetch.bytes": str(4 << 20),
    "receive.buffer.bytes": str(1 << 20),
}


def producer(codec: str) -> dict[str, str]:
    return {
        "compression.type": codec,
        "batch.size": str(1 << 20),
        "linger.ms": "20",
        "buffer.memory": str(256 << 20),
        "max.request.size": str(8 << 20),
        "max.in.flight.requests.per.connection": "5",
        "acks": "all",
        "enable.idempotence": "false",
        "send.buffer.bytes": str(1 << 20),
    }


def properties(source: LabCluster, target: LabCluster, topic: str, codec: str) -> str:
    flow = "source->target"
    settings = {
        "clusters": "source, target",
        "source.bootstrap.servers": source.bootstrap,
        "target.bootstrap.servers": target.bootstrap,
        f"{flow}.enabled": "true",
        "target->source.enabled": "false",
        f"{flow}.topics": re.escape(topic),
        "replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
        "tasks.max": str(TASKS),
        "replication.factor": "1",
        "offset.storage.replication.factor": "1",
        "config.storage.replication.factor": "1",
        "status.storage.replication.factor": "1",
        "offset.storage.partitions": "1",
        "status.storage.partitions": "1",
        "emit.heartbeats.enabled": "false",
        "emit.checkpoints.enabled": "false",
        "emit.offset-syncs.enabled": "false",
        "heartbeats.replication.enabled": "false",
        "sync.topic.configs.enabled": "false",
        "sync.topic.acls.enabled": "false",
        "refresh.groups.enabled": "false",
        "offset.flush.interval.ms": "600000",
        "heartbeats.topic.replication.factor": "1",
        "plugin.discovery": "service_load",
        "connector.client.config.override.policy": "All",
        **{f"{flow}.consumer.{key}": value for key, value in CONSUMER.items()},
        **{f"{flow}.producer.override.{key}": value for key, value in producer(codec).items()},
    }
    return "".join(f"{key} = {value}\n" for key, value in settings.items())


def start(
    source: LabCluster, target: LabCluster, topic: str, codec: str, directory: Path
) -> subprocess.Popen[Any]:
    """Starts MM2; its log is ``mm2.log`` in ``directory``."""
    configuration = directory / "mm2.properties"
    configuration.write_text(properties(source, target, topic, codec))
    with (directory / "mm2.log").open("wb") as log:
        return java_tool(
            target.version,
            "org.apache.kafka.connect.mirror.MirrorMaker",
            [str(configuration)],
            config_dir=directory,
            jvm=JVM,
            log_level="INFO",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def check_tuning(directory: Path, codec: str) -> None:
    """Raises RuntimeError unless the copying clients of the last run had our settings."""
    log = (directory / "mm2.log").read_text(errors="replace")
    _check(log, "ConsumerConfig", r"\|replication-consumer", CONSUMER, at_least=1)
    _check(log, "ProducerConfig", r"connector-producer-MirrorSource", producer(codec), at_least=1)


def _check(log: str, kind: str, client: str, wanted: dict[str, str], *, at_least: int) -> None:
    blocks = re.findall(rf"{kind} values:.*?\n((?:\t.*\n)+)", log)
    found = [block for block in blocks if re.search(rf"client\.id = .*{client}", block)]
    if len(found) < at_least:
        raise RuntimeError(f"MM2's log shows no {kind} of {client}")
    for block in found:
        actual = dict(re.findall(r"\t(\S+) = (.*)", block))
        for key, value in wanted.items():
            shown = "-1" if (key, value) == ("acks", "all") else value
            if actual.get(key) != shown:
                raise RuntimeError(f"MM2 runs with {key} = {actual.get(key)}, not {value}")
