"""The table of faults, the ``Fault`` values made of it, and what docs/errors.md says of each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from replicator.errors import ExitCode
from replicator.report.faults import FAULTS, exit_code_of, fault, told
from replicator.report.model import FaultKind
from replicator.terms import Side

KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
SIDES: tuple[Side, ...] = get_args(Side)
PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
CLUSTER = "src1:9092 (AbCdEf)"


def sections() -> dict[str, str]:
    """The page's section of each fault, in order."""
    _, _, text = PAGE.read_text().partition("\n## Faults\n")
    _, *parts = re.split(r"^### ", text, flags=re.MULTILINE)
    return {title: body for title, _, body in (part.partition("\n") for part in parts)}


def test_every_kind_has_a_row() -> None:
    assert set(FAULTS) == set(KINDS)


def test_the_page_has_a_section_for_each_kind() -> None:
    assert sorted(sections()) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_names_the_exit_code(kind: FaultKind) -> None:
    """The first ``Exit code`` of a section is that of the table, on both sides."""
    found = re.search(
        r"Exit\s+code\s+(\d+)(?:\s+on\s+the\s+source,\s+(\d+)\s+on\s+the\s+target)?",
        sections()[kind],
    )
    assert found is not None
    source, target = found.groups()
    assert int(source) == exit_code_of(kind, "source")
    assert int(target or source) == exit_code_of(kind, "target")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("offset", [None, 0, 2**62])
def test_a_fault_has_message_hint_and_exit_code(
    kind: FaultKind, side: Side, offset: int | None
) -> None:
    found = fault(kind, side, CLUSTER, "orders", 3, "what happened", offset=offset)
    at = "" if offset is None else f" at offset {offset}"
    assert found.message == f"orders-3{at} on {side} cluster {CLUSTER}: what happened"
    assert (found.kind, found.side, found.cluster, found.topic) == (kind, side, CLUSTER, "orders")
    assert (found.partition, found.offset) == (3, offset)
    assert found.hint == FAULTS[kind].hint
    assert len(found.hint) > 20
    assert found.exit_code == int(exit_code_of(kind, side))
    assert found.exit_code != ExitCode.DONE


def test_a_fault_of_a_topic_names_no_partition() -> None:
    found = fault("refused", "target", CLUSTER, "orders", None, "it holds records")
    assert found.message == f"topic orders on target cluster {CLUSTER}: it holds records"
    assert found.partition is None


def test_a_message_that_is_whole_stays() -> None:
    found = told("unreachable", "target", CLUSTER, "orders", 3, "broker 1 closed")
    assert found.message == "broker 1 closed"
    assert found.exit_code == ExitCode.INCOMPLETE


def test_a_fault_may_have_its_own_hint_and_exit_code() -> None:
    found = fault(
        "unreachable", "source", CLUSTER, "orders", 3, "x",
        hint="look over there", exit_code=ExitCode.OTHER,
    )  # fmt: skip
    assert (found.hint, found.exit_code) == ("look over there", int(ExitCode.OTHER))
