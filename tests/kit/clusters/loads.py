"""A load that gives a copier every kind of map segment while it is killed again and again."""

from __future__ import annotations

import random

from kit.clusters.flow import Flow
from replicator.lab.logs import settle
from replicator.lab.seed import KEEP, Payload, Text, Writer

PARTITIONS = 5


def load_mixed(
    flow: Flow,
    topic: str,
    rng: random.Random,
    *,
    megabytes: int,
    stamp: int | None = None,
) -> None:
    """Five partitions: two dense, one of tiny batches, two with aborts and control batches.

    ``megabytes`` is the size of the topic; ``stamp`` the time of every record (milliseconds,
    None for now). Batches are near 10 kB so that a slow copy moves in small steps.
    """
    flow.create(topic, PARTITIONS, config=KEEP)
    text = Text(rng)

    def record() -> Payload:
        return Payload(text.take(8), text.take(480), [("n", text.take(4))], stamp)

    share = megabytes * 1_000_000 // PARTITIONS // 500
    with Writer(flow.source.bootstrap, batch_records=20, codec="lz4") as writer:
        for _ in range(share):
            writer.send(topic, 0, record())
    with Writer(flow.source.bootstrap, batch_records=20) as writer:
        for _ in range(share):
            writer.send(topic, 1, record())
    with Writer(flow.source.bootstrap, batch_records=2) as writer:
        for _ in range(share):
            writer.send(topic, 2, record())
    names = [f"{topic}-{index}" for index in range(2)]
    writers = [
        Writer(flow.source.bootstrap, transactional_id=name, batch_records=20, linger_ms=5)
        for name in names
    ]
    sent = 0
    while sent < share:
        for writer in writers:
            writer.begin()
            for _ in range(rng.randrange(20, 200)):
                writer.send(topic, 3 + sent % 2, record())
                sent += 1
        for writer in rng.sample(writers, 2):
            if rng.random() < 0.3:
                writer.abort()
            else:
                writer.commit()
    settle(flow.source.bootstrap, topic)
