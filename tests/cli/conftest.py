"""The fixture the tests of the command line share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kit.clusters.binary import BINARY, Ran, clean_environment, fake_environment


@pytest.fixture
def copystream(tmp_path: Path) -> Callable[..., Ran]:
    """``copystream("copy", …, env=…, fake="done")`` in an empty directory; ``fake`` names a job."""

    def run(*arguments: str, env: Mapping[str, str] | None = None, fake: str | None = None) -> Ran:
        environment = clean_environment(env) if fake is None else fake_environment(fake, env)
        done = subprocess.run(
            [BINARY, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run
