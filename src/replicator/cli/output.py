"""Where text goes: results to stdout, everything else to stderr, as lines or as JSON objects.

One object per run. It never raises for a stream that is gone: a copy does not end because the
pager did.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

import click
import msgspec

Level = Literal["info", "warning", "error"]

_SECRET = re.compile(
    r"([\w.-]*(?:passw(?:or)?d|secret|token|jaas\.config|ssl\.key)[\w.-]*\s*=\s*).*", re.IGNORECASE
)
_STYLES: dict[str, dict[str, Any]] = {  # of ``click.style``
    "error": {"fg": "red"},
    "warning": {"fg": "yellow"},
    "good": {"fg": "green"},
    "strong": {"bold": True},
}


def redact(text: str) -> str:
    """Hides what follows ``…password=`` and its like, to the end of the line.

    The last line of defence for a secret typed in the wrong place, where an error would repeat
    it; code that knows a value to be secret does not pass it on in the first place. Bytes of the
    command line that are not UTF-8 come out escaped, as JSON cannot hold them.
    """
    return _SECRET.sub(r"\1***", text.encode(errors="backslashreplace").decode())


class Output:
    """The two streams of a run and how they are written."""

    def __init__(self, *, json_result: bool, json_log: bool, color: bool) -> None:
        self.json_result = json_result
        self.json_log = json_log
        self._color = color and not os.environ.get("NO_COLOR")
        # While a live block is on the screen, lines go above it.
        self.line_writer: Callable[[str], None] = self.write_line

    @property
    def color(self) -> bool:
        return self._color

    def event(self, level: Level, event: str, text: str, **fields: Any) -> None:
        """One thing that happened: its text, or a JSON object with the fields."""
        if self.json_log:
            self.line_writer(json_line(level, event=event, message=redact(text), **fields))
        else:
            self.line_writer(redact(text))

    def failure(self, kind: str, exit_code: int, message: str, hint: str | None) -> None:
        """An error that ends the run: on stderr, and as the result where that is JSON."""
        message, hint = redact(message), redact(hint) if hint else None
        document = {"error": kind, "exit_code": exit_code, "message": message}
        if hint:
            document["hint"] = hint
        if self.json_log:
            self.line_writer(json_line("error", event="error", **document))
        else:
            stderr_color = self._color and is_terminal(sys.stderr)
            label = paint("error:", "error", stderr_color)
            self.line_writer(f"{label} {message}")
            if hint:
                self.line_writer(f"{paint('hint:', 'strong', stderr_color)} {hint}")
        if self.json_result:
            self.result(msgspec.json.encode({"status": "error", **document}).decode())

    def result(self, text: str) -> None:
        """What the command was asked for, to stdout."""
        _write(sys.stdout, text + "\n")

    def paint(self, text: str, style: str) -> str:
        """For results: coloured on a terminal."""
        return paint(text, style, self._color and is_terminal(sys.stdout))

    @staticmethod
    def write_line(text: str) -> None:
        _write(sys.stderr, text + "\n")


def json_line(level: str, **fields: Any) -> str:
    """One object of the JSON log: ``time`` (UTC) and ``level`` first, the fields after them."""
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return msgspec.json.encode({"time": moment, "level": level, **fields}).decode()


def paint(text: str, style: str, color: bool) -> str:
    return click.style(text, **_STYLES[style]) if color else text


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def flush() -> None:
    """Empties the streams, so that the interpreter's own flush at exit has nothing to fail on."""
    for stream in (sys.stdout, sys.stderr):
        _write(stream, "")


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # closed before we were started
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        # The reader is gone: what is buffered and what follows is thrown away.
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
