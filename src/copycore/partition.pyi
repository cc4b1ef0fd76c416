import builtins
from collections.abc import Iterable

from copycore.bucket import Bucket
from copycore.split import Split

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
    ending: str | None
    end_side: str | None
    end_code: int
    end_offset: int
    end_message: str | None
    refused_until: int
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
        split: Split | None = None,
    ) -> None: ...
    @property
    def counters(self) -> list[int]: ...
    @property
    def arrivals(self) -> list[tuple[int, int]]: ...
    def confirm(self, counter: int) -> None: ...
