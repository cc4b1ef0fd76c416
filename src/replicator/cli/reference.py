"""Writes the reference pages that are made from the code: ``python -m replicator.cli.reference``.

``docs/options.md`` comes from the options table and the help of every command, ``docs/json.md``
from the report structures. With ``--check`` nothing is written; the exit code is 1 when a page is
not what the code says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from click.testing import CliRunner

from replicator.cli.main import PROGRAM, program
from replicator.cli.params import TableCommand
from replicator.options.table import OPTIONS, Option, options_of
from replicator.options.types import ValueType
from replicator.report.model import Plan, Summary

_TYPES = {
    "string": "text",
    "integer": "number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}
_WIDTH = 98  # of the help blocks; fixed, so that a page does not depend on a terminal
_MADE = "<!-- Made by `make docs` from the code. Edit the code, not this page. -->"


def pages() -> dict[str, str]:
    """File name in ``docs/`` → its whole text."""
    return {"options.md": options_page(), "json.md": json_page()}


def options_page() -> str:
    lines = [
        "# Commands and options",
        "",
        _MADE,
        "",
        "An option's value comes from, first match wins: the flag, the environment variable, the "
        "file of `--config`, the default. An empty variable counts as not set. Options that may be "
        "repeated take several values in one variable: topics separated by spaces, client "
        "properties and whatever has a `=` one a line. Switches take `1` or `0`.",
        "",
        "The file of `--config` is TOML with the options' names as keys. Values are texts as on "
        "the command line; numbers, `true` and `false` for switches, and arrays for options that "
        "may be repeated are taken too. A running copy that gets SIGHUP reads "
        + ", ".join(f"`{option.name}`" for option in OPTIONS if option.reread)
        + " from it again and logs what changed; a file that is wrong is logged and changes "
        "nothing.",
        "",
        "```",
        'topics = ["orders", "shop\\\\..*"]',
        'throttle = "08:00,20MB/s 19:00,off"',
        'throttle-topic = ["orders=5MB/s"]',
        "check-crc = true",
        "```",
        "",
        "Results go to stdout; logs, progress and errors to stderr. What an exit code or a fault "
        "means, and what to do: [errors.md](errors.md). The fields of `-o json`: "
        "[json.md](json.md).",
        "",
    ]
    for path, command in commands():
        lines += _command(path, command)
    lines += ["## Values", "", "| Value | How it is written |", "| --- | --- |"]
    for metavar, grammar in sorted(_grammars().items()):
        lines.append(f"| `{_cell(metavar)}` | {_cell(grammar)} |")
    return "\n".join(lines) + "\n"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that can be typed, by its full path, groups before what they hold."""
    pending: list[tuple[str, click.Command]] = [(PROGRAM, program)]
    while pending:
        path, command = pending.pop(0)
        yield path, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            names = command.list_commands(context)
            found = [(name, command.get_command(context, name)) for name in names]
            pending[:0] = [(f"{path} {name}", child) for name, child in found if child]


def help_text(path: str) -> str:
    """What ``path --help`` prints, at a fixed width."""
    arguments = [*path.split(" ")[1:], "--help"]
    shown = CliRunner().invoke(program, arguments, prog_name=PROGRAM, terminal_width=_WIDTH)
    if shown.exception:
        raise shown.exception
    return shown.output


def _command(path: str, command: click.Command) -> list[str]:
    lines = [f"## {path}", "", "```", *help_text(path).splitlines(), "```", ""]
    if isinstance(command, TableCommand):
        lines += ["| Option | Environment | Default | Meaning |", "| --- | --- | --- | --- |"]
        lines += [_row(option) for option in options_of(command.name or "")]
        lines.append("")
    return lines


def _row(option: Option) -> str:
    name = ", ".join(f"`{flag}`" for flag in option.flags) or f"`{option.value.metavar}…`"
    if option.flags and option.value.kind == "value":
        name += f" `{option.value.metavar}`"
    default = f"`{option.default}`" if option.default else option.default_note
    if option.required:
        default = "must be given"
    return f"| {_cell(name)} | `{option.env}` | {_cell(default)} | {_cell(option.help)} |"


def _grammars() -> dict[str, str]:
    types: list[ValueType] = [option.value for option in OPTIONS]
    return {kind.metavar: kind.grammar for kind in types if kind.grammar}


def json_page() -> str:
    lines = [
        "# The JSON of `-o json`",
        "",
        _MADE,
        "",
        "`copystream copy -o json` writes one document to stdout when it ends: a Summary, with "
        "`--dry-run` a Plan, after an error an Error. Sizes are bytes, durations seconds, offsets "
        "Kafka offsets; an end is exclusive. A field marked optional is left out where it has its "
        "default. New fields may come with any version; none goes away within a major version.",
        "",
        "## Error",
        "",
        "| Field | Type |",
        "| --- | --- |",
        '| `status` | `"error"` |',
        "| `error` | text: the family, such as `UsageError`, `SourceUnreachable`, `StateError` |",
        "| `exit_code` | number |",
        "| `message` | text |",
        "| `hint` (optional) | text: what to do |",
        "",
    ]
    documents, components = msgspec.json.schema_components([Summary, Plan])
    pending, told = list(documents), set()
    while pending:
        name = _referred(pending.pop(0))
        if name not in told:
            told.add(name)
            lines += _struct(name, components[name])
            pending[:0] = _references(components[name])
    return "\n".join(lines)


def _struct(name: str, schema: dict[str, Any]) -> list[str]:
    lines = [f"## {name}", ""]
    if "description" in schema:
        lines += [*_paragraphs(schema["description"]), ""]
    lines += ["| Field | Type |", "| --- | --- |"]
    for field, kind in schema["properties"].items():
        optional = "" if field in schema["required"] else " (optional)"
        lines.append(f"| `{field}`{optional} | {_cell(_type(kind))} |")
    return [*lines, ""]


def _paragraphs(docstring: str) -> list[str]:
    """A docstring as Markdown, a paragraph a line."""
    paragraphs = docstring.replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(one.split()) for one in paragraphs).splitlines()


def _references(schema: Any) -> Iterator[dict[str, Any]]:
    """The references in a schema, in order."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _referred(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = _referred(schema)
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f'`"{value}"`' for value in schema["enum"])
    match schema["type"]:
        case "array":
            return f"list of {_type(schema['items'])}"
        case "object":
            return f"object of text → {_type(schema['additionalProperties'])}"
        case kind:
            return _TYPES[kind]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def stale(directory: Path) -> list[str]:
    """The pages under ``directory`` that are missing or not what the code says."""
    return [
        name
        for name, text in pages().items()
        if not (directory / name).is_file()
        or (directory / name).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    directory = Path(__file__).parents[3] / "docs"
    if arguments == ["--check"]:
        old = stale(directory)
        for name in old:
            sys.stderr.write(f"docs/{name} is not what the code says; run `make docs`\n")
        return 1 if old else 0
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
