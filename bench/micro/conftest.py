"""Derived figures of the micro benchmarks, printed under pytest-benchmark's own table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Figure = tuple[str, float, float, str, float | None]
FIGURES = pytest.StashKey[list[Figure]]()
Measure = Callable[..., None]


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Measure:
    """``measure(label, amount, unit, goal, function, *arguments)``: how much of ``unit`` a second.

    ``amount`` is what one call works through. A goal is compared with the best round: slower rounds
    show other work of the machine, not this code.
    """

    def run(
        label: str, amount: float, unit: str, goal: float | None, function: Any, *arguments: Any
    ) -> None:
        benchmark.extra_info["label"] = label
        benchmark(function, *arguments)
        if benchmark.stats is None:  # --benchmark-disable: run once, to see that it works
            return
        stats = benchmark.stats.stats
        best, median = amount / stats.min, amount / stats.median
        benchmark.extra_info.update({"unit": unit, "best": best, "median": median, "goal": goal})
        figures = request.config.stash.setdefault(FIGURES, [])
        figures.append((label, median, best, unit, goal))
        assert goal is None or best >= goal, f"{label}: {best:,.2f} {unit}, the goal is {goal:,.0f}"

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures = terminalreporter.config.stash.get(FIGURES, [])
    if not figures:
        return
    terminalreporter.section("figures on one core")
    terminalreporter.write_line(f"{'':44}{'median':>13}{'best':>13}  {'unit':14}{'goal':>10}")
    for label, median, best, unit, goal in figures:
        wanted = "" if goal is None else f"{goal:,.0f}"
        terminalreporter.write_line(
            f"{label:44}{median:>13,.2f}{best:>13,.2f}  {unit:14}{wanted:>10}"
        )
