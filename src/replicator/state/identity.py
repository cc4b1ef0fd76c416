"""Which two clusters a copy is between: by their ids, and where both have one id, by what else is
known of them.

Clusters made from one image or one snapshot have the same id. A cluster copied onto itself would
never end, so two addresses are taken for two such clusters only where something shows it.
"""

from __future__ import annotations

from replicator.cluster import Cluster
from replicator.errors import UsageError
from replicator.terms import TopicPartition

COMPARED = 500  # partitions whose ends are compared


def flow_name(source: Cluster, target: Cluster, *, same_cluster_id: bool) -> str:
    """The name of a copy's state: by cluster ids, not by addresses, since one cluster under two
    names is one cluster. Of two clusters with one id the source's addresses, as the user gives
    them, tell the flows into the target apart.
    """
    origin = origin_name(source, target, same_cluster_id=same_cluster_id)
    return f"{origin}>{target.cluster_id}"


def origin_name(source: Cluster, target: Cluster, *, same_cluster_id: bool) -> str:
    """The cluster that the records come from, as the registry names it."""
    if not same_cluster_id or source.cluster_id != target.cluster_id:
        return source.cluster_id
    addresses = sorted(source.config.bootstrap_text.split(","))
    return f"{source.cluster_id}@{','.join(addresses)}"


def check_two_clusters(source: Cluster, target: Cluster, *, same_cluster_id: bool) -> None:
    """Raise ``UsageError`` for a cluster that would be copied onto itself."""
    if source.cluster_id != target.cluster_id:
        return
    same = _same_cluster(source, target)
    if same is not None:
        raise UsageError(
            f"source and target are the same cluster ({source.cluster_id}): {same}",
            hint="copying a cluster onto itself would never end: name two clusters",
        )
    if not same_cluster_id:
        raise UsageError(
            f"source and target have the same cluster id ({source.cluster_id})",
            hint="one cluster under two addresses cannot be copied onto itself; if these are two "
            "clusters, made from one image or snapshot, say so with --same-cluster-id",
        )


def _same_cluster(source: Cluster, target: Cluster) -> str | None:
    """What shows that both are one cluster; None where they are two.

    Listeners may advertise different addresses of the same brokers, and a clone has the topic ids
    of what it was cloned from. But one log has one end: between two looks at it by one name, it
    cannot end elsewhere by another.
    """
    common = sorted(set(source.brokers.values()) & set(target.brokers.values()))
    if common:
        host, port = common[0]
        return f"both have the broker {host}:{port}"
    theirs = target.metadata()
    shared = {
        name: topic
        for name, topic in source.metadata().items()
        if not topic.error and name in theirs and not theirs[name].error
    }
    if not shared or any(topic.topic_id != theirs[name].topic_id for name, topic in shared.items()):
        return None
    partitions = [(name, p) for name, topic in shared.items() for p in topic.partitions][:COMPARED]
    before = _ends(source, partitions)
    there = _ends(target, partitions)
    after = _ends(source, partitions)
    for tp in partitions:
        known = tp in before and tp in there and tp in after
        if known and not before[tp] <= there[tp] <= after[tp]:
            return None
    return (
        f"its topics have the same ids and ends by both addresses ({', '.join(sorted(shared)[:3])})"
    )


def _ends(cluster: Cluster, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    found = cluster.list_offsets(partitions, "latest")
    return {tp: end.offset for tp, end in found.items() if not end.error}
