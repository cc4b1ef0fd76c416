"""This process and its machine: clocks, how processes are known, and the request to stop."""

from __future__ import annotations

import os
import select
import time
import weakref
from pathlib import Path


def boot_time() -> float:
    """Seconds of a clock that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def now_ms() -> int:
    """The same clock in milliseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def since_process_start(at_ms: int) -> float:
    """Seconds from the start of this process to a moment of ``now_ms``."""
    started = start_ticks(os.getpid()) / os.sysconf("SC_CLK_TCK")
    return at_ms / 1000 - started


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); −1 when there is
    none.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    fields = text.rpartition(")")[2].split()
    return -1 if fields[0] in ("Z", "X") else int(fields[19])


def host_id() -> str:
    """Where a process id means anything: one boot of one machine, and one PID namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"


class StopSignal:
    """Asks a job to finish what is in flight and return. Thread-safe and safe in signal handlers.

    Nothing takes a request back: a job that was asked to stop is over.

    A ``threading.Event`` will not do: its ``set`` takes a lock that the interrupted main thread may
    already hold in ``wait``, and then the handler never returns. One byte in a pipe has no lock, is
    allowed in a handler, wakes every waiter because it is never read, and can be polled by a thread
    that already waits for sockets.
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
