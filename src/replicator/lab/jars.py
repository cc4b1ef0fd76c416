"""Kafka's jars: those of KAFKA_HOME, or fetched once by Maven into the user's cache.

The cache is ``$XDG_CACHE_HOME/copystream/kafka/<version>/libs``. A directory there is whole:
jars are fetched beside it and renamed into place, one process at a time.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from replicator.lab.errors import LabError

KAFKA_3 = "3.9.2"
KAFKA_4 = "4.1.1"

_FETCH_TIMEOUT = 900.0

# Kafka's distribution adds a logging backend that no artifact depends on: reload4j before
# 4.0, log4j 2 since.
_LOGGING_3 = ("org.slf4j", "slf4j-reload4j", "1.7.36")
_LOGGING_4 = ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3")

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>copystream</groupId><artifactId>lab</artifactId><version>1</version>
  <dependencies>{dependencies}</dependencies>
</project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)


def default_version() -> str:
    """KAFKA_VERSION, else the version found in KAFKA_HOME, else the newest known to work."""
    return os.environ.get("KAFKA_VERSION") or _home_version() or KAFKA_4


def cache_dir() -> Path:
    """The lab's part of the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "copystream"


def kafka_libs(version: str) -> Path:
    """The directory with the jars of Kafka ``version``, MirrorMaker 2 included.

    KAFKA_HOME serves the version it holds; any other is fetched by Maven on first use. Links are
    followed: class archives are bound to the path, and cost seconds and 50 MB each.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise LabError(
            f"{version!r} is not a Kafka version", hint=f"use for example {KAFKA_4} or {KAFKA_3}"
        )
    if version == _home_version():
        return Path(os.environ["KAFKA_HOME"], "libs").resolve()
    home = cache_dir() / "kafka" / version
    libs = home / "libs"
    if not libs.is_dir():
        with locked(home):
            if not libs.is_dir():
                _fetch(version, home)
    return libs.resolve()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds ``directory``, made if missing, against other processes of this user."""
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _home_version() -> str | None:
    home = os.environ.get("KAFKA_HOME")
    if not home:
        return None
    for jar in Path(home, "libs").glob("kafka-clients-*.jar"):
        return jar.stem.removeprefix("kafka-clients-")
    raise LabError(
        f"KAFKA_HOME={home} holds no libs/kafka-clients-*.jar",
        hint="point KAFKA_HOME at an unpacked Kafka, or unset it to fetch Kafka by Maven",
    )


def _fetch(version: str, home: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise LabError(
            f"Kafka {version} is not in {home}, and there is no mvn to fetch it",
            hint="install Maven, or set KAFKA_HOME to an unpacked Kafka",
        )
    broker = [
        ("org.apache.kafka", "kafka_2.13", version),
        _LOGGING_3 if version.startswith("3.") else _LOGGING_4,
    ]
    mirror = ("org.apache.kafka", "connect-mirror", version)
    for left_over in home.glob(".fetch-*"):  # by a fetch that was killed: the lock is ours
        shutil.rmtree(left_over)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=home) as scratch:
        fetched = Path(scratch, "libs")
        found, output = _copy_jars(maven, [*broker, mirror], fetched)
        if not found and mirror[1] in output:  # the newest brokers are published without it
            shutil.rmtree(fetched, ignore_errors=True)
            found, output = _copy_jars(maven, broker, fetched)
        if not found:
            raise LabError(
                f"Maven could not fetch Kafka {version}:\n{output.strip()[-2000:]}",
                hint="check the network and Maven's settings, or set KAFKA_HOME",
            )
        fetched.rename(home / "libs")


def _copy_jars(
    maven: str, artifacts: Sequence[tuple[str, str, str]], directory: Path
) -> tuple[bool, str]:
    """Have Maven copy artifacts and what they depend on; whether it did, and what it printed."""
    pom = directory.with_name("pom.xml")
    dependencies = "".join(_DEPENDENCY.format(*artifact) for artifact in artifacts)
    pom.write_text(_POM.format(dependencies=dependencies))
    command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
    command += [f"-DoutputDirectory={directory}", "-DincludeScope=runtime"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_FETCH_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(
            f"Maven did not fetch Kafka within {_FETCH_TIMEOUT:.0f} s",
            hint="run the command again: what Maven has already is kept",
        ) from error
    fetched = done.returncode == 0 and any(directory.glob("kafka-clients-*.jar"))
    return fetched, done.stdout
