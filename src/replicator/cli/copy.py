"""``copystream copy``: from a command line to a running job and its result."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import click
import msgspec
from click.core import ParameterSource

from replicator.cli.logs import set_up
from replicator.cli.notes import tell_plan
from replicator.cli.output import Output
from replicator.cli.params import TableCommand
from replicator.cli.progress import Progress, choose_mode
from replicator.cli.reload import Reload
from replicator.cli.run import RunState
from replicator.cli.signals import Interrupts
from replicator.cli.tables import plan_text, summary_text
from replicator.errors import UsageError, worst
from replicator.options.selection import Forever
from replicator.options.settings import CopySettings, copy_settings
from replicator.options.table import CONFIG
from replicator.process import StopSignal
from replicator.report.model import Plan, Snapshot, Summary

_HELP = """\
Copy whole topics from one Kafka cluster to another.

Partitions, order, bytes and timestamps stay as they are. It may be stopped or killed at any
moment: the same command goes on where it stopped, without loss or duplicates.
"""

_EXAMPLES = (
    ("two topics", "copystream copy --source a:9092 --target b:9092 orders payments"),
    ("what would happen", "copystream copy --source a:9092 --target b:9092 -n 'shop\\..*'"),
    (
        "a slow night copy that follows",
        "copystream copy --source a:9092 --target b:9092 --throttle 20MB/s --until forever orders",
    ),
    (
        "the last two hours of two partitions",
        "copystream copy --source a:9092 --target b:9092 --from -2h --partitions 0,3 orders",
    ),
    (
        "two hours of a long copy a night",
        "copystream copy --source a:9092 --target b:9092 --max-duration 2h orders",
    ),
    (
        "for a script",
        "copystream copy --source a:9092 --target b:9092 -o json --progress none orders",
    ),
)


class Job(Protocol):
    """What the command needs of ``replicator.copy.CopyJob``."""

    def plan(self) -> Plan: ...
    def run(self, stop: StopSignal, tell: Callable[[Plan], None]) -> Summary: ...
    def snapshot(self) -> Snapshot: ...


@click.pass_context
def _copy(context: click.Context, /, **values: Any) -> int:
    state: RunState = context.obj
    output = state.configure(
        json_result=values["output"] == "json",
        json_log=values["log_format"] == "json",
        color=not values["no_color"],
        verbosity=values["verbose"],
    )
    set_up(output, values["verbose"])
    if values["progress"] == "live" and output.json_log:
        raise UsageError(
            "--progress live draws on the screen, and --log-format json wants lines",
            hint="use --progress plain with it: each line becomes a JSON object",
        )
    settings = copy_settings(values, _given(context, values))
    reload = _reload(context, values, output)
    job = _job(settings, reload)
    if values["dry_run"]:
        return _show_plan(job.plan(), output)
    return _run(job, settings, values["progress"], reload, output)


def _given(context: click.Context, values: dict[str, Any]) -> set[str]:
    """The options that have no default: by flag, by variable, or in the file."""
    defaults = (ParameterSource.DEFAULT, None)
    return {name for name in values if context.get_parameter_source(name) not in defaults}


def _reload(context: click.Context, values: dict[str, Any], output: Output) -> Reload:
    given = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    fixed = frozenset(name for name in values if context.get_parameter_source(name) in given)
    path = Path(values[CONFIG]) if values[CONFIG] else None
    return Reload(path, values, fixed, output)


def _job(settings: CopySettings, reload: Reload) -> Job:
    # Help, completion and usage errors do without the engine and numpy.
    from replicator.copy import CopyJob  # noqa: PLC0415 - see above

    if ":" in settings.partitioner and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # where a partitioner of the user's may lie
    job: Job = CopyJob(settings, reload.taken)
    return job


def _show_plan(plan: Plan, output: Output) -> int:
    if output.json_result:
        output.result(msgspec.json.encode(plan).decode())
    else:
        output.result(plan_text(plan, output.paint))
    conflicts = [topic.conflict_exit_code for topic in plan.topics if topic.conflict]
    return worst([*conflicts, *(fault.exit_code for fault in plan.faults)])


def _told(output: Output, plan: Plan) -> None:
    tell_plan(output, plan)
    # Looking for garbage among all that is imported would take a tenth of a copy's CPU.
    gc.freeze()


def _run(job: Job, settings: CopySettings, progress: str, reload: Reload, output: Output) -> int:
    stop = StopSignal()
    display = Progress(
        job.snapshot,
        stop,
        output,
        mode=choose_mode(progress, output),
        following=isinstance(settings.until, Forever),
        title=f"{settings.source.bootstrap_text} → {settings.target.bootstrap_text}",
    )
    # The result is told before signals mean death again: a finished copy must not look killed.
    with Interrupts(stop, reload.request if reload.possible else None, display.abandon):
        with display:
            summary = job.run(stop, partial(_told, output))
        if output.json_result:
            output.result(msgspec.json.encode(summary).decode())
        else:
            output.result(summary_text(summary, output.paint))
    return summary.exit_code


command = TableCommand(
    "copy",
    callback=_copy,
    help=_HELP,
    short_help="Copy topics from one cluster to another.",
    examples=_EXAMPLES,
)
