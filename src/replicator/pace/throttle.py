"""What a copy may write a second: its buckets, kept at what flags, file and timetable say now."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from replicator.options.rates import OFF, Rate, Timetable, print_rate
from replicator.pace.auto import AutoRate, Sample

if TYPE_CHECKING:
    from copycore.bucket import Bucket

Value = TypeVar("Value")

_log = logging.getLogger(__name__)


class Throttle(Struct, frozen=True):
    """The options that limit a copy and may change while it runs.

    For a topic counts the first pattern that is its name or matches the whole of it.
    """

    whole: Timetable
    topics: tuple[tuple[str, Timetable], ...] = ()
    weights: tuple[tuple[str, int], ...] = ()  # 1 for any other topic

    def topic(self, name: str) -> Timetable | None:
        return _first(self.topics, name)

    def weight(self, name: str) -> int:
        return _first(self.weights, name) or 1


def _rate(auto: AutoRate) -> Rate:
    return OFF if auto.rate is None else Rate(int(auto.rate))


def _first(of_patterns: tuple[tuple[str, Value], ...], name: str) -> Value | None:
    return next((v for p, v in of_patterns if p == name or re.fullmatch(p, name)), None)


class Buckets:
    """The buckets of one copy: the whole > its topics > their partitions.

    ``clock`` is the lanes' own, in seconds; ``wall`` the local time, for timetables. One thread
    calls ``tick`` and ``observe``; the lanes draw from the buckets at any time.
    """

    def __init__(
        self, throttle: Throttle, clock: Callable[[], float], wall: Callable[[], datetime]
    ) -> None:
        # Imported here: the settings are read, and refused, without the engine.
        from copycore.bucket import Bucket  # noqa: PLC0415

        self._make: Callable[[Bucket, float], Bucket] = Bucket
        self._throttle = throttle
        self._clock = clock
        self._wall = wall
        self._whole = Bucket()
        self._topics: dict[str, Bucket] = {}
        self._rates: dict[str | None, Rate] = {}  # as set; the whole's under None
        self._auto: AutoRate | None = None  # while the whole's rate is auto
        self._asked: Rate | None = None  # of the whole copy, by the options and the time of day
        self.tick()

    @property
    def rate(self) -> Rate:
        """The limit of the whole copy now: ``asked``, or what ``auto`` makes of it."""
        return self._rates[None]

    @property
    def asked(self) -> Rate:
        """The limit of the whole copy that the options give for this time of day."""
        return self._asked or OFF

    def partition(self, topic: str) -> Bucket:
        """A new one, below the topic's."""
        bucket = self._topics.get(topic)
        if bucket is None:
            bucket = self._topics[topic] = self._make(self._whole, self._throttle.weight(topic))
            self._set(topic, bucket, self._topic_rate(topic))
        return self._make(bucket, 1.0)

    def tick(self, throttle: Throttle | None = None) -> bool:
        """Set what holds from now on: by other options, if given, and by the time of day. Whether
        a rate changed, so that lanes that wait have to look again.
        """
        if throttle is not None:
            self._throttle = throttle
            for topic, bucket in self._topics.items():
                bucket.weight = throttle.weight(topic)
        now = self._wall()
        timetable = self._throttle.whole
        asked, changed = timetable.rate_at(now), False
        if asked != self._asked:
            self._asked = asked
            self._auto = AutoRate() if asked.auto else None
            changed = self._set(None, self._whole, _rate(self._auto) if self._auto else asked)
            until = timetable.next_change(now)
            held = "for good" if until is None else f"until {until:%a %H:%M}"
            _log.info("limit of the whole copy: %s, %s", print_rate(asked), held)
        for topic, bucket in self._topics.items():
            changed |= self._set(topic, bucket, self._topic_rate(topic))
        return changed or throttle is not None

    def observe(self, sample: Sample) -> bool:
        """Let ``auto`` decide by what was seen of the target; other limits ignore it. Returns
        whether the rate changed.
        """
        if self._auto is None:
            return False
        self._auto.observe(sample)
        _log.debug(
            "auto: at most %.1f MB/s after %.1f MB/s, %.0f ms a request; others: %s",
            (self._auto.rate or math.inf) / 1e6,
            sample.achieved / 1e6,
            median(sample.latencies or [0]),
            "not known" if sample.others is None else f"{sample.others:.0f} records/s",
        )
        return self._set(None, self._whole, _rate(self._auto))

    def _topic_rate(self, topic: str) -> Rate:
        timetable = self._throttle.topic(topic)
        return OFF if timetable is None else timetable.rate_at(self._wall())

    def _set(self, topic: str | None, bucket: Bucket, rate: Rate) -> bool:
        if self._rates.get(topic) == rate:
            return False
        self._rates[topic] = rate
        bucket.set_rates(self._clock(), float(rate.bytes or 0), float(rate.records or 0))
        return True
