from collections.abc import Iterable

from typing_extensions import Buffer

def retraced(
    content: Buffer, sources: Iterable[tuple[Buffer, int, int, int, Iterable[tuple[int, int]]]]
) -> bytes: ...
