"""The engine of one pair of clusters: lanes, buckets, and the driver that keeps tasks moving.

``add`` and ``run`` are called in one thread, which is the driver's while ``run`` lasts. The rest
may be read by any thread, at any time.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from copycore.lane import Lane
from copycore.rebatch import Rebatcher
from replicator.engine.aside import Aside
from replicator.engine.clusters import Clusters
from replicator.engine.counts import total
from replicator.engine.driver import Driver, Report
from replicator.engine.gates import Gates
from replicator.engine.lane_sizes import LaneSizes
from replicator.engine.lanes import PAUSE_LIMIT_MS, LaneWorker
from replicator.engine.limits import RunLimits
from replicator.engine.sampler import Sampler
from replicator.engine.task import PartitionTask
from replicator.options.rates import Rate
from replicator.options.settings import CopySettings
from replicator.pace.neighbours import Neighbours
from replicator.pace.sampling import Sampling, Totals
from replicator.pace.throttle import Buckets, Throttle
from replicator.process import StopSignal, now_ms
from replicator.state.pulse import Pulse

SAMPLED_EVERY = 1.0  # seconds
LARGEST_REQUEST = 4 << 20  # bytes of batches in a Produce request


class Engine:
    """``add`` and ``run`` are called in one thread, the rest may be read by any.

    ``new_throttle`` is asked several times a second, and says what is to hold instead of the
    settings from then on, or None; ``others`` is what other clients write.
    """

    def __init__(
        self,
        clusters: Clusters,
        settings: CopySettings,
        sizes: LaneSizes,
        limits: RunLimits,
        gates: Gates,
        pulse: Pulse,
        others: Neighbours,
        new_throttle: Callable[[], Throttle | None],
        *,
        make_worker: Callable[..., LaneWorker] = LaneWorker,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._others = others
        self._new_throttle = new_throttle
        throttle = Throttle(settings.throttle, settings.throttle_topics, settings.weights)
        self._buckets = Buckets(throttle, _lane_seconds, datetime.now)
        self._sampler = Sampler(time.monotonic)
        self._sampled_at = 0.0
        inbox: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._workers = [
            make_worker(
                self._lane(),
                inbox,
                gates.write_segments,
                gates.write_stride,
                slab_bytes=sizes.slab_bytes,
                pipe_bytes=sizes.pipe_bytes,
            )
            for _ in range(sizes.lanes)
        ]
        self.lanes = [worker.lane for worker in self._workers]
        self.tasks: list[PartitionTask] = []
        self._driver = Driver(
            clusters,
            self._workers,
            inbox,
            Aside(inbox.put),
            look=self._tick,
            standing=pulse.standing,
            limits=limits,
            accept_gap=settings.accept_gap,
        )
        self._sampling = Sampling(self.lanes, self._totals, _lane_seconds)

    def add(self, tasks: Sequence[PartitionTask]) -> None:
        """Have ``run`` copy these too."""
        for task in tasks:
            task.bucket = self._buckets.partition(task.topic)
        self._sampler.begin(tasks)
        self.tasks += tasks
        self._driver.add(tasks)

    def run(self, stop: StopSignal) -> None:
        """Copy until every task has ended, or ``stop`` is requested or a limit is reached, and
        nothing is in flight. Raises what a lane failed with.
        """
        for worker in self._workers:
            worker.start()
        try:
            self._driver.run(stop)
            self._sampler.look(self.tasks)
            self._driver.check_topics()
        finally:
            for worker in self._workers:
                worker.close()

    @property
    def stopping(self) -> bool:
        """Whether what is in flight is waited for after a stop or a limit."""
        return self._driver.stopping

    @property
    def recoveries(self) -> int:
        """Times a partition had to look at the target's log and begin again."""
        return self._driver.recoveries

    @property
    def logical_bytes(self) -> int | None:
        """Copied bytes, uncompressed; None while they cannot be estimated."""
        return self._sampler.logical(self.tasks)

    @property
    def asked_rate(self) -> Rate:
        """Of the whole copy, as the options have it for this time of day."""
        return self._buckets.asked

    @property
    def rate(self) -> Rate:
        """Of the whole copy, at this moment."""
        return self._buckets.rate

    # --- in the driver's thread -----------------------------------------------------------------

    def _tick(self) -> None:
        """Take samples, keep the rates at what holds now."""
        now = time.monotonic()
        if now - self._sampled_at >= SAMPLED_EVERY:
            self._sampled_at = now
            self._sampler.look(self.tasks)
        changed = self._buckets.tick(self._new_throttle())
        if self._buckets.asked.auto:
            self._others.begin()
        sample = self._sampling.look()
        if sample is not None:
            changed |= self._buckets.observe(sample)
        if changed:
            for lane in self.lanes:
                lane.wake()

    def _totals(self) -> Totals:
        follows = all(task.end < 0 for task in self.tasks)
        counts = total(task.counts for task in self.tasks)
        return Totals(
            bytes=counts.bytes,
            records=counts.records,
            lag=sum(task.lag for task in self.tasks) if follows else None,
            under_replicated=self._driver.under_replicated,
            others=self._others.rate,
        )

    def _lane(self) -> Lane:
        settings = self._settings
        codec, level = settings.compression
        return Lane(
            settings.target.client_id.encode(),
            read_committed=settings.isolation == "read_committed",
            check_crc=settings.check_crc,
            rebatcher=Rebatcher(
                compression=codec,
                level=level,
                merge=self._limits.merge(settings.merge),
                batch_bytes=self._limits.batch_bytes(settings.batch_bytes),
            ),
            allowance=self._limits.allowance,
            request_bytes=LARGEST_REQUEST,
            linger=settings.linger,
            pause_limit=PAUSE_LIMIT_MS,
        )


def _lane_seconds() -> float:
    return now_ms() / 1000
