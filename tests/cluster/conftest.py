"""Fake brokers, and clusters made of them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from kit.clusters.connected import FakeTime, config_for
from kit.fakebroker import FakeBroker, FakeCluster
from replicator.cluster import Cluster
from replicator.terms import Side


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker() as one:
        yield one


@pytest.fixture
def make_brokers() -> Iterator[Callable[[int], list[FakeBroker]]]:
    """Several brokers of one fake cluster."""
    with ExitStack() as stack:

        def make(count: int) -> list[FakeBroker]:
            cluster = FakeCluster()
            return [stack.enter_context(FakeBroker(cluster, node=n)) for n in range(count)]

        yield make


@pytest.fixture
def connect(fake_time: FakeTime) -> Iterator[Callable[..., Cluster]]:
    """Clusters made of fake brokers, connected, on fake time, and closed in the end."""
    with ExitStack() as stack:

        def make(*brokers: FakeBroker, side: Side = "source", timeout: float = 30.0) -> Cluster:
            cluster = Cluster(config_for(*brokers), side, retry=fake_time.policy(timeout))
            stack.callback(cluster.close)
            cluster.connect()
            return cluster

        yield make


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that refuses connections: bound, so that no other process takes it, not listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
