"""Record batch v2: header view, classification, cutting, and the header rewrite.

Layout (KIP-98, ``org.apache.kafka.common.record.DefaultRecordBatch``), big-endian:

====== ==== ==================== =========================================
offset size field                in a produced batch
====== ==== ==================== =========================================
0      8    base offset          0
8      4    length               bytes after this field
12     4    partition leader ep. −1 (the broker sets it)
16     1    magic                2
17     4    CRC-32C              over 21 … end
21     2    attributes           bits 0–2 codec, 3 LogAppendTime, 4 transactional,
                                 5 control, 6 delete horizon; 3–6 cleared
23     4    last offset delta
27     8    base timestamp
35     8    max timestamp
43     8    producer id          ours
51     2    producer epoch       ours
53     4    base sequence        counter mod 2^31
57     4    record count
61     …    records              never looked at, never copied
====== ==== ==================== =========================================

The CRC is transformed, never recomputed from the payload. CRC-32C is linear, so replacing the 40
covered header bytes changes it by ``shift(crc(old 40) xor crc(new 40), payload length)``. A byte
damaged between the source's producer and the target broker therefore still fails the target's
check.
"""

from libc.stdint cimport (
    INT64_MAX, int16_t, int32_t, int64_t, uint8_t, uint32_t,
)
from libc.string cimport memcpy

from copycore.crc32c cimport crc_extend, crc_shift
from copycore.cursor cimport (
    Reader, left, read_i8, read_i16, read_i32, read_i64, read_u32, read_varint, reader,
    store_u16, store_u32, store_u64, take,
)

KINDS = (
    "dense", "gapped", "empty", "control", "log-append-time", "old-magic", "unknown-codec",
    "malformed",
)
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


cdef int classify(const BatchView* v) noexcept nogil:
    """What can be done with a batch, from its header alone. Needs every field but ``kind``."""
    if v.base_offset < 0 or v.next_offset <= v.base_offset or v.magic < 0 or v.magic > 2:
        return MALFORMED
    if v.magic < 2:
        return OLD_MAGIC
    if v.count < 0 or <int64_t> v.count > <int64_t> v.last_offset_delta + 1:
        return MALFORMED
    if v.attributes & CONTROL_BIT:
        return CONTROL
    if v.attributes & TRANSACTIONAL_BIT and v.producer_id < 0:
        return MALFORMED
    if v.count == 0:
        return EMPTY
    if v.attributes & CODEC_BITS > 4:
        return UNKNOWN_CODEC
    if v.count != <int64_t> v.last_offset_delta + 1:
        return GAPPED
    if v.attributes & TIMESTAMP_TYPE_BIT:
        return LOG_APPEND_TIME
    return DENSE


cdef int cut(Reader* slice_, BatchView* out) noexcept nogil:
    """Cut the next whole batch off a fetched slice, which may end in a partial one.

    ``out.kind`` is MALFORMED when the frame is whole but its fields contradict each other.
    """
    cdef Reader head
    cdef int32_t length
    cdef Py_ssize_t rest = left(slice_)
    if rest < LOG_OVERHEAD:
        return CUT_END
    out.data = slice_.data + slice_.pos
    head = reader(out.data, rest)
    out.base_offset = read_i64(&head)
    length = read_i32(&head)
    if length < LEGACY_SIZE - LOG_OVERHEAD:
        return CUT_BROKEN
    out.size = <Py_ssize_t> length + LOG_OVERHEAD
    if out.size > rest:
        return CUT_END
    head.end = out.size
    out.leader_epoch = read_i32(&head)
    out.magic = read_i8(&head)
    if out.magic == 2:
        out.crc = read_u32(&head)
        out.attributes = read_i16(&head)
        out.last_offset_delta = read_i32(&head)
        out.base_timestamp = read_i64(&head)
        out.max_timestamp = read_i64(&head)
        out.producer_id = read_i64(&head)
        out.producer_epoch = read_i16(&head)
        out.base_sequence = read_i32(&head)
        out.count = read_i32(&head)
    else:
        # A v0/v1 wrapper's offset is that of its last inner message.
        out.crc = 0
        out.attributes = 0
        out.last_offset_delta = 0
        out.base_timestamp = out.max_timestamp = -1
        out.producer_id = -1
        out.producer_epoch = -1
        out.base_sequence = -1
        out.count = 1
    out.next_offset = out.base_offset
    if (not head.failed and out.base_offset >= 0 and out.last_offset_delta >= 0
            and out.base_offset < INT64_MAX - <int64_t> out.last_offset_delta):
        out.next_offset += <int64_t> out.last_offset_delta + 1
    out.kind = classify(out)
    take(slice_, out.size)
    return CUT_BATCH


cdef bint crc_matches(const BatchView* view) noexcept nogil:
    """Whether a magic-2 batch's CRC is that of its bytes."""
    return crc_extend(0, view.data + CRC_START, view.size - CRC_START) == view.crc


cdef int control_type(const BatchView* view) noexcept nogil:
    """The type of a control batch's marker: 0 abort, 1 commit, −1 when it is neither.

    The control record's key is int16 version, int16 type (KIP-98); a control batch holds one
    uncompressed record: length, attributes, timestamp delta, offset delta, key length, key.
    """
    cdef Reader r
    cdef int16_t version, kind
    cdef int64_t size
    if view.kind != CONTROL or view.count != 1 or view.attributes & CODEC_BITS:
        return -1
    r = reader(view.data + HEADER_SIZE, view.size - HEADER_SIZE)
    size = read_varint(&r)
    if size != left(&r):
        return -1
    read_i8(&r)
    read_varint(&r)
    read_varint(&r)
    size = read_varint(&r)
    if size < 4 or size > left(&r):
        return -1
    version = read_i16(&r)
    kind = read_i16(&r)
    if r.failed or version < 0 or kind < 0 or kind > 1:
        return -1
    return kind


cdef void rewrite(
    const BatchView* view, uint8_t* header,
    int64_t producer_id, int16_t producer_epoch, int32_t base_sequence,
) noexcept nogil:
    """Write the header for the target over ``header`` (61 bytes), CRC transformed."""
    cdef uint32_t difference
    memcpy(header, view.data, HEADER_SIZE)
    store_u64(header, 0)
    store_u32(header + 12, 0xFFFFFFFF)
    store_u16(
        header + 21,
        <uint32_t> (
            view.attributes
            & ~(TIMESTAMP_TYPE_BIT | TRANSACTIONAL_BIT | CONTROL_BIT | DELETE_HORIZON_BIT)
        ),
    )
    store_u64(header + 43, <unsigned long long> producer_id)
    store_u16(header + 51, <uint32_t> producer_epoch)
    store_u32(header + 53, <uint32_t> base_sequence)
    difference = (
        crc_extend(0, view.data + CRC_START, HEADER_SIZE - CRC_START)
        ^ crc_extend(0, header + CRC_START, HEADER_SIZE - CRC_START)
    )
    store_u32(header + 17, view.crc ^ crc_shift(difference, view.size - HEADER_SIZE))


cdef class Batch:
    """One whole batch of a slice, as read-only fields; ``position`` and ``size`` in bytes."""
    cdef BatchView view
    cdef const uint8_t[::1] owner
    cdef readonly Py_ssize_t position

    @property
    def size(self):
        return self.view.size

    @property
    def kind(self):
        """One of ``KINDS``."""
        return KINDS[self.view.kind]

    @property
    def base_offset(self):
        return self.view.base_offset

    @property
    def next_offset(self):
        """One past the last offset the batch spans."""
        return self.view.next_offset

    @property
    def leader_epoch(self):
        return self.view.leader_epoch

    @property
    def magic(self):
        return self.view.magic

    @property
    def crc(self):
        return self.view.crc

    @property
    def attributes(self):
        return self.view.attributes

    @property
    def codec(self):
        """One of ``CODECS``, or None for an unknown one."""
        cdef int codec = self.view.attributes & CODEC_BITS
        return CODECS[codec] if codec < 5 else None

    @property
    def is_transactional(self):
        return bool(self.view.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self):
        return bool(self.view.attributes & CONTROL_BIT)

    @property
    def has_delete_horizon(self):
        return bool(self.view.attributes & DELETE_HORIZON_BIT)

    @property
    def has_log_append_time(self):
        return bool(self.view.attributes & TIMESTAMP_TYPE_BIT)

    @property
    def last_offset_delta(self):
        return self.view.last_offset_delta

    @property
    def base_timestamp(self):
        """Milliseconds; the delete horizon where ``has_delete_horizon``."""
        return self.view.base_timestamp

    @property
    def max_timestamp(self):
        return self.view.max_timestamp

    @property
    def producer_id(self):
        return self.view.producer_id

    @property
    def producer_epoch(self):
        return self.view.producer_epoch

    @property
    def base_sequence(self):
        return self.view.base_sequence

    @property
    def count(self):
        return self.view.count

    def crc_matches(self):
        """Whether the stored CRC is that of the bytes; False for anything but magic 2."""
        return self.view.magic == 2 and bool(crc_matches(&self.view))

    def control_type(self):
        """0 abort marker, 1 commit marker, −1 neither."""
        return control_type(&self.view)

    def rewritten_header(self, int64_t producer_id, int16_t producer_epoch, int64_t counter):
        """The 61 header bytes to produce with; ``counter`` numbers the batch's first record."""
        cdef uint8_t[HEADER_SIZE] header
        if self.view.kind != DENSE:
            raise ValueError(f"a {self.kind} batch cannot be passed through")
        rewrite(&self.view, header, producer_id, producer_epoch,
                <int32_t> (counter & SEQUENCE_MASK))
        return <bytes> header[:HEADER_SIZE]


def cut_slice(const uint8_t[::1] data not None):
    """Cut a fetched slice: ``(batches, tail)``, tail being the bytes of a partial last batch.

    Raises ``ValueError`` when a length field makes no sense, naming its position.
    """
    cdef Reader r = reader(&data[0] if data.shape[0] else NULL, data.shape[0])
    cdef Batch batch
    cdef int result
    batches = []
    while True:
        batch = Batch.__new__(Batch)
        batch.owner = data
        batch.position = r.pos
        result = cut(&r, &batch.view)
        if result == CUT_BATCH:
            batches.append(batch)
        elif result == CUT_END:
            return batches, left(&r)
        else:
            raise ValueError(f"batch at byte {r.pos} has an impossible length")


def rewrite_slice(const uint8_t[::1] data not None, int64_t producer_id, int64_t counter):
    """Cut, classify and rewrite every dense batch of a slice; returns how many.

    What a lane does to a slice between its sockets, for the benchmark and the fuzz target.
    """
    cdef Reader r = reader(&data[0] if data.shape[0] else NULL, data.shape[0])
    cdef BatchView view
    cdef uint8_t[HEADER_SIZE] header
    cdef Py_ssize_t done = 0
    with nogil:
        while cut(&r, &view) == CUT_BATCH:
            if view.kind == DENSE:
                rewrite(&view, header, producer_id, 0, <int32_t> (counter & SEQUENCE_MASK))
                counter += view.count
                done += 1
    return done
