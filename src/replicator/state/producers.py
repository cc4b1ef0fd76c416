"""The registry's producer ids: allocated once for a flow and used for ever.

The target's brokers enforce order by it, and the loop guard reads the origin of a batch from it,
so an id is durable here before the first batch that carries it. Two first copies started at once
may leave two ids for one flow; each partition's binding says which one it uses.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from replicator.cluster.cluster import Cluster
from replicator.state import REGISTRY_TOPIC
from replicator.state.topics import Record, StateWriter, unreadable


class ProducerIdentity(Struct, frozen=True):
    producer_id: int
    producer_epoch: int
    origin: str  # cluster id whose records carry this id


_KEY = msgspec.json.Decoder(tuple[str, str, int])
_VALUE = msgspec.json.Decoder(ProducerIdentity)


class Producers:
    """What the registry says of producer ids; fed its records in order."""

    def __init__(self) -> None:
        self._by_flow: dict[str, dict[int, ProducerIdentity]] = {}

    def absorb(self, key: bytes, value: bytes | None) -> None:
        if not key.startswith(b'["producer"'):
            return
        try:
            _, flow, producer_id = _KEY.decode(key)
            if value is None:
                self._by_flow.get(flow, {}).pop(producer_id, None)
            else:
                self._by_flow.setdefault(flow, {})[producer_id] = _VALUE.decode(value)
        except msgspec.MsgspecError as error:
            raise unreadable(f"{REGISTRY_TOPIC} holds a producer record", error) from None

    def of(self, flow: str) -> ProducerIdentity | None:
        """The identity new partitions of ``flow`` are written with."""
        return next(iter(self._by_flow.get(flow, {}).values()), None)

    def flow_of(self, producer_id: int) -> str | None:
        """The flow that was given this producer id; None where the registry has no such."""
        return next((flow for flow, known in self._by_flow.items() if producer_id in known), None)

    def restore(
        self, writer: StateWriter, flow: str, origin: str, used: Iterable[tuple[int, int]]
    ) -> None:
        """Enter the ids (with their epochs) that partitions of ``flow`` are written with and that
        the registry has lost; durable when this returns.
        """
        known = self._by_flow.setdefault(flow, {})
        lost = {producer_id: epoch for producer_id, epoch in used if producer_id not in known}
        for producer_id, epoch in sorted(lost.items()):
            known[producer_id] = ProducerIdentity(producer_id, epoch, origin)
        writer.write(REGISTRY_TOPIC, [self._record(flow, known[number]) for number in sorted(lost)])

    def allocate(
        self, cluster: Cluster, writer: StateWriter, flow: str, origin: str
    ) -> ProducerIdentity:
        """A new producer id for ``flow``, durable when this returns."""
        producer_id, epoch = cluster.init_producer_id()
        identity = ProducerIdentity(producer_id, epoch, origin)
        writer.write(REGISTRY_TOPIC, [self._record(flow, identity)])
        self._by_flow.setdefault(flow, {})[producer_id] = identity
        return identity

    @staticmethod
    def _record(flow: str, identity: ProducerIdentity) -> Record:
        key = msgspec.json.encode(["producer", flow, identity.producer_id])
        return key, msgspec.json.encode(identity)
