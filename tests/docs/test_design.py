"""DESIGN.md names what there is: modules in its file map, files of its words, cited invariants."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
DESIGN = (ROOT / "DESIGN.md").read_text(encoding="utf-8")
MAP = DESIGN[DESIGN.index("## File map") :]
CORE_MAP, MAP_ABOVE = MAP.split("`src/replicator/`", 1)


@pytest.mark.parametrize(
    "module", sorted(path.stem for path in (SOURCE / "copycore").glob("*.pyx"))
)
def test_the_file_map_has_every_module_of_the_core(module: str) -> None:
    assert re.search(rf"`{module}(\.pyx)?`", CORE_MAP)


@pytest.mark.parametrize(
    "package",
    ["engine", "plan", "offsets", "pace", "state", "options", "report"],
)
def test_the_file_map_has_every_module_of_a_package(package: str) -> None:
    """Each in the rows of its package."""
    rows = MAP_ABOVE[MAP_ABOVE.index(f"| `{package}/` |") :].splitlines()
    end = next((n for n, row in enumerate(rows) if n and not row.startswith("| ·")), len(rows))
    told = "\n".join(rows[:end])
    modules = [path.name for path in (SOURCE / "replicator" / package).glob("*.py")]
    missing = [name for name in modules if name != "__init__.py" and f"`{name}`" not in told]
    assert not missing


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:\w+/)+\w+(?:\.py)?)`", DESIGN))
    gone = [
        name
        for name in sorted(named)
        if not name.startswith(("tests/", "src/"))
        and not any(list(SOURCE.glob(f"{top}{name}*")) for top in ("", "replicator/"))
    ]
    assert not gone


def test_every_invariant_that_the_code_cites_is_there() -> None:
    cited = {
        number
        for pattern in ("*.py", "*.pyx", "*.pxd")
        for path in SOURCE.rglob(pattern)
        for number in re.findall(r"INV-\d+", path.read_text(encoding="utf-8"))
    }
    stated = set(re.findall(r"^\| (INV-\d+) \|", DESIGN, re.MULTILINE))
    assert cited
    assert cited <= stated
