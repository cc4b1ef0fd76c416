"""What a cluster tells about itself, on real brokers of both supported lines."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from confluent_kafka import Producer

from kit.clusters.fixtures import ClusterFactory
from replicator.cluster import Cluster, Connection, OffsetResult, Unreachable
from replicator.cluster.config import load_client_config
from replicator.lab import LabCluster
from replicator.lab.seed import (
    Payload,
    Writer,
    create_topic,
    delete_records,
    delete_topic,
    open_transaction,
)

KAFKA_3 = "3.9.2"
KAFKA_4 = "4.1.1"

Connect = Callable[[LabCluster], Cluster]
TopicName = Callable[[str], str]


@pytest.fixture
def connect_to() -> Iterator[Connect]:
    with ExitStack() as stack:

        def make(lab: LabCluster) -> Cluster:
            cluster = Cluster(load_client_config(lab.bootstrap, None, [], side="source"), "source")
            stack.callback(cluster.close)
            cluster.connect()
            return cluster

        yield make


@pytest.fixture(params=[KAFKA_3, KAFKA_4])
def lab(
    request: pytest.FixtureRequest,
    cluster_factory: ClusterFactory,
    own_cluster: ClusterFactory,
) -> LabCluster:
    if request.param == KAFKA_4:
        return cluster_factory("source")
    return own_cluster("old", version=KAFKA_3)


def write(lab: LabCluster, topic: str, partition: int, *timestamps: int) -> None:
    with Writer(lab.bootstrap, linger_ms=0) as writer:
        for stamp in timestamps:
            writer.send(topic, partition, Payload(b"k", b"v", timestamp=stamp))


def test_first_contact(lab: LabCluster, connect_to: Connect) -> None:
    cluster = connect_to(lab)
    assert cluster.cluster_id == lab.cluster_id
    assert lab.cluster_id in cluster.name
    assert lab.bootstrap in cluster.name
    host, port = lab.bootstrap.rsplit(":", 1)
    assert cluster.brokers == {0: (host, int(port))}


def test_metadata(lab: LabCluster, connect_to: Connect, topic_name: TopicName) -> None:
    cluster = connect_to(lab)
    topic, gone = topic_name("a.b"), topic_name("gone")
    create_topic(lab.bootstrap, topic, 3)
    meta = cluster.metadata([topic, gone])
    assert set(meta) == {topic, gone}
    assert meta[gone].error == 3
    assert meta[gone].partitions == {}
    assert meta[topic].error == 0
    assert meta[topic].topic_id != uuid.UUID(int=0)
    assert sorted(meta[topic].partitions) == [0, 1, 2]
    for partition in meta[topic].partitions.values():
        assert (partition.leader, partition.replicas, partition.isr) == (0, (0,), (0,))
        assert partition.error == 0
    everything = cluster.metadata()
    assert everything[topic] == meta[topic]
    assert gone not in everything
    # Asking must not have created it, whatever the broker's auto.create.topics.enable says.
    assert cluster.metadata([gone])[gone].error == 3


def test_a_recreated_topic_has_another_id(
    lab: LabCluster, connect_to: Connect, topic_name: TopicName
) -> None:
    cluster = connect_to(lab)
    topic = topic_name("a")
    create_topic(lab.bootstrap, topic, 2)
    before = cluster.metadata([topic])[topic].topic_id
    delete_topic(lab.bootstrap, topic)
    assert cluster.list_offsets([(topic, 0)], "latest")[topic, 0].error == 3
    create_topic(lab.bootstrap, topic, 1)
    after = cluster.metadata([topic])[topic]
    assert after.topic_id != before
    assert len(after.partitions) == 1
    assert cluster.leader_end_offsets([(topic, 0)])[topic, 0].offset == 0


def test_offsets(lab: LabCluster, connect_to: Connect, topic_name: TopicName) -> None:
    cluster = connect_to(lab)
    topic = topic_name("a")
    create_topic(lab.bootstrap, topic, 3, config={"retention.ms": "-1"})
    write(lab, topic, 0, 1000, 2000, 3000, 4000)
    write(lab, topic, 1, 5000)
    delete_records(lab.bootstrap, topic, {0: 2})
    wanted = [(topic, number) for number in range(3)]

    def offsets(at: object, **how: bool) -> list[int]:
        found = cluster.list_offsets(wanted, at, **how)  # type: ignore[arg-type]
        assert all(result.error == 0 for result in found.values())
        return [found[key].offset for key in wanted]

    assert offsets("earliest") == [2, 0, 0]
    assert offsets("latest") == [4, 1, 0]
    assert offsets("latest", read_committed=True) == [4, 1, 0]
    assert offsets(0) == [2, 0, -1]
    assert offsets(3500) == [3, 0, -1]
    assert offsets(4500) == [-1, 0, -1]
    assert offsets(9999) == [-1, -1, -1]
    ends = cluster.leader_end_offsets(wanted)
    assert [ends[key] for key in wanted] == [
        OffsetResult(4, 0, 0),
        OffsetResult(1, 0, 0),
        OffsetResult(0, 0, 0),
    ]
    sizes = cluster.partition_bytes(wanted)
    assert sizes[topic, 0] > sizes[topic, 1] > sizes[topic, 2] == 0


def test_partitions_that_do_not_exist_have_an_error_of_their_own(
    lab: LabCluster, connect_to: Connect, topic_name: TopicName
) -> None:
    cluster = connect_to(lab)
    topic = topic_name("a")
    create_topic(lab.bootstrap, topic)
    wanted = [(topic, 0), (topic, 1), (topic_name("gone"), 0)]
    for found in (cluster.list_offsets(wanted, "latest"), cluster.leader_end_offsets(wanted)):
        assert [result.error for result in found.values()] == [0, 3, 3]


def test_an_open_transaction_holds_back_the_committed_end(
    lab: LabCluster, connect_to: Connect, topic_name: TopicName
) -> None:
    cluster = connect_to(lab)
    topic = topic_name("a")
    create_topic(lab.bootstrap, topic)
    write(lab, topic, 0, 1000, 2000)
    writer = open_transaction(lab.bootstrap, topic, [0], random.Random(0), records=3)
    try:
        place = (topic, 0)
        assert cluster.list_offsets([place], "latest", read_committed=True)[place].offset == 2
        assert cluster.list_offsets([place], "latest")[place].offset == 5
        assert cluster.leader_end_offsets([place])[place].offset == 5
    finally:
        writer.abort()


def test_producer_ids_are_new_each_time(lab: LabCluster, connect_to: Connect) -> None:
    cluster = connect_to(lab)
    found = [cluster.init_producer_id() for _ in range(5)]
    assert len({producer_id for producer_id, _ in found}) == 5
    assert all(epoch == 0 for _, epoch in found)


def test_data_connections_are_separate_and_speak_what_the_data_path_needs(
    lab: LabCluster, connect_to: Connect
) -> None:
    cluster = connect_to(lab)
    first, second = cluster.data_connection(0), cluster.data_connection(0)
    assert isinstance(first, Connection)
    assert first.version(0, 7, 9) == 9
    assert first.version(1, 11, 12) == 12
    assert first.versions[0][0] == 3
    sockets = [first.detach(), second.detach()]
    assert sockets[0].getsockname() != sockets[1].getsockname()
    cluster.close()
    for sock in sockets:
        assert sock.gettimeout() is None
        sock.close()


# Three nodes


@pytest.fixture
def three(own_cluster: ClusterFactory) -> LabCluster:
    return own_cluster("three", nodes=3)


def test_each_leader_answers_for_its_partitions(
    three: LabCluster, connect_to: Connect, topic_name: TopicName
) -> None:
    cluster = connect_to(three)
    topic = topic_name("a")
    create_topic(three.bootstrap, topic, 12, replication_factor=3)
    for partition in range(12):
        write(three, topic, partition, *range(1000, 1000 + partition))
    wanted = [(topic, number) for number in range(12)]
    assert len({p.leader for p in cluster.metadata([topic])[topic].partitions.values()}) == 3
    found = cluster.list_offsets(wanted, "latest")
    assert [found[key].offset for key in wanted] == list(range(12))
    ends = cluster.leader_end_offsets(wanted)
    assert [ends[key].offset for key in wanted] == list(range(12))
    sizes = cluster.partition_bytes(wanted)
    assert [sizes[key] > 0 for key in wanted] == [False] + [True] * 11


def test_the_leaders_end_is_seen_above_the_high_watermark(
    three: LabCluster, connect_to: Connect, topic_name: TopicName
) -> None:
    """Records only the leader has are in its log, and no consumer sees them yet."""
    cluster = connect_to(three)
    topic = topic_name("a")
    place = (topic, 0)
    create_topic(three.bootstrap, topic, replication_factor=3, config={"min.insync.replicas": "1"})
    write(three, topic, 0, 1000, 2000)
    leader = cluster.metadata([topic])[topic].partitions[0].leader
    followers = [node for node in range(3) if node != leader]
    producer = Producer({"bootstrap.servers": three.bootstrap, "acks": "1", "log_level": 0})
    producer.list_topics(topic, timeout=30)
    # With both followers stopped there is no controller either, which could shrink the ISR.
    for node in followers:
        three.pause(node)
    try:
        for _ in range(3):
            producer.produce(topic, b"v", partition=0)
        assert producer.flush(30) == 0
        watermark = cluster.list_offsets([place], "latest")[place]
        end = cluster.leader_end_offsets([place])[place]
        assert (watermark.offset, watermark.error) == (2, 0)
        assert (end.offset, end.error) == (5, 0)
    finally:
        for node in followers:
            three.resume(node)
        three.wait_ready(60)
    deadline = time.monotonic() + 60
    while cluster.list_offsets([place], "latest")[place].offset != 5:
        assert time.monotonic() < deadline, "the followers never caught up"


def test_a_killed_leader_is_followed_to_the_next(
    three: LabCluster, connect_to: Connect, topic_name: TopicName
) -> None:
    cluster = connect_to(three)
    topic = topic_name("a")
    create_topic(three.bootstrap, topic, 6, replication_factor=3)
    for partition in range(6):
        write(three, topic, partition, 1000, 2000)
    wanted = [(topic, number) for number in range(6)]
    before = cluster.metadata([topic])[topic].partitions
    victim = before[0].leader
    lost = [number for number, partition in before.items() if partition.leader == victim]
    three.kill(victim)
    try:
        for found in (cluster.leader_end_offsets(wanted), cluster.list_offsets(wanted, "latest")):
            assert [(r.offset, r.error) for r in found.values()] == [(2, 0)] * 6
            assert all(found[topic, number].leader_epoch > 0 for number in lost)
        after = cluster.metadata([topic])[topic].partitions
        assert all(partition.leader != victim for partition in after.values())
        assert all(after[n].leader_epoch > before[n].leader_epoch for n in lost)
        assert cluster.init_producer_id()[0] >= 0
    finally:
        three.start_node(victim)


def test_a_restarted_broker_is_found_again(
    own_cluster: ClusterFactory, connect_to: Connect, topic_name: TopicName
) -> None:
    lab = own_cluster("bounced")
    cluster = connect_to(lab)
    topic = topic_name("a")
    create_topic(lab.bootstrap, topic)
    write(lab, topic, 0, 1000)
    assert cluster.leader_end_offsets([(topic, 0)])[topic, 0].offset == 1
    lab.kill()
    try:
        with pytest.raises(Unreachable, match=r"refused|lost|closed") as caught:
            cluster.metadata([topic], timeout=0.5)
        assert lab.bootstrap in caught.value.message
    finally:
        lab.start_node()
    assert cluster.leader_end_offsets([(topic, 0)])[topic, 0].offset == 1
    assert cluster.metadata([topic])[topic].error == 0
