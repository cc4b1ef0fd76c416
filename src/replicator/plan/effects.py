"""Options that were given and have no effect on this copy, told by name before it begins.

The same command goes on with a copy that was cut off, so an option that only its first run needed
is a warning, not an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from replicator.offsets.maps import OffsetMaps
from replicator.options.quantities import print_size
from replicator.options.rates import Rate
from replicator.options.selection import AtOffsets, Earliest, Forever
from replicator.options.settings import CopySettings
from replicator.options.table import options_of
from replicator.plan.draft import Draft
from replicator.plan.facts import PlanInputs
from replicator.plan.kept import TopicParts
from replicator.plan.topics import NAMED

_FLAGS = {option.dest: option.flags[0] for option in options_of("copy") if option.flags}


def unused(
    settings: CopySettings,
    inputs: PlanInputs,
    drafts: Sequence[Draft],
    limits: Mapping[str, int],
    *,
    one_cluster_id: bool,
    forgot: bool,
) -> list[str]:
    """Options that have no effect on any topic. ``limits``: max.message.bytes of the target topics
    that exist; ``forgot``: whether --restart had an earlier copy to forget.
    """
    given = settings.given
    chosen = [draft.topic for draft in drafts]
    partitions = {topic: len(inputs.selected[topic]) for topic in chosen}
    found: list[str] = []

    def tell(option: str, why: str) -> None:
        if option in given:
            found.append(f"{_FLAGS[option]} has no effect: {why}")

    found += [
        f"--exclude {word!r} has no effect: no topic of the source matches"
        for word in _unmatched(settings.exclude, inputs.metas)
    ]
    limited = [("--throttle-topic", word) for word, _ in settings.throttle_topics]
    limited += [("--weight", word) for word, _ in settings.weights]
    found += [
        f"{flag} {word}=… has no effect: no topic that is copied matches"
        for flag, word in limited
        if any(_unmatched([word], chosen))
    ]
    if all(entry.rate == Rate() for entry in settings.throttle.entries):
        tell("weight", "it divides --throttle, which is off")
    found += [
        f"--partitions {name}:… has no effect: that topic is not copied"
        for name in settings.partitions.topics
        if name not in partitions
    ]
    found += [
        f"--partitions leaves {name} out: it has none of these partitions"
        for name, count in partitions.items()
        if not count
    ]
    if isinstance(settings.start, AtOffsets):
        names = sorted(settings.start.offsets.keys() - partitions.keys())
        if names:
            found.append(f"--from has offsets of topics that are not copied: {', '.join(names)}")
    if settings.lanes > (most := max(1, sum(partitions.values()))):
        found.append(f"--lanes {settings.lanes} is more than there are partitions: {most} are used")
    if not isinstance(settings.until, Forever):
        tell("linger", "only a copy with --until forever waits for records to gather")
    if not any(draft.replica.create for draft in drafts):
        tell("replication_factor", "no topic is created")
    low = {name: limit for name, limit in limits.items() if limit < settings.batch_bytes}
    if "batch_bytes" in given and low:
        shown = ", ".join(f"{name} ({limit})" for name, limit in sorted(low.items()))
        found.append(
            f"--batch-bytes {print_size(settings.batch_bytes)} is above max.message.bytes of "
            f"target topics, which counts there: {shown}"
        )
    if not one_cluster_id:
        tell("same_cluster_id", "the clusters have different ids")
    first = [part for draft in drafts for part in draft.parts if part.first]
    if settings.append and not any(part.base or any(part.bases) for part in first):
        found.append("--append has no effect: no copy begins in a topic that holds records")
    resumed = any(draft.replica.resume for draft in drafts)
    if settings.restart and not forgot and not resumed:
        found.append("--restart has no effect: there was no earlier copy of these topics")
    return found


def of_resumed(
    settings: CopySettings, found: TopicParts, inputs: PlanInputs, maps: OffsetMaps
) -> list[str]:
    """Options that were given for a copy that begins, where one goes on."""
    resumed = [part for part in found.parts if not part.first and not found.conflicts]
    told = []
    elsewhere = [
        part
        for part in resumed
        if part.split is not None
        or inputs.first[part.topic, part.partition]
        != maps.source_of((part.topic, part.partition), 0)
    ]
    # What the source has deleted since is no reason to speak of another start.
    same = isinstance(settings.start, Earliest)
    if "from" in settings.given and elsewhere and not same:
        listed = ", ".join(f"partition {p.partition} at {p.start}" for p in elsewhere[:NAMED])
        more = ", …" if len(elsewhere) > NAMED else ""
        told.append(f"--from has no effect: the copy goes on where it stopped ({listed}{more})")
    if settings.restart and resumed:
        told.append(
            "--restart has no effect: the target topic holds what this copy wrote, and the "
            "copy goes on; to begin anew, delete the target topic or empty it first"
        )
    return told


def _unmatched(words: Iterable[str], names: Collection[str]) -> Iterator[str]:
    for word in words:
        if word not in names and not any(re.fullmatch(word, name) for name in names):
            yield word
