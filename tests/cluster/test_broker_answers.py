"""Well-formed answers with impossible content are refused, whatever asked (facts H5, H6, H7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from kit.fakebroker import (
    INIT_PRODUCER_ID,
    LIST_OFFSETS,
    METADATA,
    OFFSET_FOR_LEADER_EPOCH,
    FakeBroker,
    Patched,
)
from replicator.cluster import Cluster, ProtocolFault

Connect = Callable[..., Cluster]


def topics(change: Callable[[Any], Any]) -> Patched:
    """A change to the first topic of an answer that names topics."""

    def apply(body: Any) -> Any:
        if not body.topics:
            return body
        return replace(body, topics=(change(body.topics[0]), *body.topics[1:]))

    return Patched(apply)


def partitions(change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Patched:
    return topics(lambda topic: replace(topic, partitions=change(topic.partitions)))


def first(**fields: object) -> Patched:
    """A change to fields of the first partition of the first topic."""
    return partitions(lambda found: (replace(found[0], **fields), *found[1:]))


def brokers(**fields: object) -> Patched:
    def apply(body: Any) -> Any:
        return replace(body, brokers=(replace(body.brokers[0], **fields),))

    return Patched(apply)


@pytest.fixture
def orders(broker: FakeBroker) -> FakeBroker:
    broker.cluster.topics["orders"] = 3
    return broker


METADATA_LIES = [
    (brokers(node_id=-1), "broker id -1 is negative"),
    (Patched(lambda body: replace(body, brokers=body.brokers * 2)), "listed twice"),
    (brokers(host=""), "address ''"),
    (brokers(host="evil\nhost"), r"address 'evil\\nhost'"),
    (brokers(port=0), "port 0"),
    (brokers(port=-1), "port -1"),
    (brokers(port=70000), "port 70000"),
    (Patched(lambda body: replace(body, cluster_id=None)), "no usable cluster id"),
    (Patched(lambda body: replace(body, cluster_id="\x1b[2J")), "no usable cluster id"),
    (first(partition_index=-1), "partition -1 where 0 should be"),
    (first(partition_index=1), "partition 1 where 0 should be"),
    (first(partition_index=2**31 - 1), "partition 1 where 0 should be"),
    (partitions(lambda found: found[1:]), "partition 1 where 0 should be"),
    (partitions(lambda found: found + found), "partition 0 where 1 should be"),
    (Patched(lambda body: replace(body, topics=body.topics * 2)), "listed twice"),
    (topics(lambda topic: replace(topic, name=None)), "topic None has no name"),
    (topics(lambda topic: replace(topic, name="other")), "'other' .* was not asked for"),
]


@pytest.mark.parametrize(("lie", "says"), METADATA_LIES)
def test_impossible_metadata(orders: FakeBroker, connect: Connect, lie: Patched, says: str) -> None:
    cluster = connect(orders)
    orders.answer(METADATA, lie)
    with pytest.raises(ProtocolFault, match=says) as caught:
        cluster.metadata(["orders"])
    assert caught.value.side == "source"
    assert orders.address in caught.value.message
    assert "\n" not in caught.value.message


def test_a_topic_left_out_of_the_answer(orders: FakeBroker, connect: Connect) -> None:
    cluster = connect(orders)
    orders.answer(METADATA, Patched(lambda body: replace(body, topics=())))
    with pytest.raises(ProtocolFault, match="'orders' was asked for and is missing"):
        cluster.metadata(["orders"])


@pytest.mark.parametrize("name", ["a/b", "..", ".", "x" * 250, "<script>", "", "naïve"])
def test_an_impossible_topic_name_in_the_list_of_all(
    orders: FakeBroker, connect: Connect, name: str
) -> None:
    cluster = connect(orders)
    orders.answer(METADATA, topics(lambda topic: replace(topic, name=name)))
    with pytest.raises(ProtocolFault, match="impossible name"):
        cluster.metadata()


@pytest.mark.parametrize("fields", [{"leader_id": -1}, {"leader_id": 99}, {"leader_epoch": -1}])
def test_an_unknown_leader_is_no_leader(
    orders: FakeBroker, connect: Connect, fields: dict[str, int]
) -> None:
    cluster = connect(orders)
    orders.answer(METADATA, first(**fields))
    meta = cluster.metadata(["orders"])["orders"]
    assert [meta.partitions[n].leader for n in range(3)] == [-1, 0, 0]
    assert meta.error == 0


def test_an_unknown_error_code_is_kept(orders: FakeBroker, connect: Connect) -> None:
    cluster = connect(orders)

    def strange(topic: Any) -> Any:
        return replace(topic, error_code=ErrorCode.invalid_topic_exception)

    orders.answer(METADATA, topics(strange))
    assert cluster.metadata(["orders"])["orders"].error == 17


OFFSET_LIES = [
    (partitions(lambda found: found[:-1]), "orders-2 was asked for and is missing"),
    (partitions(lambda found: (*found, found[0])), "orders-0 .* answered twice"),
    (first(partition_index=7), "orders-7 was not asked for"),
    (first(partition_index=-1), "orders--1 was not asked for"),
    (first(offset=-1), "orders-0 at offset -1"),
    (first(offset=-(2**63)), "at offset -9223372036854775808"),
    (topics(lambda topic: replace(topic, name="other")), "other-0 was not asked for"),
]


@pytest.mark.parametrize(("lie", "says"), OFFSET_LIES)
def test_impossible_offsets(orders: FakeBroker, connect: Connect, lie: Patched, says: str) -> None:
    # franz-go 621b4b14: a negative offset believed is a topic copied once more from 0.
    cluster = connect(orders)
    orders.answer(LIST_OFFSETS, lie)
    with pytest.raises(ProtocolFault, match=says) as caught:
        cluster.list_offsets([("orders", n) for n in range(3)], "latest")
    assert orders.address in caught.value.message


def test_no_record_at_a_time_is_minus_one_and_less_is_a_lie(
    orders: FakeBroker, connect: Connect
) -> None:
    cluster = connect(orders)
    orders.answer(LIST_OFFSETS, first(offset=-1), first(offset=-2))
    assert cluster.list_offsets([("orders", 0)], 1_700_000_000_000)["orders", 0].offset == -1
    with pytest.raises(ProtocolFault, match="at offset -2"):
        cluster.list_offsets([("orders", 0)], 1_700_000_000_000)


EPOCH_LIES = [
    (partitions(lambda found: found[:-1]), "orders-2 was asked for and is missing"),
    (partitions(lambda found: (*found, found[0])), "orders-0 .* answered twice"),
    (first(partition=9), "orders-9 was not asked for"),
    (first(end_offset=-2), "orders-0 ends at -2"),
]


@pytest.mark.parametrize(("lie", "says"), EPOCH_LIES)
def test_impossible_log_ends(orders: FakeBroker, connect: Connect, lie: Patched, says: str) -> None:
    cluster = connect(orders)
    orders.answer(OFFSET_FOR_LEADER_EPOCH, lie)
    with pytest.raises(ProtocolFault, match=says):
        cluster.leader_end_offsets([("orders", n) for n in range(3)])


@pytest.mark.parametrize("fields", [{"producer_id": -1}, {"producer_epoch": -1}])
def test_an_impossible_producer_id(
    orders: FakeBroker, connect: Connect, fields: dict[str, int]
) -> None:
    cluster = connect(orders)
    orders.answer(INIT_PRODUCER_ID, Patched(lambda body: replace(body, **fields)))
    with pytest.raises(ProtocolFault, match="producer id"):
        cluster.init_producer_id()


def test_a_negative_throttle_is_no_wait(orders: FakeBroker, connect: Connect) -> None:
    cluster = connect(orders)
    orders.throttle = timedelta(milliseconds=-5)
    assert cluster.metadata(["orders"])["orders"].error == 0
    assert cluster.metadata(["orders"])["orders"].error == 0
