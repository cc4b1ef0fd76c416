"""The live block on a real terminal: drawn, written above, cleared, and left usable."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from kit.clusters.binary import BINARY, CLUSTERS, fake_environment

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
COLOR = re.compile(r"\x1b\[(?:\d+;)*3[1-7]m")


class Terminal:
    """A process whose three streams are one terminal of 100 × 30."""

    def __init__(self, *arguments: str, job: str, env: Mapping[str, str] | None = None) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.process = subprocess.Popen(
            [BINARY, "copy", *CLUSTERS, "orders", *arguments],
            env=fake_environment(job, env),
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.seen = ""

    def read_until(self, sign: str) -> None:
        while sign not in self.seen:
            assert self._read(), self.seen

    def read_all(self) -> str:
        while self._read():
            pass
        self.process.wait(30)
        return self.seen

    def _read(self) -> bool:
        """Takes what there is within half a minute; False at the end."""
        ready, _, _ = select.select([self.master], [], [], 30)
        assert ready, self.seen
        try:
            part = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self.seen += part.decode(errors="replace")
        return bool(part)


@contextmanager
def terminal(*arguments: str, job: str, **env: str) -> Iterator[Terminal]:
    opened = Terminal(*arguments, job=job, env=env)
    try:
        yield opened
    finally:
        opened.process.kill()
        opened.process.wait()
        os.close(opened.master)


def test_the_block_is_drawn_and_cleared_and_lines_go_above_it() -> None:
    with terminal(job="slow-fault") as screen:
        seen = screen.read_all()
        assert screen.process.returncode == 7
    assert HIDE in seen and SHOW in seen
    assert seen.rindex(SHOW) > seen.rindex(HIDE)
    block, result = seen.rsplit(SHOW, 1)
    assert "copying" in block and "a:9092 → b:9092" in block
    assert "slow: " in block
    assert "corrupt-batch: " in block
    assert "WARNING replicator.copy: started" in block
    assert "partition failed; the others go on" in block
    assert COLOR.search(block)
    assert "TOPIC" in result and "corrupt-batch" in result
    assert "copying" not in result
    assert COLOR.search(result)


@pytest.mark.parametrize(
    ("arguments", "env"), [(["--no-color"], {}), ([], {"NO_COLOR": "1"})], ids=["flag", "env"]
)
def test_without_colour(arguments: list[str], env: dict[str, str]) -> None:
    with terminal(*arguments, job="slow-fault", **env) as screen:
        seen = screen.read_all()
    assert HIDE in seen
    assert not COLOR.search(seen)


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["--progress", "plain"], {}),
        (["--progress", "none"], {}),
        (["--log-format", "json"], {}),
        ([], {"TERM": "dumb"}),
    ],
    ids=["plain", "none", "json-log", "dumb"],
)
def test_when_nothing_is_drawn(arguments: list[str], env: dict[str, str]) -> None:
    with terminal(*arguments, job="slow", FAKE_SECONDS="1", **env) as screen:
        seen = screen.read_all()
        assert screen.process.returncode == 0
    assert HIDE not in seen
    assert "\x1b[2K" not in seen


def test_ctrl_c_at_the_keyboard_finishes_and_clears() -> None:
    with terminal(job="stopped") as screen:
        screen.read_until("started")
        screen.process.send_signal(signal.SIGINT)
        seen = screen.read_all()
        assert screen.process.returncode == 130
    assert "stopping: finishing what is in flight" in seen
    assert "to go on:" in seen.rsplit(SHOW, 1)[1]


def test_the_cursor_is_back_after_stopping_at_once() -> None:
    with terminal(job="deaf") as screen:
        screen.read_until("started")
        screen.process.send_signal(signal.SIGINT)
        screen.read_until("stopping:")
        screen.process.send_signal(signal.SIGINT)
        seen = screen.read_all()
        assert screen.process.returncode == 130
    assert seen.rindex(SHOW) > seen.rindex(HIDE)
    assert seen.endswith("stopped at once; run the same command again to go on\r\n")


def test_a_copy_outlives_its_terminal() -> None:
    with terminal(job="slow", FAKE_SECONDS="2") as screen:
        screen.read_until(HIDE)
        os.close(screen.master)
        screen.master = os.open(os.devnull, os.O_RDONLY)
        assert screen.process.wait(30) == 0


def test_live_is_drawn_where_it_is_asked_for() -> None:
    done = subprocess.run(
        [BINARY, "copy", *CLUSTERS, "orders", "--progress", "live"],
        env=fake_environment("slow"),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert HIDE in done.stderr
    assert "copying" in done.stderr
    assert "\x1b" not in done.stdout
