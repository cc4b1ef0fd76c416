from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t

from copycore.cursor cimport Reader, Writer


cdef enum Api:
    PRODUCE = 0
    FETCH = 1


cdef struct FetchedPartition:
    int32_t partition
    int16_t error
    int64_t high_watermark
    int64_t last_stable_offset
    int64_t log_start_offset
    int32_t aborted_count
    int32_t preferred_replica
    const uint8_t* records
    int32_t records_size
    bint diverged          # the log is not the one that the asked offset and epoch belong to


cdef struct AbortedTransaction:
    int64_t producer_id
    int64_t first_offset


cdef struct ProducedPartition:
    int32_t partition
    int16_t error
    int64_t base_offset
    int64_t log_start_offset


cdef class FetchEncoder:
    """One Fetch request (api 1, versions 11–13), partition by partition."""
    cdef Writer out
    cdef int16_t version
    cdef bint flexible

    cdef int begin(self, int32_t correlation_id, bytes client_id, int32_t max_wait_ms,
                   int32_t min_bytes, int32_t max_bytes, bint read_committed,
                   int32_t topics) except -1
    cdef int topic(self, bytes name, bytes topic_id, int32_t partitions) except -1
    cdef int partition(self, int32_t partition, int32_t leader_epoch, int64_t offset,
                       int32_t fetched_epoch, int32_t max_bytes) except -1
    cdef int end_topic(self) except -1
    cdef int end(self) except -1


cdef class FetchDecoder:
    """Walks one Fetch response; the strings and records it yields point into the response."""
    cdef Reader r
    cdef int16_t version
    cdef bint flexible
    cdef readonly int32_t throttle_ms
    cdef readonly int16_t error
    cdef int32_t topics_left
    cdef int32_t partitions_left
    cdef AbortedTransaction* aborted
    cdef int32_t aborted_capacity

    cdef int open(self, const uint8_t* data, Py_ssize_t size, int16_t version) except -1
    cdef bytes next_topic(self)
    cdef bint next_partition(self, FetchedPartition* out) except -1


cdef class ProduceEncoder:
    """One Produce request (api 0, versions 7–9) around payloads that stay where they are."""
    cdef Writer out
    cdef int16_t version
    cdef bint flexible
    cdef set seen
    cdef Py_ssize_t payload_bytes
    cdef object current_topic

    cdef int begin(self, int32_t correlation_id, bytes client_id, int32_t timeout_ms,
                   int32_t topics) except -1
    cdef int topic(self, bytes name, int32_t partitions) except -1
    cdef int partition(self, int32_t partition, const uint8_t* header,
                       Py_ssize_t payload) except -1
    cdef int end_partition(self) except -1
    cdef int end_topic(self) except -1
    cdef int end(self) except -1


cdef class ProduceDecoder:
    """Walks one Produce response."""
    cdef Reader r
    cdef int16_t version
    cdef bint flexible
    cdef readonly int32_t throttle_ms
    cdef int32_t topics_left
    cdef int32_t partitions_left
    cdef bytes message

    cdef int open(self, const uint8_t* data, Py_ssize_t size, int16_t version) except -1
    cdef bytes next_topic(self)
    cdef bint next_partition(self, ProducedPartition* out) except -1
    cdef int finish(self) except -1
