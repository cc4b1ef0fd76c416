"""Free ports on the loopback interface."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

HOST = "127.0.0.1"

# Below the kernel's range for outgoing connections: a client's connection must not sit on the
# port of a broker that is down and shall come back on it.
_LOWEST, _HIGHEST = 15000, 32000


def free_ports(count: int) -> list[int]:
    """``count`` ports on which no process listens now; another process may still take one first."""
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            port = random.randrange(_LOWEST, _HIGHEST)
            probe = held.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            ports.append(port)
    return ports
