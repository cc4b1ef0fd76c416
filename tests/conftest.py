"""Real clusters for all tests, started once a session, and names that keep tests apart."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple, Protocol

import pytest

from replicator.lab import QUICK_START, LabCluster

# Helpers that assert; here, since tests of several folders import them.
pytest.register_assert_rewrite("lane.broker", "lane.rig", "lane.truth")


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


@pytest.fixture(scope="session")
def cluster_factory() -> Iterator[ClusterFactory]:
    """Makes or finds a running cluster: equal arguments give the same one all session long.

    Whoever stops, pauses or kills a broker of a shared cluster brings it back before the test
    ends; a test that cannot do so takes a name of its own.
    """
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
def clusters(cluster_factory: ClusterFactory) -> Clusters:
    """A source and a target of one broker each, for tests that break neither."""
    return Clusters(cluster_factory("source"), cluster_factory("target"))


_count = itertools.count(1)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Begins the topic names of this test: unique in the session, and telling whose they are."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", request.node.name)[:60].strip("-")
    return f"t{os.getpid()}-{next(_count)}-{name}-"


@pytest.fixture
def topic_name(prefix: str) -> Callable[[str], str]:
    """Full topic names from short ones."""
    return lambda short: prefix + short
