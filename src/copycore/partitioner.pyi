from array import array
from collections.abc import Sequence

from typing_extensions import Buffer

KINDS: tuple[str, ...]

def choose_all(
    kind: int,
    keys: Sequence[bytes | None],
    numbers: Buffer,
    source_partition: int,
    partitions: int,
) -> array[int]: ...
def hash_key(kind: int, key: Buffer) -> int: ...
