"""The thread that shows a running copy: a live block, a line now and then, or nothing."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import msgspec

from replicator.cli.output import Output, is_terminal
from replicator.cli.view import Line, Observer, View, live_block, plain_line
from replicator.process import StopSignal
from replicator.report.model import Fault, Snapshot

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

Mode = Literal["live", "plain", "none"]

_log = logging.getLogger(__name__)

TICK = 0.2  # seconds until a request to stop is answered on the screen
LOOK_EVERY = 0.5  # the live block's own pace
PLAIN_EVERY = 5.0

_SHOW_CURSOR = b"\x1b[?25h\n"


def choose_mode(asked: str, output: Output) -> Mode:
    if asked == "auto":
        return "live" if is_terminal(sys.stderr) and not output.json_log else "plain"
    return "live" if asked == "live" else "none" if asked == "none" else "plain"


class Progress:
    """Shows ``snapshot()`` from its own thread while the context is open.

    It also answers a request to stop, and names partitions as they fail, whatever the mode: a
    signal handler must not print.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        stop: StopSignal,
        output: Output,
        *,
        mode: Mode,
        following: bool,
        title: str,
    ) -> None:
        self._snapshot = snapshot
        self._stop = stop
        self._output = output
        self._mode = mode
        self._title = title
        self._observer = Observer(following=following)
        self._failed: set[tuple[str, int | None]] = set()
        self._next_line = PLAIN_EVERY
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._mode == "live":
            self._live = self._open_live()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finished.set()
        self._thread.join()
        if self._live:
            with contextlib.suppress(OSError):
                self._live.stop()
            self._output.line_writer = Output.write_line
            self._live = None

    def abandon(self) -> None:
        """Leaves the terminal usable without a lock or a wait: for a process about to end."""
        if self._live:
            os.write(2, _SHOW_CURSOR)

    def _show(self) -> None:
        announced = False
        next_look = 0.0
        started = time.monotonic()
        while True:
            if self._stop.requested and not announced:
                announced = True
                self._announce()
            running = time.monotonic() - started
            if running >= next_look:
                next_look = running + LOOK_EVERY
                try:
                    self._look(running)
                except Exception:
                    _log.exception("the progress display ends here; the copy goes on")
                    next_look = math.inf
            if self._finished.wait(TICK):
                break
        if next_look < math.inf:
            self._tell_faults(self._snapshot())  # those since the last look

    def _look(self, running: float) -> None:
        snapshot = self._snapshot()
        self._tell_faults(snapshot)
        view = self._observer.see(snapshot)
        if self._live:
            self._draw(self._live, view)
        elif self._mode == "plain" and running >= self._next_line:
            self._next_line = running + PLAIN_EVERY
            self._output.event("info", "progress", plain_line(view), **msgspec.structs.asdict(view))

    def _announce(self) -> None:
        self._output.event(
            "warning",
            "stopping",
            "stopping: finishing what is in flight; once more (Ctrl-C) stops at once",
        )

    def _tell_faults(self, snapshot: Snapshot) -> None:
        for fault in snapshot.faults:
            self._tell(fault)

    def _tell(self, fault: Fault) -> None:
        key = (fault.topic, fault.partition)
        if key in self._failed:
            return
        self._failed.add(key)
        self._output.event(
            "error",
            "partition-failed",
            f"{fault.kind}: {fault.message}; this partition stops, the others go on",
            topic=fault.topic,
            partition=fault.partition,
            offset=fault.offset,
            kind=fault.kind,
        )

    def _open_live(self) -> Live:
        from rich.console import Console  # noqa: PLC0415 - a quarter of a start-up
        from rich.live import Live  # noqa: PLC0415 - as above

        console = Console(
            file=sys.stderr, no_color=not self._output.color, force_terminal=True, highlight=False
        )
        live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start()
        self._output.line_writer = self._write_above
        return live

    def _write_above(self, line: str) -> None:
        if self._live:
            with contextlib.suppress(OSError):  # the terminal is gone; the copy goes on
                self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _draw(self, live: Live, view: View) -> None:
        width = live.console.width
        lines = live_block(view, title=self._title, width=width)
        with contextlib.suppress(OSError):
            live.update(_text(lines), refresh=True)


_RICH_STYLES = {"strong": "bold", "good": "green", "warning": "yellow", "error": "red"}


def _text(lines: list[Line]) -> Text:
    from rich.text import Text  # noqa: PLC0415 - as above

    text = Text(no_wrap=True, overflow="ellipsis")
    for number, line in enumerate(lines):
        if number:
            text.append("\n")
        for part, style in line:
            text.append(part, _RICH_STYLES.get(style, style))
    return text
