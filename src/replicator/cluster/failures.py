"""What can go wrong with a cluster, one class per kind and side.

Catch the kind (``Unreachable``) to handle both sides alike; every instance is also a
``SourceError`` or ``TargetError`` and carries that exit code.
"""

from __future__ import annotations

from replicator.cluster import broker_errors
from replicator.errors import BrokerError, CopystreamError, SourceError, TargetError
from replicator.report import Side


class Unreachable(CopystreamError):
    """Refused, unresolved, lost or timed out: temporary as far as anybody can tell from here.

    ``reason`` is the bare cause ("connection refused"), for errors that build on this one.
    """

    reason = ""


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


def broker_failure(
    code: int, side: Side, cluster: str, doing: str, *, acl: str, detail: str = ""
) -> CopystreamError:
    """The error for a Kafka error code that a cluster answered.

    ``doing`` says what was asked, as in "list offsets of orders-3"; ``acl`` is the permission
    it takes, as in "DESCRIBE on Topic orders", named when the code is an authorization error;
    ``detail`` is the broker's own message.
    """
    name, retriable = broker_errors.lookup(code)
    message = f"{side} cluster {cluster}: cannot {doing}: {name} ({code})"
    if detail:
        message += f": {detail}"
    if broker_errors.denied_resource(code) is not None:
        return failure(Denied, side, message, hint=f"grant {acl} to the user of this client")
    error = SourceBrokerError if side == "source" else TargetBrokerError
    hint = broker_errors.hint(code)
    if hint is None:
        hint = (
            "this is usually temporary: run the command again"
            if retriable
            else "the broker's log says more"
        )
    return error(code, name, message, retriable=retriable, hint=hint)
