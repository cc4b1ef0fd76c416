"""The stop request: from any thread and from a signal handler, to every waiter."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from replicator.cli import start
from replicator.process import StopSignal


def test_a_request_is_seen_and_stays() -> None:
    stop = StopSignal()
    assert not stop.requested
    assert not stop.wait(0)
    stop.request()
    stop.request()
    assert stop.requested
    assert stop.wait(0)
    assert stop.wait()


def test_waiting_ends_at_the_timeout() -> None:
    stop = StopSignal()
    started = time.monotonic()
    assert not stop.wait(0.05)
    assert 0.04 <= time.monotonic() - started < 5


def test_one_request_wakes_every_waiter() -> None:
    stop = StopSignal()
    seen: list[bool] = []
    threads = [threading.Thread(target=lambda: seen.append(stop.wait(30))) for _ in range(5)]
    for thread in threads:
        thread.start()
    stop.request()
    for thread in threads:
        thread.join(10)
    assert seen == [True] * 5


def test_a_handler_may_request_while_the_main_thread_waits() -> None:
    stop = StopSignal()
    before = signal.signal(signal.SIGUSR1, lambda *_: stop.request())
    try:
        sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        sender.start()
        assert stop.wait(30)
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_it_can_be_polled_beside_sockets() -> None:
    stop = StopSignal()
    assert select.select([stop], [], [], 0)[0] == []
    stop.request()
    assert select.select([stop], [], [], 0)[0] == [stop]


def test_its_descriptors_are_closed_with_it() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    stop = StopSignal()
    assert descriptors() == before + 2
    del stop
    assert descriptors() == before


class InterruptedImport:
    """Ctrl-C while ``replicator.cli.main`` is being looked for."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "replicator.cli.main":
            raise KeyboardInterrupt


def test_ctrl_c_while_the_program_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "replicator.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [InterruptedImport, *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        start.main()
    assert ended.value.code == 130
