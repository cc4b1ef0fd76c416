"""``make demo``: the main job from end to end on two real clusters, in front of the user.

Starts two clusters, loads a few hundred MB of topics as different as they come, runs the command
a user would type with its live progress, runs it once more, and lets an ordinary consumer compare
both sides. Whatever happens, Ctrl-C included, no broker and no data is left behind.
"""

from __future__ import annotations

import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from msgspec import Struct

from replicator.errors import CopystreamError, ExitCode
from replicator.lab.cluster import LabCluster
from replicator.lab.compare import Verdict, compare
from replicator.lab.errors import LabError
from replicator.lab.jars import default_version, kafka_libs
from replicator.lab.seed import (
    KEEP,
    Codec,
    Payload,
    Text,
    Writer,
    create_topic,
    transactions,
    varied,
)

PATTERN = r"shop\..*"
SEED = 2026
ROOM_NEEDED = 3 << 30  # bytes in /dev/shm for two logs of everything, with a margin


class Bulk(Struct, frozen=True):
    """One topic of ordinary records; sizes in bytes, before compression."""

    topic: str
    partitions: int
    codec: Codec
    records: int
    record_bytes: int
    batch_bytes: int


BULKS = (
    Bulk("shop.orders", 12, "lz4", 100_000, 1_000, 128 << 10),
    Bulk("shop.clicks", 12, "none", 100_000, 1_000, 128 << 10),
    Bulk("shop.invoices", 3, "gzip", 4_000, 10_000, 256 << 10),
    Bulk("shop.sessions", 6, "snappy", 30_000, 1_000, 64 << 10),
    Bulk("shop.catalogue", 2, "zstd", 60, 900_000, 1_000_000),
    Bulk("shop.sensors", 8, "zstd", 100_000, 100, 16 << 10),
)
PAYMENTS = "shop.payments"  # transactional, about half of it aborted
ODDITIES = "shop.odd-records"  # null and empty parts, repeated headers, old times


def main() -> int:
    """Run the demo; the exit code is 0 only when both sides are equal."""
    try:
        with _sigterm_cleans_up(), ExitStack() as cleanup:
            cleanup.callback(_say, "Cleaned up: both clusters and their data are gone.")
            verdict = _demo(cleanup)
    except KeyboardInterrupt:
        _say("Interrupted.")
        return int(ExitCode.INTERRUPTED)
    except CopystreamError as error:
        _say(f"The demo failed: {error.message}" + (f"\n{error.hint}" if error.hint else ""))
        return int(ExitCode.OTHER)
    return 0 if verdict.ok else int(ExitCode.OTHER)


def _demo(cleanup: ExitStack) -> Verdict:
    version = default_version()
    _say(f"Kafka {version}: fetching its jars, unless they are there …")
    kafka_libs(version)
    began = time.monotonic()
    _say("Starting two clusters of one broker each …")
    in_memory = _memory_has_room()
    source, target = (
        LabCluster(name=f"demo-{side}", memory=in_memory) for side in ("source", "target")
    )
    with ThreadPoolExecutor(2) as pool:
        for cluster in (source, target):
            cleanup.callback(cluster.stop)
        list(pool.map(LabCluster.start, (source, target)))
    _say(f"  source {source.bootstrap}   target {target.bootstrap}")

    topics = _load(source.bootstrap)
    command = ["copystream", "copy", "--source", source.bootstrap, "--target", target.bootstrap]
    command.append(PATTERN)
    copied_in = _run(command)
    _say("\nThe same command again goes on where it stopped, and finds nothing left:")
    _run(command)

    _say("\nComparing both sides, record by record, with an ordinary consumer …")
    verdict = compare(source.bootstrap, target.bootstrap, {topic: topic for topic in topics})
    size = verdict.bytes / 1e6
    _say(str(verdict))
    _say(
        f"{size:,.0f} MB of records, uncompressed, in {copied_in:.1f} s from the start of the "
        f"process to its end: {size / copied_in:,.0f} MB/s, into brokers that had just started."
    )
    _say(f"All of it took {time.monotonic() - began:.0f} s.")
    return verdict


def _load(bootstrap: str) -> list[str]:
    """Create and fill the topics, the same ones every time; their names."""
    rng = random.Random(SEED)
    total = sum(bulk.records * bulk.record_bytes for bulk in BULKS)
    _say(f"Loading {len(BULKS) + 2} topics, {total / 1e6:,.0f} MB (seed {SEED}) …")
    for bulk in BULKS:
        create_topic(bootstrap, bulk.topic, bulk.partitions)
        _say(
            f"  {bulk.topic:18} {bulk.records:>9,} records of {bulk.record_bytes:>7,} B, "
            f"{bulk.codec}, batches of {bulk.batch_bytes >> 10} KiB"
        )
        text = Text(rng)
        with Writer(bootstrap, codec=bulk.codec, batch_bytes=bulk.batch_bytes) as writer:
            for number in range(bulk.records):
                payload = Payload(b"%d" % number, text.take(bulk.record_bytes))
                writer.send(bulk.topic, number % bulk.partitions, payload)
    _say(f"  {PAYMENTS:18} committed and aborted transactions, interleaved")
    create_topic(bootstrap, PAYMENTS, 3)
    transactions(bootstrap, PAYMENTS, range(3), rng, rounds=20)
    _say(f"  {ODDITIES:18} null and empty keys and values, repeated headers, times of 2001")
    create_topic(bootstrap, ODDITIES, 2, config=KEEP)
    with Writer(bootstrap) as writer:
        for number, payload in enumerate(varied(rng, 2_000)):
            writer.send(ODDITIES, number % 2, payload)
    return [*(bulk.topic for bulk in BULKS), PAYMENTS, ODDITIES]


def _run(command: list[str]) -> float:
    """Run what was typed, on this terminal; the seconds it took. LabError if it fails."""
    _say(f"\n$ {shlex.join(command)}")
    program = Path(sys.executable).with_name(command[0])
    began = time.monotonic()
    with subprocess.Popen([program, *command[1:]]) as process:
        try:
            exit_code = process.wait()
        except _Terminated:
            process.terminate()
            process.wait(30)
            raise
        except KeyboardInterrupt:
            process.wait(30)  # the terminal interrupted it too: it finishes what is in flight
            raise
    if exit_code != 0:
        raise LabError(f"the copy exited with {exit_code}")
    return time.monotonic() - began


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which unlike Ctrl-C reaches this process alone."""


@contextmanager
def _sigterm_cleans_up() -> Iterator[None]:
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise _Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except Exception as error:
        # librdkafka's constructors report what interrupts them as an error of their own.
        if came:
            raise _Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _memory_has_room() -> bool:
    shared_memory = Path("/dev/shm")
    return shared_memory.is_dir() and shutil.disk_usage(shared_memory).free > ROOM_NEEDED


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
