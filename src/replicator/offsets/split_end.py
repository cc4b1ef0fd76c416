"""Where the target's logs of split partitions end, for each pair of source and target partition.

Several source partitions write into one target partition, each with its own producer id. The log
is read from what is known to have arrived up to its end, and the sequences of the batches tell how
far each pair is.

Everything here asks a cluster, keeps no state, and may be called in any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from replicator.cluster import Cluster
from replicator.offsets.log_end import (
    ASK_TIMEOUT,
    SEQUENCES,
    ForeignWriter,
    NotYet,
    extents,
    read_batches,
)
from replicator.state.records import SplitState


def counters(
    target: Cluster, target_topic: str, latest: Callable[[], Mapping[int, SplitState]]
) -> dict[int, tuple[SplitState, list[int]]]:
    """By source partition, its state and the number of the next record for each target partition.

    ``latest`` gives all states of the topic as they are when it is called: other partitions go on
    while the logs are read, and their strides are in their states before they are sent. Raises
    ``NotYet``, ``ForeignWriter``, and what the cluster raises when it cannot be asked at all.
    """
    states = latest()
    count = len(next(iter(states.values())).binding.bases)
    partitions = [(target_topic, number) for number in range(count)]
    found = {source: [a.counter for a in state.arrivals] for source, state in states.items()}
    owners = {state.binding.producer_id: source for source, state in states.items()}
    for tp, extent in extents(target, partitions).items():
        if isinstance(extent, NotYet):
            raise extent
        number = tp[1]
        arrived = {source: state.arrivals[number].offset for source, state in states.items()}
        # What is settled has nothing after the last arrival, but another client may have.
        begin = min(
            [max(arrived.values())]
            + [arrived[source] for source, state in states.items() if not state.settled]
        )
        begin = max(begin, extent.start)
        for batch in read_batches(target, tp, begin, extent.end):
            source = owners.get(batch.producer_id)
            if source is None:
                raise ForeignWriter(batch.base_offset)
            if batch.base_offset < arrived[source]:
                continue
            known = found[source][number]
            # Where the log is read from the arrival on, a batch that is missing shows.
            complete = begin <= arrived[source]
            if complete and batch.base_sequence != known % SEQUENCES:
                raise ForeignWriter(batch.base_offset)
            more = (batch.base_sequence + batch.last_offset_delta + 1 - known) % SEQUENCES
            if known + more > latest()[source].points[-1].counters[number]:
                raise ForeignWriter(batch.base_offset)
            found[source][number] = known + more
    return {source: (states[source], numbers) for source, numbers in found.items()}


def foreign_offset(
    target: Cluster, target_topic: str, states: Mapping[int, SplitState]
) -> int | None:
    """The log end of the first target partition that holds more or fewer records than these copies
    wrote, all of which must be settled; None where there is none. Raises as ``counters``.
    """
    bases = next(iter(states.values())).binding.bases
    partitions = [(target_topic, number) for number in range(len(bases))]
    ends = target.list_offsets(partitions, "latest", timeout=ASK_TIMEOUT)
    for number, tp in enumerate(partitions):
        if ends[tp].error:
            raise NotYet(ends[tp].error)
        written = sum(state.points[0].counters[number] for state in states.values())
        if ends[tp].offset != bases[number] + written:
            return ends[tp].offset
    return None
