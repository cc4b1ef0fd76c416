"""Where the copies of split partitions stand, asked of the target's log.

Several source partitions write into one target partition, each with its own producer id. Behind
what is known to have arrived the log is read, and the sequences of the batches tell how far each
pair has come.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from replicator.cluster import Cluster
from replicator.engine.task import Partitioner
from replicator.errors import UsageError
from replicator.offsets.log_end import (
    ASK_TIMEOUT,
    SEQUENCES,
    ForeignWriter,
    NotYet,
    extents,
    read_batches,
)
from replicator.offsets.splits import SplitState


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
    places = [(target_topic, number) for number in range(count)]
    found = {source: [a.counter for a in state.arrivals] for source, state in states.items()}
    owners = {state.binding.producer_id: source for source, state in states.items()}
    for place, extent in extents(target, places).items():
        if isinstance(extent, NotYet):
            raise extent
        number = place[1]
        arrived = {source: state.arrivals[number].offset for source, state in states.items()}
        # What is settled has nothing behind the last arrival, but somebody else may have.
        begin = min(
            [max(arrived.values())]
            + [arrived[source] for source, state in states.items() if not state.settled]
        )
        begin = max(begin, extent.start)
        for batch in read_batches(target, place, begin, extent.end):
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
            behind = (batch.base_sequence + batch.last_offset_delta + 1 - known) % SEQUENCES
            if known + behind > latest()[source].points[-1].counters[number]:
                raise ForeignWriter(batch.base_offset)
            found[source][number] = known + behind
    return {source: (states[source], numbers) for source, numbers in found.items()}


def foreign_offset(
    target: Cluster, target_topic: str, states: Mapping[int, SplitState]
) -> int | None:
    """Of a topic whose copies have all come to rest: where there is more, or less, than they wrote
    into a partition of it, its log end; None where all is as it should be. Raises as ``counters``.
    """
    bases = next(iter(states.values())).binding.bases
    places = [(target_topic, number) for number in range(len(bases))]
    ends = target.list_offsets(places, "latest", timeout=ASK_TIMEOUT)
    for number, place in enumerate(places):
        if ends[place].error:
            raise NotYet(ends[place].error)
        written = sum(state.points[0].counters[number] for state in states.values())
        if ends[place].offset != bases[number] + written:
            return ends[place].offset
    return None


def load(name: str) -> Partitioner:
    """A partitioner by its name; ``module:function`` is imported, from the working directory too.

    Raises ``UsageError``.
    """
    module, colon, function = name.partition(":")
    if not colon:
        return name
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
        for part in function.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever a module of the user's may raise
        raise UsageError(
            f"--partitioner {name} cannot be loaded: {type(error).__name__}: {error}",
            hint="name a function as module:function; the module is looked for in PYTHONPATH and "
            "in the working directory",
        ) from error
    if not callable(found):
        raise UsageError(
            f"--partitioner {name} is not a function",
            hint="it is called as function(keys, offsets, source_partition, count)",
        )
    function_found: Partitioner = found
    return function_found
