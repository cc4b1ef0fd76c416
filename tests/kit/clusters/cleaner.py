"""Topics that the log cleaner of a real broker has been through, and that it then leaves alone.

The source needs ``log.cleaner.backoff.ms`` set low. Offsets that a copy has passed must not lose
records while it runs, if the two logs are to be compared afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from kit.clusters.flow import Flow
from kit.clusters.runner import wait_until
from kit.clusters.segments import StoredBatch, batches
from replicator.lab.seed import KEEP, Payload, Writer

QUICK_CLEANER = {"log.cleaner.backoff.ms": "100"}

COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.001",
    "segment.ms": "100",
    "delete.retention.ms": "0",
}


def stored(flow: Flow, topic: str, partition: int) -> list[StoredBatch]:
    """The batches of a partition of the source that have records."""
    return [batch for batch in batches(flow.source.log_dir(), topic, partition) if batch.count]


def clean_until(
    flow: Flow, topic: str, partitions: range, done: Callable[[list[StoredBatch]], bool]
) -> None:
    """Let the cleaner work until each partition's batches are as ``done`` wants them, then stop it.

    Old segments are only closed when something is written, so records with keys of their own are.
    """
    written = 0

    def cleaned() -> bool:
        nonlocal written
        written += 1
        with Writer(flow.source.bootstrap) as writer:
            for partition in partitions:
                writer.send(topic, partition, Payload(b"tick %d" % written, b"tock"))
        return all(done(stored(flow, topic, partition)) for partition in partitions)

    wait_until(cleaned, f"the cleaner has been at {topic}", timeout=60, pause=0.1)
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in {"cleanup.policy": "delete", **KEEP}.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": flow.source.bootstrap, "log_level": 0})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)
    seen: list[list[StoredBatch]] = []

    def settled() -> bool:
        seen.append([one for partition in partitions for one in stored(flow, topic, partition)])
        return len(seen) > 1 and seen[-1] == seen[-2]

    wait_until(settled, f"the cleaner leaves {topic} alone", pause=0.5)
