"""What a run knows about itself before and after its command line is understood."""

from __future__ import annotations

import os
from collections.abc import Sequence

from replicator.cli.output import Output


class RunState:
    """Carries the output from a command to the place where its errors are shown."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.verbosity = 0
        # A command line that cannot be parsed still says which form its error should have.
        self.output = Output(
            json_result=_last(arguments, "--output", "-o", "COPYSTREAM_OUTPUT") == "json",
            json_log=_last(arguments, "--log-format", None, "COPYSTREAM_LOG_FORMAT") == "json",
            color="--no-color" not in arguments and not os.environ.get("COPYSTREAM_NO_COLOR"),
        )

    def configure(
        self, *, json_result: bool, json_log: bool, color: bool, verbosity: int
    ) -> Output:
        self.verbosity = verbosity
        self.output = Output(json_result=json_result, json_log=json_log, color=color)
        return self.output


def _last(arguments: Sequence[str], long: str, short: str | None, env: str) -> str | None:
    """The value an option is given last, or that of its variable, without parsing the rest."""
    found = os.environ.get(env)
    for index, argument in enumerate(arguments):
        following = arguments[index + 1] if index + 1 < len(arguments) else None
        if argument == "--":
            break
        if argument in (long, short):
            found = following
        elif argument.startswith(f"{long}="):
            found = argument.partition("=")[2]
        elif short and argument.startswith(short) and not argument.startswith("--"):
            found = argument.removeprefix(short)
    return found
