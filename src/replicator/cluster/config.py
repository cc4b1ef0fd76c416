"""Client settings of one cluster: Kafka's own ``client.properties``, parsed and checked.

Property names are those of Kafka's Java clients, so that a file made for the console tools
works as it is. Where settings meet, ``--source-bootstrap`` wins over ``-X key=value``, which
wins over the file (KIP-1147 has the same order).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast, get_args

from replicator.errors import ConfigError, UsageError
from replicator.terms import Side

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]

DEFAULT_CLIENT_ID = "copystream"

# Kafka's limit: a client id becomes part of MBean and quota names on the broker.
_MAX_CLIENT_ID = 249

_log = logging.getLogger(__name__)

_OWN = frozenset({"bootstrap.servers", "client.id", "security.protocol"})

# Settings of a Java client that change nothing here: copystream has its own way for what they
# tune. Most files in use have them, so they are passed over without a warning.
_WITHOUT_EFFECT = frozenset(
    {
        "acks", "auto.offset.reset", "batch.size", "buffer.memory", "compression.type",
        "enable.auto.commit", "enable.idempotence", "fetch.max.bytes", "group.id",
        "key.deserializer", "key.serializer", "linger.ms", "max.in.flight.requests.per.connection",
        "max.partition.fetch.bytes", "max.poll.records", "max.request.size", "receive.buffer.bytes",
        "reconnect.backoff.max.ms", "reconnect.backoff.ms", "request.timeout.ms", "retries",
        "retry.backoff.ms", "send.buffer.bytes", "value.deserializer", "value.serializer",
    }
)  # fmt: skip

_SECURITY_PREFIXES = ("ssl.", "sasl.")


def format_address(host: str, port: int) -> str:
    """HOST:PORT, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """How to reach one cluster, and as whom.

    ``properties`` is everything as given, secrets included: its values are never shown, logged
    or stored.
    """

    bootstrap: tuple[tuple[str, int], ...]
    client_id: str = DEFAULT_CLIENT_ID
    security_protocol: SecurityProtocol = "PLAINTEXT"
    properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __repr__(self) -> str:
        # Any property may hold a secret, under a name that is not known here.
        return (
            f"ClientConfig(bootstrap={self.bootstrap_text!r}, client_id={self.client_id!r}, "
            f"security_protocol={self.security_protocol!r}, properties={sorted(self.properties)})"
        )

    @property
    def bootstrap_text(self) -> str:
        """The bootstrap addresses as a user writes them, for messages."""
        return ",".join(format_address(host, port) for host, port in self.bootstrap)

    def librdkafka(self) -> dict[str, str | int]:
        """The same settings in confluent-kafka's words, for its AdminClient."""
        return {
            "bootstrap.servers": self.bootstrap_text,
            "client.id": self.client_id,
            "security.protocol": self.security_protocol.lower(),
        }


def load_client_config(
    bootstrap: str | None, file: Path | None, overrides: Sequence[str], *, side: Side
) -> ClientConfig:
    """Settings of one side, from ``HOST:PORT,…``, a properties file and ``key=value`` overrides.

    Unknown keys are named once in a warning. Raises ConfigError, naming file and key, for
    what cannot be read or used, and UsageError when no address is given at all.
    """
    properties: dict[str, str] = {}
    origin: dict[str, str] = {}
    if file is not None:
        for key, value in _read_properties(file).items():
            properties[key] = value.strip()
            origin[key] = str(file)
    for override in overrides:
        key, equals, value = override.partition("=")
        key = key.strip()
        if not equals or not key:
            # The text may hold a secret: only what comes before any "=" is shown.
            raise UsageError(
                f"--{side}-X needs KEY=VALUE, and one has no {'key' if equals else 'equals sign'}",
                hint=f"for example: --{side}-X client.id=night-copy",
            )
        properties[key] = value.strip()
        origin[key] = f"--{side}-X"
    if bootstrap is not None:
        properties["bootstrap.servers"] = bootstrap
        origin["bootstrap.servers"] = f"--{side}"

    unused = sorted(
        {override.partition("=")[0].strip() for override in overrides} & _WITHOUT_EFFECT
    )
    if unused:  # in a file they are for other clients; here they were typed for this one
        _log.warning(
            "--%s-X has no effect with %s: copystream has its own way for that",
            side,
            ", ".join(unused),
        )
    servers = properties.get("bootstrap.servers", "")
    if not servers.strip():
        raise UsageError(
            f"no address for the {side} cluster",
            hint=f"give --{side} HOST:PORT, or bootstrap.servers in --{side}-config FILE",
        )
    config = ClientConfig(
        bootstrap=_addresses(servers, origin["bootstrap.servers"]),
        client_id=_client_id(properties, origin),
        security_protocol=_security_protocol(properties, origin),
        properties=MappingProxyType(properties),
    )
    _warn_unknown(properties, side)
    return config


def _read_properties(file: Path) -> dict[str, str]:
    import javaproperties  # noqa: PLC0415 - only paid for by runs that name a file

    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({error.strerror})", hint="check the path and its permissions"
        ) from error
    except UnicodeDecodeError:
        text = file.read_text(encoding="iso-8859-1")  # what java.util.Properties reads
    try:
        return dict(javaproperties.loads(text))
    except javaproperties.InvalidUEscapeError:
        # The parser's own message repeats the line, which may hold a secret.
        raise ConfigError(
            f"{file}: a \\u escape in it is not four hexadecimal digits",
            hint="in a properties file a backslash is written twice",
        ) from None


def _addresses(servers: str, origin: str) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for part in servers.split(","):
        text = part.strip()
        if not text:
            continue
        found.append(_address(text, origin))
    if not found:
        raise ConfigError(
            f"{origin}: bootstrap.servers names no address", hint="write HOST:PORT[,HOST:PORT…]"
        )
    return tuple(dict.fromkeys(found))


def _address(text: str, origin: str) -> tuple[str, int]:
    if "://" in text:
        raise ConfigError(
            f"{origin}: {text!r} is a URL, not an address",
            hint="write HOST:PORT; the protocol goes into security.protocol",
        )
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    bad = not colon or not host or any(c.isspace() or c in "/@" for c in host)
    if ":" in host and not text.startswith("["):
        bad = True
    if bad or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        raise ConfigError(
            f"{origin}: {text!r} is not an address",
            hint="write HOST:PORT with a port from 1 to 65535, an IPv6 address as [::1]:9092",
        )
    return host, int(port)


def _client_id(properties: Mapping[str, str], origin: Mapping[str, str]) -> str:
    value = properties.get("client.id") or DEFAULT_CLIENT_ID
    if len(value.encode()) > _MAX_CLIENT_ID or not value.isprintable():
        raise ConfigError(
            f"{origin['client.id']}: client.id must be printable and at most "
            f"{_MAX_CLIENT_ID} bytes",
            hint="choose a short name, for example night-copy",
        )
    return value


def _security_protocol(
    properties: Mapping[str, str], origin: Mapping[str, str]
) -> SecurityProtocol:
    value = (properties.get("security.protocol") or "PLAINTEXT").upper()
    if value not in get_args(SecurityProtocol):
        raise ConfigError(
            f"{origin['security.protocol']}: security.protocol {value!r} does not exist",
            hint=f"one of {', '.join(get_args(SecurityProtocol))}",
        )
    if value != "PLAINTEXT":
        raise ConfigError(
            f"{origin['security.protocol']}: security.protocol {value} is not supported by "
            "this version of copystream",
            hint="use a PLAINTEXT listener, over a trusted network or a tunnel",
        )
    return cast("SecurityProtocol", value)


def _warn_unknown(properties: Mapping[str, str], side: Side) -> None:
    unused = [
        key
        for key in properties
        if key not in _OWN and key not in _WITHOUT_EFFECT and not key.startswith(_SECURITY_PREFIXES)
    ]
    if unused:
        _log.warning("%s: properties not known and not used: %s", side, ", ".join(sorted(unused)))
    security = [key for key in properties if key.startswith(_SECURITY_PREFIXES)]
    if security:
        _log.warning(
            "%s: without effect while security.protocol is PLAINTEXT: %s",
            side,
            ", ".join(sorted(security)),
        )
