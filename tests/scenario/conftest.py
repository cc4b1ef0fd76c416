"""Flows between the session's two clusters, and clusters of a file's own."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from kit.flow import Flow
from replicator.lab import QUICK_START, LabCluster


@pytest.fixture
def flow(clusters) -> Flow:
    """Between the session's two clusters; no test breaks them."""
    return Flow(clusters.source, clusters.target)


OwnCluster = Callable[..., LabCluster]


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[OwnCluster]:
    """Starts clusters that end with the file: to break, or with settings of their own."""
    with ExitStack() as running:

        def start(
            name: str,
            *,
            nodes: int = 1,
            version: str | None = None,
            properties: Mapping[str, str] | None = None,
        ) -> LabCluster:
            cluster = LabCluster(
                name=name, nodes=nodes, version=version, properties=properties, jvm=QUICK_START
            )
            return running.enter_context(cluster)

        yield start


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Seeded from COPYSTREAM_TEST_SEED or afresh; the seed is printed when the test fails."""
    seed = os.environ.get("COPYSTREAM_TEST_SEED") or str(random.SystemRandom().getrandbits(32))
    print(f"COPYSTREAM_TEST_SEED={seed}")
    return random.Random(f"{seed} {request.node.name}")
