"""Leaders move, brokers go, quotas bite: what a cluster retries, reports and raises."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from kit.clusters.connected import FakeTime, config_for, wait_until
from kit.fakebroker import (
    API_VERSIONS,
    DESCRIBE_LOG_DIRS,
    INIT_PRODUCER_ID,
    LIST_OFFSETS,
    METADATA,
    OFFSET_FOR_LEADER_EPOCH,
    Close,
    Default,
    FakeBroker,
    FakeCluster,
    Patched,
    Silence,
    with_partition_error,
)
from replicator.cluster import Cluster, Denied, OffsetResult, Unreachable, WrongCluster

Connect = Callable[..., Cluster]
MakeBrokers = Callable[[int], list[FakeBroker]]


# First contact


def test_the_first_bootstrap_address_that_answers_is_enough(
    broker: FakeBroker, unused_port: int, fake_time: FakeTime
) -> None:
    config = config_for(broker)
    config = type(config)(bootstrap=(("127.0.0.1", unused_port), *config.bootstrap))
    cluster = Cluster(config, "source", retry=fake_time.policy())
    cluster.connect()
    assert cluster.cluster_id == "fake-cluster-id"
    assert cluster.name == f"127.0.0.1:{unused_port},{broker.address} (fake-cluster-id)"
    assert cluster.brokers == {0: ("127.0.0.1", broker.port)}
    assert fake_time.slept == []
    cluster.close()


def test_every_address_that_fails_is_named(unused_port: int, fake_time: FakeTime) -> None:
    config = config_for()
    config = type(config)(bootstrap=(("127.0.0.1", unused_port), ("nowhere.invalid", 9092)))
    cluster = Cluster(config, "target", retry=fake_time.policy())
    with pytest.raises(Unreachable) as caught:
        cluster.connect()
    assert caught.value.side == "target"
    assert f"127.0.0.1:{unused_port}: connection refused" in caught.value.message
    assert "'nowhere.invalid' cannot be resolved" in caught.value.message
    assert fake_time.slept == []


def test_an_advertised_address_that_cannot_be_reached_is_named_with_the_bootstrap_one(
    broker: FakeBroker, unused_port: int, connect: Connect
) -> None:
    broker.cluster.advertised[0] = ("127.0.0.1", unused_port)
    cluster = connect(broker)
    with pytest.raises(Unreachable) as caught:
        cluster.data_connection(0)
    message = caught.value.message
    assert broker.address in message
    assert f"broker 0 advertises 127.0.0.1:{unused_port}" in message
    assert "connection refused" in message
    assert "advertised.listeners" in (caught.value.hint or "")


def test_an_advertised_address_of_another_cluster_is_refused(
    broker: FakeBroker, connect: Connect
) -> None:
    with FakeBroker(FakeCluster(cluster_id="somebody-else")) as other:
        broker.cluster.advertised[0] = ("127.0.0.1", other.port)
        cluster = connect(broker)
        with pytest.raises(WrongCluster, match="somebody-else") as caught:
            cluster.data_connection(0)
    assert caught.value.side == "source"
    assert f"127.0.0.1:{other.port}" in caught.value.message


def test_a_cluster_that_changes_its_id_is_refused(broker: FakeBroker, connect: Connect) -> None:
    cluster = connect(broker)
    broker.cluster.cluster_id = "set-up-anew"
    with pytest.raises(WrongCluster, match="set-up-anew"):
        cluster.metadata()


def test_a_broker_that_is_not_in_the_list_is_not_up(broker: FakeBroker, connect: Connect) -> None:
    cluster = connect(broker)
    with pytest.raises(Unreachable, match="broker 7 is not up"):
        cluster.data_connection(7)


# Leaders


def test_each_leader_is_asked_for_its_own_partitions(
    make_brokers: MakeBrokers, connect: Connect
) -> None:
    brokers = make_brokers(3)
    shared = brokers[0].cluster
    shared.topics.update(a=3, b=3)
    for name in "ab":
        for number in range(3):
            shared.leaders[name, number] = number
            shared.ends[name, number] = 10 * number + (name == "b")
    cluster = connect(brokers[0])
    wanted = [(name, number) for name in "ab" for number in range(3)]
    found = cluster.list_offsets(wanted, "latest")
    assert list(found) == wanted
    assert {key: end.offset for key, end in found.items()} == shared.ends
    assert [len(broker.asked(LIST_OFFSETS)) for broker in brokers] == [1, 1, 1]


@pytest.mark.parametrize("call", ["list_offsets", "leader_end_offsets"])
def test_a_moved_leader_is_found_again(
    make_brokers: MakeBrokers, connect: Connect, fake_time: FakeTime, call: str
) -> None:
    brokers = make_brokers(2)
    shared = brokers[0].cluster
    shared.topics["t"] = 1
    shared.ends["t", 0] = 42
    cluster = connect(brokers[0])

    def ask() -> OffsetResult:
        if call == "list_offsets":
            return cluster.list_offsets([("t", 0)], "latest")["t", 0]
        return cluster.leader_end_offsets([("t", 0)])["t", 0]

    assert ask() == OffsetResult(42, 0, 0)
    shared.leaders["t", 0] = 1
    shared.epochs["t", 0] = 1
    assert ask() == OffsetResult(42, 1, 0)
    assert len(fake_time.slept) == 1


@pytest.mark.parametrize("error", [ErrorCode.fenced_leader_epoch, ErrorCode.unknown_leader_epoch])
def test_a_refused_epoch_means_new_metadata(
    broker: FakeBroker, connect: Connect, error: ErrorCode
) -> None:
    broker.cluster.topics["t"] = 1
    broker.cluster.ends["t", 0] = 5
    cluster = connect(broker)
    broker.answer(OFFSET_FOR_LEADER_EPOCH, with_partition_error(error), Default())
    assert cluster.leader_end_offsets([("t", 0)])["t", 0] == OffsetResult(5, 0, 0)
    about_topics = [request for request in broker.asked(METADATA) if request.body.topics]
    assert len(about_topics) == 2


def test_a_log_end_asked_for_with_the_epoch_the_metadata_has(
    broker: FakeBroker, connect: Connect
) -> None:
    broker.cluster.topics["t"] = 1
    broker.cluster.epochs["t", 0] = 17
    cluster = connect(broker)
    cluster.leader_end_offsets([("t", 0)])
    [request] = broker.asked(OFFSET_FOR_LEADER_EPOCH)
    [partition] = request.body.topics[0].partitions
    assert (partition.current_leader_epoch, partition.leader_epoch) == (17, 17)
    assert request.body.replica_id == -1


def test_an_unknown_log_end_is_asked_for_again(broker: FakeBroker, connect: Connect) -> None:
    def unknown(body: Any) -> Any:
        [topic] = body.topics
        [partition] = topic.partitions
        partition = replace(partition, end_offset=-1, leader_epoch=-1)
        return replace(body, topics=(replace(topic, partitions=(partition,)),))

    broker.cluster.topics["t"] = 1
    broker.cluster.ends["t", 0] = 8
    cluster = connect(broker)
    broker.answer(OFFSET_FOR_LEADER_EPOCH, Patched(unknown), Patched(unknown), Default())
    assert cluster.leader_end_offsets([("t", 0)])["t", 0].offset == 8
    assert len(broker.asked(OFFSET_FOR_LEADER_EPOCH)) == 3


def test_a_lagging_broker_does_not_take_an_epoch_back(
    make_brokers: MakeBrokers, connect: Connect
) -> None:
    fresh, leader = make_brokers(2)
    fresh.cluster.topics["t"] = 1
    fresh.cluster.leaders["t", 0] = 1
    fresh.cluster.epochs["t", 0] = 6
    cluster = connect(fresh)
    assert cluster.metadata(["t"])["t"].partitions[0].leader == 1
    fresh.cluster.epochs["t", 0] = 5
    fresh.cluster.leaders["t", 0] = 0
    partition = cluster.metadata(["t"])["t"].partitions[0]
    assert (partition.leader, partition.leader_epoch) == (1, 6)
    assert leader.node == partition.leader


def test_what_stays_temporary_is_reported_with_its_code(
    broker: FakeBroker, connect: Connect, fake_time: FakeTime
) -> None:
    broker.cluster.topics["t"] = 2
    broker.cluster.ends["t", 1] = 9
    broker.cluster.leaders["t", 0] = -1
    cluster = connect(broker, timeout=5.0)
    found = cluster.list_offsets([("t", 0), ("t", 1)], "latest")
    assert found == {("t", 0): OffsetResult(-1, -1, 5), ("t", 1): OffsetResult(9, 0, 0)}
    assert sum(fake_time.slept) == pytest.approx(5.0)
    assert len(broker.asked(LIST_OFFSETS)) == 1


def test_a_final_error_is_not_retried(
    broker: FakeBroker, connect: Connect, fake_time: FakeTime
) -> None:
    broker.cluster.topics["t"] = 1
    cluster = connect(broker)
    broker.answer(LIST_OFFSETS, with_partition_error(ErrorCode.topic_authorization_failed))
    found = cluster.list_offsets([("t", 0), ("t", 9), ("gone", 0)], "earliest")
    assert {key: result.error for key, result in found.items()} == {
        ("t", 0): 29,
        ("t", 9): 3,
        ("gone", 0): 3,
    }
    assert fake_time.slept == []


def test_a_topic_just_created_is_waited_for(
    broker: FakeBroker, connect: Connect, fake_time: FakeTime
) -> None:
    cluster = connect(broker)
    sleep = fake_time.sleep

    def create(seconds: float) -> None:
        sleep(seconds)
        if len(fake_time.slept) == 3:
            broker.cluster.topics["new"] = 1

    fake_time.sleep = create  # type: ignore[method-assign]
    late = Cluster(cluster.config, "source", retry=fake_time.policy())
    _, unready = late.await_leaders({"new": 1})
    assert unready == {}
    assert len(fake_time.slept) == 3
    late.close()


def test_await_leaders_waits_for_the_leaders_themselves(
    broker: FakeBroker, connect: Connect, fake_time: FakeTime
) -> None:
    broker.cluster.topics["t"] = 2
    cluster = connect(broker)
    unready = with_partition_error(ErrorCode.unknown_topic_or_partition)
    broker.answer(LIST_OFFSETS, unready, unready, Default())
    topics, failed = cluster.await_leaders({"t": 2})
    assert len(topics["t"].partitions) == 2
    assert failed == {}
    assert len(broker.asked(LIST_OFFSETS)) == 3
    assert max(fake_time.slept) <= 0.1


def test_await_leaders_gives_up_with_the_partitions_named(
    broker: FakeBroker, connect: Connect
) -> None:
    broker.cluster.topics |= {"t": 1, "u": 1}
    cluster = connect(broker, side="target", timeout=2.0)
    _, unready = cluster.await_leaders({"t": 2, "u": 1})
    assert set(unready) == {("t", 1)}
    assert "use the new partition t-1: UNKNOWN_TOPIC_OR_PARTITION" in unready["t", 1].message


def test_a_broker_that_hangs_takes_only_its_own_partitions(
    make_brokers: MakeBrokers, connect: Connect
) -> None:
    first, second = make_brokers(2)
    first.cluster.topics["t"] = 2
    first.cluster.leaders["t", 1] = 1
    cluster = connect(first)
    second.answer(LIST_OFFSETS, *[Silence()] * 5)
    found = cluster.list_offsets([("t", 0), ("t", 1)], "latest", apart=True, timeout=1.0)
    assert found["t", 0].error == 0
    assert found["t", 1].error == 13


# Lost connections


def test_a_lost_control_connection_is_opened_again(
    broker: FakeBroker, connect: Connect, fake_time: FakeTime
) -> None:
    broker.cluster.topics["t"] = 1
    cluster = connect(broker)
    cluster.list_offsets([("t", 0)], "latest")
    connections = broker.connections
    broker.drop_connections()
    assert cluster.list_offsets([("t", 0)], "latest")["t", 0].error == 0
    assert broker.connections > connections
    assert len(fake_time.slept) <= 1


def test_metadata_comes_from_another_broker_when_one_hangs_up(
    make_brokers: MakeBrokers, connect: Connect, fake_time: FakeTime
) -> None:
    first, second = make_brokers(2)
    first.cluster.topics["t"] = 1
    cluster = connect(first)
    first.answer(METADATA, Close())
    assert cluster.metadata(["t"])["t"].error == 0
    assert second.asked(METADATA)
    assert fake_time.slept == []


def test_a_leader_that_never_answers_is_raised_after_the_deadline(
    broker: FakeBroker, connect: Connect, fake_time: FakeTime
) -> None:
    broker.cluster.topics["t"] = 1
    cluster = connect(broker, timeout=3.0)
    broker.answer(LIST_OFFSETS, Close())
    with pytest.raises(Unreachable, match="ListOffsets") as caught:
        cluster.list_offsets([("t", 0)], "latest")
    assert broker.address in caught.value.message
    assert sum(fake_time.slept) == pytest.approx(3.0)


def test_a_silent_broker_holds_up_only_those_who_ask_it(
    make_brokers: MakeBrokers, connect: Connect
) -> None:
    silent, other = make_brokers(2)
    silent.cluster.topics["t"] = 2
    silent.cluster.leaders["t", 1] = 1
    silent.cluster.ends["t", 1] = 4
    cluster = connect(other)
    cluster.metadata(["t"])
    silent.answer(LIST_OFFSETS, Silence())
    outcome: list[BaseException] = []

    def ask() -> None:
        try:
            cluster.list_offsets([("t", 0)], "latest")
        except Unreachable as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert wait_until(lambda: bool(silent.asked(LIST_OFFSETS)))
        assert cluster.list_offsets([("t", 1)], "latest")["t", 1].offset == 4
        assert cluster.metadata(["t"])["t"].error == 0
        assert thread.is_alive()
    finally:
        silent.answer(LIST_OFFSETS, Default())
        silent.drop_connections()
        thread.join(20)
    assert not thread.is_alive()
    assert outcome == []


@pytest.mark.parametrize("api", [API_VERSIONS, METADATA])
def test_a_deadline_holds_while_a_broker_accepts_and_says_nothing(
    broker: FakeBroker, api: int
) -> None:
    """A stopped (SIGSTOP) broker behaves so: its kernel still accepts connections."""
    cluster = Cluster(config_for(broker), "source")
    cluster.connect()
    broker.answer(api, Silence())
    broker.drop_connections()
    before = time.monotonic()
    with pytest.raises(Unreachable, match="no answer to"):
        cluster.metadata(timeout=0.3)
    assert time.monotonic() - before < 3
    cluster.close()


def test_many_threads_share_one_cluster(make_brokers: MakeBrokers, connect: Connect) -> None:
    brokers = make_brokers(3)
    shared = brokers[0].cluster
    shared.topics["t"] = 12
    for number in range(12):
        shared.leaders["t", number] = number % 3
        shared.ends["t", number] = number
    cluster = connect(*brokers)
    wrong: list[object] = []

    def ask(number: int) -> None:
        for _ in range(30):
            found = cluster.list_offsets([("t", number), ("t", (number + 1) % 12)], "latest")
            if found["t", number].offset != number:
                wrong.append(found)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert all(broker.connections <= 2 for broker in brokers)


def test_kafka_2_8_is_new_enough(connect: Connect) -> None:
    versions = {
        0: (0, 9),
        1: (0, 12),
        LIST_OFFSETS: (0, 6),
        METADATA: (0, 11),
        API_VERSIONS: (0, 3),
        INIT_PRODUCER_ID: (0, 4),
        OFFSET_FOR_LEADER_EPOCH: (0, 4),
        DESCRIBE_LOG_DIRS: (0, 2),
    }
    with FakeBroker(versions=versions) as broker:
        broker.cluster.topics["t"] = 1
        broker.cluster.ends["t", 0] = 3
        cluster = connect(broker)
        place = ("t", 0)
        assert cluster.metadata()["t"].partitions[0].leader == 0
        assert cluster.list_offsets([place], "latest")[place].offset == 3
        assert cluster.leader_end_offsets([place])[place].offset == 3
        assert cluster.partition_bytes([place]) == {place: 1000}
        assert cluster.init_producer_id()[1] == 0
        asked = {request.api_key: request.version for request in broker.requests}
        assert asked == {18: 3, 3: 11, 2: 6, 23: 4, 35: 2, 22: 4}


# Quotas and permissions


def test_a_throttled_broker_is_left_alone_as_long_as_it_asked(
    broker: FakeBroker, connect: Connect, fake_time: FakeTime
) -> None:
    cluster = connect(broker)
    broker.throttle = timedelta(milliseconds=1500)
    cluster.metadata()
    assert fake_time.slept == []
    broker.throttle = timedelta()
    cluster.metadata()
    assert fake_time.slept == [pytest.approx(1.5)]
    cluster.metadata()
    assert len(fake_time.slept) == 1


def test_a_throttle_beyond_the_deadline_is_an_error(
    broker: FakeBroker, connect: Connect, fake_time: FakeTime
) -> None:
    cluster = connect(broker)
    broker.cluster.advertised.clear()  # so that there is no other broker to ask
    cluster.metadata()
    broker.throttle = timedelta(milliseconds=2**31 - 1)
    cluster.metadata()
    with pytest.raises(Unreachable, match="a quota delays requests by 2147"):
        cluster.metadata()
    assert sum(fake_time.slept) <= 30.0 + 1e-6


def refused(error: ErrorCode) -> Patched:
    return Patched(lambda body: replace(body, error_code=error, producer_id=-1))


def test_a_producer_id_is_waited_for_while_the_coordinator_loads(
    broker: FakeBroker, connect: Connect, fake_time: FakeTime
) -> None:
    cluster = connect(broker)
    loading = refused(ErrorCode.coordinator_load_in_progress)
    broker.answer(INIT_PRODUCER_ID, loading, loading, Default())
    first, second = cluster.init_producer_id(), cluster.init_producer_id()
    assert second == (first[0] + 1, 0)
    assert len(fake_time.slept) == 2
    assert len(broker.asked(INIT_PRODUCER_ID)) == 4


def test_a_denied_producer_id_names_the_missing_acl(broker: FakeBroker, connect: Connect) -> None:
    cluster = connect(broker, side="target")
    broker.answer(INIT_PRODUCER_ID, refused(ErrorCode.cluster_authorization_failed))
    with pytest.raises(Denied, match="CLUSTER_AUTHORIZATION_FAILED") as caught:
        cluster.init_producer_id()
    assert caught.value.side == "target"
    assert "IDEMPOTENT_WRITE on Cluster" in (caught.value.hint or "")


def test_sizes_that_are_not_available_are_left_out(broker: FakeBroker, connect: Connect) -> None:
    broker.cluster.topics["t"] = 2
    cluster = connect(broker)
    wanted = [("t", 0), ("t", 1), ("gone", 0)]
    assert cluster.partition_bytes(wanted) == {("t", 0): 1000, ("t", 1): 1001}
    denied = Patched(lambda body: replace(body, results=()))
    broker.answer(DESCRIBE_LOG_DIRS, denied, Close(), Close())
    assert cluster.partition_bytes(wanted) == {}
    assert cluster.partition_bytes(wanted) == {}
