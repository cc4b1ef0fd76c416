"""An in-process Kafka broker that answers what a test tells it to, correct or hostile.

    with FakeBroker() as broker:
        broker.cluster.topics["orders"] = 3
        broker.answer(METADATA, Close(), Default())

Answers to one API are used up in turn, and the last one stays. Without any the broker answers
correctly from its ``FakeCluster``.
"""

from fakebroker.answers import (
    API_VERSIONS,
    DESCRIBE_LOG_DIRS,
    INIT_PRODUCER_ID,
    LIST_OFFSETS,
    METADATA,
    MODERN,
    OFFSET_FOR_LEADER_EPOCH,
    Answer,
    Close,
    Default,
    Drip,
    Patched,
    Raw,
    Request,
    Silence,
    Twice,
    encode,
    response,
    with_partition_error,
)
from fakebroker.server import FakeBroker, FakeCluster

__all__ = [
    "API_VERSIONS",
    "DESCRIBE_LOG_DIRS",
    "INIT_PRODUCER_ID",
    "LIST_OFFSETS",
    "METADATA",
    "MODERN",
    "OFFSET_FOR_LEADER_EPOCH",
    "Answer",
    "Close",
    "Default",
    "Drip",
    "FakeBroker",
    "FakeCluster",
    "Patched",
    "Raw",
    "Request",
    "Silence",
    "Twice",
    "encode",
    "response",
    "with_partition_error",
]
