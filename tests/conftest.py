"""Real clusters for all tests, shared as widely as they bear, and names that keep tests apart."""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, Protocol

import pytest

from replicator.lab import QUICK_START, LabCluster

# Helpers that assert; here, since tests of several folders import them.
pytest.register_assert_rewrite("kit")

pytest_plugins = ["kit.fakes.fixtures"]

# A shell's background job ignores Ctrl-C, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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

    For what many files use and none breaks. An idle broker takes 3 % of a core, three of one
    cluster 10 %: what a single file needs comes from ``own_cluster``.
    """
    with _factory() as factory:
        yield factory


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[ClusterFactory]:
    """The same for one file: clusters to break, of another version, with settings of their own.

    They end with the file. Whoever stops, pauses or kills a broker that other tests of the file
    use brings it back before the test ends.
    """
    with _factory() as factory:
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
