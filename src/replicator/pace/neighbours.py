"""What others write to a cluster, seen by the end offsets of their topics, for ``auto``.

A copy slows no client down where none writes; and where one does, how much it writes says more than
how long our own requests take. Asking costs a ListOffsets four times a second, for at most
``PARTITIONS`` partitions: those that grew lately, and the others by turns.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection
from typing import NamedTuple

from replicator.cluster import Cluster
from replicator.cluster import errors as broker_errors
from replicator.errors import CopystreamError
from replicator.terms import TopicPartition, is_internal_topic

INTERVAL = 0.25  # seconds
LISTED_EVERY = 30.0  # seconds
PARTITIONS = 500
LIST_TIMEOUT = 10.0  # seconds
ASK_TIMEOUT = 1.0  # seconds; a partition without a leader holds up the others for so long
FRESH = 2.0  # seconds that an answer counts


_log = logging.getLogger(__name__)


class _Seen(NamedTuple):
    end: int  # offset
    at: float  # seconds


class Neighbours:
    """``rate`` is what others write now, from soon after ``begin``. ``ours`` are the topics that
    do not count, and internal ones do not either; ``clock`` gives seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        ours: Collection[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._ours = frozenset(ours)
        self._clock = clock
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._listed_at = -LISTED_EVERY
        self._sees_all: bool | None = None  # None: not asked yet
        self._busy: dict[TopicPartition, _Seen] = {}
        self._idle: dict[TopicPartition, _Seen | None] = {}  # those asked longest ago first
        self._rate: float | None = None
        self._known_at = -FRESH

    @property
    def rate(self) -> float | None:
        """Records a second; None while it cannot be told."""
        return self._rate if self._clock() - self._known_at < FRESH else None

    def begin(self) -> None:
        """Look from now on, in a thread of its own. Once is enough."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="others", daemon=True)
            self._thread.start()

    def end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(ASK_TIMEOUT)  # it dies with the process, if the cluster hangs

    def look(self) -> None:
        """Set ``rate`` by what has come since the partitions were asked last. Raises what the
        cluster raises.
        """
        if self._clock() - self._listed_at >= LISTED_EVERY:
            self._list()
        turn = list(self._idle)[: max(1, PARTITIONS - len(self._busy))]
        found = self._cluster.list_offsets([*self._busy, *turn], "latest", timeout=ASK_TIMEOUT)
        now, rate, compared = self._clock(), 0.0, False
        for tp, answer in found.items():
            before = self._busy.pop(tp, None) or self._idle.pop(tp, None)
            if answer.error:
                continue  # deleted, say; listed again if it is not
            seen = _Seen(answer.offset, now)
            if before is not None and before.end < seen.end and before.at < now:
                self._busy[tp] = seen
                rate += (seen.end - before.end) / (now - before.at)
            else:
                self._idle[tp] = seen
            compared |= before is not None
        certain = self._sees_all and (compared or not found)
        self._rate, self._known_at = rate if rate or certain else None, now

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.look()
            except CopystreamError as error:
                _log.info("what others write to the target is not known: %s", error.message)
            self._ended.wait(INTERVAL)

    def _list(self) -> None:
        """Learn of new partitions, and whether topics may be hidden from this user: a broker owns
        up to not knowing a topic only to who might see it if it were there.
        """
        topics = self._cluster.metadata(timeout=LIST_TIMEOUT)
        if self._sees_all is None:  # once: an authorizer may log every denial
            unknown = f"copystream-{uuid.uuid4().hex}"
            answer = self._cluster.metadata([unknown], timeout=LIST_TIMEOUT)[unknown]
            self._sees_all = answer.error == broker_errors.UNKNOWN_TOPIC_OR_PARTITION
        for name, topic in topics.items():
            if name in self._ours or is_internal_topic(name):
                continue
            for number in topic.partitions:
                if (name, number) not in self._busy:
                    self._idle.setdefault((name, number))
        self._listed_at = self._clock()
