"""A session: what it reads and writes, in which order, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import msgspec
import pytest

from copycore.segments import Segments
from kit.fakes.store import Store, StoreAdmin
from kit.fakes.world import PRODUCER, FakeCluster
from replicator.cluster import Unreachable
from replicator.errors import IncompleteError, UsageError
from replicator.offsets.maps import OffsetMaps
from replicator.process import host_id, start_ticks
from replicator.state import OFFSET_MAP_TOPIC, REGISTRY_TOPIC
from replicator.state.records import (
    MARKER,
    Binding,
    BindingKey,
    ChunkKey,
    ClaimKey,
    Process,
    ProducerIdentity,
    ProducerKey,
    SessionKey,
    encode_value,
)
from replicator.state.session import Session

FLOW = "source-id>target-id"
TP = ("orders", 0)
BINDING = Binding("s", "orders", "t", 0, PRODUCER, 0)


class Clusters:
    """Two clusters, the state on one of them, and sessions between them."""

    def __init__(self) -> None:
        self.source, self.target = FakeCluster("source"), FakeCluster("target")
        self.store = Store(self.target)

    def session(self) -> AbstractContextManager[Session]:
        return Session.open(
            self.source,  # type: ignore[arg-type]
            self.target,  # type: ignore[arg-type]
            StoreAdmin(self.store),  # type: ignore[arg-type]
            same_cluster_id=False,
            open_writer=self.store.writer,  # type: ignore[arg-type]
            open_consumer=self.store.consumer,  # type: ignore[arg-type]
        )

    def plant_map(self, generation: int) -> None:
        """What an earlier session wrote."""
        topic = self.store.topics[OFFSET_MAP_TOPIC]
        topic.append(BindingKey(FLOW, *TP, generation).encode(), encode_value(BINDING))
        chunk = encode_value(Segments([100], [0]))
        topic.append(ChunkKey(FLOW, *TP, generation, 0).encode(), chunk)

    def plant_session(self, session: str, pid: int, started: int) -> None:
        topic = self.store.topics[REGISTRY_TOPIC]
        process = Process(host_id(), "here", pid, started, 0)
        topic.append(SessionKey(session).encode(), encode_value(process))
        topic.append(ClaimKey(FLOW, "orders", session).encode(), MARKER)

    def registry(self) -> list[list[object]]:
        """The keys of what is in it."""
        return [msgspec.json.decode(key) for key in self.store.topics[REGISTRY_TOPIC].compacted()]


@pytest.fixture
def clusters() -> Iterator[Clusters]:
    found = Clusters()
    yield found
    assert not found.source.connected
    assert not found.target.connected


def index(events: list[str], event: str) -> int:
    """The position of the last such event."""
    return len(events) - 1 - events[::-1].index(event)


# --- reading only ---------------------------------------------------------------------------------


def test_a_plan_writes_nothing_where_there_is_no_state(clusters: Clusters) -> None:
    with clusters.session() as session:
        found = session.read()
        assert clusters.source.connected
        assert (session.flow, session.origin) == (FLOW, "source-id")
    assert len(found.lost) == 2
    assert clusters.store.topics == {}
    assert clusters.store.events == ["close consumer"]


def test_a_plan_reads_what_there_is_and_writes_nothing(clusters: Clusters) -> None:
    clusters.store.make(REGISTRY_TOPIC, OFFSET_MAP_TOPIC)
    identity = ProducerIdentity(PRODUCER, 0, "source-id")
    key = ProducerKey(FLOW, PRODUCER).encode()
    clusters.store.topics[REGISTRY_TOPIC].append(key, encode_value(identity))
    clusters.plant_map(0)
    with clusters.session() as session:
        maps = OffsetMaps(session.map_topic)
        session.read()
        assert session.producers.of(FLOW) == identity
        assert maps.binding(TP) == BINDING
        assert maps.source_of(TP, 5) == 105
    assert not [event for event in clusters.store.events if event.startswith(("write", "create"))]


# --- claiming -------------------------------------------------------------------------------------


def test_a_run_makes_what_is_missing_claims_and_leaves_nothing(clusters: Clusters) -> None:
    with clusters.session() as session:
        session.acquire(["orders"])
        kinds = [key[0] for key in clusters.registry()]
        assert kinds == ["session", "claim"]
        assert session.pulse.standing()
        session.writer.write(OFFSET_MAP_TOPIC, [(b"k", b"v")])
    assert clusters.registry() == []
    events = clusters.store.events
    assert events[:2] == [f"create {REGISTRY_TOPIC}", f"create {OFFSET_MAP_TOPIC}"]
    # The claims are given up while they can still be written; what is written is waited for last.
    assert events[-3:] == [f"write {REGISTRY_TOPIC}", "close consumer", "close writer"]


def test_the_map_is_read_before_the_claims_and_after_them(clusters: Clusters) -> None:
    """The session before may have written its last segment until it was struck out."""
    clusters.store.make(REGISTRY_TOPIC, OFFSET_MAP_TOPIC)
    with clusters.session() as session:
        session.acquire(["orders"])
    events = clusters.store.events
    first, claimed = (
        events.index(f"read {OFFSET_MAP_TOPIC}"),
        events.index(f"write {REGISTRY_TOPIC}"),
    )
    assert events.index(f"read {REGISTRY_TOPIC}") < first < claimed
    assert claimed < index(events, f"read {OFFSET_MAP_TOPIC}")
    assert f"stop reading {OFFSET_MAP_TOPIC}" in events


def test_maps_are_taken_over_as_a_newer_generation(clusters: Clusters) -> None:
    clusters.store.make(REGISTRY_TOPIC, OFFSET_MAP_TOPIC)
    clusters.plant_map(0)
    with clusters.session() as session:
        maps = OffsetMaps(session.map_topic)
        session.acquire(["orders"])
        assert session.map_topic.generations.own("orders") == 2, "a filler, the session, its claim"
        maps.restate(session.writer, [(TP, 3)])
        session.clean()
    left = [msgspec.json.decode(key) for key in clusters.store.topics[OFFSET_MAP_TOPIC].compacted()]
    assert left == [["binding", FLOW, *TP, 0], ["chunk", FLOW, *TP, 2, 0]]


def test_a_lost_registry_goes_beyond_the_generations_of_the_map(clusters: Clusters) -> None:
    clusters.store.make(OFFSET_MAP_TOPIC)
    clusters.plant_map(7)
    with clusters.session() as session:
        maps = OffsetMaps(session.map_topic)
        found = session.acquire(["orders"])
        session.restore_producers(maps.producers())
        assert session.map_topic.generations.own("orders") > 7
        assert session.producers.of(FLOW) == ProducerIdentity(PRODUCER, 0, "source-id")
    assert any("had lost its records" in warning for warning in found.warnings)
    assert clusters.registry() == [["filler"], ["producer", FLOW, PRODUCER]]


def test_a_producer_id_is_durable_when_it_is_given(clusters: Clusters) -> None:
    with clusters.session() as session:
        session.acquire(["orders"])
        identity = session.allocate_producer()
        assert identity == ProducerIdentity(PRODUCER, 0, "source-id")
        assert ["producer", FLOW, PRODUCER] in clusters.registry()
        assert session.producers.of(FLOW) == identity


def test_what_was_replaced_stays_once_the_claims_are_lost(clusters: Clusters) -> None:
    """A successor may have read the map before what replaces it."""
    clusters.store.make(REGISTRY_TOPIC, OFFSET_MAP_TOPIC)
    clusters.plant_map(0)
    with clusters.session() as session:
        maps = OffsetMaps(session.map_topic)
        session.acquire(["orders"])
        maps.restate(session.writer, [(TP, 3)])
        (mine,) = [key for key in clusters.registry() if key[0] == "session"]
        key = msgspec.json.encode(mine)
        clusters.store.topics[REGISTRY_TOPIC].append(key, None)
        session.pulse.turn()
        assert not session.pulse.standing()
        session.clean()
    assert None not in [value for _, _, value in clusters.store.topics[OFFSET_MAP_TOPIC].records]


# --- what goes wrong ------------------------------------------------------------------------------


def test_topics_that_are_held_are_refused_and_everything_is_closed(clusters: Clusters) -> None:
    clusters.store.make(REGISTRY_TOPIC, OFFSET_MAP_TOPIC)
    clusters.plant_session("other", 1, start_ticks(1))
    with clusters.session() as session:
        with pytest.raises(IncompleteError, match="process 1 on here"):
            session.acquire(["orders"])
        assert clusters.store.events[-2:] == ["close consumer", "close writer"]
        assert clusters.source.connected, "the plan may still be asked for"
        with pytest.raises(RuntimeError, match="no topics were acquired"):
            _ = session.writer
    assert [key[0] for key in clusters.registry()] == ["session", "claim"]


def test_nothing_is_held_before_it_is_acquired(clusters: Clusters) -> None:
    with clusters.session() as session, pytest.raises(RuntimeError, match="no topics"):
        _ = session.pulse


def test_topics_are_acquired_once(clusters: Clusters) -> None:
    with clusters.session() as session:
        session.acquire(["orders"])
        with pytest.raises(RuntimeError, match="already"):
            session.acquire(["payments"])


def test_one_cluster_under_two_names_is_refused(clusters: Clusters) -> None:
    clusters.target.cluster_id = clusters.source.cluster_id
    with pytest.raises(UsageError, match="are the same cluster"), clusters.session():
        pytest.fail("there is no such session")


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_cluster_that_cannot_be_reached(clusters: Clusters, side: str) -> None:
    cluster: FakeCluster = getattr(clusters, side)
    cluster.failures["connect"] = Unreachable(cluster.side, "gone", hint="")
    with pytest.raises(Unreachable, match="gone"), clusters.session():
        pytest.fail("there is no such session")


def test_a_failure_of_the_caller_gives_the_claims_up(clusters: Clusters) -> None:
    with pytest.raises(ZeroDivisionError), clusters.session() as session:
        session.acquire(["orders"])
        raise ZeroDivisionError
    assert clusters.registry() == []
