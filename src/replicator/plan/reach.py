"""What leaders say of their partitions; one that cannot be asked fails only those it leads."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from replicator.cluster import Cluster, PartitionMeta, TopicMeta
from replicator.cluster import errors as broker_errors
from replicator.errors import CopystreamError
from replicator.report.faults import fault, told
from replicator.report.model import Fault
from replicator.terms import TopicPartition

PATIENCE = 5.0  # seconds for a leader to answer, or to be elected


class Reach:
    """Offsets of one cluster's partitions. ``failed`` are those that cannot be told, with Kafka's
    error code; they are not asked for again. Used by one thread at a time.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.failed: dict[TopicPartition, int] = {}
        self.start_epochs: dict[TopicPartition, int] = {}  # leader epochs of the log starts asked

    def reached(self, tps: Iterable[TopicPartition]) -> list[TopicPartition]:
        return [tp for tp in tps if tp not in self.failed]

    def offsets(
        self,
        tps: Iterable[TopicPartition],
        at: Literal["earliest", "latest"] | int,
        *,
        read_committed: bool = False,
    ) -> dict[TopicPartition, int]:
        """As ``Cluster.list_offsets``, of the partitions that can be reached."""
        asked = self.reached(tps)
        if not asked:
            return {}
        found = self.cluster.list_offsets(
            asked, at, read_committed=read_committed, apart=True, timeout=PATIENCE
        )
        self.failed.update({tp: result.error for tp, result in found.items() if result.error})
        answered = {tp: result for tp, result in found.items() if not result.error}
        if at == "earliest":
            self.start_epochs.update({tp: one.leader_epoch for tp, one in answered.items()})
        return {tp: result.offset for tp, result in answered.items()}

    def faults(self, metas: Mapping[str, TopicMeta]) -> list[Fault]:
        """One for each partition that failed; ``metas`` are its topics as they were seen last."""
        return [
            partition_fault(self.cluster, tp, code, metas[tp[0]].partitions.get(tp[1]))
            for tp, code in sorted(self.failed.items())
        ]


def partition_fault(
    cluster: Cluster, tp: TopicPartition, code: int, meta: PartitionMeta | None
) -> Fault:
    """The fault of a partition that its leader says nothing of, with Kafka's error code."""
    topic, partition = tp
    if broker_errors.is_denied(code):
        text = f"its offsets are refused: {broker_errors.named(code)}"
        hint = f"grant DESCRIBE on Topic {topic} to the user of this client"
        return fault("denied", cluster.side, cluster.name, topic, partition, text, hint=hint)
    text = unserved(meta, cluster.brokers, code)
    return fault("unreachable", cluster.side, cluster.name, topic, partition, text)


def unready_fault(cluster: Cluster, topic: str, partition: int, error: CopystreamError) -> Fault:
    """The fault of a partition of a topic just created that cannot be used."""
    return told("unreachable", cluster.side, cluster.name, topic, partition, error.message)


def unserved(meta: PartitionMeta | None, brokers: Collection[int], code: int) -> str:
    """Why a partition cannot be used, with the brokers that are to blame; ``brokers`` are up."""
    name = broker_errors.named(code)
    if meta is None:
        return f"no broker serves it: {name}"
    gone = [broker for broker in meta.replicas if broker not in brokers]
    if meta.leader >= 0 and meta.leader in brokers:
        text = f"broker {meta.leader}, which leads it, does not answer for it: {name}"
    else:
        text = f"it has no leader (its replicas are on {_brokers(meta.replicas)})"
    if gone:
        text += f"; {_brokers(gone)} {'is' if len(gone) == 1 else 'are'} not up"
    return text


def _brokers(numbers: Collection[int]) -> str:
    listed = ", ".join(str(number) for number in numbers)
    return f"broker {listed}" if len(numbers) == 1 else f"brokers {listed}"
