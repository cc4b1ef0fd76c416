"""Records against two independent implementations, kio's and kafka-python's, in both directions."""

from __future__ import annotations

import datetime
import io
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kio.records.readers import read_batch
from kio.records.schema import NewRecordBatch, RecordHeader
from kio.records.schema import Record as KioRecord
from kio.records.writers import write_new_batch
from kio.static.primitive import TZAwareMicros, i8, i16, i32, i64

from copycore.records import Record, decode_records, encode_batches
from kit.oracle.batches import HEADER, parse
from kit.oracle.records import body

few = settings(max_examples=50)  # the peers are slow
contents = st.none() | st.binary(max_size=90)
headers = st.lists(st.tuples(st.text(max_size=9), contents), max_size=4)
# Whole seconds are what kio keeps of a time.
seconds = st.integers(0, 10**10).map(lambda s: 1000 * s)
records = st.lists(st.tuples(seconds, contents, contents, headers), min_size=1, max_size=8)
Given = list[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]]


def ours(given_records: Given) -> bytes:
    """A batch of ours with these records."""
    (batch,) = encode_batches(
        [
            [
                (time, body(key, value, [(name.encode(), content) for name, content in listed]))
                for time, key, value, listed in given_records
            ]
        ],
        producer_id=7,
        producer_epoch=1,
        base_sequence=12,
    )
    return batch


def read_by_us(batch: bytes, given_records: Given) -> None:
    """A peer's batch, as ``decode_records`` must read it."""
    base = parse(batch)["base_timestamp"]
    assert decode_records(batch[HEADER:], len(given_records)) == [
        Record(
            number, time - base, key, value, [(name.encode(), content) for name, content in listed]
        )
        for number, (time, key, value, listed) in enumerate(given_records)
    ]


@given(given_records=records)
def test_kafka_python_reads_what_we_write(given_records: Given) -> None:
    batch = DefaultRecordBatch(ours(given_records))
    assert batch.validate_crc()
    assert (batch.base_offset, batch.leader_epoch, batch.magic) == (0, -1, 2)
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (7, 1, 12)
    assert batch.next_offset == batch.records_count == len(given_records)
    assert batch.first_timestamp == given_records[0][0]
    assert batch.max_timestamp == max(time for time, *_ in given_records)
    assert [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in batch] == [
        (number, *entry) for number, entry in enumerate(given_records)
    ]


@given(given_records=records)
def test_we_read_what_kafka_python_writes(given_records: Given) -> None:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=False,
        producer_id=7,
        producer_epoch=1,
        base_sequence=12,
        batch_size=1 << 20,
    )
    for number, (time, key, value, listed) in enumerate(given_records):
        assert builder.append(number, time, key, value, listed) is not None
    batch = bytes(builder.build())
    read_by_us(batch, given_records)
    # Only what the client leaves to the broker differs from a batch of ours.
    assert batch[HEADER:] == ours(given_records)[HEADER:]


@few
@given(given_records=records)
def test_kio_reads_what_we_write(given_records: Given) -> None:
    batch = ours(given_records)
    decoded, size = read_batch(batch, 0)
    assert size == len(batch)
    assert [from_kio(record) for record in decoded.records] == [
        (number, *entry) for number, entry in enumerate(given_records)
    ]


@few
@given(given_records=records)
def test_we_read_what_kio_writes(given_records: Given) -> None:
    out = io.BytesIO()
    write_new_batch(
        out,
        NewRecordBatch(
            producer_id=i64(7),
            producer_epoch=i16(1),
            base_sequence=i32(12),
            attributes=i16(0),
            records=tuple(to_kio(number, *entry) for number, entry in enumerate(given_records)),
        ),
    )
    read_by_us(out.getvalue(), given_records)


def to_kio(
    number: int,
    time: int,
    key: bytes | None,
    value: bytes | None,
    listed: list[tuple[str, bytes | None]],
) -> KioRecord:
    moment = datetime.datetime.fromtimestamp(time / 1000, datetime.UTC)
    return KioRecord(
        attributes=i8(0),
        timestamp=TZAwareMicros.parse(moment),
        offset=i64(number),
        key=key,
        value=value,
        headers=tuple(RecordHeader(key=name.encode(), value=content) for name, content in listed),
    )


def from_kio(record: KioRecord) -> Any:
    listed = [((h.key or b"").decode(), h.value) for h in record.headers]
    time = int(record.timestamp.timestamp() * 1000)
    return record.offset, time, record.key, record.value, listed
