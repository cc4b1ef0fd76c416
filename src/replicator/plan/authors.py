"""Who wrote the records of a target topic that no map knows of: other clients, or a copy whose
state is lost.

The registry tells which producer ids copies have been given, and the batches in the log carry
them. Where the registry is lost too, two things together tell a copy: the batches' sequences count
the records of the log, and the source has a batch that ends with the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from copycore.batch import Batch
from replicator.cluster import Cluster
from replicator.offsets.log_end import SEQUENCES, last_batches
from replicator.plan.conflict import Conflict
from replicator.state import OFFSET_MAP_TOPIC
from replicator.state.producers import Producers
from replicator.terms import TopicPartition

LOOKED_UP = 20  # partitions whose last batch is looked for in the source

_HINT = (
    "restore the state topics from a backup; or find the source offsets after the last records "
    "that are there (docs/errors.md, state-lost), and go on with --append and --from FILE; or "
    "delete the target topic and copy it anew"
)


class Authors:
    """``lost`` says what tells that the state topics have lost records."""

    def __init__(
        self,
        source: Cluster,
        target: Cluster,
        producers: Producers,
        flow: str,
        lost: Sequence[str],
    ) -> None:
        self._source = source
        self._target = target
        self._producers = producers
        self._flow = flow
        self._lost = lost

    def lost(self, tails: Mapping[TopicPartition, int]) -> Conflict | None:
        """The conflict where a copy wrote the records at these last offsets of target partitions;
        None where others did, or where it cannot be told. Raises what the clusters raise.
        """
        batches = {
            tp: batch
            for tp, batch in sorted(last_batches(self._target, tails).items())
            if batch is not None and batch.magic == 2 and batch.producer_id >= 0
        }
        evidence = f" ({'; '.join(self._lost)})" if self._lost else ""
        for (topic, partition), batch in batches.items():
            flow = self._producers.flow_of(batch.producer_id)
            if flow == self._flow:
                text = (
                    f"this copy wrote the last records of {topic}-{partition} on the target "
                    f"(producer id {batch.producer_id}), and {OFFSET_MAP_TOPIC} has nothing of "
                    f"them: the state of the copy is lost{evidence}"
                )
                return Conflict.of("state-lost", text, _HINT)
        if not self._lost:
            return None
        for tp, batch in list(batches.items())[:LOOKED_UP]:
            unknown = self._producers.flow_of(batch.producer_id) is None
            if unknown and _counts(batch) and self._is_of_source(tp, batch):
                text = (
                    f"{tp[0]}-{tp[1]} on the target ends with records that the source has, "
                    f"numbered as by a copy (producer id {batch.producer_id}), and there is no "
                    f"state of one: it seems to be lost{evidence}"
                )
                return Conflict.of("state-lost", text, _HINT)
        return None

    def _is_of_source(self, tp: TopicPartition, batch: Batch) -> bool:
        """Whether the source's partition has a batch that ends with the very time of this one."""
        if batch.max_timestamp < 0:
            return False
        at = self._source.list_offsets([tp], batch.max_timestamp)[tp]
        if at.error or at.offset < 0:
            return False
        origin = last_batches(self._source, {tp: at.offset})[tp]
        return origin is not None and origin.max_timestamp == batch.max_timestamp


def _counts(batch: Batch) -> bool:
    """Whether the batch is numbered as a copy into an empty partition numbers."""
    return (
        not batch.is_transactional
        and batch.producer_epoch == 0
        and batch.base_sequence == batch.base_offset % SEQUENCES
    )
