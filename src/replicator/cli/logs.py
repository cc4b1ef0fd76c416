"""The standard library's logging on the run's stderr, as text lines or JSON objects."""

from __future__ import annotations

import logging
import time

from replicator.cli.output import Output, json_line, redact

_LEVELS = [logging.WARNING, logging.INFO, logging.DEBUG]


def set_up(output: Output, verbosity: int) -> None:
    """Sends every logger's records to ``output``: warnings, with 1 also what is done, 2 all."""
    handler = _Handler(output)
    handler.setFormatter(_Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])
    logging.captureWarnings(True)


class _Text(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


class _Handler(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._json(record) if self._output.json_log else redact(self.format(record))
        except Exception:
            self.handleError(record)
        else:
            self._output.line_writer(line)

    def _json(self, record: logging.LogRecord) -> str:
        fields = {"logger": record.name, "message": redact(record.getMessage())}
        if record.exc_info:
            fields["traceback"] = redact(logging.Formatter().formatException(record.exc_info))
        return json_line(record.levelname.lower(), event="log", **fields)
