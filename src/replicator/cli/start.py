"""Where the process begins: Ctrl-C is orderly from here on, before anything else is imported."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from replicator.cli.main import main as run  # noqa: PLC0415 - Ctrl-C is orderly by now

        run()
    except KeyboardInterrupt:
        from replicator.errors import ExitCode  # noqa: PLC0415 - as above

        sys.exit(ExitCode.INTERRUPTED)
