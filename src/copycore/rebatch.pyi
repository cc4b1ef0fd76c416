from typing import Literal

Broken = Literal["corrupt", "malformed", "partitioner"]

class BrokenBatch(ValueError):
    ending: Broken
    def __init__(self, ending: Broken, message: str) -> None: ...

class Rebatcher:
    compression: int
    level: int
    merge: str
    batch_bytes: int
    cap: int
    def __init__(
        self,
        *,
        compression: int = -1,
        level: int | None = None,
        merge: Literal["auto", "always", "never"] = "auto",
        batch_bytes: int = ...,
        cap: int = ...,
    ) -> None: ...
