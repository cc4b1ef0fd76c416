"""Puts ``fake_job`` in the engine's place in a process that has this directory on PYTHONPATH.

Python imports this file at start. What the command does with a result, a fault or a signal is
then seen through the real binary without brokers, which play the engine's part in tests/scenario.
"""

import sys
import types

engine = types.ModuleType("replicator.copy")


def _attribute(name: str) -> object:
    import fake_job  # noqa: PLC0415 - when the command asks for the engine

    return getattr(fake_job, name)


vars(engine)["__getattr__"] = _attribute
sys.modules["replicator.copy"] = engine
