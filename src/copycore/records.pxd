from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from copycore.cursor cimport Reader


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


cdef int next_record(Reader* r, RecordView* out) noexcept nogil
