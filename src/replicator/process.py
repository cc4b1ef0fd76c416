"""The request to stop, as it travels from a signal handler to every thread of a job.

A ``threading.Event`` will not do: its ``set`` takes a lock that the interrupted main thread may
already hold in ``wait``, and then the handler never returns. One byte in a pipe has no lock, is
allowed in a handler, wakes every waiter because nobody reads it, and can be polled by a thread
that already waits for sockets.
"""

from __future__ import annotations

import os
import select
import weakref


class StopSignal:
    """Asks a job to finish what is in flight and return. Thread-safe and safe in signal handlers.

    Nothing takes a request back: a job that was asked to stop is over.
    """

    def __init__(self) -> None:
        self._requested = False
        self._read, self._write = os.pipe()
        weakref.finalize(self, _close, self._read, self._write)

    @property
    def requested(self) -> bool:
        return self._requested

    def request(self) -> None:
        if not self._requested:
            self._requested = True
            os.write(self._write, b"\0")

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until a stop is requested or ``timeout`` seconds pass; True if it was."""
        if not self._requested:
            poll = select.poll()
            poll.register(self._read, select.POLLIN)
            poll.poll(None if timeout is None else max(timeout, 0.0) * 1000)
        return self._requested

    def fileno(self) -> int:
        """A descriptor for ``poll``: readable from the request on. Never read from it."""
        return self._read


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
