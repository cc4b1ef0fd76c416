"""One Kafka cluster as we see it: connections, metadata, offsets, topics, administration.

Imports: kio's schemas are imported where they are used, not at the top, because they cost a
third of the start-up time and a command that only prints help needs none of them.
"""

from replicator.cluster.cluster import Cluster
from replicator.cluster.connection import Connection
from replicator.cluster.errors import Denied, ProtocolFault, Unreachable, Unsupported, WrongCluster
from replicator.cluster.questions import OffsetResult, PartitionMeta, RunningTransaction, TopicMeta
from replicator.cluster.retry import Backoff, RetryPolicy

__all__ = [
    "Backoff",
    "Cluster",
    "Connection",
    "Denied",
    "OffsetResult",
    "PartitionMeta",
    "ProtocolFault",
    "RetryPolicy",
    "RunningTransaction",
    "TopicMeta",
    "Unreachable",
    "Unsupported",
    "WrongCluster",
]
