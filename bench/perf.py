"""The working tree beside an earlier commit: microbenchmarks and one short load, by turns.

``make perf`` runs it. The commit is the merge base with origin/main; on main itself it is the one
that the file BASELINE names, which a release moves on. It is built in a git worktree of its own.
Fails when something is more than a tenth slower, by the median over all pairs of runs. What seems
slower is measured again before it counts, since these machines are shared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from msgspec import Struct, structs

from contestants import run_with
from macro import HEAP, RESULTS, save_as
from replicator.lab import LabCluster
from stage import Bench, by_turns
from warmup import warm_up, warm_up_by_copies
from workloads import WORKLOADS

ROOT = Path(__file__).resolve().parent.parent
BASELINE = Path(__file__).with_name("BASELINE")
WORKTREES = "copystream-perf-"
WORST = 1.10  # of the time the earlier commit takes
ROUNDS = 2  # pairs of runs
MORE_ROUNDS = 2  # for what seems slower, as often as MOST_TRIES
MOST_TRIES = 2
SECONDS_EACH = 0.15  # for one microbenchmark in one run
LOAD, GIGABYTES = "1k-lz4", 2.0  # with 0.5 the wall time of a pair differs by a fifth at random

Times = dict[str, list[float]]  # by benchmark, of each run


class Tree(Struct, frozen=True):
    """A checkout whose core is built in place."""

    name: str
    path: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.path / "src")}

    @property
    def copier(self) -> tuple[str, ...]:
        """The binary of this tree, as a command."""
        start = "from replicator.cli.start import main; main()"
        return ("env", f"PYTHONPATH={self.path / 'src'}", sys.executable, "-c", start)


# Seconds that one run of a tree took, by name; only those of the names given, if any are.
Measure = Callable[[Tree, Sequence[str]], Mapping[str, float]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", help="the earlier commit [merge base, or BASELINE on main]")
    given = parser.parse_args()
    commit = given.against or earlier_commit()
    given.against = git("rev-parse", "--verify", f"{commit}^{{commit}}")
    now = Tree("now", ROOT)
    with built(given.against) as before, tempfile.TemporaryDirectory(prefix=WORKTREES) as scratch:
        for tree in (before, now):  # or one would compile its modules within its runs
            command = [sys.executable, "-m", "compileall", "-q", str(tree.path / "src")]
            subprocess.run(command, check=True)
        print(f"beside {git('log', '-1', '--format=%h %s', given.against)}", flush=True)
        micro = compare_micro(before, now, Path(scratch))
        macro = compare_macro(before, now, Path(scratch))
    ratios = {**micro, **macro}
    save_as("perf-", given, {"ratios": ratios})
    print(f"\n{'':52}{'now / before':>14}")
    for name, found in sorted(ratios.items(), key=lambda item: -median(item[1])):
        print(f"{name:52}{median(found):>14.2f}{'  SLOWER' if slower(found) else ''}")
    worse = [name for name, found in ratios.items() if slower(found)]
    if worse:
        print(f"\nmore than {WORST - 1:.0%} slower than before: {', '.join(sorted(worse))}")
    return 1 if worse else 0


def earlier_commit() -> str:
    """The merge base with origin/main, or what BASELINE names where that is this commit."""
    head = git("rev-parse", "HEAD")
    command = ["git", "merge-base", "HEAD", "origin/main"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    base = found.stdout.strip()
    return base if base and base != head else BASELINE.read_text(encoding="ascii").split()[0]


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


@contextmanager
def built(commit: str) -> Iterator[Tree]:
    """The commit in a worktree with its core built, by this environment's compiler and Cython."""
    with tempfile.TemporaryDirectory(prefix=WORKTREES) as directory:
        path = Path(directory) / "before"
        git("worktree", "add", "--quiet", "--detach", str(path), commit)
        try:
            command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
            command += ["--parallel", str(os.cpu_count() or 1)]
            subprocess.run(command, cwd=path, check=True, stdout=subprocess.DEVNULL)
            yield Tree("before", path)
        finally:
            git("worktree", "remove", "--force", str(path))


def slower(found: Sequence[float]) -> bool:
    return median(found) > WORST


def ratios_of(before: Times, now: Times) -> dict[str, list[float]]:
    """Time now over time before, for each pair of runs of what both have."""
    return {
        name: [new / old for old, new in zip(before[name], now[name], strict=True)]
        for name in before
        if name in now
    }


def compare(before: Tree, now: Tree, rounds: int, measure: Measure) -> dict[str, list[float]]:
    """Ratios of what ``measure`` takes of each tree, by turns; what seems slower is measured again,
    with its names.
    """
    trees = {tree.name: tree for tree in (before, now)}
    times: Mapping[str, Times] = {name: {} for name in trees}

    def run(pairs: int, only: Sequence[str]) -> dict[str, list[float]]:
        for name in by_turns(list(trees), pairs):
            for figure, seconds in measure(trees[name], only).items():
                times[name].setdefault(figure, []).append(seconds)
        return ratios_of(times[before.name], times[now.name])

    found = run(rounds, ())
    for _ in range(MOST_TRIES):
        suspects = [name for name, ratios in found.items() if slower(ratios)]
        if not suspects:
            break
        found = run(MORE_ROUNDS, suspects)
    return found


# --- microbenchmarks ---------------------------------------------------------------------------


def compare_micro(before: Tree, now: Tree, scratch: Path) -> dict[str, list[float]]:
    return compare(before, now, ROUNDS, lambda tree, only: micro(tree, scratch, only))


def micro(tree: Tree, scratch: Path, only: Sequence[str]) -> dict[str, float]:
    """Median seconds of the tree's microbenchmarks, all of them or those named."""
    output = scratch / f"micro-{tree.name}.json"
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--benchmark-enable", "--benchmark-only", f"--benchmark-json={output}"]
    command += [f"--benchmark-max-time={SECONDS_EACH}", "--benchmark-min-rounds=5"]
    command += [*only] if only else ["bench/micro"]
    # A goal that is missed on a busy machine fails its test; here only the ratio counts.
    ran = subprocess.run(
        command,
        cwd=tree.path,
        env=tree.environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ran.returncode not in (0, 1) or not output.exists():
        sys.exit(f"the microbenchmarks of {tree.path} did not run:\n{ran.stdout}")
    document = json.loads(output.read_bytes())
    (RESULTS / f"perf-micro-{tree.name}.json").write_bytes(output.read_bytes())
    return {one["fullname"]: one["stats"]["median"] for one in document["benchmarks"]}


# --- a load between real brokers ---------------------------------------------------------------


def compare_macro(before: Tree, now: Tree, scratch: Path) -> dict[str, list[float]]:
    workload = next(one for one in WORKLOADS if one.name == LOAD)
    with (
        LabCluster(name="source", heap=HEAP) as source,
        LabCluster(name="target", heap=HEAP) as target,
    ):
        bench = Bench.of(source, target, scratch, workload, GIGABYTES)
        for cluster in (source, target):
            warm_up(bench, cluster, GIGABYTES, at_most=3)
        bench.seed()
        warm_up_by_copies(bench, at_most=2)

        def measure(tree: Tree, _only: Sequence[str]) -> dict[str, float]:
            bench.clear(target)
            run = run_with(structs.replace(bench, copier=tree.copier), tree.name)
            return {f"{LOAD}, wall": run.wall, f"{LOAD}, cpu_total": run.cpu_total}

        return compare(before, now, ROUNDS + 1, measure)


if __name__ == "__main__":
    RESULTS.mkdir(exist_ok=True)
    sys.exit(main())
