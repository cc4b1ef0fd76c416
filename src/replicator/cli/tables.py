"""The texts of a result: the plan of a dry run and the table at the end of a copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from replicator.cli.notes import config_notes
from replicator.cli.units import clock, count, plural, short
from replicator.cli.view import THROTTLERS
from replicator.options.quantities import print_duration, print_size
from replicator.report.model import Fault, Limit, Plan, Summary, TopicPlan, TopicSummary

Paint = Callable[[str, str], str]
Align = Literal["left", "right"]

HELD_BACK = 0.1  # of the time; less is not worth telling

_STATUS_STYLES = {
    "done": "good",
    "nothing-left": "good",
    "incomplete": "warning",
    "limited": "warning",
}
_VERDICTS = {
    "done": "done",
    "nothing-left": "nothing left to copy: the target has all from where the copy began to the end",
    "incomplete": "incomplete",
    "failed": "failed",
    "interrupted": "interrupted; everything acknowledged is saved",
}


def table(head: Sequence[str], align: Sequence[Align], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart, nothing cut: names of topics are for copying and pasting."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in [head, *rows]:
        cells = [
            cell.ljust(width) if side == "left" else cell.rjust(width)
            for cell, width, side in zip(row, widths, align, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def plan_text(plan: Plan, paint: Paint) -> str:
    """What a copy would do, for ``--dry-run``."""
    blocks = [f"{plan.source} → {plan.target}"]
    if plan.topics:
        rows = [_plan_row(topic) for topic in plan.topics]
        total = ["total", "", str(sum(t.partitions for t in plan.topics)), count(plan.records)]
        rows.append([*total, _bytes(plan.bytes), ""])
        head = ["TOPIC", "TARGET", "PARTITIONS", "RECORDS", "BYTES", "WHAT"]
        blocks.append(table(head, ["left", "left", "right", "right", "right", "left"], rows))
    notes = [f"{paint('warning', 'warning')} {text}" for text in plan.warnings]
    notes += [note for topic in plan.topics for note in _plan_notes(topic, paint)]
    notes += [f"skipped {topic}: {why}" for topic, why in plan.skipped.items()]
    if notes:
        blocks.append("\n".join(notes))
    if plan.faults:
        blocks.append("\n".join(_fault(fault, paint) for fault in plan.faults))
    conflicts = sum(1 for topic in plan.topics if topic.conflict)
    verdict = "nothing has been changed (dry run)"
    if conflicts:
        refused = paint(f"{plural(conflicts, 'topic')} in conflict will not be copied", "error")
        verdict = f"{refused}; {verdict}"
    blocks.append(verdict)
    return "\n\n".join(blocks)


def _plan_row(topic: TopicPlan) -> list[str]:
    if topic.conflict:
        what = "conflict"
    elif topic.create:
        factor = topic.replication_factor
        what = "create" + (f", replication factor {factor}" if factor else "")
    elif topic.records == 0:
        what = "nothing left"
    else:
        what = "go on" if topic.resume else "fill"
    if topic.widen and not topic.conflict:
        what += f", add {plural(topic.widen, 'partition')}"
    split = topic.target_partitions not in (0, topic.partitions)
    return [
        topic.topic,
        "same" if topic.target_topic == topic.topic else topic.target_topic,
        f"{topic.partitions} → {topic.target_partitions}" if split else str(topic.partitions),
        count(topic.records),
        _bytes(topic.bytes),
        what,
    ]


def _plan_notes(topic: TopicPlan, paint: Paint) -> list[str]:
    notes = []
    if topic.conflict:
        notes.append(f"{paint('conflict', 'error')} {topic.topic}: {topic.conflict}")
        if topic.conflict_hint:
            notes.append(f"  {paint('hint:', 'strong')} {topic.conflict_hint}")
    if topic.configs:
        notes.append(f"configs {topic.topic}: {_pairs(topic.configs)}")
    return notes + _held_back_and_warnings(topic, paint)


def summary_text(summary: Summary, paint: Paint) -> str:
    """What a copy did: a table per topic, totals, what went wrong, and how to go on."""
    blocks = [f"{summary.source} → {summary.target}"]
    if summary.topics:
        rows = [_summary_row(topic) for topic in summary.topics]
        rows.append(
            [
                "total",
                "",
                str(sum(t.partitions for t in summary.topics)),
                count(summary.records),
                short(summary.bytes, "B"),
                count(summary.batches),
                "",
            ]
        )
        head = ["TOPIC", "TARGET", "PARTITIONS", "RECORDS", "BYTES", "BATCHES", "STATUS"]
        sides: list[Align] = ["left", "left", "right", "right", "right", "right", "left"]
        blocks.append(table(head, sides, rows))
    notes = [f"{paint('warning', 'warning')} {text}" for text in summary.warnings]
    notes += [note for topic in summary.topics for note in _held_back_and_warnings(topic, paint)]
    notes += [f"skipped {topic}: {why}" for topic, why in summary.skipped.items()]
    if notes:
        blocks.append("\n".join(notes))
    if summary.faults:
        blocks.append("\n".join(_fault(fault, paint) for fault in summary.faults))
    blocks.append(_verdict(summary, paint))
    return "\n\n".join(blocks)


def _summary_row(topic: TopicSummary) -> list[str]:
    status = topic.status.replace("-", " ")
    details = [status]
    if topic.created:
        details.append("created")
    if topic.widened:
        details.append(f"{plural(topic.widened, 'partition')} added")
    if topic.resumed:
        details.append("resumed")
    if topic.skipped_batches:
        details.append(f"{count(topic.skipped_batches)} batches skipped")
    if topic.rebatched_batches:
        details.append(f"{count(topic.rebatched_batches)} re-batched")
    return [
        topic.topic,
        "same" if topic.target_topic == topic.topic else topic.target_topic,
        str(topic.partitions),
        count(topic.records),
        short(topic.bytes, "B"),
        count(topic.batches),
        ", ".join(details),
    ]


def _verdict(summary: Summary, paint: Paint) -> str:
    style = _STATUS_STYLES.get(summary.status, "error")
    limit = summary.limit if summary.status == "limited" else None
    verdict = _limited(limit) if limit is not None else _VERDICTS[summary.status]
    lines = [paint(verdict, style)]
    if summary.status != "nothing-left":
        amount = f"{plural(summary.records, 'record')}, {short(summary.bytes, 'B')}"
        if summary.logical_bytes is not None:
            amount += f" ({short(summary.logical_bytes, 'B')} uncompressed)"
        lines[0] += f"; copied {amount} in {clock(summary.elapsed)}"
        if summary.elapsed > 0 and summary.bytes:
            lines[0] += f", {short(summary.bytes / summary.elapsed, 'B/s')}"
    if summary.recoveries:
        lines.append(f"recovered {plural(summary.recoveries, 'time')} from the target's own log")
    if summary.throttled_by and summary.throttle_ms >= HELD_BACK * 1000 * summary.elapsed:
        by = THROTTLERS[summary.throttled_by]
        by += f" {summary.throttle}" if summary.throttled_by == "limit" else ""
        lines.append(f"held back {clock(summary.throttle_ms / 1000)}, most of it by {by}")
    if limit is not None and limit.next is not None and limit.next > limit.value:
        least = _amount(limit, limit.next)
        lines.append(
            f"{paint('to go on:', 'strong')} raise --{limit.name} to {least} at least, which the "
            "next batch needs, and run the same command again"
        )
    elif summary.status in ("interrupted", "incomplete", "limited"):
        lines.append(f"{paint('to go on:', 'strong')} run the same command again")
    elif summary.status == "failed":
        lines.append(
            f"{paint('to go on:', 'strong')} follow the hints above, then run the same command "
            "again; what is copied stays"
        )
    return "\n".join(lines)


def _limited(limit: Limit) -> str:
    text = f"stopped by --{limit.name} {_amount(limit, limit.value)}"
    if limit.name == "max-duration":
        return text
    text += f" after {_amount(limit, limit.used)}"
    if limit.next is not None:
        text += f", the next batch has {_amount(limit, limit.next)}"
    return text


def _amount(limit: Limit, number: float) -> str:
    """As it would be typed."""
    match limit.name:
        case "max-bytes":
            return print_size(int(number))
        case "max-records":
            return str(int(number))
        case "max-duration":
            return print_duration(int(number * 1000))


def _fault(fault: Fault, paint: Paint) -> str:
    # The message itself names topic, partition, offset and cluster.
    text = f"{paint(fault.kind, 'error')} {fault.message}"
    return f"{text}\n  {paint('hint:', 'strong')} {fault.hint}" if fault.hint else text


def _held_back_and_warnings(topic: TopicPlan | TopicSummary, paint: Paint) -> list[str]:
    notes = [text for _, text in config_notes(topic)]
    notes += [f"{paint('warning', 'warning')} {topic.topic}: {text}" for text in topic.warnings]
    return notes


def _pairs(configs: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in configs.items())


def _bytes(number: int | None) -> str:
    return "?" if number is None else short(number, "B")
