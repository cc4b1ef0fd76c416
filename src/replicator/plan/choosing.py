"""Which topics a copy is about, and which of them it cannot look at or finds gone.

Topics come and go while a copy is planned: each is refused or passed over by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from replicator.cluster import Cluster, TopicMeta
from replicator.cluster.errors import INVALID_TOPIC_EXCEPTION, UNKNOWN_TOPIC
from replicator.options.settings import CopySettings
from replicator.plan.conflict import Conflict, deleted_meanwhile
from replicator.plan.draft import with_conflict
from replicator.plan.topics import (
    TopicChoice,
    choose_topics,
    no_such_topic,
    nothing_chosen,
)
from replicator.report.model import TopicPlan
from replicator.terms import valid_topic_name


class Choosing:
    """The topics of one plan. ``refused`` are those that were asked for and are not copied,
    ``gone`` those that a pattern took, and why they are passed over.
    """

    def __init__(self, settings: CopySettings, source: Cluster) -> None:
        self._settings = settings
        self._source = source
        self.refused: dict[str, TopicPlan] = {}
        self.gone: dict[str, str] = {}

    def choose(self) -> tuple[TopicChoice, dict[str, TopicMeta]]:
        """The topics that the command means, and the source's metadata of all topics."""
        everything = self._source.metadata()
        settings = self._settings
        choice = choose_topics(settings.topics, settings.exclude, everything)
        # A list of all topics passes over those that may not be described, and new ones may come.
        names = [word for word in choice.unmatched if valid_topic_name(word)]
        found = self._source.metadata(names) if names else {}
        for word in choice.unmatched:
            meta = found.get(word)
            if meta is None or meta.error in UNKNOWN_TOPIC or meta.error == INVALID_TOPIC_EXCEPTION:
                raise no_such_topic(word, everything, cluster=self._source.name)
            if meta.error:
                self.refuse(word, not_described(self._source, meta))
            else:
                everything[word] = meta
        choice = choose_topics(settings.topics, settings.exclude, everything)
        if not choice.topics and not self.refused:
            raise nothing_chosen(choice)
        self.pass_over([topic for topic in choice.topics if everything[topic].error], everything)
        return replace(choice, topics=self.standing(choice.topics)), everything

    def standing(self, topics: Iterable[str]) -> tuple[str, ...]:
        return tuple(t for t in topics if t not in self.refused and t not in self.gone)

    def refuse(self, topic: str, conflict: Conflict, partitions: int = 0) -> None:
        plan = TopicPlan(topic=topic, target_topic=topic, partitions=partitions, records=0)
        self.refused[topic] = with_conflict(plan, conflict)

    def pass_over(self, topics: Sequence[str], seen: Mapping[str, TopicMeta]) -> None:
        """Leave topics of the source out that are gone or another one than before, or that have an
        error; ``seen`` is how they were found.
        """
        for topic in topics:
            meta = seen.get(topic)
            if meta is not None and meta.error and meta.error not in UNKNOWN_TOPIC:
                self.refuse(topic, not_described(self._source, meta), len(meta.partitions))
            elif topic in self._settings.topics:
                self.refuse(topic, deleted_meanwhile())
            else:
                self.gone[topic] = "deleted on the source while the copy was planned"


def not_described(cluster: Cluster, meta: TopicMeta) -> Conflict:
    """A topic whose metadata has an error other than that it is not there."""
    return Conflict.of_error(
        cluster.error(
            meta.error, f"describe topic {meta.name}", acl=f"DESCRIBE on Topic {meta.name}"
        )
    )
