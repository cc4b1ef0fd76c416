"""The installed ``copystream`` as a user runs it: a process, its streams and its exit code."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

BINARY = Path(sys.executable).with_name("copystream")
FAKE_ENGINE = Path(__file__).with_name("fake_engine")
CLUSTERS = ("--source", "a:9092", "--target", "b:9092")


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        assert self.out.count("\n") == 1, self.out
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """What the fake engine was given."""
        found = json.loads(self.document["flow"])
        assert isinstance(found, dict)
        return found


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COPYSTREAM_", "FAKE_", "COVERAGE_"))
        and name not in ("NO_COLOR", "PYTHONPATH", "PYTHONWARNINGS")
    }
    return {**kept, "TERM": "xterm", **(extra or {})}


def fake_environment(job: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    fake = {"PYTHONPATH": str(FAKE_ENGINE), "FAKE_JOB": job}
    return clean_environment({**fake, **(extra or {})})


@contextmanager
def started(
    job: str, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A copy that has begun to run, told by the first line of its log."""
    process = subprocess.Popen(
        # Under nohup SIGHUP would be ignored, in children as well.
        ["env", "--default-signal=HUP", BINARY, "copy", *CLUSTERS, "orders", *arguments],
        env=fake_environment(job, env),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        read_until(process, b"started")
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[bytes], sign: bytes) -> bytes:
    """What it wrote to stderr, up to the part that has ``sign``."""
    assert process.stderr
    descriptor = process.stderr.fileno()
    seen = b""
    deadline = time.monotonic() + 30
    while sign not in seen:
        ready, _, _ = select.select([descriptor], [], [], deadline - time.monotonic())
        assert ready, seen
        part = os.read(descriptor, 65536)
        assert part, seen
        seen += part
    return seen
