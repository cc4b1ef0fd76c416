"""Real Kafka for the demo, the tests, the benchmarks and ``copystream lab``.

``jars`` fetches Kafka once into the user's cache, ``archive`` makes its brokers start fast,
``process`` and ``launcher`` start and end processes by identity, ``node`` is one broker,
``cluster`` is what others use, ``registry`` remembers clusters that outlive the command.
Linux only: the identity, CPU time and end of a process are read from /proc.
"""

from replicator.lab.cluster import QUICK_START, LabCluster
from replicator.lab.errors import LabError
from replicator.lab.jars import KAFKA_3, KAFKA_4, default_version, kafka_libs
from replicator.lab.java import java_tool

__all__ = [
    "KAFKA_3",
    "KAFKA_4",
    "QUICK_START",
    "LabCluster",
    "LabError",
    "default_version",
    "java_tool",
    "kafka_libs",
]
