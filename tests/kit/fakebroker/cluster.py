"""What the brokers of one fake cluster agree on."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field

from kit.brokers.scripted import SourceLog
from kit.fakebroker.logs import StoredLog

CONFIGS = {
    "cleanup.policy": "delete",
    "compression.type": "producer",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "retention.bytes": "-1",
    "retention.ms": "-1",
}


@dataclass
class FakeCluster:
    """Leaders and epochs are 0 where not given. A partition's log is there once it is asked for;
    one that was put into ``logs`` may be of any kind. ``ends`` are those of topics without logs.
    """

    cluster_id: str = "fake-cluster-id"
    advertised: dict[int, tuple[str, int]] = field(default_factory=dict)
    topics: dict[str, int] = field(default_factory=dict)
    leaders: dict[tuple[str, int], int] = field(default_factory=dict)
    epochs: dict[tuple[str, int], int] = field(default_factory=dict)
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    configs: dict[str, str] = field(default_factory=lambda: dict(CONFIGS))
    logs: dict[tuple[str, int], SourceLog] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    last_producer_id: int = 999

    @staticmethod
    def topic_id(name: str) -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_OID, name)

    def put(self, log: SourceLog) -> None:
        """A log of a topic that has as many partitions as it takes."""
        name = log.topic.decode()
        self.topics[name] = max(self.topics.get(name, 0), log.partition + 1)
        self.logs[name, log.partition] = log

    def log(self, name: str, partition: int) -> SourceLog | None:
        if not 0 <= partition < self.topics.get(name, 0):
            return None
        return self.logs.setdefault((name, partition), StoredLog(name.encode(), partition))

    def span(self, key: tuple[str, int], *, committed: bool) -> tuple[int, int]:
        """Where a log begins and ends: its first offset and the one after its last."""
        with self.changed:
            log = self.logs.get(key)
            if log is None:
                return 0, self.ends.get(key, 0)
            return log.start, log.stable if committed else log.end
