"""What a copy leaves out, changes or refuses, on stderr before it writes anything."""

from __future__ import annotations

from replicator.cli.output import Output
from replicator.report import Plan, TopicPlan


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


def _tell_topic(output: Output, topic: TopicPlan) -> None:
    name = topic.topic
    if topic.conflict is not None:
        text = f"conflict {name}: {topic.conflict}"
        output.event("error", "conflict", text, topic=name, hint=topic.conflict_hint or "")
    if topic.held_back:
        pairs = ", ".join(f"{key}={value}" for key, value in topic.held_back.items())
        output.event("info", "held-back", f"held back {name}: {pairs}", topic=name)
    for text in topic.warnings:
        output.event("warning", "warning", f"warning: {name}: {text}", topic=name)
