"""Partitioners by name: the core's own, and functions of the user's."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from replicator.errors import UsageError

Partitioner = str | Callable[..., Sequence[int]]  # see ``copycore.split.Split``


def load(name: str) -> Partitioner:
    """A partitioner by its name; ``module:function`` is imported from ``sys.path``, into which the
    command line puts the working directory. Raises ``UsageError``.
    """
    module, colon, function = name.partition(":")
    if not colon:
        return name
    try:
        found: Any = importlib.import_module(module)
        for part in function.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever a module of the user's may raise
        raise UsageError(
            f"--partitioner {name} cannot be loaded: {type(error).__name__}: {error}",
            hint="name a function as module:function; the module is looked for in PYTHONPATH and "
            "in the working directory",
        ) from error
    if not callable(found):
        raise UsageError(
            f"--partitioner {name} is not a function",
            hint="it is called as function(keys, offsets, source_partition, count)",
        )
    function_found: Partitioner = found
    return function_found
