from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint64_t

from copycore.cursor cimport Reader, Writer


cdef struct RecordView:
    const uint8_t* body        # from the key's length to the end of the headers
    Py_ssize_t body_size
    int64_t timestamp_delta    # ms, to the batch's base timestamp
    int32_t offset_delta
    int8_t attributes
    const uint8_t* key         # NULL for a null key
    Py_ssize_t key_size        # -1 for a null key

cdef enum RecordOutcome:
    RECORD_OK = 1
    RECORD_BROKEN = -1         # its lengths contradict each other or the bytes that are left
    WALK_DONE = 2              # no record is left
    WALK_OVER = 3              # the next one is not before the end


cdef int next_record(Reader* r, RecordView* out) noexcept nogil


cdef struct RecordWalk:
    # Through the records of a batch v2; see walk().
    Reader r
    int32_t i              # of the next record
    int32_t count
    int64_t base           # offset of the batch
    int64_t behind         # and the one after it
    int64_t least          # that the next record may have
    int64_t first          # records before this offset are passed over
    int64_t end            # and the walk ends before this one; −1 does not
    bint dense
    bint append_time
    int64_t base_timestamp
    int64_t max_timestamp

cdef int walk(RecordWalk* w, RecordView* record, int64_t* offset, int64_t* timestamp) noexcept nogil


cdef inline int64_t record_time(int64_t base_timestamp, int64_t delta) noexcept nogil:
    """Base plus delta, wrapping as in Java: a hostile delta may lead out of the int64."""
    return <int64_t> (<uint64_t> base_timestamp + <uint64_t> delta)


cdef class RecordWriter:
    cdef Writer buffer                    # the payload so far
    cdef readonly int32_t count
    cdef readonly int64_t base_timestamp  # ms, of the first record; −1 before it
    cdef readonly int64_t max_timestamp   # ms; −1 before the first record

    cdef int add(self, int64_t timestamp, const uint8_t* body, Py_ssize_t body_size) except -1 nogil
    cdef void reset(self) noexcept nogil
    cdef Py_ssize_t size(self) noexcept nogil


cdef void compose_header(
    uint8_t* header, int16_t attributes, int32_t count,
    int64_t base_timestamp, int64_t max_timestamp,
    int64_t producer_id, int16_t producer_epoch, int32_t base_sequence,
    const uint8_t* payload, Py_ssize_t size,
) noexcept nogil
