"""Everything at once, from a seed: writers, kills, freezes, broker crashes, changing options."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

import pytest

from kit.clusters.fixtures import ClusterFactory
from kit.clusters.flow import Flow
from kit.clusters.runner import Copier
from replicator.lab.logs import settle
from replicator.lab.seed import (
    CODECS,
    KEEP,
    YEAR_2001_MS,
    Writer,
    create_topic,
    varied,
)

TOPICS = 3
PARTITIONS = 4


class Storm:
    """Random acts upon three topics; whatever they leave open, ``calm`` ends."""

    def __init__(self, flow: Flow, topics: list[str], rng: random.Random) -> None:
        self.flow = flow
        self.topics = topics
        self.rng = rng
        self.acts: list[str] = []
        self.open: Writer | None = None

    def write(self) -> None:
        rng = self.rng
        topic = rng.choice(self.topics)
        with Writer(
            self.flow.source.bootstrap,
            codec=rng.choice(CODECS),
            batch_records=rng.choice((1, 3, 40, 1000)),
            linger_ms=rng.choice((0, 5)),
        ) as writer:
            for record in varied(rng, rng.randrange(1, 3000)):
                if rng.random() < 0.3:
                    record.timestamp = YEAR_2001_MS
                writer.send(topic, rng.randrange(PARTITIONS), record)

    def transact(self) -> None:
        """Begin a transaction, or end the one that is open."""
        rng = self.rng
        if self.open is not None:
            rng.choice((self.open.commit, self.open.abort))()
            self.open = None
            return
        name = f"storm-{rng.getrandbits(48):x}"
        self.open = Writer(self.flow.source.bootstrap, transactional_id=name, linger_ms=0)
        self.open.begin()
        topic = rng.choice(self.topics)
        for record in varied(rng, rng.randrange(1, 500)):
            self.open.send(topic, rng.randrange(PARTITIONS), record)
        self.open.flush()

    def copy(self) -> None:
        """Run the copier with random options for a random while, with something going wrong."""
        rng = self.rng
        options = [f"--lanes={rng.choice(('auto', '1', '3'))}"]
        options.append(f"--memory={rng.choice(('8MiB', '64MiB'))}")
        if rng.random() < 0.7:
            options.append(f"--throttle={rng.randrange(50, 2000)}kB/s")
        if rng.random() < 0.3:
            options.append("--check-crc")
        if rng.random() < 0.2:
            options.append(f"--partitions={rng.randrange(PARTITIONS)}")
        topics = rng.sample(self.topics, rng.randrange(1, TOPICS + 1))
        with self.flow.start(*options, *topics) as copier:
            self._let_run(copier)
            trouble = rng.choice((self._freeze, self._crash, self._bounce, None, None))
            if trouble is not None:
                self.acts.append(trouble.__name__)
                trouble(copier)
                self._let_run(copier)
            end = rng.choice((copier.kill, copier.kill, copier.interrupt, None))
            if end is not None:
                self.acts.append(end.__name__)
                end()
            if end != copier.kill:
                # 3 and 4: a broker was away when the run began; SIGINT: it was over already
                copier.wait(120).expect(0, 3, 4, 5, 130, -signal.SIGINT)

    def _let_run(self, copier: Copier) -> None:
        deadline = time.monotonic() + self.rng.uniform(0.1, 3.0)
        while copier.running() and time.monotonic() < deadline:
            time.sleep(0.005)

    def _freeze(self, copier: Copier) -> None:
        if copier.running():
            copier.freeze()
            time.sleep(self.rng.uniform(0.1, 4.0))  # the length of the pause is the act
            copier.thaw()

    def _crash(self, copier: Copier) -> None:
        side = self.rng.choice((self.flow.source, self.flow.target))
        side.kill()
        side.start_node()

    def _bounce(self, copier: Copier) -> None:
        self.rng.choice((self.flow.source, self.flow.target)).restart()

    def calm(self) -> None:
        if self.open is not None:
            self.open.commit()
        for topic in self.topics:
            settle(self.flow.source.bootstrap, topic)

    def blow(self, rounds: int) -> None:
        for _ in range(rounds):
            act = self.rng.choice((self.write, self.transact, self.copy, self.copy))
            self.acts.append(act.__name__)
            act()


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_storm_ends_in_an_exact_copy(
    own_cluster: ClusterFactory, topic_name: Callable[[str], str], rng: random.Random
) -> None:
    flow = Flow(
        own_cluster("storm-source"),
        own_cluster(
            "storm-target",
            properties={
                "producer.id.expiration.ms": "2000",
                "producer.id.expiration.check.interval.ms": "500",
            },
        ),
    )
    topics = [topic_name(f"storm{index}") for index in range(TOPICS)]
    for topic in topics:
        create_topic(flow.source.bootstrap, topic, PARTITIONS, config=KEEP)
    storm = Storm(flow, topics, rng)
    try:
        for _ in range(6):
            storm.blow(12)
            storm.calm()
            storm.open = None
            flow.copy(*topics, timeout=120).expect(0)
            flow.verify(*topics)
    finally:
        print(" ".join(storm.acts))
