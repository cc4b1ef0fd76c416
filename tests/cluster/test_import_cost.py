"""A command that only prints help must not pay for protocol schemas or librdkafka."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("kio", "confluent_kafka", "javaproperties", "asyncio", "numpy")
HELP = """
import json, sys
from click.testing import CliRunner
from replicator.cli.main import program
shown = CliRunner().invoke(program, ["copy", "--help"])
print(json.dumps([shown.exit_code, sorted(sys.modules)]))
"""
PACKAGES = """
import json, sys
import replicator.cluster, replicator.cluster.admin, replicator.plan.topics
print(json.dumps([0, sorted(sys.modules)]))
"""


def loaded(program: str) -> set[str]:
    """The modules that a program has imported when it ends."""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    exit_code, modules = json.loads(run.stdout)
    assert exit_code == 0
    return set(modules)


def test_help_loads_none_of_the_heavy_libraries_and_no_engine() -> None:
    modules = loaded(HELP)
    assert "replicator.cli.copy" in modules, "the command was looked at"
    assert modules.isdisjoint(HEAVY)
    assert modules.isdisjoint({"replicator.copy", "replicator.engine", "replicator.cluster"})


def test_importing_the_packages_loads_no_client() -> None:
    assert loaded(PACKAGES).isdisjoint(set(HEAVY) - {"numpy"})
