"""An application that writes to the target during a copy: an ordinary producer.

Run as a program, it writes records of 1 kB until its standard input is closed, and prints one
JSON object a second: when (monotonic seconds), bytes acknowledged in it, and how long some of its
records took from ``produce`` to their acknowledgement, in ms.

    foreground.py --bootstrap HOST:PORT --topic T --partitions N [--rate BYTES_A_SECOND]

Without a rate it writes as fast as ``WINDOW`` records on their way allow.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec import Struct

RECORD = 1000  # bytes
WINDOW = 8000  # records
BURST = 0.005  # seconds between the records of a steady writer
ONE_OF = 20  # records whose time is taken


class Second(Struct):
    """What the application did in one second."""

    ended: float  # monotonic
    bytes: int
    latencies: list[float]  # ms


class Foreground:
    """The application as a process; ``seconds`` grows while it runs."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, rate: float | None) -> None:
        command = [sys.executable, str(Path(__file__)), "--bootstrap", bootstrap]
        command += ["--topic", topic, "--partitions", str(partitions)]
        command += [] if rate is None else ["--rate", str(rate)]
        self.seconds: list[Second] = []
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._reader.join(30)
        self._process.kill()
        self._process.wait()

    def between(self, began: float, ended: float) -> list[Second]:
        """The whole seconds from ``began`` to ``ended``."""
        return [s for s in self.seconds if s.ended >= began + 1 and s.ended <= ended]

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.seconds.append(Second(**json.loads(line)))


def main() -> None:
    from confluent_kafka import Producer  # noqa: PLC0415 - not needed to start the process only

    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--rate", type=float)
    given = parser.parse_args()
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    source = random.Random(1)
    records = [source.randbytes(RECORD // 2).hex().encode() for _ in range(64)]
    producer = Producer(
        {
            "bootstrap.servers": given.bootstrap,
            "log_level": 2,
            "acks": "all",
            "linger.ms": 5,
            "batch.size": 128 << 10,
            "enable.idempotence": True,
            "queue.buffering.max.messages": WINDOW,
        }
    )
    acknowledged, latencies, sent = 0, [], 0
    began = told = time.monotonic()

    def delivered(error: Any, _message: Any) -> None:
        nonlocal acknowledged
        if error is not None:
            raise RuntimeError(str(error))
        acknowledged += RECORD

    def timed(at: float) -> Any:
        def answered(error: Any, message: Any) -> None:
            delivered(error, message)
            latencies.append(round((time.monotonic() - at) * 1000, 2))

        return answered

    while not stop.is_set():
        now = time.monotonic()
        if now - told >= 1:
            second = {"ended": now, "bytes": acknowledged, "latencies": latencies}
            print(json.dumps(second), flush=True)
            acknowledged, latencies, told = 0, [], now
        due = 64 if given.rate is None else int((now - began) * given.rate / RECORD) - sent
        for _ in range(due):
            callback = timed(time.monotonic()) if sent % ONE_OF == 0 else delivered
            while True:
                try:
                    producer.produce(
                        given.topic,
                        records[sent % 64],
                        partition=sent % given.partitions,
                        on_delivery=callback,
                    )
                    break
                except BufferError:
                    producer.poll(0.01)
            sent += 1
        producer.poll(0 if given.rate is None else BURST)
    producer.flush(30)


if __name__ == "__main__":
    main()
