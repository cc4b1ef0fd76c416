"""The two clusters of an engine, by their side. Safe from any thread, as ``Cluster`` is."""

from __future__ import annotations

from typing import NamedTuple

from replicator.cluster import Cluster
from replicator.terms import Side


class Clusters(NamedTuple):
    source: Cluster
    target: Cluster

    def of(self, side: Side) -> Cluster:
        return self.source if side == "source" else self.target

    def name(self, side: Side) -> str:
        return self.of(side).name
