"""A compacted state topic in memory, its readers and writers, and a clock that never waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from replicator.errors import CopystreamError
from replicator.state.records import Entry, Record
from replicator.state.topics import Delivered, StateWriter


class FakeClock:
    """Moves only when ``sleep`` is called or a test moves it. ``on_sleep`` happens meanwhile."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.on_sleep: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()


@dataclass
class StateTopic:
    """One partition of a compacted topic."""

    records: list[Entry] = field(default_factory=list)

    def append(self, key: bytes, value: bytes | None) -> int:
        offset = self.records[-1][0] + 1 if self.records else 0
        self.records.append((offset, key, value))
        return offset

    def compacted(self) -> dict[bytes, bytes]:
        """The topic after compaction, without tombstones."""
        latest = {key: value for _, key, value in self.records}
        return {key: value for key, value in latest.items() if value is not None}

    def compact(self) -> None:
        """Keep the last record of each key, at its offset; tombstones stay for a while."""
        last = {key: offset for offset, key, _ in self.records}
        self.records = [entry for entry in self.records if last[entry[1]] == entry[0]]


class FakeReader:
    """Reads a state topic in order. ``blind`` while nothing has been fetched yet."""

    def __init__(self, topic: StateTopic) -> None:
        self._topic = topic
        self._next = 0
        self.blind = False
        self.failure: CopystreamError | None = None

    def read_to_end(self) -> Iterator[Entry]:
        for entry in list(self._topic.records):
            if entry[0] >= self._next:
                self._next = entry[0] + 1
                yield entry

    def read_new(self) -> Iterator[Entry]:
        if self.failure is not None:
            raise self.failure
        return iter(()) if self.blind else self.read_to_end()


class FakeWriter(StateWriter):
    """A writer without a client: it writes at once, or raises ``failure``.

    ``before`` and ``after`` are called around the next write. With ``hold`` what is sent
    stays on its way until ``deliver``.
    """

    def __init__(self, topic: StateTopic) -> None:
        self._topic = topic
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.failure: CopystreamError | None = None
        self.sent: list[tuple[str, bytes, bytes | None]] = []
        self.hold = False
        self.held: list[tuple[bytes, bytes | None, Delivered]] = []

    def send(self, topic: str, key: bytes, value: bytes | None, delivered: Delivered) -> None:
        self.sent.append((topic, key, value))
        if self.failure is not None:
            delivered(self.failure, -1)
        elif self.hold:
            self.held.append((key, value, delivered))
        else:
            delivered(None, self._topic.append(key, value))

    def deliver(self) -> None:
        held, self.held = self.held, []
        for key, value, delivered in held:
            delivered(None, self._topic.append(key, value))

    def write(self, topic: str, records: Iterable[Record]) -> list[int]:
        before, self.before = self.before, lambda: None
        after, self.after = self.after, lambda: None
        before()
        if self.failure is not None:
            raise self.failure
        self.sent += [(topic, key, value) for key, value in records]
        offsets = [self._topic.append(key, value) for key, value in records]
        after()
        return offsets
