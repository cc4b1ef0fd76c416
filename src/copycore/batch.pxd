from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t

from copycore.cursor cimport Reader

cdef enum:
    HEADER_SIZE = 61       # record batch v2 header
    CRC_START = 21         # the CRC covers attributes to the end
    LOG_OVERHEAD = 12      # base offset and length, outside the length
    LEGACY_SIZE = 26       # shortest v0 message with its log overhead
    SEQUENCE_MASK = 0x7FFFFFFF

cdef enum Kind:
    DENSE = 0
    GAPPED = 1
    EMPTY = 2
    CONTROL = 3
    LOG_APPEND_TIME = 4
    OLD_MAGIC = 5
    UNKNOWN_CODEC = 6
    MALFORMED = 7

cdef enum Attribute:
    CODEC_BITS = 0x07
    TIMESTAMP_TYPE_BIT = 0x08
    TRANSACTIONAL_BIT = 0x10
    CONTROL_BIT = 0x20
    DELETE_HORIZON_BIT = 0x40


cdef struct BatchView:
    const uint8_t* data        # first byte of the batch, in the fetched slice
    Py_ssize_t size            # whole batch, log overhead included
    int64_t base_offset
    int64_t next_offset        # one past the last offset the batch spans
    int32_t leader_epoch
    int8_t magic
    uint32_t crc
    int16_t attributes
    int32_t last_offset_delta
    int64_t base_timestamp
    int64_t max_timestamp
    int64_t producer_id
    int16_t producer_epoch
    int32_t base_sequence
    int32_t count
    int kind                   # one of Kind


cdef enum Cut:
    CUT_BATCH = 1              # a whole batch was cut
    CUT_END = 0                # nothing more, or only a partial batch
    CUT_BROKEN = -1            # the length field makes no sense: what follows cannot be found


cdef int cut(Reader* slice_, BatchView* out) noexcept nogil
cdef bint crc_matches(const BatchView* view) noexcept nogil
cdef int control_type(const BatchView* view) noexcept nogil
cdef void rewrite(
    const BatchView* view, uint8_t* header,
    int64_t producer_id, int16_t producer_epoch, int32_t base_sequence,
) noexcept nogil
