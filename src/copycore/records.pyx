"""The records of a batch v2: read one after another, and written into a new payload.

Layout (KIP-82 and KIP-98, ``org.apache.kafka.common.record.DefaultRecord``); a varint is zigzag:

==================== ==================================================
field                form
==================== ==================================================
length               varint, bytes after this field
attributes           int8, no bit means anything today; written as 0
timestamp delta      varlong, ms to the batch's base timestamp
offset delta         varint, to the batch's base offset
key length, key      varint, −1 for null                    ┐
value length, value  varint, −1 for null                    │ the *body*
header count         varint                                 │
of each header       key length, key, value length (−1 for  │
                     null), value                           ┘
==================== ==================================================

Whatever is done to a batch, the body of a record stays as it is: a record is read only to find
its bounds and its key, and written as a new front before the same bytes. The body is checked
whole, since a target's consumers would stumble over what is wrong in it: a varint here is at most
five bytes and within int32, as Java reads it. Times are sums and differences modulo 2^64, as in
Java: whatever the deltas are, a reader gets the time that was put in.
"""

from collections import namedtuple

from libc.stdint cimport INT32_MAX, int16_t, int32_t, int64_t, uint8_t, uint64_t

from copycore.batch cimport CRC_START, HEADER_SIZE, LOG_OVERHEAD
from copycore.crc32c cimport crc_extend
from copycore.cursor cimport (
    Reader, Writer, append_raw, append_uvarint, clear, left, read_i8, read_varint, read_varint32,
    reader, store_u16, store_u32, store_u64, take, uvarint_size, zigzag,
)

cdef enum:
    RECORD_FRONT = 21     # length 5, attributes 1, timestamp delta 10, offset delta 5

Record = namedtuple(
    "Record", ("offset_delta", "timestamp_delta", "key", "value", "headers"), module=__name__
)


cdef int next_record(Reader* r, RecordView* out) noexcept nogil:
    """Read the next record and check that it is one, to its last byte.

    RECORD_OK, or RECORD_BROKEN when its lengths contradict each other or the bytes that are left;
    ``r`` has failed then, and ``out`` holds nothing of use. Deltas may be any number: whether
    they fit the batch is for the caller to judge.
    """
    cdef int32_t n, headers
    cdef Py_ssize_t size = read_varint32(r)
    cdef const uint8_t* start = take(r, size)
    cdef Reader record = reader(start, size if start != NULL else 0)
    out.attributes = read_i8(&record)
    out.timestamp_delta = read_varint(&record)
    out.offset_delta = read_varint32(&record)
    out.body = record.data + record.pos
    out.body_size = left(&record)
    n = read_varint32(&record)
    out.key_size = n
    out.key = NULL
    if n != -1:
        out.key = take(&record, n)
    n = read_varint32(&record)
    if n != -1:
        take(&record, n)
    headers = read_varint32(&record)
    if headers < 0 or headers > left(&record) // 2:
        record.failed = True
    while headers > 0 and not record.failed:
        take(&record, read_varint32(&record))
        n = read_varint32(&record)
        if n != -1:
            take(&record, n)
        headers -= 1
    if record.failed or left(&record) != 0:
        r.failed = True
        return RECORD_BROKEN
    return RECORD_OK


cdef int walk(RecordWalk* w, RecordView* record, int64_t* offset,
              int64_t* timestamp) noexcept nogil:
    """The next record that counts, with its offset and the time a consumer sees.

    RECORD_BROKEN where the records do not come to what the header says; ``least`` tells where.
    """
    cdef int64_t at
    while w.i < w.count:
        if next_record(&w.r, record) != RECORD_OK:
            return RECORD_BROKEN
        # The last record is only given out if nothing follows it: once all offsets of a batch are
        # delivered, no later run would come back to a batch that has more than it says (INV-16).
        if w.i == w.count - 1 and left(&w.r) != 0:
            return RECORD_BROKEN
        # Where nothing is missing, its place tells a record's offset: some old clients wrote
        # deltas that do not, and brokers pass over those of uncompressed records.
        at = w.base + (w.i if w.dense else record.offset_delta)
        if at < w.least or at > w.behind - (w.count - w.i):
            return RECORD_BROKEN
        if 0 <= w.end <= at:
            return WALK_OVER
        w.i += 1
        w.least = at + 1
        if at < w.first:
            continue
        offset[0] = at
        timestamp[0] = w.max_timestamp if w.append_time else record_time(
            w.base_timestamp, record.timestamp_delta)
        return RECORD_OK
    return WALK_DONE


cdef class RecordWriter:
    """Records one after another, as the payload of a batch v2 before compression.

    Offsets are consecutive; the first record's time is the base of all. One writer serves one
    batch after another: its memory is kept.
    """

    def __cinit__(self):
        self.buffer = Writer(1 << 16)
        self.reset()

    cdef void reset(self) noexcept nogil:
        """Begin the next batch; the payload of the one before is gone."""
        clear(self.buffer)
        self.count = 0
        self.base_timestamp = self.max_timestamp = -1

    cdef Py_ssize_t size(self) noexcept nogil:
        """Bytes of the payload so far."""
        return self.buffer.pos

    cdef int add(
        self, int64_t timestamp, const uint8_t* body, Py_ssize_t body_size,
    ) except -1 nogil:
        """Append a record: its time in ms and a body, which is taken as it is.

        Raises ``ValueError`` where the batch would not fit its int32 length, ``MemoryError``; the
        writer then holds what it held before.
        """
        cdef uint64_t delta, number
        if body_size < 0 or body_size > INT32_MAX - HEADER_SIZE - RECORD_FRONT - self.buffer.pos:
            with gil:
                raise ValueError("a batch holds at most 2 GiB")
        self.buffer.reserve(RECORD_FRONT + body_size)
        if self.count == 0:
            self.base_timestamp = self.max_timestamp = timestamp
        elif timestamp > self.max_timestamp:
            self.max_timestamp = timestamp
        delta = zigzag(<int64_t> (<uint64_t> timestamp - <uint64_t> self.base_timestamp))
        number = zigzag(self.count)
        append_uvarint(
            self.buffer, zigzag(1 + uvarint_size(delta) + uvarint_size(number) + body_size)
        )
        append_uvarint(self.buffer, 0)
        append_uvarint(self.buffer, delta)
        append_uvarint(self.buffer, number)
        append_raw(self.buffer, body, body_size)
        self.count += 1
        return 0


cdef void compose_header(
    uint8_t* header, int16_t attributes, int32_t count,
    int64_t base_timestamp, int64_t max_timestamp,
    int64_t producer_id, int16_t producer_epoch, int32_t base_sequence,
    const uint8_t* payload, Py_ssize_t size,
) noexcept nogil:
    """Write the 61 bytes before ``payload`` (as it travels: compressed by ``attributes``' codec).

    ``copycore.batch`` has the layout and what a produced batch has in each field. The CRC is
    computed from the payload: these bytes have no other that could vouch for them.
    """
    store_u64(header, 0)
    store_u32(header + 8, <unsigned int> (HEADER_SIZE - LOG_OVERHEAD + size))
    store_u32(header + 12, 0xFFFFFFFF)
    header[16] = 2
    store_u16(header + 21, <unsigned int> attributes)
    store_u32(header + 23, <unsigned int> (count - 1))
    store_u64(header + 27, <uint64_t> base_timestamp)
    store_u64(header + 35, <uint64_t> max_timestamp)
    store_u64(header + 43, <uint64_t> producer_id)
    store_u16(header + 51, <unsigned int> producer_epoch)
    store_u32(header + 53, <unsigned int> base_sequence)
    store_u32(header + 57, <unsigned int> count)
    store_u32(header + 17, crc_extend(
        crc_extend(0, header + CRC_START, HEADER_SIZE - CRC_START), payload, size,
    ))


cdef object blob(Reader* r):
    """``bytes`` or None, from a reader of a body that was found whole."""
    cdef int32_t n = read_varint32(r)
    cdef const uint8_t* start
    if n == -1:
        return None
    start = take(r, n)
    return <bytes> start[:n]


cdef int check_end(Reader* r, Py_ssize_t number, Py_ssize_t count) except -1:
    """Raise unless ``count`` records were read and nothing is left."""
    if number != count:
        raise ValueError(f"record {number} of {count} is broken")
    if left(r):
        raise ValueError(f"{left(r)} bytes are left behind {count} records")
    return 0


def decode_records(const uint8_t[::1] payload not None, Py_ssize_t count):
    """The ``count`` records of an uncompressed payload as a list of ``Record``.

    Header lists hold ``(key, value)``. Raises ``ValueError`` naming the number of the first record
    that is broken (from 0), or when bytes are left after the last.
    """
    cdef Reader r = reader(&payload[0] if payload.shape[0] else NULL, payload.shape[0])
    cdef Reader body
    cdef RecordView view
    records = []
    while len(records) < count and next_record(&r, &view) == RECORD_OK:
        body = reader(view.body, view.body_size)
        blob(&body)
        value = blob(&body)
        headers = [(blob(&body), blob(&body)) for _ in range(read_varint32(&body))]
        key = None if view.key == NULL else <bytes> view.key[:view.key_size]
        records.append(Record(view.offset_delta, view.timestamp_delta, key, value, headers))
    check_end(&r, len(records), count)
    return records


cdef int add_bytes(RecordWriter writer, int64_t timestamp, bytes body) except -1:
    return writer.add(timestamp, <const uint8_t*> <const char*> body, len(body))


cdef bytes payload_of(RecordWriter writer):
    return <bytes> writer.buffer.data[:writer.size()]


def encode_records(entries):
    """The payload of records given as ``(timestamp, body)``; bodies are not checked.

    Raises ``ValueError`` where a batch would be longer than its length field can say.
    """
    cdef RecordWriter writer = RecordWriter()
    for timestamp, body in entries:
        add_bytes(writer, timestamp, body)
    return payload_of(writer)


def encode_batches(
    groups, int64_t producer_id, int16_t producer_epoch, int32_t base_sequence,
    int16_t attributes=0,
):
    """A whole uncompressed batch for each group of ``(timestamp, body)``, by one writer."""
    cdef RecordWriter writer = RecordWriter()
    cdef uint8_t[HEADER_SIZE] header
    batches = []
    for entries in groups:
        writer.reset()
        for timestamp, body in entries:
            add_bytes(writer, timestamp, body)
        compose_header(
            header, attributes, writer.count, writer.base_timestamp, writer.max_timestamp,
            producer_id, producer_epoch, base_sequence, writer.buffer.data, writer.size(),
        )
        batches.append(<bytes> header[:HEADER_SIZE] + payload_of(writer))
    return batches


def rewrite_records(
    const uint8_t[::1] payload not None, Py_ssize_t count, int64_t base_timestamp,
):
    """The payload with every record read and written again, at consecutive offsets.

    What re-batching does between two codecs, for the benchmark and the fuzz target. Raises
    ``ValueError`` as ``decode_records`` does.
    """
    cdef Reader r = reader(&payload[0] if payload.shape[0] else NULL, payload.shape[0])
    cdef RecordWriter writer = RecordWriter()
    cdef RecordView view
    cdef Py_ssize_t number = 0
    with nogil:
        while number < count and next_record(&r, &view) == RECORD_OK:
            writer.add(record_time(base_timestamp, view.timestamp_delta), view.body, view.body_size)
            number += 1
    check_end(&r, number, count)
    return payload_of(writer)
