"""Claims: one copystream at a time writes a flow's topic.

A session writes a claim for each of its topics and beats every few seconds. Of several claims to
a topic, the earliest in the registry whose session has not been struck out is the valid one. A
session whose process is dead, or that has not beaten for a while, is struck out by the next one
that wants the topic; it finds out by reading the registry, and stops. Producer ids and sequences
guard the log itself; for the offset map a claim's offset in the registry is its holder's
generation, and a holder opens a gate only when every successor will read what is durable by then
(``holds``, ``proven``; the argument is in DESIGN.md, «State on the target»). ``state.pulse`` beats.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from replicator.errors import CopystreamError, IncompleteError
from replicator.process import boot_time, host_id, start_ticks
from replicator.state import REGISTRY_TOPIC
from replicator.state.records import (
    MARKER,
    ClaimKey,
    Process,
    Record,
    SessionKey,
    Stored,
    encode_value,
)
from replicator.state.registry import Registry
from replicator.state.topics import StateWriter, ignored

BEAT_INTERVAL = 3.0  # seconds
LEASE = 10.0  # seconds without a beat after which a session of another machine is dead
HOLDING = 8.0  # seconds from the start of a beat in which gates open without another one

_log = logging.getLogger(__name__)


class Claims:
    """The registry's claims, and this session's own.

    One thread at a time: the job's for ``acquire``, ``generations`` and ``release``, the pulse's
    for ``read`` and ``beat`` in between. ``holds`` and ``struck_out`` may be asked in any thread.
    """

    def __init__(
        self,
        registry: Registry,
        writer: StateWriter,
        flow: str,
        *,
        clock: Callable[[], float] = boot_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._registry = registry
        self._writer = writer
        self._flow = flow
        self._clock = clock
        self._sleep = sleep
        self._id = uuid.uuid4().hex
        self._beat = 0
        self._held_until = 0.0
        self._claimed_at = -1  # offset
        # Start and offset of beats that are durable and were not read back yet. The writer's thread
        # adds, which a deque allows.
        self._durable: deque[tuple[float, int]] = deque()
        self._struck: dict[str, int] = {}  # sessions struck out by this one, with their last beat
        self._beat_after_all = False  # one of them has beaten since
        self._sessions: dict[str, Process] = {}
        self._claims: dict[str, dict[str, int]] = {}  # of this flow: topic → session → offset
        self._topics: tuple[str, ...] = ()
        self._struck_out = False
        self.beaten_at = -math.inf  # when the last beat was sent, on the clock
        self.proven = -math.inf  # what was durable by then is found by every later holder
        registry.on(SessionKey, self._read_session)
        registry.on(ClaimKey, self._read_claim)

    @property
    def struck_out(self) -> bool:
        """Whether another session has ended this one; for good."""
        return self._struck_out

    def _read_session(self, record: Stored[SessionKey]) -> None:
        session = record.key.session
        if record.deleted:
            self._sessions.pop(session, None)
            # For good: a beat of ours that is on its way may land after this.
            self._struck_out |= session == self._id
        else:
            found: Process = record.value()
            self._beat_after_all |= self._struck.get(session, found.beat) != found.beat
            self._sessions[session] = found

    def _read_claim(self, record: Stored[ClaimKey]) -> None:
        key = record.key
        if key.flow != self._flow:
            return
        holders = self._claims.setdefault(key.topic, {})
        if record.deleted:
            holders.pop(key.session, None)
        else:
            record.value()  # of a format that is known
            holders.setdefault(key.session, record.offset)

    def acquire(self, topics: Iterable[str]) -> None:
        """Claim topics. Raises ``IncompleteError`` naming who else is copying one of them."""
        self._topics = tuple(topics)
        records: list[Record] = []
        for session in self._others_before(None):
            self._require_dead(session)
            records += self._strike_out(session)
        records.append(self._sign_of_life())
        records += [(self._claim_key(topic, self._id), MARKER) for topic in self._topics]
        began = self.beaten_at = self._clock()
        self._claimed_at = self._writer.write(REGISTRY_TOPIC, records)[-1]
        self._held_until = began + HOLDING
        self._registry.read_to_end()
        for session in self._others_before(self._id):
            holder = self._sessions[session]
            self.release()
            raise _held(holder)
        if self._beat_after_all:
            # It beat just before it was struck out, and may open gates until that lease is over.
            self._sleep(HOLDING)

    def read(self) -> None:
        """Take in what the registry has got since, and see which beats that makes good."""
        try:
            self._registry.read_new()
        except CopystreamError as error:
            _log.info("claims not checked: %s", error.message)
        waiting = []
        while self._durable:
            began, offset = self._durable.popleft()
            if offset >= self._registry.read_to:
                waiting.append((began, offset))
            elif not self._struck_out:
                self.proven = max(self.proven, began)
                self._held_until = max(self._held_until, began + HOLDING)
        self._durable.extend(waiting)

    def beat(self) -> None:
        """Send a sign of life. It counts once it is durable and was read back."""
        began = self.beaten_at = self._clock()
        self._beat += 1

        def beaten(error: CopystreamError | None, offset: int) -> None:
            if error is not None:
                return
            if 0 <= offset < self._claimed_at:
                # The registry was deleted and made again: no other session sees our claims in it.
                self._struck_out = True
            else:
                self._durable.append((began, offset))

        self._writer.send(REGISTRY_TOPIC, *self._sign_of_life(), beaten)

    def holds(self) -> bool:
        """Whether every later holder finds what was durable before this was asked; from any thread.
        False is no verdict: a later beat may show it, see ``proven``.
        """
        return not self._struck_out and self._clock() < self._held_until

    def generations(self) -> Mapping[str, int]:
        """For each topic a number that is larger than that of every session that held it before."""
        return {topic: self._claims[topic][self._id] for topic in self._topics}

    def release(self) -> None:
        """Give the claims up; durable once the writer is flushed."""
        for key, value in self._strike_out(self._id):
            self._writer.send(REGISTRY_TOPIC, key, value, ignored)

    def _others_before(self, mine: str | None) -> list[str]:
        """Standing sessions with a claim on our topics, earlier than ``mine`` where given."""
        found: dict[str, None] = {}
        for topic in self._topics:
            holders = self._claims.get(topic, {})
            limit = holders.get(mine, 0) if mine is not None else None
            for session, offset in holders.items():
                earlier = limit is None or offset < limit
                if earlier and session in self._sessions and session != self._id:
                    found[session] = None
        return list(found)

    def _require_dead(self, session: str) -> None:
        """Wait until a session of elsewhere proves alive by a beat, or has been silent too long."""
        holder = self._sessions[session]
        alive = holder.alive_here()
        deadline = self._clock() + LEASE
        while alive is None:
            self._registry.read_new()
            silent = self._clock() >= deadline
            if silent:  # what has come may not have been fetched yet
                self._registry.read_to_end()
            present = self._sessions.get(session)
            if present is None:
                return
            alive = True if present.beat != holder.beat else None
            if silent and not alive:
                self._struck[session] = holder.beat
                return
            self._sleep(0.2)
        if alive:
            raise _held(holder)

    def _strike_out(self, session: str) -> list[Record]:
        topics = [topic for topic, holders in self._claims.items() if session in holders]
        if session == self._id:
            topics = list(self._topics)
        keys = [SessionKey(session).encode(), *(self._claim_key(t, session) for t in topics)]
        return [(key, None) for key in keys]

    def _claim_key(self, topic: str, session: str) -> bytes:
        return ClaimKey(self._flow, topic, session).encode()

    def _sign_of_life(self) -> Record:
        pid = os.getpid()
        value = Process(host_id(), socket.gethostname(), pid, start_ticks(pid), self._beat)
        return SessionKey(self._id).encode(), encode_value(value)


def _held(holder: Process) -> IncompleteError:
    return IncompleteError(
        f"another copystream is copying the same topics: process {holder.pid} on {holder.host}",
        hint="let it finish, or stop it; the same command then goes on where it stopped",
    )
