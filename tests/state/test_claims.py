"""One copystream at a time: claims in a registry that several sessions share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kit.fakes.state import FakeClock, FakeReader, FakeWriter, StateTopic
from replicator.errors import ClusterError, ExitCode, IncompleteError, StateError
from replicator.state import REGISTRY_TOPIC
from replicator.state.claims import BEAT_INTERVAL, HOLDING, LEASE, Claims
from replicator.state.pulse import Pulse
from replicator.state.records import Process
from replicator.state.registry import Registry

FLOW = "a>b"


class Node:
    """A copystream's view of the registry."""

    def __init__(self, topic: StateTopic, clock: FakeClock, flow: str = FLOW) -> None:
        self.reader = FakeReader(topic)
        self.writer = FakeWriter(topic)
        self.registry = Registry(self.reader)
        self.claims = Claims(self.registry, self.writer, flow, clock=clock, sleep=clock.sleep)
        self.pulse = Pulse(self.claims, clock=clock)

    def start(self, *topics: str) -> None:
        self.registry.read_to_end()
        self.claims.acquire(topics)

    def keep(self) -> bool:
        """Does what the pulse's thread does; returns whether the claims are valid then."""
        self.pulse.turn()
        return not self.claims.struck_out


@pytest.fixture
def node(topic: StateTopic, clock: FakeClock) -> Callable[..., Node]:
    return lambda **settings: Node(topic, clock, **settings)


def sessions(topic: StateTopic) -> dict[str, Process]:
    """The sessions that are not struck out, by id."""
    found = {}
    for key, value in topic.compacted().items():
        kind, *rest = msgspec.json.decode(key)
        if kind == "session":
            found[rest[0]] = msgspec.json.decode(value, type=Process)
    return found


def claimed(topic: StateTopic) -> set[tuple[str, str]]:
    """(topic, session) of all claims."""
    keys = [msgspec.json.decode(key) for key in topic.compacted()]
    return {(key[2], key[3]) for key in keys if key[0] == "claim"}


def plant(topic: StateTopic, session: str, *topics: str, flow: str = FLOW, **change: Any) -> None:
    """A session of some other process, as it would have written itself down."""
    stored = Process(host_id="another machine", host="far", pid=77, started=1, beat=4)
    stored = msgspec.structs.replace(stored, **change)
    topic.append(msgspec.json.encode(["session", session]), msgspec.json.encode(stored))
    for name in topics:
        topic.append(msgspec.json.encode(["claim", flow, name, session]), b"1")


def beat(topic: StateTopic, session: str) -> None:
    stored = sessions(topic)[session]
    plant(topic, session, **(msgspec.structs.asdict(stored) | {"beat": stored.beat + 1}))


def bury(topic: StateTopic, session: str, *topics: str) -> None:
    """Another session strikes this one out."""
    topic.append(msgspec.json.encode(["session", session]), None)
    for name in topics:
        topic.append(msgspec.json.encode(["claim", FLOW, name, session]), None)


# --- alone ----------------------------------------------------------------------------------------


def test_a_session_claims_its_topics(node: Callable[..., Node], topic: StateTopic) -> None:
    one = node()
    one.start("x", "y")
    (stored,) = sessions(topic).values()
    assert stored.pid == os.getpid()
    assert stored.alive_here() is True
    assert {name for name, _ in claimed(topic)} == {"x", "y"}
    assert {name for name, _, _ in one.writer.sent} == {REGISTRY_TOPIC}
    assert one.keep()


def test_release_leaves_nothing(node: Callable[..., Node], topic: StateTopic) -> None:
    one = node()
    one.start("x", "y")
    one.keep()
    one.claims.release()
    assert topic.compacted() == {}
    topic.compact()
    assert all(value is None for _, _, value in topic.records)


def test_no_topics_are_no_reason_to_fail(node: Callable[..., Node], topic: StateTopic) -> None:
    one = node()
    one.start()
    assert one.keep()
    one.claims.release()
    assert topic.compacted() == {}


def test_the_heart_beats_every_few_seconds(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    one = node()
    one.start("x")
    (name,) = sessions(topic)
    beats = set()
    for _ in range(100):
        assert one.keep()
        beats.add(sessions(topic)[name].beat)
        clock.now += 0.5
    assert len(beats) == pytest.approx(50 / BEAT_INTERVAL, abs=2)
    assert BEAT_INTERVAL * 2 < LEASE, "a single lost beat must not cost the claims"


def test_an_outage_of_the_registry_does_not_end_the_claims(
    node: Callable[..., Node], clock: FakeClock
) -> None:
    one = node()
    one.start("x")
    one.reader.failure = ClusterError("target", "cannot read the registry")
    assert one.keep()
    clock.now += 60
    one.writer.failure = ClusterError("target", "cannot write to it either")
    assert one.keep()


# --- two at once ----------------------------------------------------------------------------------


def test_a_second_copy_of_this_machine_is_refused_at_once(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    one, two = node(), node()
    one.start("x", "y")
    began = clock.now
    with pytest.raises(IncompleteError) as caught:
        two.start("y", "z")
    assert clock.now == began, "its process is seen to live; there is nothing to wait for"
    assert caught.value.exit_code == ExitCode.INCOMPLETE
    assert f"process {os.getpid()}" in caught.value.message
    assert "the same command then goes on" in (caught.value.hint or "")
    assert len(sessions(topic)) == 1
    assert {name for name, _ in claimed(topic)} == {"x", "y"}
    assert one.keep()


def test_the_first_in_the_log_wins(node: Callable[..., Node], topic: StateTopic) -> None:
    """Both read before either wrote. The log has one order, which both read in the end."""
    early, late = node(), node()
    # The late one has looked, and is about to write, when the early one claims.
    late.writer.before = lambda: early.start("x")
    with pytest.raises(IncompleteError):
        late.start("x")
    assert early.keep()
    (winner,) = sessions(topic)
    assert claimed(topic) == {("x", winner)}


def test_the_one_that_wrote_first_wins_even_if_it_reads_last(
    node: Callable[..., Node], topic: StateTopic
) -> None:
    first, second = node(), node()

    def rush() -> None:
        with pytest.raises(IncompleteError):
            second.claims.acquire(["x"])  # having read nothing yet

    first.writer.after = rush
    first.start("x")
    assert first.keep()
    assert len(sessions(topic)) == 1


def test_only_what_overlaps_is_refused(node: Callable[..., Node], topic: StateTopic) -> None:
    one, two, other_flow = node(), node(), node(flow="b>a")
    one.start("x")
    two.start("y")
    other_flow.start("x")
    assert one.keep()
    assert two.keep()
    assert other_flow.keep()
    assert len(sessions(topic)) == 3


def test_of_two_that_hold_each_others_topics_none_goes_on(
    node: Callable[..., Node], topic: StateTopic
) -> None:
    """Each has the first claim on one of the two topics: both must give way, neither may copy."""
    one = node()

    def crosswise() -> None:
        # Between the two claims of ``one`` another session claimed both topics.
        session, claim_x, claim_y = topic.records[-3:]
        del topic.records[-3:]
        for _, key, value in (session, claim_x):
            topic.append(key, value)
        plant(topic, "other", "y", "x")
        topic.append(claim_y[1], claim_y[2])

    one.writer.after = crosswise
    with pytest.raises(IncompleteError, match="process 77 on far"):
        one.start("x", "y")
    assert {session for _, session in claimed(topic)} == {"other"}


# --- the dead -------------------------------------------------------------------------------------


def a_dead_process() -> dict[str, Any]:
    """A process of this machine that has ended, with the start time that it had."""
    script = (
        "from replicator.process import host_id, start_ticks; import os;"
        "print(host_id(), os.getpid(), start_ticks(os.getpid()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    place, pid, started = done.stdout.split()
    return {"host_id": place, "pid": int(pid), "started": int(started)}


def test_a_dead_process_of_this_machine_is_struck_out_at_once(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    plant(topic, "dead", "x", "elsewhere", **a_dead_process())
    began = clock.now
    one = node()
    one.start("x")
    assert clock.now == began
    assert one.keep()
    (mine,) = sessions(topic)
    assert mine != "dead"
    assert claimed(topic) == {("x", mine)}, "its other claims go with it"


def test_a_pid_that_is_used_again_is_not_the_same_process(
    node: Callable[..., Node], topic: StateTopic
) -> None:
    """This very process, as if it had started at another time."""
    one = node()
    one.start("other")
    (me,) = sessions(topic).values()
    one.claims.release()
    plant(topic, "before", "x", host_id=me.host_id, pid=me.pid, started=me.started - 1)
    two = node()
    two.start("x")
    assert len(sessions(topic)) == 1
    assert "before" not in sessions(topic)


def test_a_silent_session_of_elsewhere_is_struck_out_after_its_lease(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    plant(topic, "silent", "x")
    began = clock.now
    one = node()
    one.start("x")
    assert LEASE <= clock.now - began <= LEASE + 1
    assert "silent" not in sessions(topic)
    assert len(claimed(topic)) == 1


@pytest.mark.parametrize("after", [0.1, 3.0, LEASE - 0.5])
def test_a_session_of_elsewhere_that_beats_is_respected(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock, after: float
) -> None:
    plant(topic, "alive", "x")
    began = clock.now

    def live() -> None:
        if clock.now >= began + after and sessions(topic)["alive"].beat == 4:
            beat(topic, "alive")

    clock.on_sleep = live
    with pytest.raises(IncompleteError, match="process 77 on far"):
        node().start("x")
    assert clock.now - began <= after + 1
    assert set(sessions(topic)) == {"alive"}
    assert claimed(topic) == {("x", "alive")}


def test_a_beat_that_was_not_fetched_in_time_is_still_seen(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    """The registry's broker hung: nothing was read, and then there is a beat."""
    plant(topic, "alive", "x")
    one = node()
    one.registry.read_to_end()
    one.reader.blind = True
    began = clock.now

    def live() -> None:
        if clock.now >= began + 5 and sessions(topic)["alive"].beat == 4:
            beat(topic, "alive")

    clock.on_sleep = live
    with pytest.raises(IncompleteError, match="process 77 on far"):
        one.claims.acquire(["x"])
    assert set(sessions(topic)) == {"alive"}


def test_one_that_beat_while_it_was_struck_out_is_waited_for(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    """The beat is before the strike-out, so it counts: until its lease is over the session may send
    records after segments that the successor would not have read.
    """
    plant(topic, "late", "x")
    one = node()
    one.writer.before = lambda: beat(topic, "late")
    began = clock.now
    one.start("x")
    assert clock.now - began >= LEASE + HOLDING
    assert len(claimed(topic)) == 1


def test_a_session_that_leaves_while_it_is_watched_is_not_waited_for(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    plant(topic, "leaving", "x")
    clock.on_sleep = lambda: bury(topic, "leaving", "x")
    one = node()
    began = clock.now
    one.start("x")
    assert clock.now - began < 1
    assert one.keep()
    assert len(sessions(topic)) == 1


def test_one_that_lives_keeps_all_the_dead_in_place(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    """A session that is refused because of one live session strikes out none."""
    plant(topic, "dead", "x", **a_dead_process())
    plant(topic, "alive", "y")
    clock.on_sleep = lambda: beat(topic, "alive")
    with pytest.raises(IncompleteError):
        node().start("x", "y")
    assert set(sessions(topic)) == {"dead", "alive"}


def test_claims_without_a_session_do_not_count(
    node: Callable[..., Node], topic: StateTopic
) -> None:
    """A cut-off release: the session is gone, a claim of it is left."""
    topic.append(msgspec.json.encode(["claim", FLOW, "x", "gone"]), b"1")
    one = node()
    one.start("x")
    assert one.keep()


# --- holding ----------------------------------------------------------------------------------


def test_claims_are_held_as_long_as_beats_arrive(
    node: Callable[..., Node], clock: FakeClock
) -> None:
    one = node()
    one.start("x")
    for _ in range(20):
        one.keep()
        assert one.claims.holds()
        clock.now += 2


def test_a_late_beat_holds_from_when_it_was_sent(
    node: Callable[..., Node], clock: FakeClock
) -> None:
    """A successor waits for LEASE since it has seen a beat: the holder must have stopped before."""
    one = node()
    one.start("x")
    one.writer.hold = True
    one.keep()
    clock.now += HOLDING - 1
    assert one.claims.holds()
    clock.now += 1
    assert not one.claims.holds(), "no beat is known to be durable"
    one.writer.deliver()
    assert not one.claims.holds(), "too long ago"
    one.keep()
    assert not one.claims.holds()
    one.writer.deliver()
    assert not one.claims.holds(), "a strike-out may lie before it in the registry"
    one.keep()
    assert one.claims.holds()
    assert LEASE - HOLDING >= 2, "room for clocks and for what is done after asking"


def test_what_was_durable_before_a_beat_is_proven_when_that_is_read_back(
    node: Callable[..., Node], clock: FakeClock
) -> None:
    one = node()
    one.start("x")
    one.writer.hold = one.reader.blind = True
    clock.now += HOLDING
    one.claims.beat()
    sent = clock.now
    clock.now += 5
    one.claims.read()
    assert one.claims.proven < sent
    one.writer.deliver()
    one.claims.read()
    assert one.claims.proven < sent, "durable, but what lies before it was not read"
    one.reader.blind = False
    one.claims.read()
    assert one.claims.proven == sent


def test_a_beat_after_the_strike_out_proves_nothing(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    one = node()
    one.start("x")
    clock.now += HOLDING
    bury(topic, next(iter(sessions(topic))), "x")
    one.claims.beat()
    one.claims.read()
    assert one.claims.struck_out
    assert one.claims.proven < clock.now
    assert not one.claims.holds()


def test_a_beat_that_failed_holds_nothing(node: Callable[..., Node], clock: FakeClock) -> None:
    one = node()
    one.start("x")
    one.writer.failure = ClusterError("target", "no replicas")
    clock.now += HOLDING
    one.keep()
    assert not one.claims.holds()


def test_a_registry_that_was_made_anew_holds_nothing(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    """Others see no claim of ours in it."""
    one = node()
    for _ in range(5):
        topic.append(b'["filler"]', b"1")
    one.start("orders")
    topic.records.clear()
    clock.now += BEAT_INTERVAL
    one.keep()  # the beat goes out
    assert not one.claims.holds()
    assert not one.keep()


def test_a_session_that_was_struck_out_holds_nothing(
    node: Callable[..., Node], topic: StateTopic
) -> None:
    one = node()
    one.start("x")
    bury(topic, next(iter(sessions(topic))), "x")
    one.keep()
    assert not one.claims.holds()


def test_each_holder_is_of_a_later_generation(node: Callable[..., Node]) -> None:
    before = {"x": -1, "y": -1}
    for _ in range(4):
        one = node()
        one.start("x", "y")
        now = one.claims.generations()
        assert now.keys() == before.keys()
        assert all(now[topic] > before[topic] for topic in now)
        before = dict(now)
        one.claims.release()


# --- struck out -----------------------------------------------------------------------------------


def test_a_struck_out_session_notices(node: Callable[..., Node], topic: StateTopic) -> None:
    one = node()
    one.start("x")
    assert one.keep()
    bury(topic, next(iter(sessions(topic))), "x")
    assert not one.keep()
    assert not one.keep()


def test_a_session_notices_a_strike_out_before_a_beat_of_its_own(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    """The session slept, wakes, beats before it has read anything, and then reads both at once
    (D1).
    """
    one = node()
    one.start("x")
    assert one.keep()
    name = next(iter(sessions(topic)))
    clock.now += 15
    bury(topic, name, "x")
    one.reader.blind = True
    assert one.keep(), "nothing is known yet"
    assert name in sessions(topic), "the beat lies after the tombstone"
    one.reader.blind = False
    assert not one.keep()
    beats = len(one.writer.sent)
    clock.now += 60
    assert not one.keep()
    assert len(one.writer.sent) == beats, "a session that is out beats no more"


def test_taken_over_and_over(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    """A session that was taken for dead finds out, and its late release does no harm."""
    plant(topic, "first", "x")
    second = node()
    second.start("x")
    (mine,) = sessions(topic)
    bury(topic, "first", "x")  # the first one's own release, late
    assert second.keep()
    assert claimed(topic) == {("x", mine)}


# --- the registry's records -----------------------------------------------------------------------


def test_compaction_keeps_the_order_of_claims(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    """Sessions are written again with every beat; the claims stay where they were."""
    one = node()
    one.start("x")
    for _ in range(5):
        clock.now += BEAT_INTERVAL
        one.keep()
    topic.compact()
    with pytest.raises(IncompleteError):
        node().start("x")
    assert one.keep()


def test_a_claim_that_is_written_again_keeps_its_place(
    node: Callable[..., Node], topic: StateTopic, clock: FakeClock
) -> None:
    plant(topic, "first", "x")
    late = node()
    late.writer.after = lambda: plant(topic, "first", "x", beat=5)
    clock.on_sleep = lambda: beat(topic, "first")
    with pytest.raises(IncompleteError, match="process 77 on far"):
        late.claims.acquire(["x"])  # having read nothing yet
    assert {session for _, session in claimed(topic)} == {"first"}


def test_other_records_are_passed_over(node: Callable[..., Node], topic: StateTopic) -> None:
    topic.append(b'["producer","a>b",4000]', b'{"producer_id":4000}')
    topic.append(b'["upstream","x"]', b"whatever")
    topic.append(b"", b"")
    topic.append(b"\xff", None)
    one = node()
    one.start("x")
    assert one.keep()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b'["session"', b"{}"),
        (b'["session","x"]', b"{}"),
        (b'["session","x"]', b'{"place":1}'),
        (b'["session","x"]', b""),
        (b'["session"]', None),
        (b'["session",1]', None),
        (b'["claim","f"]', b"1"),
        (b'["claim","f","t",1]', b"1"),
        (b'["claim",\xff\xff,"t","s"]', b"1"),
    ],
)
def test_broken_records_are_a_state_error(
    node: Callable[..., Node], topic: StateTopic, key: bytes, value: bytes | None
) -> None:
    with pytest.raises(StateError) as caught:
        topic.append(key, value)
        node().registry.read_to_end()
    assert caught.value.exit_code == ExitCode.STATE
    assert REGISTRY_TOPIC in caught.value.message
