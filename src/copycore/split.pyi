from collections.abc import Callable, Sequence

class Stride:
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def counters(self) -> list[int]: ...
    def __init__(self, start: int) -> None: ...

class Split:
    counters: list[int]
    have: list[int]
    def __init__(
        self,
        partitioner: str | Callable[..., Sequence[int]],
        counters: Sequence[int],
        have: Sequence[int],
    ) -> None: ...
