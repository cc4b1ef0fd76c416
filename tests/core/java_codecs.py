"""Kafka's own compression classes as a peer, in one Java process for as many calls as wanted."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from types import TracebackType

from replicator.lab import KAFKA_3, QUICK_START, java_tool

SOURCE = Path(__file__).with_name("JavaCodecs.java")


class JavaCodecs:
    """Compresses and decompresses as a producer and a consumer of Kafka 3 do."""

    def __init__(self, config_dir: Path) -> None:
        # Java runs a source file as it is. Its log would come with the answers.
        self._process = java_tool(
            KAFKA_3,
            str(SOURCE),
            [],
            config_dir=config_dir,
            jvm=[*QUICK_START, "-Xmx256m"],
            log_level="OFF",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> JavaCodecs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def _call(self, operation: bytes, codec: int, data: bytes, magic: int) -> bytes | None:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        requests.write(operation + struct.pack(">iii", magic, codec, len(data)) + data)
        requests.flush()
        done, size = struct.unpack(">bi", answers.read(5))
        answer: bytes = answers.read(size)
        return answer if done else None

    def compress(self, codec: int, data: bytes, magic: int = 2) -> bytes:
        packed = self._call(b"c", codec, data, magic)
        assert packed is not None
        return packed

    def decompress(self, codec: int, data: bytes, magic: int = 2) -> bytes | None:
        """None where Java refuses."""
        return self._call(b"d", codec, data, magic)
