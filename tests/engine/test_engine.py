"""An engine between clusters in memory: its lanes, its rates, its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kit.fakes.job import no_limits
from kit.fakes.world import FakeCluster, make_task
from replicator.engine.clusters import Clusters
from replicator.engine.engine import Engine
from replicator.engine.lane_sizes import LaneSizes
from replicator.engine.task import PartitionTask
from replicator.options.rates import Rate
from replicator.options.settings import copy_settings
from replicator.options.table import options_of
from replicator.pace.throttle import Throttle
from replicator.process import StopSignal


class FakeLane:
    """Counts how often it is woken."""

    def __init__(self) -> None:
        self.woken = 0
        self.target_quota_ms = 0

    def wake(self) -> None:
        self.woken += 1

    def take_latencies(self) -> list[float]:
        return []


class FakeWorker:
    """Does nothing with what it is assigned until it is stopped."""

    def __init__(self, _lane: object, inbox: Any, *gates: object, **sizes: int) -> None:
        self.lane = FakeLane()
        self.inbox, self.sizes = inbox, sizes
        self.gates = gates
        self.running: list[Any] = []
        self.started = self.closed = False
        self.failure: BaseException | None = None

    def start(self) -> None:
        self.started = True

    def close(self) -> None:
        self.closed = True

    def connect(self, *_args: object) -> None:
        pass

    def assign(self, _key: object, part: Any, _outlets: object) -> None:
        self.running.append(part)

    def stop_all(self) -> None:
        for part in self.running:
            self.inbox.put((self, ("ended", part)))

    def silence(self) -> int:
        return 0

    def fail(self) -> None:
        self.failure = MemoryError("the lane is gone")
        self.inbox.put(None)


class Setting:
    """One task that follows. ``ticks`` happen while it runs, in the driver's thread."""

    def __init__(self) -> None:
        self.source, self.target = FakeCluster("source"), FakeCluster("target")
        self.source.add("orders")
        self.target.add("orders")
        self.ticks: list[Callable[[], None]] = []
        self.throttle: Throttle | None = None
        self.began_others = 0
        self.rate = 5.0  # of others
        self.workers: list[FakeWorker] = []
        self.stop = StopSignal()
        values = {option.dest: option.parsed_default for option in options_of("copy")}
        values |= {"source": "s:9092", "target": "t:9092", "topics": ("orders",)}
        self.engine = Engine(
            Clusters(self.source, self.target),  # type: ignore[arg-type]
            copy_settings(values),
            LaneSizes(2, 100, 400),
            no_limits(0.0),
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            self.new_throttle,
            make_worker=self.worker,  # type: ignore[arg-type]
        )
        self.task = self.add("orders")

    def add(self, topic: str) -> PartitionTask:
        reading, writing = self.source.topics["orders"], self.target.topics["orders"]
        task = make_task(
            topic, source_id=reading.topic_id, target_id=writing.topic_id, end=-1, located=True
        )
        self.engine.add([task])
        return task

    def worker(self, *args: object, **sizes: int) -> FakeWorker:
        self.workers.append(FakeWorker(*args, **sizes))
        return self.workers[-1]

    # --- gates, pulse, others and throttle ------------------------------------------------------

    def write_segments(self) -> None: ...

    def write_stride(self) -> None: ...

    def standing(self) -> bool:
        return True

    def begin(self) -> None:
        self.began_others += 1

    def new_throttle(self) -> Throttle | None:
        for tick in self.ticks:
            tick()
        found, self.throttle = self.throttle, None
        return found


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_lanes_have_the_gates_and_their_sizes(setting: Setting) -> None:
    assert len(setting.engine.lanes) == 2
    for worker in setting.workers:
        assert worker.sizes == {"slab_bytes": 100, "pipe_bytes": 400}
        assert worker.gates == (setting.write_segments, setting.write_stride)
        assert not worker.started


def test_what_is_added_has_a_bucket_and_is_sampled(setting: Setting) -> None:
    assert setting.task.bucket is not None
    assert setting.task.wants_sample
    other = setting.add("orders")
    assert other.bucket is not setting.task.bucket
    assert setting.engine.tasks == [setting.task, other]


def test_a_stop_ends_it_and_closes_the_lanes(setting: Setting) -> None:
    setting.source.log("orders").leader = -1  # so it waits
    setting.ticks.append(setting.stop.request)
    assert not setting.engine.stopping
    setting.engine.run(setting.stop)
    assert setting.task.stopped
    assert setting.engine.stopping
    assert all(worker.started and worker.closed for worker in setting.workers)


def test_a_lane_that_fails_is_raised_and_the_lanes_are_closed(setting: Setting) -> None:
    setting.source.log("orders").leader = -1
    setting.ticks.append(setting.workers[1].fail)
    with pytest.raises(MemoryError, match="the lane is gone"):
        setting.engine.run(setting.stop)
    assert all(worker.closed for worker in setting.workers)


def test_others_are_looked_at_while_the_rate_is_auto(setting: Setting) -> None:
    setting.source.log("orders").leader = -1
    assert setting.engine.asked_rate.auto
    setting.ticks.append(setting.stop.request)
    setting.engine.run(setting.stop)
    assert setting.began_others > 0


def test_a_new_rate_holds_at_once_and_wakes_the_lanes(setting: Setting) -> None:
    setting.source.log("orders").leader = -1
    option = next(one for one in options_of("copy") if one.dest == "throttle")
    timetable = option.value.parse("20MB/s")

    def change() -> None:
        setting.throttle = Throttle(timetable)
        setting.ticks.clear()
        setting.stop.request()

    setting.ticks.append(change)
    setting.engine.run(setting.stop)
    assert setting.engine.asked_rate == setting.engine.rate == Rate(bytes=20_000_000)
    assert all(worker.lane.woken for worker in setting.workers)
