"""Producer ids in the registry: given once, found by later sessions, entered again where they were
lost.
"""

from __future__ import annotations

import msgspec
import pytest

from kit.fakes.state import FakeReader, FakeWriter, StateTopic
from kit.fakes.world import PRODUCER, FakeCluster
from replicator.errors import ClusterError
from replicator.state import REGISTRY_TOPIC
from replicator.state.producers import Producers
from replicator.state.records import MARKER, FillerKey, ProducerIdentity, ProducerKey
from replicator.state.registry import Registry

FLOW = "a>b"


class Reading:
    """A registry and what one session knows of its producer ids."""

    def __init__(self, topic: StateTopic) -> None:
        self.topic = topic
        self.writer = FakeWriter(topic)
        self.producers = Producers()
        self.registry = Registry(FakeReader(topic))
        self.producers.listen(self.registry)
        self.registry.read_to_end()

    def allocate(self) -> ProducerIdentity:
        cluster = FakeCluster("target")
        return self.producers.allocate(cluster, self.writer, FLOW, "a")  # type: ignore[arg-type]


def test_an_id_that_was_given_is_found_by_the_next_session(topic: StateTopic) -> None:
    first = Reading(topic)
    assert first.producers.of(FLOW) is None
    given = first.allocate()
    assert given == ProducerIdentity(PRODUCER, 0, "a")
    for known in (first, Reading(topic)):
        assert known.producers.of(FLOW) == given
        assert known.producers.flow_of(PRODUCER) == FLOW
        assert known.producers.of("c>b") is None
        assert known.producers.flow_of(PRODUCER + 1) is None


def test_an_id_that_could_not_be_written_is_not_used(topic: StateTopic) -> None:
    one = Reading(topic)
    one.writer.failure = ClusterError("target", "no replicas")
    with pytest.raises(ClusterError):
        one.allocate()
    assert one.producers.of(FLOW) is None


def test_the_first_of_several_is_the_flows(topic: StateTopic) -> None:
    one = Reading(topic)
    one.producers.restore(one.writer, FLOW, "a", [(9, 1), (4, 0)])
    assert Reading(topic).producers.of(FLOW) == ProducerIdentity(4, 0, "a")


def test_only_what_was_lost_is_entered_again(topic: StateTopic) -> None:
    one = Reading(topic)
    one.allocate()
    one.producers.restore(one.writer, FLOW, "a", [(PRODUCER, 0), (9, 1)])
    assert [(name, msgspec.json.decode(key)) for name, key, _ in one.writer.sent] == [
        (REGISTRY_TOPIC, ["producer", FLOW, PRODUCER]),
        (REGISTRY_TOPIC, ["producer", FLOW, 9]),
    ]


def test_what_is_added_later_is_known_once_it_is_read(topic: StateTopic) -> None:
    one, other = Reading(topic), Reading(topic)
    other.allocate()
    topic.append(FillerKey().encode(), MARKER)
    assert one.producers.of(FLOW) is None
    one.registry.read_new()
    assert one.producers.flow_of(PRODUCER) == FLOW
    assert one.registry.read_to == 2


def test_a_tombstone_takes_it_away(topic: StateTopic) -> None:
    Reading(topic).allocate()
    topic.append(ProducerKey(FLOW, PRODUCER).encode(), None)
    assert Reading(topic).producers.of(FLOW) is None
