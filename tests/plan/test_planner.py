"""Plans made between two clusters in memory: what is copied, what goes on, what is in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kit.fakes.state import FakeWriter, StateTopic
from kit.fakes.world import PRODUCER, FakeCluster
from replicator.cluster import Denied, OffsetResult
from replicator.cluster.admin import TopicConfigs, TopicSpec
from replicator.cluster.errors import broker_failure
from replicator.errors import CopystreamError, ExitCode, UsageError
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.splits import Splits, fresh
from replicator.options.settings import CopySettings, copy_settings
from replicator.options.table import options_of
from replicator.plan.draft import CopyPlan
from replicator.plan.planner import Planner
from replicator.report.model import TopicPlan
from replicator.state.map_topic import MapTopic
from replicator.state.records import Binding, SplitBinding
from replicator.terms import Side

NOW = 1_700_000_000_000
FLOW = "source>target"


class MemoryCluster(FakeCluster):
    """With what a plan asks beside the offsets. Each record is a byte on disk."""

    def __init__(self, side: Side) -> None:
        super().__init__(side)
        self.config = SimpleNamespace(bootstrap_text=f"{side}:9092")
        self.cluster_id = f"{side}-id"
        self.times: dict[tuple[str, int, int], int] = {}  # topic, partition, ms: the first offset
        self.stable: dict[tuple[str, int], int] = {}  # last stable offsets below the log end

    def list_offsets(
        self, partitions: Iterable[tuple[str, int]], at: Any, **how: Any
    ) -> dict[tuple[str, int], OffsetResult]:
        """Times too, from the fake logs' ``times``."""
        tps = list(partitions)
        if isinstance(at, int):
            return {tp: OffsetResult(self.times.get((*tp, at), -1), 4, 0) for tp in tps}
        found = super().list_offsets(tps, at, **how)
        if how.get("read_committed"):
            found |= {tp: OffsetResult(self.stable[tp], 4, 0) for tp in tps if tp in self.stable}
        return found

    def partition_bytes(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return {tp: self.log(*tp).end - self.log(*tp).start for tp in partitions}

    def error(self, code: int, doing: str, *, acl: str, detail: str = "") -> CopystreamError:
        return broker_failure(code, self.side, self.name, doing, acl=acl, detail=detail)


class MemoryAdmin:
    """The admin client of one cluster. ``configs`` are by topic; ``refused`` are errors of topics
    asked for.
    """

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster
        self.configs: dict[str, dict[str, str] | CopystreamError] = {}
        self.refused: dict[str, CopystreamError] = {}
        self.created: list[TopicSpec] = []
        self.widened: dict[str, int] = {}

    def describe_topic_configs(
        self, topics: Iterable[str]
    ) -> dict[str, TopicConfigs | CopystreamError]:
        found: dict[str, TopicConfigs | CopystreamError] = {}
        for name in topics:
            configs = self.configs.get(name, {})
            if isinstance(configs, CopystreamError):
                found[name] = configs
            else:
                found[name] = TopicConfigs(configs, configs)
        return found

    def topic_defaults(self) -> dict[str, str]:
        return {}

    def request_topics(
        self, specs: Sequence[TopicSpec], *, validate_only: bool = False
    ) -> dict[str, CopystreamError]:
        asked = {spec.name for spec in specs}
        if not validate_only:
            self.created += [spec for spec in specs if spec.name not in self.refused]
        return {name: error for name, error in self.refused.items() if name in asked}

    def widen_topics(
        self, counts: Mapping[str, int], *, validate_only: bool = False
    ) -> dict[str, CopystreamError]:
        if not validate_only:
            self.widened |= counts
        return {}


def defaults() -> dict[str, Any]:
    return {option.dest: option.parsed_default for option in options_of("copy")}


def parsed(name: str, text: str) -> Any:
    """The value of an option, as a user types it."""
    return next(o for o in options_of("copy") if o.name == name).value.parse(text)


class Setting:
    """Two clusters, and the stored state of one flow between them."""

    def __init__(self) -> None:
        self.source, self.target = MemoryCluster("source"), MemoryCluster("target")
        self.source_admin, self.target_admin = MemoryAdmin(self.source), MemoryAdmin(self.target)
        self.state = StateTopic()
        self.writer = FakeWriter(self.state)
        topic = MapTopic(FLOW)
        topic.take_over(dict.fromkeys("abcdt", 1))
        self.maps = OffsetMaps(topic)
        self.splits = Splits(topic)
        self.lost: list[Any] = []  # as ``Authors`` would find it
        self.before_deciding: Callable[[], object] = lambda: None

    def topic(self, name: str, *ends: int) -> None:
        """On the source, with so many records in each partition."""
        made = self.source.add(name, len(ends))
        for number, end in enumerate(ends):
            made.partitions[number].end = end

    def copied(self, name: str, partition: int, source: int, *, base: int = 0) -> None:
        """An earlier run has copied the partition from ``source`` on; the target has all of it."""
        binding = Binding(
            source_id=str(self.source.topics[name].topic_id),
            target_topic=name,
            target_id=str(self.target.topics[name].topic_id),
            base=base,
            producer_id=PRODUCER,
            producer_epoch=0,
        )
        self.maps.write_bindings(self.writer, [((name, partition), binding, source)])

    def settings(self, *topics: str, **given: Any) -> CopySettings:
        values = defaults() | {"source": "s:9092", "target": "t:9092", "topics": topics}
        return copy_settings(values | given, given)

    def plan(self, *topics: str, create: bool = False, **given: Any) -> CopyPlan:
        planner = Planner(
            self.settings(*topics, **given), self.source, self.target,  # type: ignore[arg-type]
            self.source_admin, self.target_admin, lambda: NOW,  # type: ignore[arg-type]
        )  # fmt: skip
        inputs = planner.gather(*planner.choose())
        self.before_deciding()
        authors: Any = SimpleNamespace(lost=self.lost.append)
        return planner.make(inputs, FLOW, self.maps, self.splits, authors, create=create)


@pytest.fixture
def two() -> Setting:
    return Setting()


def only(plan: CopyPlan) -> TopicPlan:
    (topic,) = plan.report.topics
    return topic


def parts(plan: CopyPlan) -> list[tuple[str, int, int, int, int]]:
    """Topic, partition, source offsets from and to, and the number of the next record."""
    return [(p.topic, p.partition, p.start, p.end, p.counter) for p in plan.partitions]


# --- what a first copy takes ----------------------------------------------------------------------


def test_a_first_copy_takes_all_there_is(two: Setting) -> None:
    two.topic("t", 40, 0)
    two.source.log("t").start = 10
    plan = two.plan("t")
    assert parts(plan) == [("t", 0, 10, 40, 0), ("t", 1, 0, 0, 0)]
    assert (only(plan).create, only(plan).records, only(plan).bytes) == (True, 30, 30)
    assert only(plan).conflict is None
    assert (plan.report.records, plan.report.bytes, plan.report.faults) == (30, 30, [])
    assert (plan.report.source, plan.report.target_cluster_id) == ("source:9092", "target-id")
    assert two.target_admin.created == [], "a dry run creates nothing"


def test_the_leader_epoch_of_a_logs_first_record_is_known(two: Setting, tmp_path: Path) -> None:
    """The epoch of a record in the middle of the log is not known."""
    two.topic("t", 40, 40)
    file = tmp_path / "offsets"
    file.write_text("t 0 0\nt 1 7\n")
    plan = two.plan("t", **{"from": parsed("from", str(file))})
    assert [(part.start, part.start_epoch) for part in plan.partitions] == [(0, 4), (7, -1)]


def test_a_run_creates_what_is_missing(two: Setting) -> None:
    two.topic("t", 5, 5)
    two.plan("t", create=True)
    assert [(one.name, one.partitions) for one in two.target_admin.created] == [("t", 2)]


def test_an_offset_that_the_log_does_not_have(two: Setting, tmp_path: Path) -> None:
    two.topic("t", 5)
    file = tmp_path / "offsets"
    file.write_text("t 0 9\n")
    with pytest.raises(UsageError, match="goes from 0 to 5"):
        two.plan("t", **{"from": parsed("from", str(file))})


def test_a_copy_that_follows_has_no_end(two: Setting) -> None:
    two.topic("t", 5)
    assert parts(two.plan("t", until=parsed("until", "forever"))) == [("t", 0, 0, -1, 0)]


def test_open_transactions_are_told(two: Setting) -> None:
    two.topic("t", 9)
    two.source.stable["t", 0] = 4
    topic = only(two.plan("t"))
    assert [(one.offset, one.records) for one in topic.open_transactions] == [(4, 5)]
    assert "5 offsets from 4 on" in topic.warnings[0]


# --- what goes on ---------------------------------------------------------------------------------


def begun(two: Setting) -> None:
    """An earlier run has copied the first 6 of 10 records, from source offset 2 on."""
    two.topic("t", 10)
    two.source.log("t").start = 2
    two.target.add("t")
    two.copied("t", 0, 2)
    two.target.log("t").write(6, 0)


def test_a_copy_goes_on_where_the_map_says(two: Setting) -> None:
    begun(two)
    plan = two.plan("t")
    assert parts(plan) == [("t", 0, 8, 10, 6)]
    assert (only(plan).resume, only(plan).create, only(plan).records) == (True, False, 2)


def test_an_end_before_the_position_copies_nothing_more(two: Setting) -> None:
    begun(two)
    two.source.times["t", 0, 1714564800000] = 5
    plan = two.plan("t", until=parsed("until", "1714564800000"))
    assert parts(plan) == [("t", 0, 8, 8, 6)]


def test_options_of_the_first_run_are_without_effect(two: Setting) -> None:
    begun(two)
    plan = two.plan("t", **{"from": parsed("from", "latest"), "until": parsed("until", "forever")})
    assert "--from has no effect: the copy goes on where it stopped (partition 0 at 8)" in (
        only(plan).warnings
    )
    restart = only(two.plan("t", restart=True)).warnings
    assert any(
        text.startswith("--restart has no effect: the target topic holds") for text in restart
    )


def test_an_earlier_start_than_that_of_the_copy_is_refused(two: Setting) -> None:
    begun(two)
    two.source.log("t").start = 0
    topic = only(two.plan("t", **{"from": parsed("from", "earliest")}))
    assert (topic.conflict_kind, topic.conflict_exit_code) == ("already-begun", ExitCode.USAGE)


def test_records_that_the_source_has_lost(two: Setting) -> None:
    begun(two)
    two.source.log("t").start = 9
    plan = two.plan("t")
    (fault,) = plan.report.faults
    assert (fault.kind, fault.partition, fault.offset) == ("data-loss", 0, 8)
    assert parts(plan) == []


def test_a_gap_that_is_accepted(two: Setting) -> None:
    begun(two)
    two.source.log("t").start = 9
    plan = two.plan("t", accept_gap=True)
    assert plan.report.faults == []
    assert [(gap.start, gap.end) for gap in only(plan).gaps] == [(8, 9)]
    assert "--accept-gap" in only(plan).warnings[-1]


def test_a_position_counted_with_others_records_is_no_fault_of_the_source(two: Setting) -> None:
    """The run itself finds the foreign writer; the plan must not blame the source."""
    begun(two)
    two.target.log("t").write(20, 0, producer=99)
    two.source.log("t").start = 9
    assert two.plan("t").report.faults == []


# --- what is in the way ---------------------------------------------------------------------------

TopicIds = Callable[[Setting], None]


def source_anew(two: Setting) -> None:
    two.topic("t", 10)


def target_anew(two: Setting) -> None:
    two.target.add("t")


def target_gone(two: Setting) -> None:
    del two.target.topics["t"]


@pytest.mark.parametrize(
    ("change", "kind", "side"),
    [
        (source_anew, "source-recreated", "source"),
        (target_anew, "target-recreated", "target"),
        (target_gone, "target-deleted", "target"),
    ],
)
def test_topics_that_are_others_than_before(
    two: Setting, change: TopicIds, kind: str, side: Side
) -> None:
    begun(two)
    change(two)
    plan = two.plan("t")
    topic = only(plan)
    assert (topic.conflict_kind, topic.conflict_side) == (kind, side)
    assert topic.conflict_exit_code == ExitCode.STATE
    assert plan.partitions == []


def test_another_partitioner_than_before(two: Setting) -> None:
    begun(two)
    topic = only(two.plan("t", partitioner="murmur2"))
    assert "--partitioner keep" in (topic.conflict or "")
    assert (topic.conflict_kind, topic.conflict_exit_code) == ("refused", ExitCode.STATE)


def test_records_of_others_are_not_written_after(two: Setting) -> None:
    two.topic("t", 5)
    two.target.add("t")
    two.target.log("t").write(3, 0, producer=99)
    topic = only(two.plan("t"))
    assert "already holds records" in (topic.conflict or "")
    assert two.lost == [{("t", 0): 2}], "whether a lost copy wrote them was asked"
    appended = two.plan("t", append=True, **{"from": parsed("from", "earliest")})
    assert [(p.start, p.base) for p in appended.partitions] == [(0, 3)]


def test_one_refused_topic_does_not_stop_others(two: Setting) -> None:
    for name in "ab":
        two.topic(name, 5)
    two.target_admin.refused["a"] = two.target.error(44, "create topic a", acl="")
    plan = two.plan("a", "b")
    refused, fine = plan.report.topics
    assert (refused.conflict_kind, refused.conflict_exit_code) == ("refused", ExitCode.TARGET)
    assert fine.conflict is None
    assert [p.topic for p in plan.partitions] == ["b"]
    assert plan.report.records == 5


def test_configs_that_cannot_be_read_now_refuse_a_new_topic(two: Setting) -> None:
    two.topic("t", 5)
    two.source_admin.configs["t"] = two.source.error(7, "read configs of topic t", acl="")
    topic = only(two.plan("t"))
    assert (topic.conflict_side, topic.conflict_exit_code) == ("source", ExitCode.SOURCE)
    two.source_admin.configs["t"] = two.source.error(29, "read configs of topic t", acl="X on t")
    assert isinstance(two.source_admin.configs["t"], Denied)
    assert only(two.plan("t")).conflict is None, "denied: made without them, with a warning"


def test_a_partition_without_a_leader_is_a_fault_of_that_partition(two: Setting) -> None:
    two.topic("t", 5, 7)
    two.source.log("t", 1).error = 6
    plan = two.plan("t")
    assert [(fault.kind, fault.partition) for fault in plan.report.faults] == [("unreachable", 1)]
    assert parts(plan) == [("t", 0, 0, 5, 0)]


def test_a_topic_that_goes_away_while_it_is_planned(two: Setting) -> None:
    for name in "ab":
        two.topic(name, 5)
    two.before_deciding = lambda: two.source.topics.pop("a")
    by_name = two.plan("a", "b")
    assert [(t.topic, t.conflict_kind) for t in by_name.report.topics if t.conflict] == [
        ("a", "source-deleted")
    ]
    two.topic("a", 5)
    by_pattern = two.plan("[ab]")
    assert [t.topic for t in by_pattern.report.topics] == ["b"]
    assert "deleted on the source" in by_pattern.report.skipped["a"]


# --- records that go to other partitions ----------------------------------------------------------


def test_a_first_split_begins_at_the_logs_ends(two: Setting) -> None:
    two.topic("t", 5)
    two.target.add("t", 3)
    plan = two.plan("t", partitioner="murmur2")
    assert [(p.start, p.end, p.bases, p.first) for p in plan.partitions] == [
        (0, 5, (0, 0, 0), True)
    ]


def split_binding(two: Setting, partitioner: str, bases: tuple[int, ...]) -> SplitBinding:
    return SplitBinding(
        source_id=str(two.source.topics["t"].topic_id),
        target_topic="t",
        target_id=str(two.target.topics["t"].topic_id),
        producer_id=PRODUCER,
        producer_epoch=0,
        partitioner=partitioner,
        bases=bases,
    )


@pytest.mark.parametrize(
    ("partitioner", "bases", "conflict"),
    [
        ("murmur2", (0, 0, 0), None),
        ("fnv1a", (0, 0, 0), "--partitioner fnv1a"),
        ("murmur2", (0, 0), "has 3 partitions now, and had 2"),
    ],
)
def test_a_split_copy_goes_on(
    two: Setting, partitioner: str, bases: tuple[int, ...], conflict: str | None
) -> None:
    two.topic("t", 5)
    two.target.add("t", 3)
    state = fresh(split_binding(two, partitioner, bases), 2)
    two.splits.restate(two.writer, {("t", 0): state})
    plan = two.plan("t", partitioner="murmur2")
    assert (conflict or "") in (only(plan).conflict or "")
    assert (only(plan).conflict is None) is (conflict is None)
    if conflict is None:
        assert [(p.start, p.first) for p in plan.partitions] == [(2, False)]
        assert only(plan).resume


def test_a_target_partition_that_cannot_be_reached_refuses_the_split_topic(two: Setting) -> None:
    two.topic("t", 5)
    two.target.add("t", 3)
    two.target.log("t", 1).error = 6
    topic = only(two.plan("t", partitioner="murmur2"))
    assert "each of its partitions is written to" in (topic.conflict or "")
    assert (topic.conflict_kind, topic.conflict_exit_code) == ("unreachable", ExitCode.INCOMPLETE)
    two.target.log("t", 1).error = 29
    topic = only(two.plan("t", partitioner="murmur2"))
    assert (topic.conflict_kind, topic.conflict_exit_code) == ("denied", ExitCode.TARGET)
