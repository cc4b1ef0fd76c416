"""What can go wrong with a cluster, one class per kind and side.

Catch the kind (``Unreachable``) to handle both sides alike; every instance is also a
``SourceError`` or ``TargetError`` and carries that exit code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicator.cluster import broker_errors
from replicator.errors import BrokerError, CopystreamError, SourceError, TargetError
from replicator.terms import Side

if TYPE_CHECKING:
    from confluent_kafka import KafkaError


class Unreachable(CopystreamError):
    """Refused, unresolved, lost or timed out: temporary as far as anybody can tell from here."""


class ProtocolFault(CopystreamError):
    """What came back is not a correct Kafka answer; asking again would not help."""


class Unsupported(CopystreamError):
    """The broker does not speak a version that is needed."""


class Denied(CopystreamError):
    """The cluster refuses us; the hint names the missing ACL."""


class WrongCluster(CopystreamError):
    """An address answers for another cluster than the one this job is about."""


class SourceUnreachable(SourceError, Unreachable):
    pass


class TargetUnreachable(TargetError, Unreachable):
    pass


class SourceProtocolFault(SourceError, ProtocolFault):
    pass


class TargetProtocolFault(TargetError, ProtocolFault):
    pass


class SourceUnsupported(SourceError, Unsupported):
    pass


class TargetUnsupported(TargetError, Unsupported):
    pass


class SourceDenied(SourceError, Denied):
    pass


class TargetDenied(TargetError, Denied):
    pass


class SourceWrongCluster(SourceError, WrongCluster):
    pass


class TargetWrongCluster(TargetError, WrongCluster):
    pass


class SourceBrokerError(SourceError, BrokerError):
    """An error code of the source that is none of the kinds above."""


class TargetBrokerError(TargetError, BrokerError):
    """An error code of the target that is none of the kinds above."""


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

_SIDES: dict[tuple[Side, type[CopystreamError]], type[CopystreamError]] = {
    ("source", ProtocolFault): SourceProtocolFault,
    ("target", ProtocolFault): TargetProtocolFault,
    ("source", Unsupported): SourceUnsupported,
    ("target", Unsupported): TargetUnsupported,
    ("source", Denied): SourceDenied,
    ("target", Denied): TargetDenied,
    ("source", WrongCluster): SourceWrongCluster,
    ("target", WrongCluster): TargetWrongCluster,
}


def failure(kind: type[CopystreamError], side: Side, message: str, *, hint: str) -> CopystreamError:
    """An error of one side; ``kind`` is ProtocolFault, Unsupported, Denied or WrongCluster."""
    return _SIDES[side, kind](message, hint=hint)


def unreachable(side: Side, where: str, reason: str, *, hint: str) -> Unreachable:
    """An Unreachable of one side: ``where`` names cluster and address, ``reason`` the cause."""
    kind = SourceUnreachable if side == "source" else TargetUnreachable
    error = kind(f"{where}: {reason}", hint=hint)
    error.reason = reason
    return error


def library_reason(error: KafkaError) -> str:
    """An error of librdkafka in plain words: Kafka's name and code, or what failed on this side."""
    code = error.code()
    if code > 0:
        return f"{broker_errors.lookup(code).name} ({code})"
    return _LIBRARY.get(error.name(), error.str().removeprefix("Local: ").lower())


def broker_failure(
    code: int, side: Side, cluster: str, doing: str, *, acl: str, detail: str = ""
) -> CopystreamError:
    """The error for a Kafka error code that a cluster answered.

    ``doing`` says what was asked, as in "list offsets of orders-3"; ``acl`` is the permission
    it takes, as in "DESCRIBE on Topic orders", named when the code is an authorization error;
    ``detail`` is the broker's own message.
    """
    name, retriable = broker_errors.lookup(code)
    reason = f"{name} ({code})" + (f": {detail}" if detail else "")
    message = f"{side} cluster {cluster}: cannot {doing}: {reason}"
    if broker_errors.denied_resource(code) is not None:
        denied = failure(Denied, side, message, hint=f"grant {acl} to the user of this client")
        denied.reason = reason
        return denied
    error = SourceBrokerError if side == "source" else TargetBrokerError
    hint = broker_errors.hint(code)
    if hint is None:
        hint = (
            "brokers answer so for a while after a restart or an election: run the same command "
            "again; if it stays so, see the log of the broker that leads it (kafka-topics "
            "--describe)"
            if retriable
            else "the broker's log says more"
        )
    found = error(code, name, message, retriable=retriable, hint=hint, detail=detail)
    found.reason = reason
    return found
