"""Questions to brokers that may hang, asked beside the driver: each ``work`` runs in a daemon
thread of its own; what it returns is called in the driver's thread, which alone changes tasks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

AT_ONCE = 64  # threads

Then = Callable[[], None]


class Aside:
    """``report`` hands something over to be called in the driver's thread; from any thread."""

    def __init__(self, report: Callable[[Then], None]) -> None:
        self._report = report
        self._places = threading.BoundedSemaphore(AT_ONCE)

    def run(self, work: Callable[[], Then]) -> None:
        """Do ``work`` soon. What it raises is raised in the driver's thread."""
        threading.Thread(target=self._run, args=(work,), name="aside", daemon=True).start()

    def _run(self, work: Callable[[], Then]) -> None:
        with self._places:
            try:
                then = work()
            except BaseException as failure:
                then = _raiser(failure)
        self._report(then)


def _raiser(failure: BaseException) -> Then:
    def fail() -> None:
        raise failure

    return fail
