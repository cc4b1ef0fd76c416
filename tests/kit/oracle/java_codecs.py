"""Kafka's own compression classes as a peer."""

from __future__ import annotations

import struct
from pathlib import Path

from kit.oracle.java_peer import JavaPeer


class JavaCodecs(JavaPeer):
    """Compresses and decompresses as a producer and a consumer of Kafka 3 do."""

    def __init__(self, config_dir: Path) -> None:
        super().__init__("JavaCodecs.java", config_dir)

    def compress(self, codec: int, data: bytes, magic: int = 2) -> bytes:
        packed = self.ask(b"c" + struct.pack(">iii", magic, codec, len(data)) + data)
        assert packed is not None
        return packed

    def decompress(self, codec: int, data: bytes, magic: int = 2) -> bytes | None:
        """The data, or None where Java refuses it."""
        return self.ask(b"d" + struct.pack(">iii", magic, codec, len(data)) + data)
