"""Kafka's error codes: names, which are temporary, and what they mean for a user.

Names and the retriable flag are those of ``org.apache.kafka.common.protocol.Errors``, taken
from kio's generated table.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
LEADER_NOT_AVAILABLE = 5
NETWORK_EXCEPTION = 13
INVALID_TOPIC = 17
RECORD_LIST_TOO_LARGE = 18
TOPIC_AUTHORIZATION_FAILED = 29
CLUSTER_AUTHORIZATION_FAILED = 31
UNSUPPORTED_VERSION = 35
TOPIC_ALREADY_EXISTS = 36
INVALID_PARTITIONS = 37
INVALID_REPLICATION_FACTOR = 38
INVALID_CONFIG = 40
OFFSET_NOT_AVAILABLE = 78
THROTTLING_QUOTA_EXCEEDED = 89
UNKNOWN_TOPIC_ID = 100

UNKNOWN_TOPIC = frozenset({3, 100, 103})  # by name, by id, and one contradicting the other
TOO_LARGE = frozenset({10, RECORD_LIST_TOO_LARGE})  # MESSAGE_TOO_LARGE is 10

# What a target does not take of a record, however often it is sent.
Refusal = Literal["corrupt-batch", "record-too-large", "timestamp-refused", "record-refused"]


class ErrorName(NamedTuple):
    name: str
    retriable: bool


# Missing topics are retriable to Kafka's clients, which may wait for one to be created; here
# only the caller knows whether it is about to appear.
_MISSING_TOPIC = frozenset({UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID})

_AUTHORIZATION = {
    TOPIC_AUTHORIZATION_FAILED: "Topic",
    30: "Group",
    CLUSTER_AUTHORIZATION_FAILED: "Cluster",
    53: "TransactionalId",
    65: "DelegationToken",
}

_REFUSALS: dict[int, Refusal] = {
    2: "corrupt-batch",  # CORRUPT_MESSAGE: the transformed CRC does not hold
    10: "record-too-large",  # MESSAGE_TOO_LARGE
    18: "record-too-large",  # RECORD_LIST_TOO_LARGE: above segment.bytes
    32: "timestamp-refused",  # INVALID_TIMESTAMP
    87: "record-refused",  # INVALID_RECORD
    44: "record-refused",  # POLICY_VIOLATION
    76: "record-refused",  # UNSUPPORTED_COMPRESSION_TYPE
    42: "record-refused",  # INVALID_REQUEST
}

_HINTS = {
    3: "see whether the topic exists, and whether this user may DESCRIBE it",
    17: "Kafka does not take this topic name",
    36: "another client created it in the meantime: run the command again",
    38: "choose a --replication-factor that the number of brokers allows",
    37: "choose a number of partitions that the cluster allows",
    40: "the cluster does not take one of the topic's configs; its log may say which",
    35: "the broker is older than copystream supports; Kafka 2.8 and newer are",
    56: "the broker's disk failed; see the broker's log",
    7: "the broker is overloaded or its replicas are slow; see the broker's log",
    19: "too few in-sync replicas; see min.insync.replicas of the topic",
    44: "a policy on the cluster (create.topic.policy.class.name) forbids this",
    89: "the cluster limits how fast topics may be created; run the command again later",
}


@cache
def _table() -> dict[int, ErrorName]:
    from kio.schema.errors import ErrorCode  # noqa: PLC0415 - see the package's note on imports

    return {int(code): ErrorName(code.name.upper(), code.retriable) for code in ErrorCode}


def lookup(code: int) -> ErrorName:
    """Kafka's name for an error code and whether Kafka calls it retriable.

    A code outside the table is named ``UNKNOWN_ERROR_CODE_<n>`` and is not retriable.
    """
    return _table().get(code) or ErrorName(f"UNKNOWN_ERROR_CODE_{code}", False)


def is_temporary(code: int, *, just_created: bool = False) -> bool:
    """Whether asking again may help. ``just_created`` makes an unknown topic temporary too."""
    if code in _MISSING_TOPIC:
        return just_created
    return lookup(code).retriable


def denied_resource(code: int) -> str | None:
    """The ACL resource type an authorization error is about, None for any other error."""
    return _AUTHORIZATION.get(code)


def hint(code: int) -> str | None:
    """What a user can do about an error, where there is more to say than its name."""
    return _HINTS.get(code)


def refusal(code: int) -> Refusal | None:
    """What a target refuses for good that answers a Produce request so; None for other errors."""
    return _REFUSALS.get(code)
