"""The registry's producer ids: allocated once for a flow and used from then on.

The target's brokers enforce order by it, and the loop guard reads the origin of a batch from it,
so an id is durable here before the first batch that carries it. Two first copies started at once
may leave two ids for one flow; each partition's binding says which one it uses.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from replicator.cluster.cluster import Cluster
from replicator.state import REGISTRY_TOPIC
from replicator.state.records import ProducerIdentity, ProducerKey, Record, Stored, encode_value
from replicator.state.registry import Registry
from replicator.state.topics import StateWriter


class Producers:
    """What the registry says of producer ids.

    Whichever thread reads the registry adds to it; ``restore`` and ``allocate`` are for the job's
    thread, and wait for the state writer; the questions may be asked in any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_flow: dict[str, dict[int, ProducerIdentity]] = {}

    def listen(self, registry: Registry) -> None:
        """Take in what the registry has of producer ids, as it is read."""
        registry.on(ProducerKey, self._read)

    def _read(self, record: Stored[ProducerKey]) -> None:
        key = record.key
        identity = None if record.deleted else record.value()
        with self._lock:
            known = self._by_flow.setdefault(key.flow, {})
            if identity is None:
                known.pop(key.producer_id, None)
            else:
                known[key.producer_id] = identity

    def of(self, flow: str) -> ProducerIdentity | None:
        """The identity new partitions of ``flow`` are written with."""
        with self._lock:
            return next(iter(self._by_flow.get(flow, {}).values()), None)

    def flow_of(self, producer_id: int) -> str | None:
        """The flow that was given this producer id; None where the registry has no such."""
        with self._lock:
            return next(
                (flow for flow, known in self._by_flow.items() if producer_id in known), None
            )

    def restore(
        self, writer: StateWriter, flow: str, origin: str, used: Iterable[tuple[int, int]]
    ) -> None:
        """Enter the ids (with their epochs) that partitions of ``flow`` are written with and that
        the registry has lost; durable when this returns.
        """
        with self._lock:
            known = self._by_flow.setdefault(flow, {})
            lost = [
                ProducerIdentity(producer_id, epoch, origin)
                for producer_id, epoch in sorted(used)
                if producer_id not in known
            ]
            known |= {identity.producer_id: identity for identity in lost}
        writer.write(REGISTRY_TOPIC, [_record(flow, identity) for identity in lost])

    def allocate(
        self, cluster: Cluster, writer: StateWriter, flow: str, origin: str
    ) -> ProducerIdentity:
        """A new producer id for ``flow``, durable when this returns."""
        producer_id, epoch = cluster.init_producer_id()
        identity = ProducerIdentity(producer_id, epoch, origin)
        writer.write(REGISTRY_TOPIC, [_record(flow, identity)])
        with self._lock:
            self._by_flow.setdefault(flow, {})[producer_id] = identity
        return identity


def _record(flow: str, identity: ProducerIdentity) -> Record:
    return ProducerKey(flow, identity.producer_id).encode(), encode_value(identity)
