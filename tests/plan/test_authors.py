"""Which client wrote a target topic's records: known by producer id, sequence and time only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from kit.fakes.state import FakeReader, StateTopic
from replicator.cluster import OffsetResult
from replicator.plan import authors
from replicator.plan.authors import Authors
from replicator.state.producers import Producers
from replicator.state.records import ProducerIdentity
from replicator.state.registry import Registry

PLACE = ("orders", 3)
TAILS = {PLACE: 99}
LOST = ["copystream-offset-map.internal was not there"]


@dataclass
class Ends:
    """The fields of a partition's last batch that are read."""

    producer_id: int = 7
    producer_epoch: int = 0
    base_sequence: int = 90
    base_offset: int = 90
    max_timestamp: int = 1000
    magic: int = 2
    is_transactional: bool = False


class World:
    """A source and a target by the batches their partitions end with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.target: Ends | None = Ends()
        self.source: Ends | None = Ends()
        self.topic = StateTopic()
        self.producers = Producers()
        self.registry = Registry(FakeReader(self.topic))
        self.producers.listen(self.registry)
        monkeypatch.setattr(authors, "last_batches", self._last)

    def _last(self, cluster: object, offsets: dict[tuple[str, int], int]) -> dict[Any, Any]:
        return dict.fromkeys(offsets, self.source if cluster is self else self.target)

    def list_offsets(self, places: list[tuple[str, int]], _at: int) -> dict[Any, OffsetResult]:
        return dict.fromkeys(places, OffsetResult(40 if self.source else -1, 0, 0))

    def register(self, flow: str, producer_id: int) -> None:
        key = msgspec.json.encode(["producer", flow, producer_id])
        value = msgspec.json.encode(ProducerIdentity(producer_id, 0, "a"))
        self.topic.append(key, value)
        self.registry.read_to_end()

    def found(self, lost: list[str]) -> str | None:
        target: Any = object()
        conflict = Authors(self, target, self.producers, "a>b", lost).lost(TAILS)  # type: ignore[arg-type]
        assert conflict is None or conflict.kind == "state-lost"
        return None if conflict is None else conflict.what


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_registered_producer_id_is_certain(world: World) -> None:
    world.register("a>b", 7)
    world.source = None
    for lost in ([], LOST):
        assert "this copy wrote the last records of orders-3" in (world.found(lost) or "")


def test_records_of_another_flow_are_no_lost_state(world: World) -> None:
    world.register("c>b", 7)
    assert world.found(LOST) is None


def test_without_a_registry_it_seems_so(world: World) -> None:
    assert "seems to be lost (copystream-offset-map.internal was" in (world.found(LOST) or "")
    assert world.found([]) is None, "state that lost nothing would know of it"


@pytest.mark.parametrize(
    "stranger",
    [
        Ends(producer_id=-1),
        Ends(producer_epoch=1),
        Ends(base_sequence=5),
        Ends(is_transactional=True),
        Ends(max_timestamp=999),
        Ends(max_timestamp=-1),
        Ends(magic=1),
        None,
    ],
)
def test_others_are_not_taken_for_a_copy(world: World, stranger: Ends | None) -> None:
    world.target = stranger
    assert world.found(LOST) is None


def test_a_source_that_has_no_such_record_tells_a_stranger(world: World) -> None:
    world.source = None
    assert world.found(LOST) is None
