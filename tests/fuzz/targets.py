"""One case of the fuzzer: a named error, or the same result as a slow oracle."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

from copycore.codec import CodecError, decompress_bytes
from copycore.legacy import unwrap
from copycore.rebatch import Rebatcher
from copycore.records import decode_records, rewrite_records
from copycore.retrace import retraced
from fuzz import corpus
from fuzz.model import LIMIT, Model, Through, opened
from kit.brokers.rig import Rig
from kit.brokers.scripted import span
from kit.fakebroker.logs import PlacedLog
from kit.logs.truth import DurableMap, Row, arrived, unpacked
from kit.oracle import batches as oracle
from kit.oracle import legacy as legacy_oracle
from kit.oracle.records import read_payload
from kit.oracle.retraced import FRAMES, any_rewrite, check, damaged, source
from kit.oracle.slice_check import check_slice
from kit.oracle.wire_strategies import exact

ENDINGS = {"done", "malformed", "corrupt", "unknown-codec", "target-error"}

Outcomes = Counter[str]


def slices(rng: random.Random, told: Outcomes) -> None:
    """Cutting, classifying and rewriting."""
    pieces, _ = corpus.seeds(rng)
    data = b"".join(corpus.damaged(rng, pieces))
    check_slice(data if rng.random() < 0.8 else corpus.scribble(rng, data))
    told["slice"] += 1


def codecs(rng: random.Random, told: Outcomes) -> None:
    """Decompression alone, under a small limit too."""
    whole = rng.choice(corpus.seeds(rng)[0])
    payload = corpus.scribble(rng, whole[oracle.HEADER :] or b"\0")
    codec = oracle.parse(whole)["attributes"] & 7 if corpus.is_v2(whole) else rng.randrange(1, 5)
    codec = codec if codec <= 4 else 0
    plain = opened(codec, payload)
    told["codec: none" if plain is None else "codec: read"] += 1
    cap = rng.randrange(1, 400)
    try:
        assert decompress_bytes(codec, payload, cap) == plain
    except CodecError as error:
        assert error.limit in (None, cap)
        assert plain is None or len(plain) > cap


def records(rng: random.Random, told: Outcomes) -> None:
    """Records of magic 2, read and written anew."""
    whole = rng.choice(corpus.seeds(rng)[0])
    if not corpus.is_v2(whole):
        return
    h = oracle.parse(whole)
    with suppress(Exception):  # a control batch or an empty one is as good, in its place
        whole = whole[: oracle.HEADER] + unpacked(h["attributes"] & 7, whole[oracle.HEADER :])
    payload = whole[oracle.HEADER :] or b"\0"
    if rng.random() < 0.8:
        payload = corpus.scribble(rng, payload)
    count = max(0, h["count"] + rng.choice([0, 0, 0, -1, 1, 2**31 - 1 - max(h["count"], 0)]))
    try:
        expected = read_payload(payload, count)
    except ValueError:
        told["records: refused"] += 1
        for read in (decode_records, _rewritten):
            try:
                read(exact(payload), count)
            except ValueError:
                continue
            raise AssertionError(f"{count} records of {payload.hex()} are read") from None
        return
    told["records: read"] += 1
    found = [tuple(one) for one in decode_records(exact(payload), count)]
    assert found == [tuple(plain) for plain, _ in expected]
    again = read_payload(rewrite_records(exact(payload), count, 5), count)
    assert [body for _, body in again] == [body for _, body in expected]


def _rewritten(payload: object, count: int) -> object:
    return rewrite_records(payload, count, 0)  # type: ignore[arg-type]


def frames(rng: random.Random, told: Outcomes) -> None:
    """lz4 frames made after others, which may be damaged."""
    one = any_rewrite(rng)
    frame = FRAMES[rng.choice(list(FRAMES))](one.old, rng)
    if rng.random() < 0.9:
        frame = damaged(frame, rng)
    try:
        found = retraced(exact(one.new), [source(frame, one)])
    except CodecError:
        told["frames: refused"] += 1
        return
    told["frames: made"] += 1
    check(found, one.new)


def messages(rng: random.Random, told: Outcomes) -> None:
    """Entries of magic 0 and 1."""
    old: list[bytes] = []
    while not old:
        old = [whole for whole in corpus.seeds(rng)[0] if whole[16] < 2]
    data = rng.choice(old)
    if rng.random() < 0.8:
        data = corpus.message_set(rng, data)
    try:
        expected: object = [entry[:2] for entry in legacy_oracle.read(data)]
    except Exception:  # each library has its own
        expected = None
    try:
        found = [entry[:2] for entry in unwrap(exact(data), LIMIT)]
    except ValueError:
        told["messages: refused"] += 1
        # The libraries' own strictness differs on damaged compressed data, never on plain.
        assert expected is None or data[17] & 7, data.hex()
        return
    told["messages: read"] += 1
    assert expected is None or found == expected, data.hex()
    assert expected is not None or data[17] & 7, data.hex()


def copies(rng: random.Random, told: Outcomes) -> None:
    """A whole partition through a lane, its batches passed on or taken apart."""
    pieces, aborted = corpus.seeds(rng)
    starts = [span(piece) for piece in pieces]
    first, behind = min(s for s, _ in starts), max(e for _, e in starts)
    data = b"".join(corpus.damaged(rng, pieces))
    start = rng.choice([first, first, rng.randrange(first, behind + 1)])
    end = rng.choice([behind, behind, rng.randrange(start, behind + 2)])
    committed = rng.random() < 0.7
    compression = rng.choice([-1, -1, 0, 1, 2, 3, 4])
    apart = rng.random() < 0.6
    limit = rng.choice([1 << 20, 1 << 20, 200])
    model = Model(start, end, apart, compression, limit, aborted if committed else [])
    model.read(data)
    rebatcher = Rebatcher(
        compression=compression,
        merge="always" if apart else "never",
        batch_bytes=rng.choice([1 << 19, 1 << 19, 100]) if not apart else 1 << 19,
        cap=LIMIT,
    )
    rig = Rig(read_committed=committed, rebatcher=rebatcher)
    try:
        run(rig, model, data, aborted, told)
    finally:
        rig.finish()


def run(
    rig: Rig, model: Model, data: bytes, aborted: list[tuple[int, int]], told: Outcomes
) -> None:
    log = PlacedLog(b"t", 0, aborted=[(p, first, 2**62) for p, first in aborted])
    log.put(0, 2**62, data)
    ends = rig.pipe(log, memory=16 << 20)
    part = rig.assign(ends, log, start=model.start, end=model.end, batch_limit=model.batch_limit)
    rig.run(turns=300)
    stored = list(rig.stored(ends, part))
    assert rig.closed == []
    assert part.ending in ENDINGS
    told[f"copy: {part.ending}"] += 1
    got_end = (part.ending, part.end_offset if part.ending != "done" else -1)
    assert got_end == (model.ending, model.offset), (
        f"{got_end} ({part.end_message}), not {(model.ending, model.offset)}"
    )
    durable = DurableMap(model.start, 0)
    for chunk in rig.chunks[part]:
        durable.report(chunk)
    number = 0
    left = list(reversed(model.arrives))
    for whole in stored:
        h = oracle.parse(whole)
        expected = left[-1] if left else None
        if isinstance(expected, Through):
            left.pop()
            found = Through(durable.source_of(number), h["count"], whole[oracle.HEADER :])
            assert found == expected
        else:
            rows = [left.pop() for _ in range(min(h["count"], len(left)))]
            assert all(isinstance(one, Row) for one in rows)
            got = [
                one._replace(offset=durable.source_of(number + place))
                for place, one in enumerate(arrived([whole]))
            ]
            assert got == rows
        number += h["count"]
    assert not left, f"{len(left)} of {len(model.arrives)} are missing"
    assert part.records == part.acked_counter == number


TARGETS: Mapping[str, Callable[[random.Random, Outcomes], None]] = {
    "slices": slices,
    "codecs": codecs,
    "records": records,
    "frames": frames,
    "messages": messages,
    "copies": copies,
}
# Copies reach all the code of the other targets, and the states of a copy besides.
WEIGHTS = {"slices": 1, "codecs": 2, "records": 1, "frames": 1, "messages": 2, "copies": 4}


def case(seed: int, number: int, told: Outcomes) -> str:
    """Run one case; both numbers tell all of it. The name of its target."""
    rng = random.Random(f"{seed}/{number}")
    name = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    TARGETS[name](rng, told)
    return name
