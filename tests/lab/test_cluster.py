"""LabCluster on real brokers: starting, every way of ending, and what is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from kit.clusters.fixtures import ClusterFactory
from replicator.lab import KAFKA_3, KAFKA_4, QUICK_START, LabCluster, LabError
from replicator.lab.process import Process


def create(cluster: LabCluster, topic: str, replicas: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    for future in admin.create_topics([NewTopic(topic, 1, replicas)]).values():
        future.result(30)


def created(cluster: LabCluster, topic: str) -> bool:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    (future,) = admin.create_topics([NewTopic(topic, 1, 1)], request_timeout=5).values()
    try:
        future.result(10)
    except KafkaException as error:
        return bool(error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS)
    except TimeoutError:
        return False
    return True


def write(cluster: LabCluster, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all"})
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0


def read(cluster: LabCluster, topic: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "none"})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        messages = consumer.consume(count, timeout=30)
        return [message.value() or b"" for message in messages]
    finally:
        consumer.close()


def until(condition: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


@pytest.mark.parametrize("version", [KAFKA_3, KAFKA_4])
def test_one_node_serves_and_leaves_nothing(version: str, prefix: str) -> None:
    with LabCluster(name="one", version=version, jvm=QUICK_START) as cluster:
        create(cluster, prefix + "a")
        write(cluster, prefix + "a", [b"1", b"2"])
        assert read(cluster, prefix + "a", 2) == [b"1", b"2"]
        processes = cluster.processes()
        data = cluster.log_dir()
        assert (data / f"{prefix}a-0").is_dir()
        assert len(processes) == 1
        assert cluster.cpu_seconds() > 0
    assert not any(process.alive() for process in processes)
    assert not data.parent.parent.exists()


def test_three_nodes_lose_one_and_take_it_back(own_cluster: ClusterFactory, prefix: str) -> None:
    cluster = own_cluster("three", nodes=3)
    assert len(cluster.bootstrap.split(",")) == 3
    create(cluster, prefix + "a", replicas=3)
    write(cluster, prefix + "a", [b"1"])
    spent = cluster.cpu_seconds()
    cluster.kill(1)
    try:
        assert len(cluster.pids()) == 2
        write(cluster, prefix + "a", [b"2"])
    finally:
        cluster.start_node(1)
    assert len(cluster.pids()) == 3
    assert cluster.cpu_seconds() > spent
    assert read(cluster, prefix + "a", 2) == [b"1", b"2"]


def test_data_outlives_kill_and_restart(own_cluster: ClusterFactory, prefix: str) -> None:
    cluster = own_cluster("bounced")
    bootstrap = cluster.bootstrap
    create(cluster, prefix + "a")
    write(cluster, prefix + "a", [b"1"])
    before = cluster.processes()
    cluster.kill()
    assert not any(process.alive() for process in before)
    cluster.start_node()
    write(cluster, prefix + "a", [b"2"])
    cluster.restart()
    assert cluster.bootstrap == bootstrap
    assert read(cluster, prefix + "a", 2) == [b"1", b"2"]


def test_paused_broker_answers_again_after_resume(own_cluster: ClusterFactory, prefix: str) -> None:
    cluster = own_cluster("bounced")
    cluster.pause()
    try:
        with pytest.raises(LabError, match="not ready"):
            cluster.wait_ready(0.5)
    finally:
        cluster.resume()
    # it was away for longer than its session: its controller takes it back within a heartbeat
    cluster.wait_ready(30)
    until(lambda: created(cluster, prefix + "a"), timeout=60)


def test_stop_ends_a_paused_broker() -> None:
    cluster = LabCluster(name="paused", jvm=QUICK_START).start()
    processes = cluster.processes()
    cluster.pause()
    cluster.stop()
    assert not any(process.alive() for process in processes)


def test_given_directory_is_kept_and_started_again(tmp_path: Path, prefix: str) -> None:
    with LabCluster(name="kept", data_dir=tmp_path, jvm=QUICK_START) as cluster:
        create(cluster, prefix + "a")
        write(cluster, prefix + "a", [b"1"])
        cluster.stop()
        assert cluster.pids() == []
        cluster.start()
        assert read(cluster, prefix + "a", 1) == [b"1"]
        with pytest.raises(LabError, match="holds a cluster already"):
            LabCluster(name="other", data_dir=tmp_path).start()
    assert (tmp_path / "node-0" / "server.properties").exists()


CRASHING = """
import os, signal, sys, threading
from replicator.lab import QUICK_START, LabCluster
cluster = LabCluster(name="crashing", jvm=QUICK_START)
# a thread that ends must not take the broker with it
starter = threading.Thread(target=cluster.start)
starter.start()
starter.join()
print(*[f"{p.pid}:{p.started}" for p in cluster.processes()], cluster.log_dir(), flush=True)
sys.stdin.read()
"""


def test_caller_killed_leaves_no_broker_and_no_data_for_long() -> None:
    caller = subprocess.Popen(
        [sys.executable, "-c", CRASHING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert caller.stdout is not None
        answer = caller.stdout.readline().split()
        assert len(answer) == 2
        pid, started = answer[0].split(":")
        broker = Process(int(pid), int(started))
        assert broker.alive()
    finally:
        caller.kill()
        caller.communicate()
    until(lambda: not broker.alive())
    data = Path(answer[1])
    with LabCluster(name="next", jvm=QUICK_START):
        until(lambda: not data.parent.parent.exists())  # a neighbour may be sweeping it as well


def test_broken_start_shows_the_brokers_log() -> None:
    cluster = LabCluster(name="broken", properties={"num.io.threads": "0"}, jvm=QUICK_START)
    with pytest.raises(LabError, match=r"num\.io\.threads"):
        cluster.start()
    assert cluster.pids() == []


def test_broker_dying_after_format_shows_its_log() -> None:
    properties = {"authorizer.class.name": "no.such.Authorizer"}
    cluster = LabCluster(name="broken", properties=properties, jvm=QUICK_START)
    with pytest.raises(LabError, match=r"(?s)ended while starting.*no\.such\.Authorizer"):
        cluster.start()
    assert cluster.pids() == []


def test_a_recycled_pid_is_not_signalled() -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        real = Process.of(other.pid)
        stale = Process(real.pid, real.started - 1)
        assert not stale.alive()
        assert not stale.send(signal.SIGKILL)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


HEADLESS = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_lives_as_long_as_any_of_its_threads() -> None:
    """The first thread of a dying JVM is often gone before those that hold its port."""
    with subprocess.Popen(
        [sys.executable, "-c", HEADLESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"ready\n"
            process = Process.of(other.pid)
            state = Path(f"/proc/{other.pid}/stat")
            until(lambda: state.read_text().rpartition(")")[2].split()[0] == "Z")
            assert process.alive()
            assert not process.wait(0.1)
        finally:
            other.kill()
        assert process.wait(10)
        assert not process.alive()
        assert not state.exists()  # off the process table


def test_only_one_or_three_nodes() -> None:
    with pytest.raises(LabError, match="1 or 3"):
        LabCluster(name="two", nodes=2)


def test_cluster_ids_are_never_taken_for_options(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([uuid.UUID(int=0xFB << 120), uuid.UUID(int=1)])  # the first gives "-wAA…"
    monkeypatch.setattr(uuid, "uuid4", lambda: next(drawn))
    assert LabCluster(name="dash").cluster_id == "AAAAAAAAAAAAAAAAAAAAAQ"
