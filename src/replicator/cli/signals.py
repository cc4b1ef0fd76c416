"""Signals during a copy: the first Ctrl-C or SIGTERM asks it to finish, the second ends it at once,
and SIGHUP asks for the throttle options to be read again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from replicator.errors import ExitCode
from replicator.process import StopSignal

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AT_ONCE = b"stopped at once; run the same command again to go on\n"


class Interrupts:
    """While the context is open, signals go to ``stop``; main thread only.

    The second signal leaves by ``os._exit``: threads may hold any lock and wait for a broker, and
    a copy is safe to kill. ``abandon`` puts the terminal right before that, without waiting.
    Without ``reload`` SIGHUP does what it did before.
    """

    def __init__(
        self, stop: StopSignal, reload: Callable[[], None] | None, abandon: Callable[[], None]
    ) -> None:
        self._stop = stop
        self._reload = reload
        self._abandon = abandon
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        if self._reload is not None:
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        if self._reload is not None:
            self._reload()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._stop.requested:
            self._stop.request()
            return
        try:
            self._abandon()
            os.write(2, _AT_ONCE)
        finally:
            os._exit(ExitCode.INTERRUPTED)
