"""What a copy leaves out, changes or refuses, on stderr before it writes anything."""

from __future__ import annotations

from replicator.cli.output import Output
from replicator.cli.units import plural
from replicator.report.model import Plan, TopicPlan, TopicSummary


def config_notes(topic: TopicPlan | TopicSummary) -> list[tuple[str, str]]:
    """What became of a topic's configs, and partitions that are added: event and text."""
    name = topic.topic
    notes = []
    if topic.held_back:
        notes.append(("held-back", f"held back {name}: {_pairs(topic.held_back)}"))
    for key, why in topic.left_out.items():
        notes.append(("config-left-out", f"left out {name}: {key}={why}"))
    for key, why in topic.adjusted.items():
        notes.append(("config-adjusted", f"adjusted {name}: {key}, {why}"))
    if topic.pinned:
        notes.append(("config-pinned", _pinned(name, topic.pinned)))
    return notes


def _pinned(names: str, configs: dict[str, str]) -> str:
    why = "since the target's defaults are others or not known"
    return f"set on {names}, {why}: {_pairs(configs)}"


def _pairs(configs: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in configs.items())


def tell_plan(output: Output, plan: Plan) -> None:
    for text in plan.warnings:
        output.event("warning", "warning", f"warning: {text}")
    reasons: dict[str, list[str]] = {}
    for name, why in plan.skipped.items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        output.event("info", "skipped", f"skipped ({why}): {', '.join(names)}", topics=names)
    for topic in plan.topics:
        _tell_topic(output, topic)
    # The same for all as a rule, where the two clusters' defaults differ.
    pinned: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for topic in plan.topics:
        if topic.pinned and topic.conflict is None:
            pinned.setdefault(tuple(topic.pinned.items()), []).append(topic.topic)
    for configs, names in pinned.items():
        text = _pinned(", ".join(names), dict(configs))
        output.event("info", "config-pinned", text, topics=names)


def _tell_topic(output: Output, topic: TopicPlan) -> None:
    name = topic.topic
    if topic.conflict is not None:
        text = f"conflict {name}: {topic.conflict}"
        output.event("error", "conflict", text, topic=name, hint=topic.conflict_hint or "")
    for event, text in config_notes(topic):
        if event != "config-pinned":
            output.event("info", event, text, topic=name)
    if topic.widen:
        text = f"target topic {name} gets {plural(topic.widen, 'partition')} more"
        output.event("info", "widen", text, topic=name)
    for text in topic.warnings:
        output.event("warning", "warning", f"warning: {name}: {text}", topic=name)
