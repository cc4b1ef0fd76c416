"""Turns rows of the options table into click parameters, and lays out a command's help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from replicator.options.table import COMMANDS, ENV_PREFIX, Option, options_of
from replicator.options.types import OPTIONS_FILE, ValueType

# Generic for type checkers only: not every supported click can be subscripted.
if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])


class TableType(_ParamType):
    """One of the table's value types as click wants it."""

    def __init__(self, option: Option) -> None:
        self.option = option
        self.name = self.kind.metavar

    @property
    def kind(self) -> ValueType:
        return self.option.value

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.kind.parse(value)
        except ValueError as error:
            self.fail(self._complaint(value, str(error), ctx), param, ctx)

    def _complaint(self, value: str, expected: str, ctx: click.Context | None) -> str:
        source = ctx.get_parameter_source(self.option.dest) if ctx else None
        origin = ""
        if source is ParameterSource.ENVIRONMENT:
            origin = f" (from {self.option.env})"
        elif source is ParameterSource.DEFAULT_MAP:
            origin = f" ({self.option.name} in the options file)"
        return f"{expected}{origin}" if self.option.secret else f"{value!r}{origin}: {expected}"

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        if self.kind.separator == "words":
            return rv.split()
        return [line.strip() for line in rv.splitlines() if line.strip()]

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        words = [word for word in self.kind.choices if word.startswith(incomplete)]
        if self.kind.complete:
            return [CompletionItem(incomplete, type=self.kind.complete)]
        return [CompletionItem(word) for word in words]


def click_parameters(command: str) -> list[click.Parameter]:
    return [_parameter(option) for option in options_of(command)]


def _parameter(option: Option) -> click.Parameter:
    if not option.flags:
        return click.Argument(
            [option.dest],
            type=TableType(option),
            nargs=-1 if option.repeat else 1,
            required=option.required,
            envvar=option.env,
            metavar=option.value.metavar + ("…" if option.repeat else ""),
        )
    names = [option.dest, *option.flags]
    if option.value is OPTIONS_FILE:
        return click.Option(
            names,
            type=TableType(option),
            is_eager=True,
            callback=_read_file,
            envvar=option.env,
            metavar=option.value.metavar,
            help=option.help,
        )
    if option.value.kind == "switch":
        return click.Option(names, is_flag=True, envvar=option.env, help=option.help)
    if option.value.kind == "count":
        return click.Option(names, count=True, envvar=option.env, help=option.help)
    return click.Option(
        names,
        type=TableType(option),
        default=() if option.repeat else option.default,
        multiple=option.repeat,
        required=option.required,
        envvar=option.env,
        metavar=option.value.metavar,
        help=option.help,
    )


def table_option(parameter: str, option: Option) -> Callable[[F], F]:
    """Decorates a command that has no options of the table's groups with one row."""
    return click.option(
        parameter,
        *option.flags,
        type=TableType(option),
        default=option.default,
        show_default=option.default_note or True,
        envvar=option.env,
        show_envvar=True,
        metavar=option.value.metavar,
        help=option.help,
    )


def _read_file(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The file's values count where neither a flag nor a variable gives one."""
    if value and not ctx.resilient_parsing:
        from replicator.options.file import read_options  # noqa: PLC0415 - only for such a file

        ctx.default_map = read_options(Path(value), ctx.command.name or "")
    return value


class TableCommand(click.Command):
    """A command whose parameters are the table's rows for it, its help grouped as they are."""

    def __init__(
        self,
        name: str,
        *,
        callback: Callable[..., Any],
        help: str,
        short_help: str,
        examples: Sequence[tuple[str, str]],
    ) -> None:
        super().__init__(
            name,
            callback=callback,
            params=click_parameters(name),
            help=help,
            short_help=short_help,
        )
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for group in COMMANDS[self.name or ""]:
            rows = groups.setdefault(group.heading, [])
            rows += [
                (_signature(option), _help(option)) for option in group.options if option.flags
            ]
        next(reversed(groups.values())).append(("-h, --help", "Show this message."))
        for heading, rows in groups.items():
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=32)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for about, line in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}# {about}\n")
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        formatter.write_paragraph()
        formatter.write_text(
            f"Every option can be set in the environment too: --log-format as "
            f"{ENV_PREFIX}LOG_FORMAT. A flag wins."
        )


def _signature(option: Option) -> str:
    flags = ", ".join(sorted(option.flags, key=len))
    return f"{flags} {option.value.metavar}" if option.value.kind == "value" else flags


def _help(option: Option) -> str:
    notes = []
    if option.repeat or option.value.kind == "count":
        notes.append("repeatable")
    if option.default or option.default_note:
        notes.append(f"default: {option.default or option.default_note}")
    return option.help + (f" [{'; '.join(notes)}]" if notes else "")
