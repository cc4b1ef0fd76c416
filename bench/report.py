"""Medians, the table, and the ratios against their goals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from msgspec import Struct

from contestants import Run
from workloads import Workload

LIMIT_GOAL = 0.7  # of the limit's speed, all sharing the cores
OWN_CORE_GOAL = 0.9  # with a core for the copier
CPU_GOAL = 15.0  # MM2's copier CPU a byte over ours
CPU_GOAL_REBATCHED = 5.0
RSS_GOAL = 150e6  # with up to 12 partitions
RSS_GOAL_MANY = 250e6  # with up to 1,000
FIRST_GOAL = 1.5

_MEASURED = ("wall", "first", "cpu", "cpu_total", "source_cpu", "target_cpu", "rss", "others")


class Verdict(Struct):
    """One figure beside its goal."""

    workload: str
    what: str
    value: float
    goal: float
    at_most: bool = False

    @property
    def reached(self) -> bool:
        return self.value <= self.goal if self.at_most else self.value >= self.goal


def medians(runs: Sequence[Run]) -> list[Run]:
    """One run for each workload and contestant; each of its figures is a median over the rounds."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.workload, run.contestant), []).append(run)
    return [
        Run(
            contestant=group[0].contestant,
            workload=group[0].workload,
            bytes=group[0].bytes,
            records=group[0].records,
            **{name: median(getattr(run, name) for run in group) for name in _MEASURED},
        )
        for group in groups.values()
    ]


def verdicts(
    middle: Sequence[Run], workloads: Sequence[Workload], *, own_core: bool
) -> list[Verdict]:
    """The goals for every workload that has the runs they need."""
    found: list[Verdict] = []
    for workload in workloads:
        name = workload.name
        by = {run.contestant: run for run in middle if run.workload == name}
        ours = by.get("copystream")
        if ours is None:
            continue
        rival, limit, together = by.get("mm2"), by.get("limit"), by.get("limit-together")
        if rival is not None:
            cpu = rival.cpu / max(ours.cpu, 0.01)
            cpu_goal = CPU_GOAL_REBATCHED if workload.rebatched else CPU_GOAL
            found.append(Verdict(name, "copier CPU below MM2's, times", cpu, cpu_goal))
        if rival is not None and workload.goal is not None:
            times = rival.wall / ours.wall
            found.append(Verdict(name, "faster than MM2, times", times, workload.goal))
        if limit is not None and workload.goal is not None and not workload.rebatched:
            found.append(Verdict(name, "of the limit", limit.wall / ours.wall, LIMIT_GOAL))
        if together is not None and own_core:
            share = together.wall / ours.wall
            found.append(Verdict(name, "of the limit, own core", share, OWN_CORE_GOAL))
        found.append(Verdict(name, "first record, s", ours.first, FIRST_GOAL, at_most=True))
        rss_goal = RSS_GOAL_MANY if workload.partitions > 12 else RSS_GOAL
        found.append(Verdict(name, "peak RSS, MB", ours.rss / 1e6, rss_goal / 1e6, at_most=True))
    return found


def print_runs(runs: Sequence[Run]) -> None:
    """Sizes on the wire; CPU seconds for each GB of them."""
    header = ["workload", "contestant", "GB", "wall s", "MB/s", "records/s", "first s"]
    header += ["copier", "source", "target", "CPU s/GB", "RSS MB", "others"]
    rows = [header]
    for run in runs:
        size = run.bytes / 1e9
        costs = [run.cpu / size, run.source_cpu / size, run.target_cpu / size]
        rows.append(
            [
                run.workload,
                run.contestant,
                f"{size:.2f}",
                f"{run.wall:.2f}",
                f"{run.bytes / run.wall / 1e6:.0f}",
                f"{run.records / run.wall:,.0f}",
                f"{run.first:.2f}" if run.first else "-",
                *(f"{cost:.2f}" for cost in costs),
                f"{sum(costs):.2f}",
                f"{run.rss / 1e6:.0f}" if run.rss else "-",
                f"{run.others:.0%}",
            ]
        )
    print_table(rows)


def print_verdicts(found: Sequence[Verdict]) -> None:
    rows = [["workload", "figure", "value", "goal", ""]]
    for verdict in found:
        sign = "≤" if verdict.at_most else "≥"
        word = "reached" if verdict.reached else "MISSED"
        rows.append(
            [
                verdict.workload,
                verdict.what,
                f"{verdict.value:.2f}",
                f"{sign} {verdict.goal:g}",
                word,
            ]
        )
    print_table(rows)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """The first row is the head; the first two columns are names."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        rest = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        print("  ".join(first + rest).rstrip())
    print(flush=True)
