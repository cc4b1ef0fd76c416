"""Kafka's own classes as a peer: a Java source file, run as one process for many questions."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from replicator.lab import KAFKA_3, QUICK_START, java_tool
from replicator.lab.java import find_java


class JavaPeer:
    """Questions go to its standard input as bytes of a length that it knows.

    Answers come as 1 or 0 for done or refused, a size (int32) and that many bytes.
    """

    def __init__(self, source: str, config_dir: Path) -> None:
        """``source`` names a file beside this one, of which Java needs no compiled form; without
        a compiler in this Java the test is skipped."""
        command = [find_java(), "--list-modules"]
        modules = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        if "jdk.compiler" not in modules.stdout:
            pytest.skip("this Java has no compiler")
        # Its log would be mixed with the answers.
        self._process = java_tool(
            KAFKA_3,
            str(Path(__file__).with_name(source)),
            [],
            config_dir=config_dir,
            jvm=[*QUICK_START, "-Xmx256m"],
            log_level="OFF",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, question: bytes) -> bytes | None:
        """None where Java refuses."""
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None
        assert answers is not None
        questions.write(question)
        questions.flush()
        done, size = struct.unpack(">bi", answers.read(5))
        answer: bytes = answers.read(size)
        return answer if done else None
