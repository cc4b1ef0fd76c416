"""Flows between the session's two clusters, and seeds that are told."""

from __future__ import annotations

import os
import random

import pytest

from kit.clusters.fixtures import Clusters
from kit.clusters.flow import Flow


@pytest.fixture
def flow(clusters: Clusters) -> Flow:
    """Between the session's two clusters; no test breaks them."""
    return Flow(clusters.source, clusters.target)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Seeded from COPYSTREAM_TEST_SEED or afresh; the seed is printed when the test fails."""
    seed = os.environ.get("COPYSTREAM_TEST_SEED") or str(random.SystemRandom().getrandbits(32))
    print(f"COPYSTREAM_TEST_SEED={seed}")
    return random.Random(f"{seed} {request.node.name}")
