"""What can go wrong with a cluster: Kafka's error codes, and the errors made of them.

``lookup`` gives the row of a code, the only place that says what a code means. Every error is a
``ClusterError``. Everything here is safe from any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from replicator.errors import ClusterError
from replicator.terms import Side

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
LEADER_NOT_AVAILABLE = 5
NETWORK_EXCEPTION = 13
INVALID_TOPIC_EXCEPTION = 17
RECORD_LIST_TOO_LARGE = 18
TOPIC_AUTHORIZATION_FAILED = 29
UNSUPPORTED_VERSION = 35
TOPIC_ALREADY_EXISTS = 36
INVALID_PARTITIONS = 37
INVALID_REPLICATION_FACTOR = 38
INVALID_CONFIG = 40
OFFSET_NOT_AVAILABLE = 78
THROTTLING_QUOTA_EXCEEDED = 89

# Missing topics are retriable to Kafka's clients, which may wait for one to be created; here
# only the caller knows whether it is about to appear.
_MISSING_TOPIC = frozenset({3, 100})
UNKNOWN_TOPIC = frozenset({3, 100, 103})  # by name, by id, and one contradicting the other

# What a target does not take, however often it is sent: the kind of the fault.
Refusal = Literal["corrupt-batch", "record-too-large", "timestamp-refused", "record-refused"]


class Row(NamedTuple):
    """One error code. ``name`` and ``retriable`` are those of
    ``org.apache.kafka.common.protocol.Errors``.

    ``resource`` is the ACL resource type that an authorization error is about; ``refusal`` is set
    where a target that answers a Produce request so will never take the records; ``hint`` is what a
    user can do, on either side, where there is more to say than the name.
    """

    code: int
    name: str
    retriable: bool = False
    resource: str | None = None
    refusal: Refusal | None = None
    hint: str | None = None


_ROWS = (
    Row(-1, "UNKNOWN_SERVER_ERROR"),
    Row(0, "NONE"),
    Row(1, "OFFSET_OUT_OF_RANGE"),
    Row(2, "CORRUPT_MESSAGE", retriable=True, refusal="corrupt-batch"),
    Row(
        3,
        "UNKNOWN_TOPIC_OR_PARTITION",
        retriable=True,
        hint="see whether the topic exists, and whether this user may DESCRIBE it",
    ),
    Row(4, "INVALID_FETCH_SIZE"),
    Row(5, "LEADER_NOT_AVAILABLE", retriable=True),
    Row(6, "NOT_LEADER_OR_FOLLOWER", retriable=True),
    Row(
        7,
        "REQUEST_TIMED_OUT",
        retriable=True,
        hint="the broker is overloaded or its replicas are slow; see the broker's log",
    ),
    Row(8, "BROKER_NOT_AVAILABLE"),
    Row(9, "REPLICA_NOT_AVAILABLE", retriable=True),
    Row(10, "MESSAGE_TOO_LARGE", refusal="record-too-large"),
    Row(11, "STALE_CONTROLLER_EPOCH"),
    Row(12, "OFFSET_METADATA_TOO_LARGE"),
    Row(13, "NETWORK_EXCEPTION", retriable=True),
    Row(14, "COORDINATOR_LOAD_IN_PROGRESS", retriable=True),
    Row(15, "COORDINATOR_NOT_AVAILABLE", retriable=True),
    Row(16, "NOT_COORDINATOR", retriable=True),
    Row(17, "INVALID_TOPIC_EXCEPTION", hint="Kafka does not take this topic name"),
    Row(18, "RECORD_LIST_TOO_LARGE", refusal="record-too-large"),
    Row(
        19,
        "NOT_ENOUGH_REPLICAS",
        retriable=True,
        hint="too few in-sync replicas; see min.insync.replicas of the topic",
    ),
    Row(20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", retriable=True),
    Row(21, "INVALID_REQUIRED_ACKS"),
    Row(22, "ILLEGAL_GENERATION"),
    Row(23, "INCONSISTENT_GROUP_PROTOCOL"),
    Row(24, "INVALID_GROUP_ID"),
    Row(25, "UNKNOWN_MEMBER_ID"),
    Row(26, "INVALID_SESSION_TIMEOUT"),
    Row(27, "REBALANCE_IN_PROGRESS"),
    Row(28, "INVALID_COMMIT_OFFSET_SIZE"),
    Row(29, "TOPIC_AUTHORIZATION_FAILED", resource="Topic"),
    Row(30, "GROUP_AUTHORIZATION_FAILED", resource="Group"),
    Row(31, "CLUSTER_AUTHORIZATION_FAILED", resource="Cluster"),
    Row(32, "INVALID_TIMESTAMP", refusal="timestamp-refused"),
    Row(33, "UNSUPPORTED_SASL_MECHANISM"),
    Row(34, "ILLEGAL_SASL_STATE"),
    Row(
        35,
        "UNSUPPORTED_VERSION",
        hint="the broker is older than copystream supports; Kafka 2.8 and newer are",
    ),
    Row(
        36,
        "TOPIC_ALREADY_EXISTS",
        hint="another client created it in the meantime: run the command again",
    ),
    Row(37, "INVALID_PARTITIONS", hint="choose a number of partitions that the cluster allows"),
    Row(
        38,
        "INVALID_REPLICATION_FACTOR",
        hint="choose a --replication-factor that the number of brokers allows",
    ),
    Row(39, "INVALID_REPLICA_ASSIGNMENT"),
    Row(
        40,
        "INVALID_CONFIG",
        hint="the cluster does not take one of the topic's configs; its log may say which",
    ),
    Row(41, "NOT_CONTROLLER", retriable=True),
    Row(42, "INVALID_REQUEST", refusal="record-refused"),
    Row(43, "UNSUPPORTED_FOR_MESSAGE_FORMAT"),
    Row(
        44,
        "POLICY_VIOLATION",
        refusal="record-refused",
        hint="a policy on the cluster (create.topic.policy.class.name) forbids this: create the "
        "topic yourself as the policy wants it, then run again",
    ),
    Row(45, "OUT_OF_ORDER_SEQUENCE_NUMBER"),
    Row(46, "DUPLICATE_SEQUENCE_NUMBER"),
    Row(47, "INVALID_PRODUCER_EPOCH"),
    Row(48, "INVALID_TXN_STATE"),
    Row(49, "INVALID_PRODUCER_ID_MAPPING"),
    Row(50, "INVALID_TRANSACTION_TIMEOUT"),
    Row(51, "CONCURRENT_TRANSACTIONS", retriable=True),
    Row(52, "TRANSACTION_COORDINATOR_FENCED"),
    Row(53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", resource="TransactionalId"),
    Row(54, "SECURITY_DISABLED"),
    Row(55, "OPERATION_NOT_ATTEMPTED"),
    Row(
        56,
        "KAFKA_STORAGE_ERROR",
        retriable=True,
        hint="the broker's disk failed; see the broker's log",
    ),
    Row(57, "LOG_DIR_NOT_FOUND"),
    Row(58, "SASL_AUTHENTICATION_FAILED"),
    Row(59, "UNKNOWN_PRODUCER_ID"),
    Row(60, "REASSIGNMENT_IN_PROGRESS"),
    Row(61, "DELEGATION_TOKEN_AUTH_DISABLED"),
    Row(62, "DELEGATION_TOKEN_NOT_FOUND"),
    Row(63, "DELEGATION_TOKEN_OWNER_MISMATCH"),
    Row(64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED"),
    Row(65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", resource="DelegationToken"),
    Row(66, "DELEGATION_TOKEN_EXPIRED"),
    Row(67, "INVALID_PRINCIPAL_TYPE"),
    Row(68, "NON_EMPTY_GROUP"),
    Row(69, "GROUP_ID_NOT_FOUND"),
    Row(70, "FETCH_SESSION_ID_NOT_FOUND", retriable=True),
    Row(71, "INVALID_FETCH_SESSION_EPOCH", retriable=True),
    Row(72, "LISTENER_NOT_FOUND", retriable=True),
    Row(73, "TOPIC_DELETION_DISABLED"),
    Row(74, "FENCED_LEADER_EPOCH", retriable=True),
    Row(75, "UNKNOWN_LEADER_EPOCH", retriable=True),
    Row(76, "UNSUPPORTED_COMPRESSION_TYPE", refusal="record-refused"),
    Row(77, "STALE_BROKER_EPOCH"),
    Row(78, "OFFSET_NOT_AVAILABLE", retriable=True),
    Row(79, "MEMBER_ID_REQUIRED"),
    Row(80, "PREFERRED_LEADER_NOT_AVAILABLE", retriable=True),
    Row(81, "GROUP_MAX_SIZE_REACHED"),
    Row(82, "FENCED_INSTANCE_ID"),
    Row(83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", retriable=True),
    Row(84, "ELECTION_NOT_NEEDED", retriable=True),
    Row(85, "NO_REASSIGNMENT_IN_PROGRESS"),
    Row(86, "GROUP_SUBSCRIBED_TO_TOPIC"),
    Row(87, "INVALID_RECORD", refusal="record-refused"),
    Row(88, "UNSTABLE_OFFSET_COMMIT", retriable=True),
    Row(
        89,
        "THROTTLING_QUOTA_EXCEEDED",
        retriable=True,
        hint="the cluster limits how fast topics may be created; run the command again later",
    ),
    Row(90, "PRODUCER_FENCED"),
    Row(91, "RESOURCE_NOT_FOUND"),
    Row(92, "DUPLICATE_RESOURCE"),
    Row(93, "UNACCEPTABLE_CREDENTIAL"),
    Row(94, "INCONSISTENT_VOTER_SET"),
    Row(95, "INVALID_UPDATE_VERSION"),
    Row(96, "FEATURE_UPDATE_FAILED"),
    Row(97, "PRINCIPAL_DESERIALIZATION_FAILURE"),
    Row(98, "SNAPSHOT_NOT_FOUND"),
    Row(99, "POSITION_OUT_OF_RANGE"),
    Row(100, "UNKNOWN_TOPIC_ID", retriable=True),
    Row(101, "DUPLICATE_BROKER_REGISTRATION"),
    Row(102, "BROKER_ID_NOT_REGISTERED"),
    Row(103, "INCONSISTENT_TOPIC_ID", retriable=True),
    Row(104, "INCONSISTENT_CLUSTER_ID"),
    Row(105, "TRANSACTIONAL_ID_NOT_FOUND"),
    Row(106, "FETCH_SESSION_TOPIC_ID_ERROR", retriable=True),
    Row(107, "INELIGIBLE_REPLICA"),
    Row(108, "NEW_LEADER_ELECTED"),
    Row(109, "OFFSET_MOVED_TO_TIERED_STORAGE"),
    Row(110, "FENCED_MEMBER_EPOCH"),
    Row(111, "UNRELEASED_INSTANCE_ID"),
    Row(112, "UNSUPPORTED_ASSIGNOR"),
    Row(113, "STALE_MEMBER_EPOCH"),
    Row(114, "MISMATCHED_ENDPOINT_TYPE"),
    Row(115, "UNSUPPORTED_ENDPOINT_TYPE"),
    Row(116, "UNKNOWN_CONTROLLER_ID"),
    Row(117, "UNKNOWN_SUBSCRIPTION_ID"),
    Row(118, "TELEMETRY_TOO_LARGE"),
    Row(119, "INVALID_REGISTRATION"),
    Row(120, "TRANSACTION_ABORTABLE"),
    Row(121, "INVALID_RECORD_STATE"),
    Row(122, "SHARE_SESSION_NOT_FOUND", retriable=True),
    Row(123, "INVALID_SHARE_SESSION_EPOCH", retriable=True),
    Row(124, "FENCED_STATE_EPOCH"),
    Row(125, "INVALID_VOTER_KEY"),
    Row(126, "DUPLICATE_VOTER"),
    Row(127, "VOTER_NOT_FOUND"),
    Row(128, "INVALID_REGULAR_EXPRESSION"),
    Row(129, "REBOOTSTRAP_REQUIRED"),
    Row(130, "STREAMS_INVALID_TOPOLOGY"),
    Row(131, "STREAMS_INVALID_TOPOLOGY_EPOCH"),
    Row(132, "STREAMS_TOPOLOGY_FENCED"),
    Row(133, "SHARE_SESSION_LIMIT_REACHED", retriable=True),
)
TABLE = {row.code: row for row in _ROWS}


def lookup(code: int) -> Row:
    """The row of a code. One that Kafka got later is named ``UNKNOWN_ERROR_CODE_<n>``, and is not
    retriable.
    """
    return TABLE.get(code) or Row(code, f"UNKNOWN_ERROR_CODE_{code}")


def named(code: int) -> str:
    """A code as messages write it: Kafka's name, and the number."""
    return f"{lookup(code).name} ({code})"


def is_denied(code: int) -> bool:
    """Whether the cluster refuses for lack of a permission."""
    return lookup(code).resource is not None


def is_temporary(code: int, *, just_created: bool = False) -> bool:
    """Whether asking again may help. ``just_created`` makes an unknown topic temporary too."""
    if code in _MISSING_TOPIC:
        return just_created
    return lookup(code).retriable


class Unreachable(ClusterError):
    """Refused, unresolved, lost or timed out: temporary as far as can be told from here."""


class ProtocolFault(ClusterError):
    """What came back is not a correct Kafka answer; asking again would not help."""


class Unsupported(ClusterError):
    """The broker does not speak a version that is needed."""


class Denied(ClusterError):
    """The cluster refuses us; the hint names the missing ACL."""


class WrongCluster(ClusterError):
    """An address answers for another cluster than the one this job is about."""


class BrokerError(ClusterError):
    """A broker answered with an error code that is none of the kinds above.

    ``code`` is the wire value and ``name`` Kafka's name for it; ``detail`` is the broker's own
    message, empty where it sent none.
    """

    def __init__(
        self, side: Side, message: str, code: int, *, hint: str, reason: str, detail: str = ""
    ) -> None:
        super().__init__(side, message, hint=hint, reason=reason)
        self.code = code
        self.name = lookup(code).name
        self.detail = detail


# librdkafka's own errors that a user is most likely to see, by its names for them.
_LIBRARY = {
    "_MSG_TIMED_OUT": "no broker acknowledged it in time",
    "_TIMED_OUT": "no answer in time",
    "_TIMED_OUT_QUEUE": "no broker could be asked in time",
    "_TRANSPORT": "the connection was lost",
    "_ALL_BROKERS_DOWN": "no broker can be reached",
    "_RESOLVE": "a broker's host name cannot be resolved",
    "_UNKNOWN_TOPIC": "the topic is not there",
    "_UNKNOWN_PARTITION": "the partition is not there",
    "_AUTO_OFFSET_RESET": "its records were deleted while they were read",
}

_MAY_PASS = (
    "brokers answer so for a while after a restart or an election: run the same command again; if "
    "it stays so, see the log of the broker that leads it (kafka-topics --describe)"
)


def unreachable(side: Side, where: str, reason: str, *, hint: str) -> Unreachable:
    """An Unreachable: ``where`` names cluster and address, ``reason`` the cause."""
    return Unreachable(side, f"{where}: {reason}", hint=hint, reason=reason)


def library_reason(error: KafkaError) -> str:
    """An error of librdkafka in plain words: Kafka's name and code, or what failed on this side."""
    code = error.code()
    if code > 0:
        return named(code)
    return _LIBRARY.get(error.name(), error.str().removeprefix("Local: ").lower())


def broker_failure(
    code: int, side: Side, cluster: str, doing: str, *, acl: str, detail: str = ""
) -> Denied | BrokerError:
    """The error for a Kafka error code that a cluster answered.

    ``doing`` says what was asked, as in "list offsets of orders-3"; ``acl`` is the permission
    it takes, as in "DESCRIBE on Topic orders", named when the code is an authorization error;
    ``detail`` is the broker's own message.
    """
    row = lookup(code)
    reason = named(code) + (f": {detail}" if detail else "")
    message = f"{side} cluster {cluster}: cannot {doing}: {reason}"
    if row.resource is not None:
        hint = f"grant {acl} to the user of this client"
        return Denied(side, message, hint=hint, reason=reason)
    hint = row.hint or (_MAY_PASS if row.retriable else "the broker's log says more")
    return BrokerError(side, message, code, hint=hint, reason=reason, detail=detail)
