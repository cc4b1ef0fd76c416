"""The registry topic: sessions, their claims, and producer ids, read by one reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from replicator.state import REGISTRY_TOPIC
from replicator.state.records import Entry, Handlers, K, Stored


class Reader(Protocol):
    """What is needed of a ``StateReader``."""

    def read_to_end(self) -> Iterator[Entry]: ...
    def read_new(self) -> Iterator[Entry]: ...


class Registry:
    """Hands each record of the registry to the handler of its kind, in order, once.

    One thread at a time reads: the job's until the pulse starts, then the pulse's or the job's
    under the pulse's lock (``Pulse.standing``). The handlers run in that thread.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._handlers = Handlers(REGISTRY_TOPIC)

    def on(self, kind: type[K], handler: Callable[[Stored[K]], None]) -> None:
        """Have ``handler`` called with each record of a kind; before anything is read."""
        self._handlers.on(kind, handler)

    @property
    def read_to(self) -> int:
        """Offset up to which the registry has been read."""
        return self._handlers.read_to

    def read_to_end(self) -> None:
        """Read up to the end as it is now; waits. Raises what the reader raises, and
        ``StateError`` for a record that cannot be read.
        """
        self._handlers.read(self._reader.read_to_end())

    def read_new(self) -> None:
        """Read what has arrived by now, without waiting. Raises as ``read_to_end``."""
        self._handlers.read(self._reader.read_new())
