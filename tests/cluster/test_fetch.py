"""Single Fetch requests over the control connection, in the frames of the data path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kit.brokers.scripted import SourceLog, framed
from kit.fakebroker import FETCH, Answered, Close, FakeBroker, Patched
from kit.oracle import batches as oracle
from replicator.cluster import Cluster, ProtocolFault, Unreachable
from replicator.terms import TopicPartition

Connect = Callable[..., Cluster]

COMMITTED, OPEN = 5, 9  # offsets: up to where the log is stable, and its end
LIMIT = 1 << 20


def stored() -> list[bytes]:
    return [oracle.build(b"x", base_offset=first, count=3) for first in (0, 3, 6)]


@pytest.fixture
def orders(broker: FakeBroker) -> FakeBroker:
    for number in range(2):
        broker.cluster.put(SourceLog(b"orders", number, stored(), last_stable=COMMITTED))
    return broker


def ask(cluster: Cluster, *offsets: tuple[TopicPartition, int]) -> dict[TopicPartition, bytes]:
    return cluster.fetch(0, dict(offsets), LIMIT, timeout=5)


def test_batches_come_as_they_are_stored(orders: FakeBroker, connect: Connect) -> None:
    """Batches of open transactions too: the log is read as it is."""
    _, second, third = stored()
    found = ask(connect(orders), (("orders", 0), 3), (("orders", 1), 8))
    assert found == {("orders", 0): second + third, ("orders", 1): third}
    assert list(found) == [("orders", 0), ("orders", 1)]


def test_the_limit_is_a_partitions(orders: FakeBroker, connect: Connect) -> None:
    first, _, _ = stored()
    both = {("orders", 0): 0, ("orders", 1): 0}
    found = connect(orders).fetch(0, both, len(first) + 10, timeout=5)
    assert found["orders", 0][: len(first)] == first
    assert len(found["orders", 0]) <= len(first) + 10
    (request,) = orders.asked(FETCH)
    assert request.body.max_wait_ms == 100
    assert not request.body.read_committed


@pytest.mark.parametrize("version", [11, 12])
def test_any_version_that_names_topics(orders: FakeBroker, connect: Connect, version: int) -> None:
    orders.versions[FETCH] = (4, version)
    assert ask(connect(orders), (("orders", 0), 6)) == {("orders", 0): stored()[2]}
    assert [request.version for request in orders.asked(FETCH)] == [version]


def test_topics_are_asked_for_by_name_where_they_could_be_by_id(
    orders: FakeBroker, connect: Connect
) -> None:
    orders.versions[FETCH] = (4, 17)
    ask(connect(orders), (("orders", 0), 6))
    assert [request.version for request in orders.asked(FETCH)] == [12]


def test_what_cannot_be_had_is_empty(orders: FakeBroker, connect: Connect) -> None:
    orders.cluster.logs["orders", 1].error = 6
    found = ask(connect(orders), (("orders", 1), 0), (("none", 0), 0), (("orders", 0), OPEN))
    assert found == {("orders", 1): b"", ("none", 0): b"", ("orders", 0): b""}


def test_an_answer_without_partitions_is_empty(orders: FakeBroker, connect: Connect) -> None:
    """A broker that throttles by quota sends such an answer (KIP-219)."""
    orders.answer(FETCH, Patched(lambda body: body | {"topics": []}))
    assert ask(connect(orders), (("orders", 0), 0)) == {("orders", 0): b""}


def lies() -> Iterator[tuple[Callable[[Any], Any], str]]:
    def partitions(change: Callable[[list[Any]], list[Any]]) -> Callable[[Any], Any]:
        return lambda body: body | {"topics": [(n, change(found)) for n, found in body["topics"]]}

    yield partitions(lambda found: found * 2), "answered twice"
    yield partitions(lambda found: [one | {"partition": 1} for one in found]), "not asked for"
    yield lambda body: body | {"topics": [(b"other", body["topics"][0][1])]}, "not asked for"


@pytest.mark.parametrize(("lie", "says"), list(lies()))
def test_impossible_content(
    orders: FakeBroker, connect: Connect, lie: Callable[[Any], Any], says: str
) -> None:
    orders.answer(FETCH, Patched(lie))
    with pytest.raises(ProtocolFault, match=f"answered FetchRequest with .*{says}"):
        ask(connect(orders), (("orders", 0), 0))


@pytest.mark.parametrize(
    "body", [b"", b"\0" * 3, b"\0" + b"\xff" * 40, b"\0\0\0\0\0\0\0\0\0\0\0\x02\x05\xff\xfe\xfd"]
)
def test_a_malformed_answer(orders: FakeBroker, connect: Connect, body: bytes) -> None:
    orders.answer(FETCH, Answered(lambda request, _body: framed(request.correlation, body)))
    with pytest.raises(ProtocolFault, match="sent a malformed FetchResponse"):
        ask(connect(orders), (("orders", 0), 0))


def test_a_connection_that_is_lost_is_named(orders: FakeBroker, connect: Connect) -> None:
    orders.answer(FETCH, Close(first=9))
    with pytest.raises(Unreachable, match="connection lost during Fetch"):
        ask(connect(orders), (("orders", 0), 0))
