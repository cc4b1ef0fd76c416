"""Where the logs of topics begin and end, asked with an ordinary client."""

from __future__ import annotations

import time
from collections.abc import Collection

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from replicator.lab.errors import LabError

_ELECTION_TIMEOUT = 30.0
_TEMPORARY = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
}

Place = tuple[str, int]
Range = tuple[int, int]


def log_ranges(
    bootstrap: str,
    topics: Collection[str],
    *,
    partitions: Collection[int] | None = None,
    committed: bool = True,
) -> dict[Place, Range]:
    """First offset and end offset (exclusive) of every partition of ``topics``.

    The end is the last stable offset, or with ``committed`` False the high watermark.
    ``partitions`` limits the answer to these. Raises LabError for a topic that is not there.
    """
    admin = _admin(bootstrap)
    places: list[TopicPartition] = []
    for topic in topics:
        known = admin.list_topics(topic, timeout=30).topics[topic]
        if known.error is not None:
            raise LabError(f"{bootstrap} topic {topic}: {known.error}")
        places += [
            TopicPartition(topic, number)
            for number in known.partitions
            if partitions is None or number in partitions
        ]
    isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    low = _offsets(admin, bootstrap, places, OffsetSpec.earliest(), isolation)  # type: ignore[no-untyped-call]
    high = _offsets(admin, bootstrap, places, OffsetSpec.latest(), isolation)  # type: ignore[no-untyped-call]
    return {place: (low[place], high[place]) for place in low}


def log_end(bootstrap: str, topic: str, partition: int = 0, *, committed: bool = True) -> int:
    """The end offset of one partition."""
    ranges = log_ranges(bootstrap, [topic], partitions=[partition], committed=committed)
    return ranges[topic, partition][1]


def settle(bootstrap: str, topic: str, *, timeout: float = 30.0) -> None:
    """Return when no transaction is open in the topic.

    A commit or abort is answered before its markers are in the partitions.
    """
    deadline = time.monotonic() + timeout
    while log_ranges(bootstrap, [topic]) != log_ranges(bootstrap, [topic], committed=False):
        if time.monotonic() > deadline:
            raise LabError(f"{topic} on {bootstrap} has an open transaction after {timeout} s")
        time.sleep(0.02)


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def _offsets(
    admin: AdminClient,
    bootstrap: str,
    places: list[TopicPartition],
    at: OffsetSpec,
    isolation: IsolationLevel,
) -> dict[Place, int]:
    """Asked again while a leader is being elected or the topic is not known everywhere yet, by
    another client each time: one goes on asking for the leader epoch it has met first.
    """
    found: dict[Place, int] = {}
    deadline = time.monotonic() + _ELECTION_TIMEOUT
    while places:
        futures = admin.list_offsets(
            dict.fromkeys(places, at), isolation_level=isolation, request_timeout=10
        )
        places = []
        for place, future in futures.items():
            try:
                found[place.topic, place.partition] = future.result().offset
            except KafkaException as error:
                if error.args[0].code() not in _TEMPORARY or time.monotonic() > deadline:
                    raise
                places.append(place)
        if places:
            time.sleep(0.1)
            admin = _admin(bootstrap)
    return found
