"""The heartbeat: how often it is sent, and what waits for it once the lease has lapsed."""

from __future__ import annotations

import threading

import msgspec
import pytest

from kit.fakes.state import FakeClock, FakeReader, FakeWriter, StateTopic
from replicator.errors import ClusterError, CopystreamError
from replicator.state.claims import BEAT_INTERVAL, HOLDING, Claims
from replicator.state.pulse import PATIENCE, SOON, Pulse
from replicator.state.registry import Registry


class Beating:
    """A session with its claims, and a pulse whose turns the test takes."""

    def __init__(self, topic: StateTopic, clock: FakeClock) -> None:
        self.topic, self.clock = topic, clock
        self.reader, self.writer = FakeReader(topic), FakeWriter(topic)
        self.claims = Claims(
            Registry(self.reader), self.writer, "f", clock=clock, sleep=clock.sleep
        )
        self.claims.acquire(["x"])
        self.pulse = Pulse(self.claims, clock=clock)
        self.told: list[CopystreamError | None] = []

    def wait(self) -> None:
        self.pulse.when_found(self.told.append)

    def beats(self) -> int:
        return sum(value is not None and b'"session"' in key for _, key, value in self.writer.sent)

    def strike_out(self) -> None:
        session = msgspec.json.decode(self.topic.records[0][1])[1]
        self.topic.append(msgspec.json.encode(["session", session]), None)


@pytest.fixture
def beating(topic: StateTopic, clock: FakeClock) -> Beating:
    return Beating(topic, clock)


def test_within_the_lease_nothing_waits(beating: Beating) -> None:
    beating.wait()
    assert beating.told == [None]


def test_beats_come_often_enough_to_hold(beating: Beating, clock: FakeClock) -> None:
    for _ in range(200):
        beating.pulse.turn()
        assert beating.claims.holds()
        clock.now += 0.2
    assert beating.beats() == pytest.approx(40 / BEAT_INTERVAL, abs=3)


def test_after_the_lease_it_is_the_next_beat_that_opens(beating: Beating, clock: FakeClock) -> None:
    """A beat already in flight does not open: it proves nothing about what became durable since."""
    beating.writer.hold = True
    clock.now += BEAT_INTERVAL
    beating.pulse.turn()
    clock.now += HOLDING
    beating.wait()
    beating.writer.deliver()
    beating.writer.hold = False
    beating.reader.blind = True
    clock.now += SOON
    beating.pulse.turn()
    assert beating.told == [], "not read back"
    beating.reader.blind = False
    beating.pulse.turn()
    assert beating.told == [None]


def test_an_older_beat_does_not_open(beating: Beating, clock: FakeClock) -> None:
    beating.writer.hold = True
    clock.now += HOLDING
    beating.pulse.turn()
    clock.now += 0.1
    beating.wait()
    beating.writer.deliver()
    beating.pulse.turn()
    assert beating.told == []


def test_a_session_that_was_struck_out_opens_nothing_more(
    beating: Beating, clock: FakeClock
) -> None:
    clock.now += HOLDING
    beating.wait()
    beating.strike_out()
    clock.now += SOON
    for _ in range(3):
        beating.pulse.turn()
        clock.now += PATIENCE
    assert beating.told == []
    assert not beating.pulse.standing()


def test_what_waits_too_long_fails_like_a_record_that_was_not_written(
    beating: Beating, clock: FakeClock
) -> None:
    beating.writer.failure = ClusterError("target", "no replicas")
    clock.now += HOLDING
    beating.wait()
    while not beating.told:
        beating.pulse.turn()
        clock.now += 1
    (error,) = beating.told
    assert error is not None and error.side == "target"
    assert clock.now == pytest.approx(5000 + HOLDING + PATIENCE, abs=2)
    assert beating.beats() < PATIENCE / SOON + 10
    assert beating.pulse.standing()


def test_while_the_lease_has_lapsed_beats_come_sooner_but_do_not_pile_up(
    beating: Beating, clock: FakeClock
) -> None:
    beating.writer.hold = True
    clock.now += HOLDING
    for _ in range(100):
        beating.pulse.turn()
        clock.now += 0.02
    assert beating.beats() <= 2 / SOON + 2


def test_the_thread_beats_by_itself(topic: StateTopic) -> None:
    clock = FakeClock()
    beating = Beating(topic, clock)
    clock.now += HOLDING
    beating.pulse.start()
    try:
        opened = threading.Event()
        beating.pulse.when_found(lambda error: opened.set() if error is None else None)
        assert opened.wait(30) or beating.told
    finally:
        beating.pulse.stop()


def test_a_pulse_that_fails_is_told(beating: Beating) -> None:
    failed = ValueError("a bug")

    def broken() -> None:
        raise failed

    beating.claims.beat = broken  # type: ignore[method-assign]
    beating.clock.now += HOLDING
    beating.pulse.start()
    beating.pulse._thread.join(30)
    with pytest.raises(ValueError, match="a bug"):
        beating.pulse.standing()


def test_a_registry_that_takes_no_beats_is_told_once(
    beating: Beating, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """When no gate waits for a beat, only this message tells that the topic was deleted."""

    def pass_by(seconds: float) -> int:
        caplog.clear()
        for _ in range(int(seconds)):
            clock.now += 1
            beating.pulse.turn()
        return sum(record.levelname == "WARNING" for record in caplog.records)

    assert pass_by(2 * PATIENCE) == 0
    beating.writer.failure = ClusterError("target", "the topic is not there")
    assert pass_by(PATIENCE - 5) == 0
    assert pass_by(3 * PATIENCE) == 1
    beating.writer.failure = None
    assert pass_by(10) == 0
    beating.writer.failure = ClusterError("target", "again")
    assert pass_by(2 * PATIENCE) == 1
