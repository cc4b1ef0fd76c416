"""One run's hold on two clusters and on the state of its flow, from connecting to closing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

from replicator.cluster import Cluster
from replicator.cluster.admin import Admin
from replicator.state import OFFSET_MAP_TOPIC, REGISTRY_TOPIC, checks
from replicator.state.checks import StateTopics
from replicator.state.claims import Claims
from replicator.state.identity import check_two_clusters, flow_name, origin_name
from replicator.state.map_topic import MapTopic
from replicator.state.producers import Producers
from replicator.state.pulse import Pulse
from replicator.state.records import ProducerIdentity
from replicator.state.registry import Registry
from replicator.state.topics import StateConsumer, StateWriter


class Session:
    """Called in the job's thread. From ``acquire`` on two threads run beside it: the state
    writer's, which calls what waits for a record to be durable, and the pulse's, which beats and
    reads the registry.

    Made by ``open``. A plan then calls ``read``, which writes nothing; a run calls ``acquire``.
    Handlers of the offset map's records are given to ``map_topic`` before that. ``flow`` names the
    state, ``origin`` the cluster that the records come from (``identity``).
    """

    def __init__(
        self,
        source: Cluster,
        target: Cluster,
        admin: Admin,
        closing_stack: ExitStack,
        *,
        same_cluster_id: bool,
        open_writer: Callable[[Cluster], StateWriter],
        open_consumer: Callable[[Cluster, Iterable[str]], StateConsumer],
    ) -> None:
        self.flow = flow_name(source, target, same_cluster_id=same_cluster_id)
        self.origin = origin_name(source, target, same_cluster_id=same_cluster_id)
        self.map_topic = MapTopic(self.flow)
        self.producers = Producers()
        self._target = target
        self._admin = admin
        self._stack = closing_stack
        self._open_writer = open_writer
        self._open_consumer = open_consumer
        self._held: tuple[StateWriter, Claims, Pulse] | None = None

    @classmethod
    @contextmanager
    def open(
        cls,
        source: Cluster,
        target: Cluster,
        admin: Admin,
        *,
        same_cluster_id: bool,
        open_writer: Callable[[Cluster], StateWriter] = StateWriter,
        open_consumer: Callable[[Cluster, Iterable[str]], StateConsumer] = StateConsumer,
    ) -> Iterator[Session]:
        """Connect both clusters, whose questions are then the caller's to ask too; ``admin`` is the
        target's. At the end everything is closed: claims are released, what is being written is
        waited for, then the clusters.

        Raises ``UsageError`` where both are one cluster, and what connecting raises.
        """
        try:
            with ThreadPoolExecutor(1) as pool:
                connecting = pool.submit(target.connect)
                source.connect()
                connecting.result()
            check_two_clusters(source, target, same_cluster_id=same_cluster_id)
            with ExitStack() as stack:
                yield cls(
                    source,
                    target,
                    admin,
                    stack,
                    same_cluster_id=same_cluster_id,
                    open_writer=open_writer,
                    open_consumer=open_consumer,
                )
        finally:
            source.close()
            target.close()

    @property
    def writer(self) -> StateWriter:
        """Writes state records; after ``acquire``."""
        return self._holding[0]

    @property
    def pulse(self) -> Pulse:
        """Tells whether the claims are valid; after ``acquire``."""
        return self._holding[2]

    @property
    def _holding(self) -> tuple[StateWriter, Claims, Pulse]:
        if self._held is None:
            raise RuntimeError("no topics were acquired")
        return self._held

    def read(self) -> StateTopics:
        """Read the state as it is, as far as its topics are there, and write nothing.

        Raises ``ClusterError`` for state topics that cannot be used, ``StateError`` for records
        that cannot be read, and what reading raises.
        """
        found = checks.check(self._target, self._admin, change=False)
        metas = self._target.metadata(checks.TOPICS)
        there = [name for name, meta in metas.items() if not meta.error]
        with closing(self._open_consumer(self._target, there)) as consumer:
            if REGISTRY_TOPIC in there:
                registry = Registry(consumer.reader(REGISTRY_TOPIC))
                self.producers.listen(registry)
                registry.read_to_end()
            if OFFSET_MAP_TOPIC in there:
                self.map_topic.read(consumer.reader(OFFSET_MAP_TOPIC).read_to_end())
        return found

    def acquire(self, topics: Iterable[str]) -> StateTopics:
        """Claim the flow's ``topics`` (of the source), and take over what is stored of them: make
        and mend the state topics, read them, and beat from then on.

        What it opened is closed again when it fails. Raises as ``read``, ``IncompleteError`` where
        another copystream copies one of the topics, and ``RuntimeError`` the second time.
        """
        if self._held is not None:
            raise RuntimeError("topics were acquired already")
        found = checks.check(self._target, self._admin, change=True)
        with ExitStack() as stack:
            writer = self._open_writer(self._target)
            stack.callback(writer.close)
            consumer = stack.enter_context(
                closing(self._open_consumer(self._target, checks.TOPICS))
            )
            registry = Registry(consumer.reader(REGISTRY_TOPIC))
            self.producers.listen(registry)
            claims = Claims(registry, writer, self.flow)
            registry.read_to_end()
            stored = consumer.reader(OFFSET_MAP_TOPIC)
            self.map_topic.read(stored.read_to_end())
            newest = self.map_topic.generations.newest
            found.warnings += checks.restore_registry(self._target, writer, newest)
            claims.acquire(topics)
            stack.callback(claims.release)
            pulse = Pulse(claims)
            stack.callback(pulse.stop)
            pulse.start()
            # Once more: a session that held the topics before may have written segments since.
            self.map_topic.read(stored.read_to_end())
            stored.close()
            self.map_topic.take_over(claims.generations())
            self._held = writer, claims, pulse
            self._stack.push(stack.pop_all())
        return found

    def restore_producers(self, used: Iterable[tuple[int, int]]) -> None:
        """Enter producer ids (with their epochs) that partitions are written with into the
        registry, where it has lost them; durable when this returns.
        """
        self.producers.restore(self.writer, self.flow, self.origin, used)

    def allocate_producer(self) -> ProducerIdentity:
        """A new producer id for the flow, durable when this returns."""
        return self.producers.allocate(self._target, self.writer, self.flow, self.origin)

    def clean(self) -> None:
        """Delete the records of the offset map that this session has replaced, if the claims still
        hold: a successor then finds what replaces them.
        """
        writer, claims, _ = self._holding
        if claims.holds():
            self.map_topic.clean(writer)
