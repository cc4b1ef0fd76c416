"""A refused batch that has records of several of the source's: those are sent one by one then, so
that only the guilty one stays behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from copycore.rebatch import Rebatcher
from lane.broker import ProduceRequest
from lane.rig import Ends, Rig
from lane.truth import CODECS, DurableMap, RecordLog, Row, arrived, row

INVALID_TIMESTAMP = 32


def refusing(ends: Ends, guilty: bytes) -> None:
    """The target refuses every batch with a record of that value, and what comes behind it."""

    def refuse(request: ProduceRequest) -> dict[str, Any]:
        errors = {
            place: (INVALID_TIMESTAMP, b"no")
            for place, whole in request.batches.items()
            if any(one.value == guilty for one in arrived([whole]))
        }
        return ends.target.take(request, errors)

    ends.target.hook = refuse


def log_of(codec: int, step: int) -> RecordLog:
    """Ten batches of two records; ``step`` 2 leaves a hole between them. Batch 6 is the guilty."""
    log = RecordLog()
    for number in range(10):
        at = 3 * number
        value = b"guilty" if number == 6 else b"v"
        log.add([row(at, value), row(at + step)], codec, last=at + 2)
    return log


@pytest.mark.parametrize("codec", range(5), ids=CODECS)
@pytest.mark.parametrize(("step", "merge"), [(1, "never"), (2, "never"), (1, "always")])
def test_a_refused_batch_of_several_is_sent_apart(
    make_rig: Callable[..., Rig], codec: int, step: int, merge: str
) -> None:
    rig = make_rig(maker=Rebatcher(merge=merge))
    log = log_of(codec, step)
    ends = rig.pipe(log)
    refusing(ends, b"guilty")
    durable = DurableMap(0, 0)

    first = rig.assign(ends, log)
    rig.run()
    assert (first.ending, first.end_code) == ("target-error", INVALID_TIMESTAMP)
    assert first.refused_until > 18, "somewhere behind the guilty record"
    assert first.acked == 0
    for chunk in rig.chunks[first]:
        durable.report(chunk)

    second = rig.assign(
        ends,
        log,
        start=first.acked,
        counter=first.acked_counter,
        known=durable.segments[1:],
        apart_until=first.refused_until,
    )
    rig.run()
    assert (second.ending, second.end_offset) == ("target-error", 18)
    assert second.refused_until == 0, "nobody else is to blame"
    assert second.acked_counter == 12
    assert second.batches == 6, "one each"
    seen = [one.seen for one in log.seen(0, 18, committed=True)]
    assert [one.seen for one in arrived(rig.stored(ends, second))] == seen


def test_behind_the_refused_batch_merging_goes_on(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(maker=Rebatcher(merge="always"))
    log = RecordLog()
    for number in range(40):
        log.add([Row(number, 5, None, b"x" * 2000)])
    ends = rig.pipe(log, slab=1 << 14)
    part = rig.assign(ends, log, apart_until=4)
    rig.run()
    assert part.ending == "done"
    assert 4 < part.batches < 20
    assert part.passed < 10
