"""A text for every option of ``copy``, and the settings that the engine must then be given."""

from __future__ import annotations


def timetable(*entries: tuple[int, int | None]) -> dict[str, object]:
    """A timetable as JSON: bytes a second from each of these minutes of the day on."""
    return {
        "entries": [
            {
                "weekday": None,
                "minute": minute,
                "rate": {"bytes": size, "records": None, "auto": False},
            }
            for minute, size in entries
        ]
    }


# Every option that reaches the settings, with a text that is not the default. The addresses of
# the files and overrides lose against --source and --target, as they must.
TEXTS = {
    "source": "c:1,d:2",
    "target": "e:3",
    "source-x": "client.id=override",
    "target-x": "bootstrap.servers=f:4",
    "source-config": "f.properties",
    "target-config": "f.properties",
    "same-cluster-id": "1",
    "exclude": "tmp.*",
    "partitions": "0-1,x:5",
    "from": "1000",
    "until": "forever",
    "isolation": "read_uncommitted",
    "lanes": "3",
    "memory": "10MB",
    "throttle": "20MB/s",
    "throttle-topic": "pay.*=08:00,1MB/s 19:00,off",
    "weight": "orders=3",
    "merge": "always",
    "linger": "20ms",
    "partitioner": "murmur2",
    "target-partitions": "9",
    "batch-bytes": "64KiB",
    "compression": "zstd:6",
    "check-crc": "1",
    "append": "1",
    "restart": "1",
    "accept-target-configs": "1",
    "accept-gap": "1",
    "replication-factor": "2",
    "max-bytes": "1.5kB",
    "max-records": "12345678901",
    "max-duration": "1m30s",
}
SETTINGS = {
    "topics": ["orders"],
    "source": {"bootstrap": "c:1,d:2", "client_id": "override"},
    "target": {"bootstrap": "e:3", "client_id": "file"},
    "same_cluster_id": True,
    "exclude": ["tmp.*"],
    "partitions": {"everywhere": [[0, 1]], "topics": {"x": [[5, 5]]}},
    "start": {"type": "time", "timestamp": 1000},
    "until": {"type": "forever"},
    "isolation": "read_uncommitted",
    "lanes": 3,
    "memory": 10_000_000,
    "throttle": timetable((0, 20_000_000)),
    "throttle_topics": [["pay.*", timetable((480, 1_000_000), (1140, None))]],
    "weights": [["orders", 3]],
    "partitioner": "murmur2",
    "target_partitions": 9,
    "merge": "always",
    "linger": 20,
    "batch_bytes": 65536,
    "compression": [4, 6],
    "check_crc": True,
    "append": True,
    "restart": True,
    "accept_target_configs": True,
    "accept_gap": True,
    "replication_factor": 2,
    "max_bytes": 1500,
    "max_records": 12_345_678_901,
    "max_duration": 90_000,
}
