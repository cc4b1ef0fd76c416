"""What ``copystream --version`` says: enough to understand a report from another machine."""

from __future__ import annotations

import platform
from importlib.metadata import version

import confluent_kafka

from copycore import crc32c
from replicator import __version__


def version_text() -> str:
    librdkafka, _ = confluent_kafka.libversion()
    rows = {
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "machine": f"{platform.system()} {platform.machine()}",
        "core": f"crc32c by {crc32c.implementation()}",
        "librdkafka": f"{librdkafka} (confluent-kafka {version('confluent-kafka')})",
        "kio": version("kio"),
    }
    return "\n".join([f"copystream {__version__}", *(f"{key}: {rows[key]}" for key in rows)])
