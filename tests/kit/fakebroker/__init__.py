"""An in-process Kafka broker that answers what a test tells it to, correct or hostile.

    with FakeBroker() as broker:
        broker.cluster.topics["orders"] = 3
        broker.answer(METADATA, Close(), Default())

One file per API has its correct answer, which comes from the broker's ``FakeCluster``; ``answers``
has what may come instead. Answers to one API are used up in turn, and the last one stays.
"""

from kit.fakebroker.answers import (
    Answer,
    Answered,
    Close,
    Default,
    Drip,
    Patched,
    Raw,
    Silence,
    Twice,
    with_partition_error,
)
from kit.fakebroker.api_versions import (
    MODERN,
    SPOKEN,
)
from kit.fakebroker.cluster import (
    FakeCluster,
)
from kit.fakebroker.logs import (
    PlacedLog,
    StoredLog,
)
from kit.fakebroker.server import (
    FakeBroker,
)
from kit.fakebroker.wire import (
    API_VERSIONS,
    CREATE_TOPICS,
    DESCRIBE_CONFIGS,
    DESCRIBE_LOG_DIRS,
    FETCH,
    FIND_COORDINATOR,
    INIT_PRODUCER_ID,
    LIST_OFFSETS,
    METADATA,
    OFFSET_FOR_LEADER_EPOCH,
    PRODUCE,
    Request,
)

__all__ = [
    "API_VERSIONS",
    "CREATE_TOPICS",
    "DESCRIBE_CONFIGS",
    "DESCRIBE_LOG_DIRS",
    "FETCH",
    "FIND_COORDINATOR",
    "INIT_PRODUCER_ID",
    "LIST_OFFSETS",
    "METADATA",
    "MODERN",
    "OFFSET_FOR_LEADER_EPOCH",
    "PRODUCE",
    "SPOKEN",
    "Answer",
    "Answered",
    "Close",
    "Default",
    "Drip",
    "FakeBroker",
    "FakeCluster",
    "Patched",
    "PlacedLog",
    "Raw",
    "Request",
    "Silence",
    "StoredLog",
    "Twice",
    "with_partition_error",
]
