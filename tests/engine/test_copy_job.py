"""The order of a run, without brokers: what is durable before what, and what is told at the end."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import pytest

from kit.fakes.store import Store, StoreAdmin
from kit.fakes.world import PRODUCER, FakeCluster
from replicator.cluster import TopicMeta
from replicator.copy import CopyJob
from replicator.engine.clusters import Clusters
from replicator.engine.engine import Engine
from replicator.engine.task import PartitionTask, TaskState
from replicator.errors import ClusterError, CopystreamError, ExitCode
from replicator.options.rates import OFF
from replicator.options.settings import copy_settings
from replicator.options.table import options_of
from replicator.plan.draft import CopyPlan, PartitionPlan
from replicator.plan.topics import TopicChoice
from replicator.process import StopSignal
from replicator.report.model import OpenTransaction, Plan, Summary, TopicPlan
from replicator.state import OFFSET_MAP_TOPIC, REGISTRY_TOPIC
from replicator.state.session import Session

END = 100


class Target(FakeCluster):
    """Gives producer ids, and waits for leaders of new topics in no time."""

    def __init__(self) -> None:
        super().__init__("target")
        self.given = 0
        self.unready: dict[tuple[str, int], CopystreamError] = {}

    def init_producer_id(self) -> tuple[int, int]:
        self.given += 1
        return PRODUCER + self.given, 0

    def await_leaders(
        self, counts: dict[str, int]
    ) -> tuple[dict[str, TopicMeta], dict[tuple[str, int], CopystreamError]]:
        self.say("leaders")
        return self.metadata(list(counts)), self.unready


class FakeEngine:
    """Copies everything at once, or what ``script`` makes of it."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.tasks: list[PartitionTask] = []
        self.lanes: list[Any] = []
        self.stopping = False
        self.recoveries = 3
        self.logical_bytes = 77
        self.asked_rate = self.rate = OFF

    def add(self, tasks: Collection[PartitionTask]) -> None:
        self.case.store.events.append("add tasks")
        self.tasks += tasks

    def run(self, stop: StopSignal) -> None:
        self.case.store.events.append("run")
        for task in self.tasks:
            task.move(TaskState.ASKING)
            self.case.script(task, stop)


def copy_all(task: PartitionTask, _stop: StopSignal) -> None:
    task.past += type(task.past)(records=task.end - task.start, bytes=1000, batches=1)
    task.position = task.end
    task.move(TaskState.DONE)


class Case:
    """One topic of two partitions, planned for a first copy into a topic that the run makes."""

    def __init__(self) -> None:
        self.source, self.target = FakeCluster("source"), Target()
        self.store = Store(self.target)
        for cluster in (self.source, self.target):
            cluster.add("orders", 2)
        self.topic = TopicPlan(
            topic="orders", target_topic="orders", partitions=2, target_partitions=2, records=200,
            create=True,
        )  # fmt: skip
        self.others: list[TopicPlan] = []  # that are not copied
        self.script: Callable[[PartitionTask, StopSignal], None] = copy_all
        self.engines: list[FakeEngine] = []
        self.stop = StopSignal()
        self.told: list[Plan] = []

    def job(self, **given: Any) -> CopyJob:
        values = {option.dest: option.parsed_default for option in options_of("copy")}
        values |= {"source": "s:9092", "target": "t:9092", "topics": ("orders",)} | given
        return CopyJob(
            copy_settings(values, given),
            lambda: None,
            clusters=Clusters(self.source, self.target),  # type: ignore[arg-type]
            make_planner=self.planner,
            open_session=self.session,
            make_engine=self.engine,
        )

    def run(self, **given: Any) -> Summary:
        return self.job(**given).run(self.stop, self.tell)

    def tell(self, plan: Plan) -> None:
        self.store.events.append("tell")
        self.told.append(plan)

    def session(self, *_args: object, **_how: object) -> AbstractContextManager[Session]:
        return Session.open(
            self.source,  # type: ignore[arg-type]
            self.target,  # type: ignore[arg-type]
            StoreAdmin(self.store),  # type: ignore[arg-type]
            same_cluster_id=False,
            open_writer=self.store.writer,  # type: ignore[arg-type]
            open_consumer=self.store.consumer,  # type: ignore[arg-type]
        )

    def engine(self, *_args: object) -> Engine:
        self.engines.append(FakeEngine(self))
        return self.engines[-1]  # type: ignore[return-value]

    # --- a planner ------------------------------------------------------------------------------

    def planner(self, *_args: object) -> Any:
        return SimpleNamespace(choose=self.choose, gather=self.gather, make=self.make)

    def choose(self) -> tuple[TopicChoice, dict[str, TopicMeta]]:
        self.store.events.append("choose")
        return TopicChoice(("orders",), {"__x": "internal"}, ()), {}

    def gather(self, *_args: object) -> str:
        return "inputs"

    def make(
        self, inputs: str, flow: str, maps: Any, _splits: object, _authors: object, *, create: bool
    ) -> CopyPlan:
        assert inputs == "inputs"
        self.store.events.append("plan and create" if create else "plan")
        report = Plan(
            source=self.source.name, target=self.target.name, source_cluster_id="s",
            target_cluster_id="t", flow=flow, topics=[self.topic, *self.others], bytes=2000,
        )  # fmt: skip
        parts = [
            PartitionPlan(
                topic="orders",
                partition=number,
                start=0,
                end=END,
                counter=0,
                base=0,
                binding=maps.binding(("orders", number)),
                start_epoch=4,
            )
            for number in range(2)
        ]
        return CopyPlan(
            report=report,
            partitions=parts,
            sources=self.source.metadata(["orders"]),
            targets=self.target.metadata(["orders"]),
            batch_limits={"orders": 1_000_000},
        )


@pytest.fixture
def case() -> Case:
    return Case()


def test_a_run_keeps_its_order(case: Case) -> None:
    """Claims before the plan, the plan is told before anything is written for it, and bindings are
    durable before there is an engine.
    """
    summary = case.run()
    events = case.store.events
    order = ["choose", f"write {REGISTRY_TOPIC}", f"read {OFFSET_MAP_TOPIC}", "plan and create"]
    order += ["tell", f"write {OFFSET_MAP_TOPIC}", "add tasks", "run", "close writer"]
    places = [events.index(event) for event in order]
    assert places[:2] == sorted(places[:2])
    assert places[3:] == sorted(places[3:])
    assert max(places[:3]) < places[3]
    assert (summary.status, summary.exit_code) == ("done", ExitCode.DONE)
    assert (summary.records, summary.bytes, summary.recoveries) == (2 * END, 2000, 3)
    assert summary.skipped == {"__x": "internal"}
    (topic,) = summary.topics
    assert (topic.status, topic.created, topic.records) == ("done", True, 2 * END)


def test_a_plan_writes_nothing(case: Case) -> None:
    late = OpenTransaction(topic="orders", partition=1, offset=7, records=2)
    after = OpenTransaction(topic="orders", partition=0, offset=END, records=2)
    case.topic = TopicPlan(
        topic="orders", target_topic="orders", partitions=2, records=200,
        open_transactions=[late, after],
    )  # fmt: skip
    plan = case.job().plan()
    assert case.store.topics == {}
    assert not [event for event in case.store.events if event.startswith(("write", "create"))]
    # Only what a run would wait for is a fault.
    assert [(one.kind, one.partition) for one in plan.faults] == [("open-transaction", 1)]
    assert case.engines == []


def test_all_partitions_of_a_flow_share_a_producer_id(case: Case) -> None:
    case.run()
    (engine,) = case.engines
    assert {task.binding.producer_id for task in engine.tasks} == {PRODUCER + 1}
    assert [task.epochs.starts for task in engine.tasks] == [((0, 4),)] * 2
    assert all(task.located for task in engine.tasks), "a first copy need not ask the log"


def test_the_next_run_goes_on_with_the_same_bindings(case: Case) -> None:
    case.run()
    case.run()
    first, second = case.engines
    assert [task.binding for task in first.tasks] == [task.binding for task in second.tasks]
    assert not any(task.located for task in second.tasks)
    assert case.target.given == 1


def test_a_copy_that_begins_anew_has_another_producer_id(case: Case) -> None:
    """The broker may still remember the sequences of the old one."""
    case.run()
    case.store.topics[OFFSET_MAP_TOPIC].records.clear()
    case.run(restart=True)
    assert {task.binding.producer_id for task in case.engines[1].tasks} == {PRODUCER + 2}


def test_split_partitions_have_a_producer_id_each(case: Case) -> None:
    case.run(partitioner="murmur2")
    (engine,) = case.engines
    assert [task.binding.producer_id for task in engine.tasks] == [PRODUCER + 1, PRODUCER + 2]
    assert [list(task.progress.writes_to(task)) for task in engine.tasks] == [[0, 1]] * 2


def test_a_partition_that_cannot_be_used_costs_only_itself(case: Case) -> None:
    case.target.unready[("orders", 1)] = ClusterError("target", "no leader was elected")
    summary = case.run()
    (engine,) = case.engines
    assert [task.partition for task in engine.tasks] == [0]
    assert [(one.kind, one.partition) for one in summary.faults] == [("unreachable", 1)]
    assert summary.topics[0].status == "failed"
    assert summary.topics[0].created, "it was"


def test_a_topic_that_is_refused_is_not_copied(case: Case) -> None:
    case.topic = TopicPlan(
        topic="orders", target_topic="orders", partitions=2, records=200, create=True,
        conflict="the target refuses it", conflict_exit_code=7,
    )  # fmt: skip
    summary = case.run()
    assert case.engines == []
    assert (summary.status, summary.exit_code) == ("failed", ExitCode.FATAL)
    assert "the target refuses it" in summary.faults[0].message
    assert not summary.topics[0].created


def test_only_what_was_created_is_told_as_created(case: Case) -> None:
    """Another topic of the same run is refused, and so was not."""
    refused = TopicPlan(
        topic="refused", target_topic="refused", partitions=1, records=5, create=True,
        conflict="the target refuses it", conflict_exit_code=7,
    )  # fmt: skip
    case.others.append(refused)
    summary = case.run()
    assert [(one.topic, one.created) for one in summary.topics] == [
        ("orders", True),
        ("refused", False),
    ]


def test_a_stop_before_the_first_record_is_an_interruption(case: Case) -> None:
    case.stop.request()
    summary = case.run()
    assert case.engines == []
    assert (summary.status, summary.topics[0].status) == ("interrupted", "incomplete")


def test_a_copy_is_stopping_while_what_is_in_flight_is_waited_for(case: Case) -> None:
    job = case.job()
    phases = [job.snapshot().phase]

    def script(task: PartitionTask, _stop: StopSignal) -> None:
        phases.append(job.snapshot().phase)
        case.engines[0].stopping = True
        phases.append(job.snapshot().phase)
        task.move(TaskState.STOPPED)

    case.script = script
    case.stop = StopSignal()
    summary = job.run(case.stop, case.tell)
    phases.append(job.snapshot().phase)
    assert phases == ["starting", "copying", "stopping", "stopping", "stopping", "done"]
    assert summary.status == "incomplete"
    assert {one.state for one in job.snapshot().partitions} == {"stopped"}


def test_whatever_fails_the_claims_are_given_up(case: Case) -> None:
    def script(_task: PartitionTask, _stop: StopSignal) -> None:
        raise MemoryError("a lane is gone")

    case.script = script
    with pytest.raises(MemoryError):
        case.run()
    assert case.store.topics[REGISTRY_TOPIC].compacted().keys() == {
        key for key in case.store.topics[REGISTRY_TOPIC].compacted() if b"producer" in key
    }
    assert case.store.events[-1] == "close writer"
    assert not case.target.connected
