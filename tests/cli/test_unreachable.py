"""Clusters that do not answer, seen through the real binary with the real engine."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from kit.clusters.binary import Ran
from replicator.lab import LabCluster

Run = Callable[..., Ran]


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address on which nothing listens, kept so that no other process takes it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("arguments", [[], ["--dry-run"]])
def test_a_source_that_refuses(copystream: Run, closed_port: str, arguments: list[str]) -> None:
    command = ["copy", "--source", closed_port, "--target", closed_port, "orders", *arguments]
    ran = copystream(*command)
    assert ran.code == 3
    assert ran.out == ""
    error, hint = ran.err.splitlines()
    assert error.startswith("error: ")
    assert "source" in error and closed_port in error and "refused" in error
    assert hint.startswith("hint: ")

    ran = copystream(*command, "-o", "json", "--log-format", "json")
    assert ran.code == 3
    assert ran.document["status"] == "error"
    assert ran.document["error"] == "SourceUnreachable"
    assert ran.document["exit_code"] == 3
    assert json.loads(ran.err)["message"] == ran.document["message"]


@pytest.mark.parametrize("arguments", [[], ["--dry-run"]])
def test_a_target_that_refuses(
    copystream: Run, clusters: tuple[LabCluster, LabCluster], closed_port: str, arguments: list[str]
) -> None:
    ran = copystream(
        "copy",
        *("--source", clusters[0].bootstrap, "--target", closed_port),
        *("orders", "-o", "json", *arguments),
    )
    assert ran.code == 4
    assert ran.document["error"] == "TargetUnreachable"
    assert closed_port in ran.document["message"]


def test_a_name_that_does_not_exist(copystream: Run, closed_port: str) -> None:
    ran = copystream("copy", "--source", "no.such.invalid:9092", "--target", closed_port, "orders")
    assert ran.code == 3
    assert "no.such.invalid" in ran.err


def test_secrets_of_a_client_are_not_shown_when_it_fails(copystream: Run, closed_port: str) -> None:
    ran = copystream(
        "copy",
        *("--source", closed_port, "--target", closed_port, "orders", "-vv"),
        *("--source-X", "ssl.key.password=hunter2"),
        env={"COPYSTREAM_TARGET_X": "sasl.jaas.config=PlainLoginModule password=hunter2;"},
    )
    assert ran.code == 3
    assert "hunter2" not in ran.out + ran.err
