"""The demo: its exit code is its verdict, and no broker or data directory is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kit.clusters.runner import wait_until
from replicator.lab import QUICK_START, LabCluster, demo
from replicator.lab.seed import Payload, Writer


def leftovers(pid: int) -> list[str]:
    """Brokers and data directories of the process that was ``pid``."""
    found = [str(path) for path in Path("/dev/shm").glob(f"copystream-lab-{pid}-*")]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if f"copystream-lab-{pid}-".encode() in command:
            found.append(str(entry))
    return found


class QuickCluster(LabCluster):
    """Up early, never fast: nothing is measured here."""

    def __init__(self, *, name: str, memory: bool) -> None:
        super().__init__(name=name, memory=memory, jvm=QUICK_START)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "LabCluster", QuickCluster)
    monkeypatch.setattr(demo, "BULKS", (demo.Bulk("shop.few", 2, "lz4", 200, 100, 16384),))


def test_equal_sides_are_success_and_nothing_is_left(
    small: None, capfd: pytest.CaptureFixture[str]
) -> None:
    assert demo.main() == 0
    shown = capfd.readouterr().out
    assert "$ copystream copy --source 127.0.0.1:" in shown
    assert "EQUAL: " in shown
    assert shown.rstrip().endswith("Cleaned up: both clusters and their data are gone.")
    assert not [entry for entry in leftovers(os.getpid()) if "demo-" in entry]


def test_a_target_that_differs_is_failure(
    small: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = demo._run
    runs: list[list[str]] = []

    def run_and_spoil(command: list[str]) -> float:
        took = run(command)
        runs.append(command)
        if len(runs) == 2:  # after the last check by the copy itself
            with Writer(command[command.index("--target") + 1]) as writer:
                writer.send("shop.few", 1, Payload(None, b"one too many"))
        return took

    monkeypatch.setattr(demo, "_run", run_and_spoil)
    assert demo.main() == 1
    assert "DIFFERENT: " in capfd.readouterr().out


@pytest.mark.soak
def test_a_copy_that_fails_is_failure(
    small: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "PATTERN", "no-such-topic")
    assert demo.main() == 1
    assert "The demo failed: the copy exited with 2" in capfd.readouterr().out


@pytest.mark.parametrize(
    "moment", ["source 127.0.0.1", pytest.param("$ copystream copy", marks=pytest.mark.soak)]
)
def test_a_terminated_demo_cleans_up(tmp_path: Path, moment: str) -> None:
    shown = tmp_path / "shown"
    with shown.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "replicator.lab.demo"], stdout=out)
    try:
        wait_until(lambda: moment in shown.read_text(), moment, timeout=120)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    assert "Interrupted." in shown.read_text()
    assert leftovers(process.pid) == []


def test_an_interruption_that_comes_out_as_an_error() -> None:
    with pytest.raises(KeyboardInterrupt), demo._sigterm_cleans_up():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise TypeError("as of a constructor in C") from None


def test_an_error_without_an_interruption() -> None:
    with pytest.raises(TypeError), demo._sigterm_cleans_up():
        raise TypeError
