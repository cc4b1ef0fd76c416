"""Gates: records wait in a lane until the state that tells where they came from is durable.

``write_segments`` and ``write_stride`` are called by the lane that cut the records, in its thread.
What they hand to the state writer is called in the writer's thread, or in that of the pulse; it
gives the lane an order, which the lane carries out in its own thread.
"""

from __future__ import annotations

from collections.abc import Callable

from copycore.partition import PartitionCopy
from copycore.segments import Segments
from copycore.split import Stride
from replicator.engine.lanes import LaneWorker
from replicator.errors import CopystreamError
from replicator.offsets.maps import OffsetMaps
from replicator.offsets.splits import Splits
from replicator.state.pulse import Told
from replicator.state.topics import Delivered, StateWriter

WhenFound = Callable[[Told], None]  # see ``Pulse.when_found``


class Gates:
    """Called by lanes, each in its own thread. Makes segments and strides durable, then opens the
    gate after them.
    """

    def __init__(
        self, maps: OffsetMaps, splits: Splits, writer: StateWriter, when_found: WhenFound
    ) -> None:
        self._maps = maps
        self._splits = splits
        self._writer = writer
        self._when_found = when_found

    def write_segments(self, worker: LaneWorker, part: PartitionCopy, segments: Segments) -> None:
        tp = (part.topic, part.partition)
        opener = self._opener(worker, part, segments.gate)
        self._maps.send_segments(self._writer, tp, segments, opener, part.epochs)

    def write_stride(self, worker: LaneWorker, part: PartitionCopy, stride: Stride) -> None:
        tp = (part.topic, part.partition)
        opener = self._opener(worker, part, stride.start)
        self._splits.send_stride(
            self._writer, tp, stride, part.acked, part.arrivals, opener, part.epochs, part.seen
        )

    def _opener(self, worker: LaneWorker, part: PartitionCopy, gate: int) -> Delivered:
        """What to call when the record is durable: the gate at the source offset ``gate`` opens
        once every later holder of the claims is certain to find it.
        """

        def found(error: CopystreamError | None) -> None:
            if error is None:
                worker.confirm(part, gate)
            else:
                worker.lose(part, error.message)

        def delivered(error: CopystreamError | None, _offset: int) -> None:
            if error is None:
                # Meanwhile the gate stays shut, and what waits at it stays where it is (INV-4).
                self._when_found(found)
            else:
                worker.lose(part, error.message)

        return delivered
