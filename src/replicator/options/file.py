"""The file of ``--config``: options in TOML, keyed by their names in the table.

Values are texts as on the command line; numbers and true or false may be written as such, and
options that may be repeated take an array. Nothing of the file but keys is shown in an error:
values may be secrets.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from replicator.errors import ConfigError
from replicator.options.table import CONFIG, Option, options_of

FileValue = str | bool | int | list[str]  # of a value, a switch, a count, and one that is repeated


def read_options(path: Path, command: str) -> dict[str, FileValue]:
    """What the file gives, by ``Option.dest``; not yet parsed.

    Raises ``ConfigError`` naming file and key for a file that cannot be read, is no TOML, or has
    keys that are no options of the command or values of a type that none of them has.
    """
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise ConfigError(
            f"the options file {path} cannot be read: {error.strerror}",
            hint="check the path and its permissions",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the options file {path} is not TOML: {error}",
            hint='write options as in: throttle = "20MB/s"',
        ) from None
    options = {option.name: option for option in options_of(command) if option.name != CONFIG}
    values = {}
    for key, value in found.items():
        if key not in options:
            raise ConfigError(
                f"the options file {path} has the key {key}, which is no option",
                hint=_suggestion(key, options),
            )
        values[options[key].dest] = _value(path, options[key], value)
    return values


def parse_option(path: Path, option: Option, value: FileValue) -> Any:
    """The parsed value of a row that takes one. Raises ``ConfigError`` naming file and key."""
    try:
        if isinstance(value, list):
            return tuple(option.value.parse(text) for text in value)
        return option.value.parse(str(value))
    except ValueError as error:
        raise ConfigError(
            f"{option.name} in the options file {path}: {error}",
            hint="correct it; until then it counts for nothing",
        ) from None


def _value(path: Path, option: Option, value: object) -> FileValue:
    """A value of the right type; numbers become text, and one of many a list of one."""
    if option.value.kind == "switch":
        if isinstance(value, bool):
            return value
    elif isinstance(value, bool):
        pass
    elif option.value.kind == "count":
        if isinstance(value, int):
            return value
    elif isinstance(value, str | int | float):
        return [str(value)] if option.repeat else str(value)
    elif option.repeat and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value
    expected = {"switch": "true or false", "count": "a number"}.get(
        option.value.kind, "an array of texts" if option.repeat else "a text"
    )
    raise ConfigError(
        f"{option.name} in the options file {path}: expected {expected}",
        hint="docs/options.md has every option and how its values are written",
    )


def _suggestion(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    if near:
        return f"is {near[0]} meant?"
    return "keys are the names of options without their dashes, as throttle for --throttle"
