"""A command that only prints help must not pay for protocol schemas or librdkafka."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("kio", "confluent_kafka", "javaproperties", "asyncio")


def test_importing_the_package_loads_none_of_the_heavy_libraries() -> None:
    program = (
        "import sys, replicator.cluster, replicator.cluster.admin, replicator.plan.topics\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.strip() == "[]"
