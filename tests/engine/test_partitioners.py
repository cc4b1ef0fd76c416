"""A partitioner by its name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from replicator.engine.partitioners import load
from replicator.errors import UsageError

MODULE = """
def choose(keys, offsets, source_partition, count):
    return [0] * len(keys)

class Box:
    number = 3
    @staticmethod
    def choose(keys, offsets, source_partition, count):
        return [1] * len(keys)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_partitioner.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return "my_partitioner"


def test_the_cores_own_are_known_by_name() -> None:
    assert load("murmur2") == "murmur2"


@pytest.mark.parametrize(("name", "partition"), [("choose", 0), ("Box.choose", 1)])
def test_a_function_of_a_module(mine: str, name: str, partition: int) -> None:
    found = load(f"{mine}:{name}")
    assert not isinstance(found, str)
    assert found([b"k"], [0], 0, 2) == [partition]


def test_the_search_path_stays_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``sys.path`` belongs to the process, in which more than one copy may run."""
    monkeypatch.chdir(tmp_path_factory.mktemp("working"))
    before = list(sys.path)
    load(f"{mine}:choose")
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module:choose", "cannot be loaded: ModuleNotFoundError"),
        ("{}:missing", "cannot be loaded: AttributeError"),
        ("{}:Box.number", "is not a function"),
    ],
)
def test_what_cannot_be_loaded_is_a_usage_error(mine: str, name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load(name.format(mine))
