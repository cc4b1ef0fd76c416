"""Assigns tasks that are due to lanes: finds the leaders, asks each pair of brokers where its logs
stand, connects to them, and hands the tasks over.

``Placer`` is called in the driver's thread; what it asks brokers runs beside it (``placing``), and
is told to it in the driver's thread again. A pair of brokers that hangs holds no other one up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from copycore.partition import PartitionCopy
from replicator.cluster import Cluster, PartitionMeta, TopicMeta
from replicator.engine.aside import Aside, Then
from replicator.engine.clusters import Clusters
from replicator.engine.doubts import HELD_MS, Doubts
from replicator.engine.judge import task_fault
from replicator.engine.lanes import LaneWorker
from replicator.engine.placing import Asked, Brokers, ask
from replicator.engine.roster import Roster
from replicator.engine.strategy import Located
from replicator.engine.task import OpenPipe, PartitionTask, TaskState, Trouble
from replicator.engine.topic_watch import Metas, TopicWatch, writing_leaders
from replicator.errors import CopystreamError
from replicator.offsets.log_end import ForeignWriter, NotYet
from replicator.terms import Side


class Placer:
    """Called in the driver's thread. ``make_part`` makes what a lane works on, as
    ``PartitionCopy``.
    """

    def __init__(
        self,
        clusters: Clusters,
        roster: Roster,
        topics: TopicWatch,
        doubts: Doubts,
        aside: Aside,
        workers: Sequence[LaneWorker],
        make_part: Callable[..., PartitionCopy],
    ) -> None:
        self._clusters = clusters
        self._roster = roster
        self._topics = topics
        self._doubts = doubts
        self._aside = aside
        self._workers = workers
        self._make_part = make_part
        self._of_part: dict[PartitionCopy, PartitionTask] = {}
        self._asking_leaders = False
        self._pairs: dict[Brokers, list[PartitionTask]] = {}  # being asked, with what waits for it

    def tick(self) -> None:
        """Begin to place what is due."""
        if self._asking_leaders:
            return
        due = self._roster.due()
        if due:
            self._asking_leaders = True
            self._aside.run(partial(self._ask_leaders, due))

    def ended(self, part: PartitionCopy) -> PartitionTask:
        """The task whose assignment has ended; each is told once."""
        return self._of_part.pop(part)

    # --- leaders --------------------------------------------------------------------------------

    def _ask_leaders(self, due: Sequence[PartitionTask]) -> Then:
        """Beside the driver."""
        try:
            sources, targets = self._topics.metadata(due)
        except CopystreamError as error:
            return partial(self._leaders_unknown, due, error)
        return partial(self._pair, due, sources, targets)

    def _leaders_unknown(self, due: Sequence[PartitionTask], error: CopystreamError) -> None:
        self._asking_leaders = False
        self._roster.put_off(due, error)

    def _pair(self, due: Sequence[PartitionTask], sources: Metas, targets: Metas) -> None:
        """Sort tasks by the brokers that they need, and have each pair asked by itself."""
        self._asking_leaders = False
        groups: dict[Brokers, list[PartitionTask]] = {}
        for task in due:
            if task.finished:
                continue
            source, target = sources[task.topic], targets[task.target_topic]
            change = self._topics.note_change(task, source, target)
            if change is not None:
                self._topics.act_on(task, change)
                continue
            brokers = self._brokers(task, source, target)
            if isinstance(brokers, Trouble):
                self._roster.again(task, brokers)
            else:
                groups.setdefault(brokers, []).append(task)
        for brokers, tasks in groups.items():
            for task in tasks:
                task.move(TaskState.ASKING)
            if brokers in self._pairs:
                self._pairs[brokers] += tasks  # they are due again when the pair is free
            else:
                self._pairs[brokers] = []
                self._ask_pair(brokers, tasks, sources, targets)

    def _brokers(
        self, task: PartitionTask, source: TopicMeta, target: TopicMeta
    ) -> Brokers | Trouble:
        reading = source.partitions.get(task.partition)
        if reading is None or reading.leader < 0:
            return _leaderless("source", self._clusters.source, reading)
        writing = writing_leaders(task, target)
        for number, leader in writing.items():
            if leader < 0:
                missing = target.partitions.get(number)
                return _leaderless("target", self._clusters.target, missing)
        return reading.leader, tuple(sorted(set(writing.values())))

    # --- logs and connections -------------------------------------------------------------------

    def _ask_pair(
        self, brokers: Brokers, tasks: Sequence[PartitionTask], sources: Metas, targets: Metas
    ) -> None:
        ready = [task for task in tasks if task.located or self._prepare(task)]
        lost = [task for task in ready if not task.located]

        def work() -> Then:
            asked = ask(self._clusters, self._workers, brokers, ready, lost, sources)
            return partial(self._asked, brokers, ready, asked, sources, targets)

        self._aside.run(work)

    def _prepare(self, task: PartitionTask) -> bool:
        if task.progress.prepare(task):
            return True
        # Given up while it waits for that, it has failed for what came before.
        waits = Trouble("target", "target: a segment of the map is on its way")
        self._roster.again(task, task.trouble or waits)
        return False

    def _asked(
        self,
        brokers: Brokers,
        ready: Sequence[PartitionTask],
        asked: Asked,
        sources: Metas,
        targets: Metas,
    ) -> None:
        """Hand those that are ``ready`` to their lanes."""
        for task in self._pairs.pop(brokers):
            if task.state is TaskState.ASKING:
                task.move(TaskState.WAITING)
        for task, found in asked.located.items():
            if not task.finished:
                self._take(task, found)
        unasked = []
        for task in ready:
            finding, pipe = asked.findings.get(task.tp), asked.pipes.get(task)
            if task.state is not TaskState.ASKING:
                continue
            if finding is not None and not self._doubts.settle(task, finding):
                continue
            if isinstance(pipe, OpenPipe):
                self._assign(task, pipe, sources[task.topic], targets[task.target_topic])
            elif pipe is not None:
                self._roster.put_off([task], pipe)
            else:
                unasked.append(task)
        if asked.error is not None:
            self._roster.put_off(unasked, asked.error)

    def _take(self, task: PartitionTask, found: Located | Exception) -> None:
        if isinstance(found, Located):
            task.count_stored(found.counters)
            task.progress.take(task, found)
            task.located = True
        elif isinstance(found, ForeignWriter):
            if self._roster.supersede():
                return
            cluster = self._clusters.name("target")
            text = "the end of the log was not written by this copy"
            fault = task_fault(task, "foreign-writer", "target", cluster, text, offset=found.offset)
            self._roster.fail(task, fault)
        elif isinstance(found, NotYet):
            reason = f"target: not ready to tell its log's end ({found.code})"
            self._roster.again(task, Trouble("target", reason))
        else:
            raise found

    # --- handing over ---------------------------------------------------------------------------

    def _assign(
        self, task: PartitionTask, pipe: OpenPipe, source: TopicMeta, target: TopicMeta
    ) -> None:
        part = self._part(task, source)
        part.wants_sample = task.wants_sample
        part.bucket = task.bucket
        counts_only = task.progress.counts_only(task)
        task.part, task.pipe = part, pipe
        task.move(TaskState.CHECKING if counts_only else TaskState.PLACED)
        self._of_part[part] = task
        outlets = [pipe.key[1].index(one) for one in writing_leaders(task, target).values()]
        pipe.worker.assign(pipe.key, part, outlets)

    def _part(self, task: PartitionTask, source: TopicMeta) -> PartitionCopy:
        at = task.progress.assignment(task)
        return self._make_part(
            task.topic,
            task.partition,
            source_name=task.topic.encode(),
            source_id=source.topic_id.bytes,
            target_name=task.target_topic.encode(),
            leader_epoch=source.partitions[task.partition].leader_epoch,
            start=at.start,
            end=at.end,
            mapped=at.mapped,
            counter=task.counter,
            base_target=at.base,
            producer_id=task.binding.producer_id,
            producer_epoch=task.binding.producer_epoch,
            known=at.known,
            epoch=task.epochs.at(at.start),
            fetched_epoch=task.fetched_epoch,
            known_epochs=at.stored_epochs.starts,
            new_epochs=at.stored_epochs.missing(task.epochs, at.start),
            batch_limit=task.batch_limit,
            apart_until=task.apart_until,
            single_until=task.single_until,
            unpack=task.unpack,
            transaction_limit=HELD_MS,
            split=at.split,
        )


def _leaderless(side: Side, cluster: Cluster, meta: PartitionMeta | None) -> Trouble:
    """Why a partition cannot be placed, with the brokers that would have to come back."""
    missing = sorted(set(meta.replicas) - set(cluster.brokers)) if meta is not None else []
    if not missing:
        return Trouble(side, f"{side}: the partition has no leader")
    names = ", ".join(str(broker) for broker in missing)
    plural = "s" if len(missing) > 1 else ""
    return Trouble(side, f"{side}: the partition has no leader; missing broker{plural}: {names}")
