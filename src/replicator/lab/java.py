"""The Java command line: which java, which class path, quiet logs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replicator.lab.errors import LabError
from replicator.lab.jars import kafka_libs
from replicator.lab.process import from_lasting_thread, tied

_LOG4J_1 = """\
log4j.rootLogger={level}, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=[%d] %p %m (%c)%n
"""
_LOG4J_2 = """\
rootLogger.level={level}
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c)%n
"""


def find_java() -> str:
    """The java of JAVA_HOME, else of PATH."""
    home = os.environ.get("JAVA_HOME")
    found = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if found is None or not Path(found).exists():
        raise LabError(
            f"no java in {'JAVA_HOME=' + home if home else 'PATH'}",
            hint="install Java 17 or newer",
        )
    return found


def class_path(libs: Path) -> str:
    """All jars in ``libs`` in a fixed order: a class archive is only valid for the same order."""
    return os.pathsep.join(str(jar) for jar in sorted(libs.glob("*.jar")))


def java_command(
    libs: Path,
    main_class: str,
    arguments: Sequence[str],
    *,
    jvm: Sequence[str] = (),
    config_dir: Path,
    log_level: str = "WARN",
) -> list[str]:
    """The command that runs ``main_class``; its log goes to standard output.

    Logging is configured by files written to ``config_dir``, one for each of Kafka's two
    generations of log4j, of which the running one reads its own.
    """
    first = config_dir / "log4j.properties"
    second = config_dir / "log4j2.properties"
    first.write_text(_LOG4J_1.format(level=log_level))
    second.write_text(_LOG4J_2.format(level=log_level))
    logging = [f"-Dlog4j.configuration=file:{first}", f"-Dlog4j2.configurationFile=file:{second}"]
    return [
        find_java(),
        *jvm,
        "-Djava.awt.headless=true",
        *logging,
        "-cp",
        class_path(libs),
        main_class,
        *arguments,
    ]


def java_tool(
    version: str,
    main_class: str,
    arguments: Sequence[str],
    *,
    config_dir: Path,
    jvm: Sequence[str] = (),
    log_level: str = "WARN",
    **popen: Any,
) -> subprocess.Popen[Any]:
    """Starts a Java program of Kafka ``version``, killed at the latest when this process dies."""
    command = java_command(
        kafka_libs(version),
        main_class,
        arguments,
        jvm=jvm,
        config_dir=config_dir,
        log_level=log_level,
    )
    return from_lasting_thread(lambda: subprocess.Popen(tied(command), **popen))
