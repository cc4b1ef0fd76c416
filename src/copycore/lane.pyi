import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from copycore.allowance import Allowance
from copycore.partition import PartitionCopy
from copycore.pipe import Pipe
from copycore.rebatch import Rebatcher
from copycore.segments import Segments
from copycore.split import Stride
from copycore.transport import Channel

Event = (
    tuple[Literal["segments"], PartitionCopy, Segments]
    | tuple[Literal["stride"], PartitionCopy, Stride]
    | tuple[Literal["ended"], PartitionCopy]
    | tuple[Literal["closed"], Pipe, Literal["source", "target"], str]
)

class Lane:
    @property
    def first_ack(self) -> int: ...
    @property
    def limited_ms(self) -> int: ...
    @property
    def source_quota_ms(self) -> int: ...
    @property
    def target_quota_ms(self) -> int: ...
    def __init__(
        self,
        client_id: bytes,
        *,
        read_committed: bool,
        check_crc: bool,
        rebatcher: Rebatcher | None = None,
        allowance: Allowance | None = None,
        request_bytes: int = ...,
        request_timeout: int = ...,
        poll_wait: int = ...,
        linger: int = ...,
        pause_limit: int = ...,
    ) -> None: ...
    def add_pipe(
        self,
        source: socket.socket | Channel,
        fetch_version: int,
        targets: Iterable[tuple[socket.socket | Channel, int]],
        slab_size: int,
        memory: int,
    ) -> Pipe: ...
    def assign(self, pipe: Pipe, part: PartitionCopy, outlets: Sequence[int] = (0,)) -> None: ...
    def stop(self, part: PartitionCopy) -> None: ...
    def lose(self, part: PartitionCopy, reason: str) -> None: ...
    def stop_all(self) -> None: ...
    def abandon(self, reason: str) -> None: ...
    def silence(self, now: int) -> int: ...
    def drop_silent(self, pipe: Pipe, now: int, silence: int, reason: str) -> None: ...
    def wake(self) -> None: ...
    def step(self, now: int, timeout: int, clock: Callable[[], int]) -> list[Event]: ...
    def take_latencies(self) -> list[int]: ...
    @property
    def idle(self) -> bool: ...
    def close(self) -> None: ...
