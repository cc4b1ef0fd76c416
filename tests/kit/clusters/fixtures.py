"""Real clusters for all tests, shared by as many tests as possible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, Protocol

import pytest

from replicator.lab import QUICK_START, LabCluster


class Clusters(NamedTuple):
    source: LabCluster
    target: LabCluster


class ClusterFactory(Protocol):
    def __call__(
        self,
        name: str,
        *,
        nodes: int = 1,
        version: str | None = None,
        properties: dict[str, str] | None = None,
    ) -> LabCluster: ...


@contextmanager
def _factory() -> Iterator[ClusterFactory]:
    started: dict[tuple[object, ...], LabCluster] = {}
    with ExitStack() as running:

        def factory(
            name: str,
            *,
            nodes: int = 1,
            version: str | None = None,
            properties: dict[str, str] | None = None,
        ) -> LabCluster:
            key = (name, nodes, version, tuple(sorted((properties or {}).items())))
            if key not in started:
                cluster = LabCluster(
                    name=name, nodes=nodes, version=version, properties=properties, jvm=QUICK_START
                )
                started[key] = running.enter_context(cluster)
            return started[key]

        yield factory


@pytest.fixture(scope="session")
def cluster_factory() -> Iterator[ClusterFactory]:
    """Makes or finds a running cluster: equal arguments give the same one all session long.

    For clusters that many files use and none breaks. An idle broker takes 3 % of a core, three of
    one cluster 10 %: what a single file needs comes from ``own_cluster``.
    """
    with _factory() as factory:
        yield factory


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[ClusterFactory]:
    """The same for one file: clusters to break, of another version, with settings of their own.

    They end with the file. A test that stops, pauses or kills a broker which other tests of the
    file use restores it before it ends.
    """
    with _factory() as factory:
        yield factory


@pytest.fixture(scope="session")
def clusters(cluster_factory: ClusterFactory) -> Clusters:
    """A source and a target of one broker each, for tests that break neither."""
    return Clusters(cluster_factory("source"), cluster_factory("target"))
