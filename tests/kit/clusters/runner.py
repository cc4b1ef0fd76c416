"""The real ``copystream`` binary, run as a user runs it, with its end always in sight."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from replicator.report.model import Fault, Plan, Summary

BINARY = Path(sys.executable).with_name("copystream")
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")


@dataclass
class Outcome:
    """A run that has ended: what it printed and how it exited (negative: by that signal)."""

    command: list[str]
    exit_code: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> Summary:
        """The one JSON document of ``-o json``."""
        return msgspec.json.decode(self.stdout.encode(), type=Summary)

    @property
    def plan(self) -> Plan:
        """The JSON document of ``--dry-run -o json``."""
        return msgspec.json.decode(self.stdout.encode(), type=Plan)

    def expect(self, *exit_codes: int) -> Outcome:
        """Fail with everything that was printed unless the exit code is one of these."""
        assert self.exit_code in exit_codes, f"expected exit {exit_codes}, got {self}"
        return self

    def fault(self) -> Fault:
        """The only fault of the run."""
        faults = self.summary.faults
        assert len(faults) == 1, f"expected one fault, got {faults} from {self}"
        return faults[0]

    def __str__(self) -> str:
        return (
            f"exit {self.exit_code} of: {' '.join(self.command)}\n"
            f"--- stdout\n{self.stdout[-6000:]}\n--- stderr\n{self.stderr[-6000:]}"
        )


class Copier:
    """A running ``copystream``; on leaving the block it is killed if it still runs.

    ``elsewhere`` gives it a PID namespace of its own: others cannot tell whether it lives.
    """

    def __init__(
        self, *arguments: str, env: Mapping[str, str] | None = None, elsewhere: bool = False
    ) -> None:
        self.command = [*(NAMESPACE if elsewhere else ()), str(BINARY), *arguments]
        self._out = _scratch()
        self._err = _scratch()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env={**_clean_environment(), **(env or {})},
        )
        self._pids = partial(_children, self.process.pid) if elsewhere else self._own_pid

    def wait(self, timeout: float = 60.0) -> Outcome:
        """The outcome, or a failure with what was printed so far after ``timeout`` seconds."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s: {self.outcome()}") from None
        return self.outcome()

    def outcome(self) -> Outcome:
        """What was printed so far."""
        return Outcome(
            self.command,
            -1000 if self.process.returncode is None else self.process.returncode,
            _text(self._out),
            _text(self._err),
        )

    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)

    def interrupt(self) -> None:
        """What Ctrl-C sends."""
        self.process.send_signal(signal.SIGINT)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for pid in self._pids():
            os.kill(pid, number)

    def _own_pid(self) -> list[int]:
        return [self.process.pid]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.running():
            self.kill()
        self._out.close()
        self._err.close()


def copystream(
    *arguments: str, timeout: float = 60.0, env: Mapping[str, str] | None = None
) -> Outcome:
    """Run the binary to its end."""
    with Copier(*arguments, env=env) as copier:
        return copier.wait(timeout)


def copy_arguments(source: str, target: str, *rest: str) -> list[str]:
    """``copy`` between two bootstrap addresses, quiet and with its summary as JSON."""
    return [
        *("copy", "--source", source, "--target", target),
        *("-o", "json", "--progress", "none"),
        *rest,
    ]


def wait_until(
    condition: Callable[[], object], what: str, *, timeout: float = 30.0, pause: float = 0.02
) -> None:
    """Poll ``condition`` until it is true; fail naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(pause)


def can_leave_the_pid_namespace() -> bool:
    """Whether this user may run processes ``elsewhere``."""
    try:
        return (
            subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in listed.split()]


def _clean_environment() -> dict[str, str]:
    return {name: v for name, v in os.environ.items() if not name.startswith("COPYSTREAM_")}


def _scratch() -> IO[bytes]:
    return tempfile.TemporaryFile()


def _text(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode(errors="replace")
