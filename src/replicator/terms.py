"""What every package means by a topic, a partition and a side."""

from __future__ import annotations

from typing import Literal

TopicPartition = tuple[str, int]
Side = Literal["source", "target"]

_MAX_TOPIC_NAME = 249
_TOPIC_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def valid_topic_name(name: str) -> bool:
    """Kafka's rule (``org.apache.kafka.common.internals.Topic``)."""
    return (
        0 < len(name) <= _MAX_TOPIC_NAME
        and name not in (".", "..")
        and _TOPIC_CHARACTERS.issuperset(name)
    )


def internal_reason(name: str) -> str | None:
    """Why a topic belongs to its cluster and is never copied; None for all others.

    MirrorMaker 2's rule since 4.0 (``ReplicationPolicy.isInternalTopic``, KIP-1074), and the
    state of copystream itself. A name that merely ends in ``internal`` is a user's.
    """
    if name.startswith("copystream-") and name.endswith(".internal"):
        return "internal topic: copystream's state"
    if name.startswith("mm2") and name.endswith(".internal"):
        return "internal topic: MirrorMaker 2's state"
    if name.endswith(".checkpoints.internal"):
        return "internal topic: MirrorMaker 2's checkpoints"
    if name.startswith("__"):
        return "internal topic: its name begins with '__'"
    if name.startswith("."):
        return "internal topic: its name begins with '.'"
    return None


def is_internal_topic(name: str) -> bool:
    return internal_reason(name) is not None
