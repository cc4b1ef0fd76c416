"""The installed ``copystream`` as a user runs it: a process, its streams and its exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
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
