"""SIGHUP during a copy: the throttle options are read again from the file of ``--config``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from replicator.cli.output import Output
from replicator.errors import ConfigError
from replicator.options.file import parse_option, read_options
from replicator.options.table import Option, options_of
from replicator.pace.throttle import Throttle


class Reload:
    """Carries the request from the signal handler to the job, which asks for ``taken`` now and
    then. Options set by flag or variable keep their values; ``fixed`` has their names.
    """

    def __init__(
        self, path: Path | None, values: Mapping[str, Any], fixed: frozenset[str], output: Output
    ) -> None:
        self._path = None if path is None else path.absolute()
        self._values = {o.dest: values[o.dest] for o in options_of("copy") if o.reread}
        self._fixed = fixed
        self._output = output
        self._requested = False
        self._changed: set[str] = set()  # of the file, by ``Option.dest``
        self._file: Mapping[str, Any] = {}
        if path is not None:
            with suppress(ConfigError):  # the command has read it just now
                self._file = read_options(path, "copy")

    @property
    def possible(self) -> bool:
        """Whether there is a file to read again."""
        return self._path is not None

    def request(self) -> None:
        """Safe in a signal handler."""
        self._requested = True

    def taken(self) -> Throttle | None:
        """The limits from now on; None when they were not asked for, nothing changed, or the file
        is wrong. Says what it did in the log.
        """
        if not self._requested or self._path is None:
            return None
        self._requested = False
        try:
            values = self._read(self._path)
        except ConfigError as error:
            text = f"not reloaded, everything stays as it was: {error.message}"
            self._output.event("error", "reload-failed", text)
            return None
        before, self._values = self._values, values
        changes = [
            f"{option.name}: {_print(option, before)} → {_print(option, values)}"
            for option in options_of("copy")
            if option.reread and before[option.dest] != values[option.dest]
        ]
        text = "; ".join([*changes, *self._not_taken()]) or "nothing changed"
        self._output.event("info", "reloaded", f"reloaded {self._path}: {text}")
        return throttle_of(values) if changes else None

    def _not_taken(self) -> list[str]:
        """What else has changed in the file, and why it does not count now."""
        return [
            f"{option.name}: a flag or variable wins"
            if option.reread
            else f"{option.name}: stays as it was while this copy runs"
            for option in options_of("copy")
            if option.dest in self._changed and (not option.reread or option.dest in self._fixed)
        ]

    def _read(self, path: Path) -> dict[str, Any]:
        found = read_options(path, "copy")
        values = {}
        for option in options_of("copy"):
            if not option.reread:
                continue
            if option.dest in self._fixed:
                values[option.dest] = self._values[option.dest]
            elif option.dest in found:
                values[option.dest] = parse_option(path, option, found[option.dest])
            else:
                values[option.dest] = option.parsed_default
        self._changed = {
            name
            for name in self._file.keys() | found.keys()
            if self._file.get(name) != found.get(name)
        }
        self._file = found
        return values


def throttle_of(values: Mapping[str, Any]) -> Throttle:
    return Throttle(values["throttle"], values["throttle_topic"], values["weight"])


def _print(option: Option, values: Mapping[str, Any]) -> str:
    value = values[option.dest]
    if option.repeat:
        return " ".join(option.value.print(one) for one in value) or "none"
    return option.value.print(value)
