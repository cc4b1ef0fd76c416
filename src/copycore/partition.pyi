import builtins
from collections.abc import Iterable
from typing import Literal, NamedTuple

from copycore.bucket import Bucket
from copycore.split import Split

Side = Literal["source", "target"]
Ending = Literal[
    "done",
    "stopped",
    "lost",
    "malformed",
    "corrupt",
    "unknown-codec",
    "partitioner",
    "source-error",
    "short",
    "empty",
    "open-transaction",
    "diverged",
    "elsewhere",
    "target-error",
    "foreign-writer",
]
ENDINGS: frozenset[Ending]

class Refusal(NamedTuple):
    records: int
    size: int
    compressed: bool
    joined: bool
    source_next: int

class Unanswered(NamedTuple):
    partition: int
    behind: int
    records: int
    size: int
    compressed: bool

class PartitionCopy:
    topic: str
    partition: int
    source_name: builtins.bytes
    source_id: builtins.bytes
    target_name: builtins.bytes
    leader_epoch: int
    end: int
    position: int
    acked: int
    acked_counter: int
    records: int
    bytes: int
    plain_bytes: int
    batches: int
    bucket: Bucket | None
    wants_sample: bool
    sample: builtins.bytes | None
    skipped: int
    passed: int
    rebatched: int
    readable: int
    heard: bool
    ending: Ending | None
    end_side: Side | None
    end_code: int
    end_offset: int
    end_message: str | None
    refused: Refusal | None
    unanswered: list[Unanswered]
    epochs: list[tuple[int, int]]
    seen: int
    held_at: int
    held_since: int
    high_watermark: int
    def __init__(
        self,
        topic: str,
        partition: int,
        *,
        source_name: builtins.bytes,
        source_id: builtins.bytes,
        target_name: builtins.bytes,
        leader_epoch: int,
        start: int,
        end: int,
        mapped: int,
        counter: int,
        base_target: int,
        producer_id: int,
        producer_epoch: int,
        known: Iterable[tuple[int, int]] = (),
        batch_limit: int = ...,
        apart_until: int = 0,
        single_until: int = 0,
        unpack: bool = False,
        epoch: int = -1,
        fetched_epoch: int = -1,
        known_epochs: Iterable[tuple[int, int]] = (),
        new_epochs: Iterable[tuple[int, int]] = (),
        transaction_limit: int = 10_000,
        split: Split | None = None,
    ) -> None: ...
    @property
    def counters(self) -> list[int]: ...
    @property
    def arrivals(self) -> list[tuple[int, int]]: ...
    def confirm(self, source: int) -> None: ...
