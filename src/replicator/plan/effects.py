"""Options that were given and have no effect on this copy, told by name before it begins.

The same command goes on with a copy that was cut off, so an option that only its first run needed
is a warning, not an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from replicator.options.quantities import print_size
from replicator.options.rates import Rate
from replicator.options.selection import AtOffsets, Forever
from replicator.options.settings import CopySettings
from replicator.options.table import options_of
from replicator.report.model import TopicPlan

_FLAGS = {option.dest: option.flags[0] for option in options_of("copy") if option.flags}


def unused(
    settings: CopySettings,
    existing: Collection[str],
    plans: Sequence[TopicPlan],
    partitions: Mapping[str, int],
    limits: Mapping[str, int],
    *,
    one_cluster_id: bool,
) -> list[str]:
    """Warnings of the copy as a whole. ``existing`` are the source's topics, ``partitions`` how
    many of each chosen topic are copied, ``limits`` the target topics' max.message.bytes.
    """
    given = settings.given
    chosen = [plan.topic for plan in plans]
    found: list[str] = []

    def tell(option: str, why: str) -> None:
        if option in given:
            found.append(f"{_FLAGS[option]} has no effect: {why}")

    found += [
        f"--exclude {word!r} has no effect: no topic of the source matches"
        for word in _unmatched(settings.exclude, existing)
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
    if not any(plan.create for plan in plans):
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
    return found


def _unmatched(words: Iterable[str], names: Collection[str]) -> Iterator[str]:
    for word in words:
        if word not in names and not any(re.fullmatch(word, name) for name in names):
            yield word
