"""Messages of magic 0 and 1 for the tests, and ``unwrap`` as a consumer of what it gives."""

from __future__ import annotations

from hypothesis import strategies as st

from copycore.legacy import unwrap
from copycore.records import decode_records, encode_records
from kit.oracle.legacy import APPEND_TIME, GZIP, LZ4, SNAPPY, Seen, Told, wrapper, write
from kit.oracle.wire_strategies import exact, i64

LIMIT = 1 << 20
TOP = 2**63 - 1
CODECS = [GZIP, SNAPPY, LZ4]

contents = st.none() | st.binary(max_size=60)
offsets = st.sampled_from([0, 1, TOP - 1, TOP]) | st.integers(0, TOP)


def seen(data: bytes, limit: int = LIMIT) -> Seen:
    """What a consumer sees of an entry, by way of the bodies that go into a batch v2."""
    messages = unwrap(exact(data), limit)
    records = decode_records(
        encode_records([(0, content) for *_, content in messages]), len(messages)
    )
    assert all(record.headers == [] for record in records)
    return [
        (offset, timestamp, record.key, record.value)
        for (offset, timestamp, _), record in zip(messages, records, strict=True)
    ]


@st.composite
def told(draw: st.DrawFn, offset: int, magics: tuple[int, ...] = (0, 1)) -> Told:
    magic = draw(st.sampled_from(magics))
    return Told(magic, offset, draw(i64) if magic else None, draw(contents), draw(contents))


@st.composite
def sets(draw: st.DrawFn, magics: tuple[int, ...] = (0, 1)) -> list[Told]:
    """The messages of a wrapper, with or without gaps."""
    gaps = draw(st.lists(st.sampled_from([0, 0, 0, 1, 1000]), min_size=1, max_size=6))
    return [draw(told(sum(gaps[: n + 1]) + n, magics)) for n in range(len(gaps))]


@st.composite
def wrappers(draw: st.DrawFn) -> tuple[bytes, Seen]:
    magic = draw(st.sampled_from([0, 1]))
    messages = draw(sets(draw(st.sampled_from([(magic,), (0, 1)]))))
    most = TOP - messages[-1].offset
    return wrapper(
        messages,
        draw(st.sampled_from(CODECS)),
        magic=magic,
        # In magic 1 the set says nothing about where it is; in magic 0 it says all.
        base=draw(st.sampled_from([0, most]) | st.integers(0, most)) if magic else 0,
        timestamp=draw(i64),
        attributes=draw(st.sampled_from([0, APPEND_TIME, 0x70, -0x80])),
    )


plain_messages = offsets.flatmap(told)
whole_entries = wrappers().map(lambda pair: pair[0]) | plain_messages.map(write)
