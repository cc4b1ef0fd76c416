"""The docs say what the program does: generated pages are fresh, and nothing is left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import click
import msgspec
import pytest

from replicator.cli import reference as docs
from replicator.errors import ExitCode
from replicator.options.table import OPTIONS, Option
from replicator.report.model import (
    Fault,
    FaultKind,
    Gap,
    Limit,
    OpenTransaction,
    Plan,
    Summary,
    TopicPlan,
    TopicSummary,
)

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = dict(docs.commands())
JSON = (Summary, TopicSummary, Fault, Limit, Plan, TopicPlan, OpenTransaction, Gap)


def test_generated_pages_are_what_the_code_says() -> None:
    assert docs.stale(ROOT / "docs") == [], "run `make docs`"


def test_a_stale_page_is_noticed(tmp_path: Path) -> None:
    assert docs.stale(tmp_path) == ["options.md", "json.md"]
    for name, text in docs.pages().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert docs.stale(tmp_path) == []
    (tmp_path / "json.md").write_text("old", encoding="utf-8")
    assert docs.stale(tmp_path) == ["json.md"]


def test_pages_do_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = docs.pages()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb")
    assert docs.pages() == before


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_is_documented_with_every_option(path: str) -> None:
    section = re.search(rf"^## {path}\n(.*?)(?=^## |\Z)", PAGES["options.md"], re.M | re.S)
    assert section, path
    command = COMMANDS[path]
    assert command.help
    assert command.get_short_help_str()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            for name in parameter.opts:
                assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", section[1]), name


def test_every_command_but_a_group_s_own_options_has_variables() -> None:
    for path, command in COMMANDS.items():
        for parameter in command.params:
            if not isinstance(command, click.Group) and isinstance(parameter, click.Option):
                assert parameter.envvar, f"{path} {parameter.name}"
                assert str(parameter.envvar) in PAGES["options.md"]


def test_the_short_help_of_the_program_is_the_commands_own() -> None:
    program = COMMANDS["copystream"]
    assert isinstance(program, click.Group)
    for name, command in COMMANDS.items():
        _, _, own = name.partition(" ")
        if own and " " not in own:
            assert re.search(
                rf"^  {own} +{re.escape(command.get_short_help_str(limit=80))}$",
                PAGES["options.md"],
                re.M,
            ), own


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_row_of_the_table_is_documented(option: Option) -> None:
    page = PAGES["options.md"]
    assert f"`{option.env}`" in page
    assert option.help.replace("|", "\\|") in page
    if option.value.grammar:
        assert option.value.grammar.replace("|", "\\|") in page


@pytest.mark.parametrize("kind", get_args(FaultKind))
def test_every_fault_is_explained(kind: str) -> None:
    section = re.search(rf"^### {kind}\n\n(.*?)(?=^###? |\Z)", PAGES["errors.md"], re.M | re.S)
    assert section, kind
    assert len(section[1].split()) >= 15


def test_every_exit_code_is_explained() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", PAGES["errors.md"], re.M)
    assert {int(code): name.upper() for code, name in rows} == {
        code.value: code.name for code in ExitCode
    }


def test_the_readme_s_exit_codes_are_the_program_s() -> None:
    rows = [line.strip("| ").split(" | ") for line in README.splitlines() if line[:1] == "|"]
    numbers = next(row for row in rows if row[0] == "0")
    shorts = rows[rows.index(numbers) + 2]
    assert dict(zip(map(int, numbers), shorts, strict=True)) == {
        code.value: code.short for code in ExitCode
    }


def test_the_help_tells_every_exit_code() -> None:
    shown = " ".join(docs.help_text("copystream").split())
    told = ", ".join(f"{code.value} {code.short}" for code in ExitCode)
    assert f"Exit codes: {told}." in shown


@pytest.mark.parametrize("struct", JSON, ids=lambda struct: struct.__name__)
def test_every_field_of_the_json_is_listed(struct: type[msgspec.Struct]) -> None:
    """The fields are in order, and marked optional exactly where they may be left out."""
    name = struct.__name__
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGES["json.md"], re.M | re.S)
    assert section, name
    listed = re.findall(r"^\| `(\w+)`( \(optional\))? \| \S", section[1], re.M)
    assert [(field, bool(optional)) for field, optional in listed] == [
        (field.encode_name, not field.required) for field in msgspec.structs.fields(struct)
    ]


def test_links_within_the_json_page_lead_to_a_section() -> None:
    page = PAGES["json.md"]
    sections = {title.lower() for title in re.findall(r"^## (\w+)$", page, re.M)}
    links = set(re.findall(r"\(#(\w+)\)", page))
    assert links
    assert links <= sections


def test_links_lead_somewhere() -> None:
    links = [
        (name, link)
        for name, text in {**PAGES, "../README.md": README}.items()
        for link in re.findall(r"\]\(([^)#:]+\.md)\)", text)
    ]
    assert links
    for name, link in links:
        assert (ROOT / "docs" / name).parent.joinpath(link).resolve().is_file(), (name, link)


def test_the_readme_is_short_and_shows_the_main_job() -> None:
    assert len(README.encode()) <= 6 * 1024
    for words in ("make demo", "make test", "copystream copy --source"):
        assert words in README
