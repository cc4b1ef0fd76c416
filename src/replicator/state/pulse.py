"""The heartbeat of the claims. ``Pulse.turn`` runs in the thread "pulse"; ``standing`` is asked by
the job's thread, ``when_found`` by the state writer's, which also calls what it was given at once;
what has to wait is called by the thread "pulse".

Nothing that a broker of the data holds up may stop the beat, hence a thread of its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

from replicator.errors import ClusterError, CopystreamError
from replicator.process import boot_time
from replicator.state import REGISTRY_TOPIC
from replicator.state.claims import BEAT_INTERVAL, Claims

PATIENCE = 60.0  # seconds until what waits for a sign of life fails, as a state record that waits
SOON = 0.5  # seconds between beats while something waits for one, or the lease has lapsed
TURN = 0.2  # seconds between looks at the registry
QUICK_TURN = 0.02  # the same while something waits

Told = Callable[[CopystreamError | None], None]

_log = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    since: float  # on the clock
    told: Told


class Pulse:
    """Beats for ``claims``, from ``start`` to ``stop``, and reads what happens to them.

    ``turn`` runs in the thread "pulse", ``standing`` in the job's, ``when_found`` in the state
    writer's.
    """

    def __init__(self, claims: Claims, *, clock: Callable[[], float] = boot_time) -> None:
        self._claims = claims
        self._clock = clock
        self._lock = threading.Lock()  # guards the claims
        self._waiting: list[_Waiting] = []
        self._waiting_lock = threading.Lock()
        self._woken = threading.Event()
        self._ending = False
        self._began = clock()
        self._warned = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Beat no more; what still waits is not called."""
        self._ending = True
        self._woken.set()
        self._thread.join(5)

    def standing(self) -> bool:
        """Whether the claims are valid by what has been read of the registry; False for good once
        another session has struck this one out. Raises what has ended the pulse's thread.
        """
        if self._failure is not None:
            raise self._failure
        with self._lock:
            self._claims.read()
            return not self._claims.struck_out

    def when_found(self, told: Told) -> None:
        """Call ``told`` once every later holder of the claims is certain to find what is durable
        now: at once within the lease, else after the next beat that is read back. It is never
        called when this session was struck out, and with an error after ``PATIENCE``.
        """
        if self._claims.holds():
            told(None)
            return
        with self._waiting_lock:
            self._waiting.append(_Waiting(self._clock(), told))
        self._woken.set()

    def turn(self) -> None:
        """Beat if it is time, read the registry, and tell those whose wait is over."""
        now = self._clock()
        with self._lock:
            claims = self._claims
            if claims.struck_out:
                return
            hurry = bool(self._waiting) or not claims.holds()
            if now - claims.beaten_at >= (SOON if hurry else BEAT_INTERVAL):
                claims.beat()
            claims.read()
            if claims.struck_out:
                return
            proven = claims.proven
        self._warn(now, proven)
        with self._waiting_lock:
            found = [one for one in self._waiting if one.since <= proven]
            late = [one for one in self._waiting if proven < one.since < now - PATIENCE]
            done = {id(one) for one in (*found, *late)}
            self._waiting = [one for one in self._waiting if id(one) not in done]
        for one in found:
            one.told(None)
        for one in late:
            one.told(
                ClusterError(
                    "target",
                    f"no sign of life could be written to {REGISTRY_TOPIC} for {PATIENCE:.0f} s",
                    hint="see that the topic is there and has a leader, then run again",
                )
            )

    def _warn(self, now: float, proven: float) -> None:
        """Say it once where no beat comes through: without holes in the source the copy goes on,
        and nothing else would tell that its state topics are gone.
        """
        silent = now - max(proven, self._began) > PATIENCE
        if silent and not self._warned:
            _log.warning(
                "no sign of life could be written to %s on the target for %.0f s: see that the "
                "topic is there and has a leader: another copystream cannot see this one now",
                REGISTRY_TOPIC,
                PATIENCE,
            )
        self._warned = silent

    def _run(self) -> None:
        try:
            while not self._ending:
                self.turn()
                self._woken.clear()
                self._woken.wait(QUICK_TURN if self._waiting else TURN)
        except BaseException as failure:  # the job ends loudly with it, see ``standing``
            _log.debug("the pulse has stopped", exc_info=True)
            self._failure = failure
