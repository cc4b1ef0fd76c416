"""Client quotas, set as an operator sets them."""

from __future__ import annotations

from typing import Any

from kio.schema.alter_client_quotas.v1 import request as quotas
from kio.static.primitive import f64

from replicator.cluster import Connection
from replicator.cluster.config import load_client_config
from replicator.lab import LabCluster


def limit_producers(cluster: LabCluster, client: str, rate: float) -> None:
    """So many bytes a second from clients of that name, by the broker's quota."""
    config = load_client_config(cluster.bootstrap, None, (), side="target")
    host, _, port = cluster.bootstrap.rpartition(":")
    entity = quotas.EntityData(entity_type="client-id", entity_name=client)
    quota = quotas.OpData(key="producer_byte_rate", value=f64(float(rate)), remove=False)
    request = quotas.AlterClientQuotasRequest(
        entries=(quotas.EntryData(entity=(entity,), ops=(quota,)),), validate_only=False
    )
    connection = Connection.open(host, int(port), config, "target", timeout=10)
    try:
        answer: Any = connection.call(request, timeout=10)
    finally:
        connection.close()
    assert [int(entry.error_code) for entry in answer.entries] == [0]
