"""A source and a target with the commands a user types between them, and the final judgement."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from confluent_kafka.admin import AdminClient

from kit.clusters.runner import Copier, Outcome, copy_arguments, copystream, wait_until
from replicator.lab import LabCluster
from replicator.lab.compare import Verdict, compare
from replicator.lab.logs import log_ranges
from replicator.lab.seed import create_topic

Place = tuple[str, int]


@dataclass(frozen=True)
class Flow:
    """Two running clusters; topics keep their names."""

    source: LabCluster
    target: LabCluster

    def copy(self, *arguments: str, timeout: float = 60.0) -> Outcome:
        """``copystream copy`` from the source to the target, run to its end."""
        return copystream(*self._arguments(arguments), timeout=timeout)

    def start(self, *arguments: str) -> Copier:
        """The same, running; use it in a ``with`` block."""
        return Copier(*self._arguments(arguments))

    def start_elsewhere(self, *arguments: str) -> Copier:
        """The same in a PID namespace of its own, as on another machine."""
        return Copier(*self._arguments(arguments), elsewhere=True)

    def create(
        self, topic: str, partitions: int = 1, *, config: Mapping[str, str] | None = None
    ) -> None:
        """Create a topic on the source."""
        create_topic(self.source.bootstrap, topic, partitions, config=config)

    def verify(
        self,
        *topics: str,
        partitions: Collection[int] | None = None,
        start: Mapping[Place, int] | None = None,
        end: Mapping[Place, int] | None = None,
    ) -> Verdict:
        """Compare both clusters; fail with the differences unless the target is exact."""
        verdict = compare(
            self.source.bootstrap,
            self.target.bootstrap,
            {topic: topic for topic in topics},
            partitions=partitions,
            start=start,
            end=end,
        )
        assert verdict.ok, str(verdict)
        return verdict

    def arrived(self, topic: str) -> int:
        """Records in the target's topic by its log ends; 0 while the topic is not there."""
        if topic not in topic_names(self.target.bootstrap):
            return 0
        ranges = log_ranges(self.target.bootstrap, [topic], committed=False)
        return sum(high for _, high in ranges.values())

    def wait_for_arrivals(
        self, copier: Copier, topic: str, more_than: int = 0, *, timeout: float = 30.0
    ) -> None:
        """Wait until the target holds more records than that, while the copier runs."""

        def moved() -> bool:
            assert copier.running(), f"ended too early: {copier.outcome()}"
            return self.arrived(topic) > more_than

        wait_until(moved, f"more than {more_than} records of {topic} arrive", timeout=timeout)

    def _arguments(self, arguments: tuple[str, ...]) -> list[str]:
        return copy_arguments(self.source.bootstrap, self.target.bootstrap, *arguments)


def topic_names(bootstrap: str) -> set[str]:
    """Every topic a client is shown, internal ones included."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    return set(admin.list_topics(timeout=30).topics)
