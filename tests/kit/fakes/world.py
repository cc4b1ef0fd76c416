"""Two clusters in memory, as the job's own thread sees them, and tasks between them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kit.oracle import batches as oracle
from replicator.cluster import OffsetResult, PartitionMeta, RunningTransaction, TopicMeta
from replicator.engine.kept import KeptProgress
from replicator.engine.strategy import Progress
from replicator.engine.task import PartitionTask
from replicator.errors import CopystreamError
from replicator.offsets.maps import OffsetMaps
from replicator.state.map_topic import MapTopic
from replicator.state.records import Binding
from replicator.terms import Side

Place = tuple[str, int]
PRODUCER = 7001


@dataclass
class Log:
    """One partition. ``high`` None means that everything is committed."""

    start: int = 0
    end: int = 0
    high: int | None = None
    leader: int = 0
    replicas: tuple[int, ...] = (0,)  # of which broker 0 is in sync
    error: int = 0  # of every question about its offsets
    epoch_error: int = 0  # of a question about the end of a leader epoch
    batches: list[bytes] = field(default_factory=list)
    local_start: int = 0  # what is before it is in remote storage only
    epochs: list[tuple[int, int]] = field(default_factory=lambda: [(0, 4)])  # (first offset, epoch)

    def epoch_end(self, epoch: int) -> OffsetResult:
        """Like ``LeaderEpochFileCache.endOffsetFor``."""
        if self.error or self.epoch_error:
            return OffsetResult(-1, -1, self.error or self.epoch_error)
        if epoch == self.epochs[-1][1]:
            return OffsetResult(self.end, epoch, 0)
        later = [first for first, known in self.epochs if known > epoch]
        if not later:
            return OffsetResult(-1, -1, 0)
        return OffsetResult(later[0], epoch, 0)

    def write(self, count: int, sequence: int, producer: int = PRODUCER, epoch: int = 0) -> None:
        """Append a batch as the target stores it."""
        self.batches.append(
            oracle.build(
                b"x",
                base_offset=self.end,
                count=count,
                producer_id=producer,
                producer_epoch=epoch,
                base_sequence=sequence % 2**31,
            )
        )
        self.end += count


@dataclass
class Topic:
    partitions: dict[int, Log]
    topic_id: uuid.UUID = field(default_factory=uuid.uuid4)
    error: int = 0


def _next_offset(whole: bytes) -> int:
    if len(whole) < oracle.HEADER or whole[16] != 2:
        return 1 << 62
    header = oracle.parse(whole)
    return header["base_offset"] + header["last_offset_delta"] + 1


class FakeCluster:
    """What ``Cluster`` answers, from ``topics``. ``failures`` has an error for a kind of question:
    connect, metadata, ends, epochs, earliest, earliest_local, latest, transactions or fetch.
    """

    def __init__(self, side: Side) -> None:
        self.side = side
        self.name = f"{side}:9092 ({side}-id)"
        self.cluster_id = f"{side}-id"
        self.connected = False
        self.topics: dict[str, Topic] = {}
        self.brokers = dict.fromkeys(range(10), ("broker", 9092))
        self.failures: dict[str, CopystreamError] = {}
        self.asked: list[str] = []
        self.fetched: list[Place] = []
        self.fetches = 0
        self.tampered = bytes
        self.running: dict[Place, RunningTransaction] = {}
        self.on_ask: Callable[[], None] = lambda: None  # with ``asked`` up to date

    def add(self, topic: str, partitions: int = 1) -> Topic:
        self.topics[topic] = Topic({p: Log() for p in range(partitions)})
        return self.topics[topic]

    def log(self, topic: str, partition: int = 0) -> Log:
        return self.topics[topic].partitions[partition]

    def say(self, question: str) -> None:
        self.asked.append(question)
        self.on_ask()
        if question in self.failures:
            raise self.failures[question]

    def connect(self) -> None:
        self.say("connect")
        self.connected = True

    def close(self) -> None:
        self.connected = False

    def init_producer_id(self) -> tuple[int, int]:
        return PRODUCER, 0

    def metadata(
        self, topics: Sequence[str] | None = None, *, timeout: float | None = None
    ) -> dict[str, TopicMeta]:
        self.say("metadata")
        names = list(self.topics) if topics is None else topics
        return {name: self._meta(name) for name in names}

    def _meta(self, name: str) -> TopicMeta:
        topic = self.topics.get(name)
        if topic is None or topic.error:
            return TopicMeta(name, uuid.UUID(int=0), {}, 3 if topic is None else topic.error)
        partitions = {
            number: PartitionMeta(log.leader, log.epochs[-1][1], log.replicas, (0,), 0)
            for number, log in topic.partitions.items()
        }
        return TopicMeta(name, topic.topic_id, partitions, 0)

    def leader_end_offsets(
        self, partitions: Iterable[Place], *, timeout: float | None = None
    ) -> dict[Place, OffsetResult]:
        self.say("ends")
        return {place: self._result(place, "ends") for place in partitions}

    def epoch_end_offsets(
        self, epochs: Mapping[Place, int], *, timeout: float | None = None
    ) -> dict[Place, OffsetResult]:
        self.say("epochs")
        return {place: self.log(*place).epoch_end(epoch) for place, epoch in epochs.items()}

    def open_transactions(
        self, partitions: Iterable[Place], *, timeout: float | None = None
    ) -> dict[Place, RunningTransaction]:
        self.say("transactions")
        return {place: self.running[place] for place in partitions if place in self.running}

    def list_offsets(
        self,
        partitions: Iterable[Place],
        at: str,
        *,
        read_committed: bool = False,
        timeout: float | None = None,
        apart: bool = False,
    ) -> dict[Place, OffsetResult]:
        self.say(at)
        return {place: self._result(place, at) for place in partitions}

    def _result(self, place: Place, what: str) -> OffsetResult:
        log = self.log(*place)
        if log.error:
            return OffsetResult(-1, -1, log.error)
        if what == "earliest":
            return OffsetResult(log.start, 4, 0)
        if what == "earliest_local":
            return OffsetResult(max(log.start, log.local_start), 4, 0)
        if what == "latest" and log.high is not None:
            return OffsetResult(log.high, 4, 0)
        return OffsetResult(log.end, 4, 0)

    def fetch(
        self, broker: int, offsets: Mapping[Place, int], limit: int, *, timeout: float
    ) -> dict[Place, bytes]:
        """Whole batches up to the limit; the first one of the request whatever its size."""
        assert limit > 0
        assert timeout > 0
        self.say("fetch")
        self.fetches += 1
        found = {}
        for number, (place, offset) in enumerate(offsets.items()):
            log = self.log(*place)
            assert log.leader == broker, "asked of the leader"
            left = limit
            taken: list[bytes] = []
            for whole in (one for one in log.batches if _next_offset(one) > offset):
                if len(whole) > left and (number or taken):
                    break
                left -= len(whole)
                taken.append(whole)
            self.fetched.append(place)
            found[place] = self.tampered(b"".join(taken))
        return found


def make_task(
    topic: str = "orders",
    partition: int = 0,
    *,
    target: str | None = None,
    source_id: object = "",
    target_id: object = "",
    base: int = 0,
    start: int = 0,
    end: int = 100,
    lane: int = 0,
    located: bool = False,
    progress: Progress | None = None,
) -> PartitionTask:
    name = target or topic
    return PartitionTask(
        topic=topic,
        target_topic=name,
        partition=partition,
        binding=Binding(
            source_id=str(source_id),
            target_topic=name,
            target_id=str(target_id),
            base=base,
            producer_id=PRODUCER,
            producer_epoch=0,
        ),
        progress=progress or KeptProgress(None, OffsetMaps(MapTopic("f")), None),  # type: ignore[arg-type]
        start=start,
        end=end,
        position=start,
        counter=0,
        mapped=start,
        batch_limit=1048588,
        lane=lane,
        slot=0,
        located=located,
    )
