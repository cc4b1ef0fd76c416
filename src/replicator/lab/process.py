"""Processes known by pid and start time, so that a recycled pid is never signalled.

All times are seconds; ``started`` is in clock ticks since boot, as in proc(5).
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

T = TypeVar("T")

_TICKS = os.sysconf("SC_CLK_TCK")
_LAUNCHER = str(Path(__file__).with_name("launcher.py"))

# The kernel delivers PR_SET_PDEATHSIG when the thread that forked ends, not the process: a
# broker started from a worker thread would die with it. This thread ends with the interpreter.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-spawner")


def from_lasting_thread(call: Callable[[], T]) -> T:
    """Runs ``call`` in the thread that lives as long as this process."""
    return _spawner.submit(call).result()


def tied(command: Sequence[str]) -> list[str]:
    """``command`` so that it is killed when this process dies, whatever kills it.

    Start it through ``from_lasting_thread``.
    """
    return [sys.executable, "-I", "-S", _LAUNCHER, str(os.getpid()), *command]


class Process(Struct, frozen=True):
    """One process, ours or another's child. A zombie counts as ended.

    Not one whose first thread alone has ended: it is shown as a zombie too, and keeps its files
    and ports until its other threads are gone. A JVM that is killed looks so for a moment.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has ``pid`` now; raises ProcessLookupError when there is none."""
        fields = _stat(pid)
        if fields is None:
            raise ProcessLookupError(pid)
        return cls(pid, int(fields[19]))

    def alive(self) -> bool:
        fields = _stat(self.pid)
        if fields is None or int(fields[19]) != self.started:
            return False
        return fields[0] not in "ZX" or int(fields[17]) > 1

    def paused(self) -> bool:
        """Whether every one of its threads has stopped: SIGSTOP takes a moment to reach all."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/stat")
        try:
            return all(t.read_text().rpartition(")")[2].split()[0] == "T" for t in threads)
        except OSError:  # a thread has ended meanwhile
            return False

    def cpu_seconds(self) -> float:
        """User and system time so far; 0 when it has ended."""
        fields = _stat(self.pid)
        if fields is None or int(fields[19]) != self.started:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> tuple[int, int]:
        """Resident set now and at its peak, in bytes; zeros when it has ended."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0, 0
        sizes = {
            name: int(rest.split()[0]) * 1024
            for name, _, rest in (line.partition(":") for line in status.splitlines())
            if name in ("VmRSS", "VmHWM")
        }
        return sizes.get("VmRSS", 0), sizes.get("VmHWM", 0)

    def send(self, number: signal.Signals) -> bool:
        """Signals it; False when it has ended. Safe against a pid that is reused meanwhile."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def wait(self, timeout: float) -> bool:
        """Whether it has ended within ``timeout``; takes it off the process table if it is ours."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if self.alive():
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                poll.poll(timeout * 1000)
        finally:
            os.close(handle)
        return self.reap()

    def reap(self) -> bool:
        """Whether it has ended; takes it off the process table if it is ours."""
        if self.alive():
            return False
        try:
            if Process.of(self.pid) == self:
                os.waitpid(self.pid, os.WNOHANG)
        except (ProcessLookupError, ChildProcessError):
            pass
        return True


def spawn(
    command: Sequence[str], *, output: Path, environment: Mapping[str, str], detached: bool
) -> Process:
    """Starts ``command`` in a session of its own, appending what it prints to ``output``.

    A terminal's Ctrl-C does not reach it. Unless ``detached``, it is killed when this process
    dies, however that happens.
    """
    argv = list(command) if detached else tied(command)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND

    def fork() -> int:
        return os.posix_spawnp(
            argv[0],
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(output), flags, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )

    return Process.of(from_lasting_thread(fork))


def _stat(pid: int) -> list[str] | None:
    """The fields of proc(5) stat from ``state`` on: 0 state, 11 utime, 12 stime, 17 threads,
    19 start."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
