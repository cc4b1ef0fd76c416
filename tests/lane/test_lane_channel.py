"""A lane over channels that are no plain sockets, which is how TLS is to come in.

The subclass is compiled here, against the core's own declarations, as one outside of it would be.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import copycore
from kit.brokers import rig as kit
from kit.brokers.rig import Rig
from kit.brokers.scripted import SourceLog, batch

CORE = Path(copycore.__file__).parent
SOURCE = Path(kit.__file__).with_name("sealed_channel.pyx")
KEY = 0x5A
BUILD = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
core = sys.argv.pop(1)
extension = Extension("sealed_channel", ["sealed_channel.pyx"], include_dirs=[core])
setup(ext_modules=cythonize([extension], include_path=[core + "/.."], language_level=3))
"""


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module with the subclass."""
    room = tmp_path_factory.mktemp("sealed")
    shutil.copy(SOURCE, room)
    command = [sys.executable, "-c", BUILD, str(CORE), "--quiet", "build_ext", "--inplace"]
    subprocess.run(command, cwd=room, check=True, timeout=120)
    (built,) = room.glob("sealed_channel.*.so")
    spec = spec_from_file_location("sealed_channel", built)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Far:
    """The other end of a sealed channel. It keeps silent until it is told to greet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.setblocking, self.close = sock.setblocking, sock.close

    def greet(self) -> None:
        self.sock.send(b"\n")

    def recv(self, size: int) -> bytes:
        return bytes(byte ^ KEY for byte in self.sock.recv(size))

    def send(self, data: bytes) -> int:
        return self.sock.send(bytes(byte ^ KEY for byte in data))


@pytest.fixture
def sealed_rig(sealed: Any, make_rig: Callable[..., Rig]) -> Callable[..., tuple[Rig, list[Far]]]:
    """A rig whose channels are sealed, and the far ends that have not greeted yet."""

    def make(**channel: Any) -> tuple[Rig, list[Far]]:
        far: list[Far] = []

        def seal(sock: socket.socket) -> Any:
            far.append(Far(sock))
            return far[-1]

        rig = make_rig(
            near_end=lambda sock: sealed.SealedChannel(sock, **channel), far_end=seal
        )  # fmt: skip
        return rig, far

    return make


LOG = SourceLog(b"t", 0, [batch(number, 1, bytes(900)) for number in range(20)])


def test_a_copy_over_channels_of_another_kind(
    sealed_rig: Callable[..., tuple[Rig, list[Far]]],
) -> None:
    """Bytes that a channel has buffered are used without another event of the socket."""
    rig, far = sealed_rig()
    ends = rig.pipe(LOG)
    part = rig.assign(ends, LOG)
    for one in far:
        one.greet()
    rig.run()
    assert (part.ending, part.records) == ("done", 20)
    assert len(rig.stored(ends, part)) == 20


def test_a_channel_that_has_to_read_before_it_can_write(
    sealed_rig: Callable[..., tuple[Rig, list[Far]]],
) -> None:
    rig, far = sealed_rig()
    ends = rig.pipe(LOG)
    source, target = far
    part = rig.assign(ends, LOG)
    rig.step(20)
    assert ends.source.requests == []
    source.greet()
    rig.run(lambda: part.position == 20)
    rig.step(20)
    assert ends.target.requests == []
    target.greet()
    rig.run()
    assert (part.ending, part.records) == ("done", 20)


def test_a_channel_that_does_not_tell_what_it_has_is_not_asked_again(
    sealed_rig: Callable[..., tuple[Rig, list[Far]]],
) -> None:
    """The counter-check: the tests above pass because of ``buffered``."""
    rig, far = sealed_rig(deaf=True)
    ends = rig.pipe(LOG)
    part = rig.assign(ends, LOG)
    for one in far:
        one.greet()
    rig.step(100)
    assert len(ends.source.requests) == 1
    assert (part.position, part.ending) == (0, None)


@pytest.mark.timeout(60)
def test_nothing_is_waited_for_while_something_is_buffered(
    sealed_rig: Callable[..., tuple[Rig, list[Far]]],
) -> None:
    rig, far = sealed_rig()
    ends = rig.pipe(LOG)
    part = rig.assign(ends, LOG)
    for one in far:
        one.greet()
    rig.run(lambda: len(ends.source.requests) == 1)
    for _ in range(25):
        # Each waits for a minute unless the channel says that it has more.
        rig.lane_step(timeout=60_000)
        if part.position:
            break
    assert part.position == 20
