"""The entry point: finds the command, runs it, and turns whatever happens into an exit code."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import traceback
from typing import NamedTuple

import click

from replicator import __version__
from replicator.cli.output import flush
from replicator.cli.run import RunState
from replicator.errors import CopystreamError, ExitCode
from replicator.options.table import ENV_PREFIX, OPTIONS

PROGRAM = "copystream"
_COMPLETE_VARIABLE = "_COPYSTREAM_COMPLETE"

# Read by setup.py and by the lab's commands; not in the table, and no misspelling of what is.
_OTHER_VARIABLES = tuple(ENV_PREFIX + name for name in ("DEBUG", "SANITIZE", "COVERAGE", "LAB_"))


class _Lazy(NamedTuple):
    """A command by the name of its module: a copy does not pay for importing the lab."""

    module: str
    attribute: str
    short_help: str


_COMMANDS = {
    "copy": _Lazy("replicator.cli.copy", "command", "Copy topics from one cluster to another."),
    "lab": _Lazy(
        "replicator.cli.lab", "lab_group", "Real Kafka clusters on this machine, to try things on."
    ),
    "completion": _Lazy(
        "replicator.cli.completion", "command", "Print the completion script of a shell."
    ),
}


class _Program(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = _COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command = getattr(importlib.import_module(lazy.module), lazy.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{lazy.module}.{lazy.attribute} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.short_help) for name, lazy in _COMMANDS.items()])


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from replicator.cli.version import version_text  # noqa: PLC0415 - only for --version

        click.echo(version_text())
        ctx.exit()


program = _Program(
    PROGRAM,
    help="Copy Apache Kafka topics between clusters at the brokers' speed, exactly once.",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_version,
            help="Show the versions of copystream and of what it is built on.",
        )
    ],
    epilog=f"Version {__version__}. `{PROGRAM} COMMAND --help` shows a command's options. Exit "
    f"codes: {', '.join(f'{code} {code.short}' for code in ExitCode)}.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> None:
    # Modules and metadata are many small objects that live long: looking through them for cycles
    # again and again costs a copy of 1,000 partitions more than the copying itself.
    gc.set_threshold(200_000, 20, 100)
    # numpy's linear algebra is not used; its threads would only spin and hold memory.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    arguments = sys.argv[1:]
    state = RunState(arguments)
    code = _run(arguments, state)
    flush()
    sys.exit(code)


def _run(arguments: list[str], state: RunState) -> int:
    try:
        _warn_of_misspelt_variables(state)
        result = program.main(
            arguments,
            PROGRAM,
            complete_var=_COMPLETE_VARIABLE,
            standalone_mode=False,
            obj=state,
        )
        return result if isinstance(result, int) else ExitCode.DONE
    except CopystreamError as error:
        if state.verbosity > 1:  # the message says what there is to know
            _debug_traceback(state)
        state.output.failure(error.family, error.exit_code, error.message, error.hint)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        state.output.write_line(error.format_message())
        return ExitCode.USAGE
    except click.ClickException as error:
        state.output.failure(
            "UsageError", ExitCode.USAGE, error.format_message(), _usage_hint(error)
        )
        return ExitCode.USAGE
    except (KeyboardInterrupt, click.Abort):
        state.output.failure("Interrupted", ExitCode.INTERRUPTED, "interrupted", None)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return ExitCode.OTHER
    except Exception as error:
        _debug_traceback(state)
        state.output.failure(
            "InternalError",
            ExitCode.OTHER,
            f"internal error: {type(error).__name__}: {error}",
            None if state.verbosity else "please report it; -v shows where it happened",
        )
        return ExitCode.OTHER


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if isinstance(context, click.Context) else PROGRAM
    return f"{path} --help shows the options"


def _debug_traceback(state: RunState) -> None:
    if state.verbosity:
        state.output.event("error", "traceback", traceback.format_exc().rstrip())


def _warn_of_misspelt_variables(state: RunState) -> None:
    known = {option.env for option in OPTIONS}
    unknown = [
        name
        for name in os.environ
        if name.startswith(ENV_PREFIX)
        and name not in known
        and not name.startswith(_OTHER_VARIABLES)
    ]
    if not unknown:
        return
    import difflib  # noqa: PLC0415 - only paid for by who misspells

    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if near:
            text = f"warning: {name} in the environment is not known; is {near[0]} meant?"
            state.output.event("warning", "unknown-variable", text)
