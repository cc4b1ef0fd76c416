"""One broker that is also a controller: its directory, its process, its readiness."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from kio.schema.metadata.v12.response import MetadataResponse
from kio.serial import entity_reader

from replicator.lab.errors import LabError
from replicator.lab.java import java_command
from replicator.lab.ports import HOST
from replicator.lab.process import Process, spawn

_FORMAT_TIMEOUT = 60.0
_ASK_TIMEOUT = 2.0
_LOG_TAIL_LINES = 40
_PORT_TAKEN = "Address already in use"

# Metadata v12 of no topics, request header v2 without a client id: which brokers are alive, and
# is there a controller? 12 is spoken by every Kafka from 2.8 on.
_WHO_IS_ALIVE = struct.pack(">hhih", 3, 12, 1, -1) + b"\0" + b"\x01\0\0\0"
_read_metadata = entity_reader(MetadataResponse)


class Node:
    """Broker and controller number ``index`` in ``directory``, which holds its configuration
    (``server.properties``), what it printed (``broker.log``) and Kafka's logs (``data``)."""

    def __init__(
        self,
        index: int,
        directory: Path,
        *,
        libs: Path,
        jvm: Sequence[str],
        port: int,
        controller_port: int,
    ) -> None:
        self.index = index
        self.directory = directory
        self.libs = libs
        self.jvm = list(jvm)
        self.port = port
        self.controller_port = controller_port
        self.process: Process | None = None
        self._spent = 0.0

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "broker.log"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def format(self, cluster_id: str, properties: Mapping[str, str]) -> None:
        """Writes the configuration and formats the storage, as ``kafka-storage.sh format``."""
        self.directory.mkdir(parents=True, exist_ok=True)
        own = {
            "process.roles": "broker,controller",
            "node.id": str(self.index),
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data),
        }
        lines = [f"{name}={value}\n" for name, value in {**own, **properties}.items()]
        configuration = self.directory / "server.properties"
        configuration.write_text("".join(lines))
        command = self._java(
            "kafka.tools.StorageTool",
            ["format", "-t", cluster_id, "-c", str(configuration)],
            ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx128m"],
        )
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_FORMAT_TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(
                f"Kafka could not format {self.data}:\n{done.stdout.strip()[-4000:]}",
                hint="the last lines name the property Kafka refuses",
            )

    def start(self, *, detached: bool = False) -> None:
        """Starts the broker on its own port and data; ``ready`` tells when it serves."""
        if self.running():
            raise LabError(f"broker {self.index} at {self.address} runs already")
        command = self._java("kafka.Kafka", [str(self.directory / "server.properties")], self.jvm)
        self.process = spawn(command, output=self.log, environment=os.environ, detached=detached)

    def running(self) -> bool:
        return self.process is not None and not self.process.reap()

    def alive_brokers(self) -> set[int]:
        return alive_brokers(self.address)

    def port_was_taken(self) -> bool:
        return _PORT_TAKEN in self.tail()

    def tail(self) -> str:
        """The last lines the broker printed."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-_LOG_TAIL_LINES:])

    def send(self, number: signal.Signals) -> None:
        if self.process is None or not self.process.send(number):
            raise LabError(f"broker {self.index} at {self.address} does not run")

    def pause(self) -> None:
        """SIGSTOP; returns when it has stopped."""
        self.send(signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while self.process is not None and not self.process.paused():
            if time.monotonic() > deadline:
                raise LabError(f"broker {self.index} at {self.address} does not stand still")
            time.sleep(0.002)

    def kill(self) -> None:
        """kill -9, also when it is paused; returns when it is gone."""
        if self.process is None:
            return
        self._spent += self.process.cpu_seconds()
        self.process.send(signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    def stop(self, timeout: float) -> None:
        """SIGTERM, and kill -9 when it still runs after ``timeout`` seconds."""
        if self.process is None:
            return
        before = self.process.cpu_seconds()
        self.process.send(signal.SIGTERM)
        if self.process.wait(timeout):
            self._spent += before
            self.process = None
        else:
            self.kill()

    def cpu_seconds(self) -> float:
        """CPU time of this broker over all its lives."""
        return self._spent + (self.process.cpu_seconds() if self.process else 0.0)

    def _java(self, main_class: str, arguments: Sequence[str], jvm: Sequence[str]) -> list[str]:
        archive = [option for option in self.jvm if "SharedArchiveFile" in option]
        return java_command(
            self.libs,
            main_class,
            arguments,
            jvm=[*jvm, *(option for option in archive if option not in jvm)],
            config_dir=self.directory,
        )


def wait_ready(nodes: Sequence[Node], timeout: float) -> None:
    """Returns when every one of ``nodes`` serves and sees all of them alive.

    Raises LabError with the end of a broker's log when it dies meanwhile or time runs out.
    """
    deadline = time.monotonic() + timeout
    wanted = {node.index for node in nodes}
    for node in nodes:
        while not wanted <= node.alive_brokers():
            for other in nodes:
                if not other.running():
                    raise LabError(
                        f"broker {other.index} at {other.address} ended while starting; "
                        f"the end of its log:\n{other.tail()}",
                        hint=f"its configuration is {other.directory}/server.properties",
                    )
            if time.monotonic() > deadline:
                raise LabError(
                    f"broker {node.index} at {node.address} is not ready after {timeout:.0f} s; "
                    f"the end of its log:\n{node.tail()}",
                    hint="a busy machine needs more time",
                )
            time.sleep(0.03)


def alive_brokers(address: str) -> set[int]:
    """The brokers that the one at ``address`` (HOST:PORT) holds for alive.

    Empty while it does not serve or knows no controller.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_ASK_TIMEOUT) as connection:
            connection.sendall(struct.pack(">i", len(_WHO_IS_ALIVE)) + _WHO_IS_ALIVE)
            (size,) = struct.unpack(">i", _receive(connection, 4))
            answer = _receive(connection, size)
    except OSError:
        return set()
    response, _ = _read_metadata(answer, 5)  # after correlation id and (empty) tags
    if response.controller_id < 0:
        return set()
    return {int(broker.node_id) for broker in response.brokers}


def _receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ConnectionError("the broker closed the connection")
        data += chunk
    return bytes(data)
