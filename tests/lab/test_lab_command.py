"""``copystream lab`` as a user types it; each step is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from replicator.lab import default_version, kafka_libs
from replicator.lab.archive import class_archive
from replicator.lab.jars import cache_dir
from replicator.lab.process import Process

Lab = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Runs the command on labs of its own; the fetched Kafka and its archive are shared."""
    class_archive(kafka_libs(default_version()))
    home = tmp_path / "copystream"
    home.mkdir()
    (home / "kafka").symlink_to(cache_dir() / "kafka")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "COPYSTREAM_LAB_NAME": "t"}
    code = "from replicator.cli.lab import lab_group; lab_group()"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )

    yield run
    if any((home / "lab").glob("*/*/cluster.json")):
        run("down")


def processes(rows: list[dict[str, Any]]) -> list[Process]:
    return [Process.of(pid) for row in rows for pid in row["pids"]]


def test_up_status_down(lab: Lab) -> None:
    up = lab("up", "-o", "json")
    assert up.returncode == 0, up.stderr
    rows = json.loads(up.stdout)
    assert [row["cluster"] for row in rows] == ["source", "target"]
    assert {row["state"] for row in rows} == {"running"}
    brokers = processes(rows)
    assert len(brokers) == 2
    assert all(broker.alive() for broker in brokers)

    assert json.loads(lab("status", "-o", "json").stdout) == rows
    text = lab("status").stdout.splitlines()
    assert text[0].split() == ["LAB", "CLUSTER", "STATE", "VERSION", "BOOTSTRAP"]
    assert text[1].split() == ["t", "source", "running", default_version(), rows[0]["bootstrap"]]

    again = lab("up")
    assert again.returncode != 0
    assert "is up already" in again.stderr

    down = lab("down")
    assert down.returncode == 0
    assert "target" in down.stdout
    assert not any(broker.alive() for broker in brokers)
    assert lab("status").stdout == "no labs\n"
    assert lab("down").stdout == "no lab t\n"


def test_a_dead_broker_is_shown_and_up_replaces_it(lab: Lab) -> None:
    rows = json.loads(lab("up", "--clusters", "1", "-o", "json").stdout)
    (broker,) = processes(rows)
    assert broker.send(signal.SIGKILL)
    assert broker.wait(10)
    shown = json.loads(lab("status", "-o", "json").stdout)
    assert shown[0]["state"] == "down"
    assert json.loads(lab("up", "--clusters", "1", "-o", "json").stdout)[0]["state"] == "running"


def test_a_failed_up_leaves_nothing(lab: Lab) -> None:
    failed = lab("up", "--kafka-version", "four")
    assert failed.returncode != 0
    assert "'four' is not a Kafka version" in failed.stderr
    assert lab("status").stdout == "no labs\n"


@pytest.mark.parametrize("name", ["..", "../kafka", "/tmp", ""])
@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_name_is_not_a_path(lab: Lab, verb: str, name: str) -> None:
    answer = lab(verb, "--name", name)
    assert answer.returncode != 0
    assert "cannot name a lab" in answer.stderr
    assert class_archive(kafka_libs(default_version())) is not None
