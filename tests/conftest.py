"""The fixtures of all tests: real clusters (in kit), and names that keep tests apart."""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Callable

import pytest

# Helpers that assert; here, since tests of several folders import them.
pytest.register_assert_rewrite("kit")

pytest_plugins = ["kit.clusters.fixtures", "kit.fakes.fixtures"]

# A shell's background job ignores Ctrl-C, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_count = itertools.count(1)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Begins the topic names of this test: unique in the session, and telling whose they are."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", request.node.name)[:60].strip("-")
    return f"t{os.getpid()}-{next(_count)}-{name}-"


@pytest.fixture
def topic_name(prefix: str) -> Callable[[str], str]:
    """Full topic names from short ones."""
    return lambda short: prefix + short
