from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t

from copycore.allowance cimport Allowance
from copycore.frames cimport FetchDecoder, FetchEncoder, ProduceDecoder, ProduceEncoder
from copycore.partition cimport Item, PartitionCopy
from copycore.rebatch cimport Rebatcher
from copycore.transport cimport Channel, Slab, SlabPool


cdef class LaneState:
    cdef bytes client_id
    cdef bint read_committed
    cdef bint check_crc
    cdef int32_t request_bytes
    cdef int32_t request_timeout
    cdef int32_t poll_wait
    cdef Rebatcher maker
    cdef Allowance allowance            # None: the run has no limit
    cdef list events
    cdef int64_t first_ack
    cdef int64_t limited_ms             # waited for the rate limits
    cdef int64_t limited_since          # −1 while nothing waits
    cdef double limited_for             # seconds from then until something may go
    cdef int64_t source_quota_ms
    cdef int64_t target_quota_ms

    cdef bint held_back(self, PartitionCopy part, int64_t now) except -1
    cdef list allowed(self, list parts)


cdef class Request:
    cdef int32_t correlation
    cdef int64_t deadline          # ms
    cdef list parts
    cdef dict index                # (topic, partition) -> place in parts and items
    cdef Item* items
    cdef int32_t count
    cdef Py_ssize_t size           # bytes

    cdef void release(self, SlabPool pool)


cdef class Pipe:
    cdef LaneState state
    cdef readonly object tag
    cdef Channel source
    cdef Channel target
    cdef SlabPool pool
    cdef Py_ssize_t fetch_bytes    # of records a Fetch may bring; a slab holds that and a margin
    cdef list parts
    cdef int turn                  # where the next fetch starts in parts

    cdef FetchEncoder fetch_out
    cdef FetchDecoder fetch_in
    cdef list fetch_parts          # of the outstanding fetch; None when there is none
    cdef dict fetch_names          # topic name or id -> {partition: PartitionCopy}
    cdef int32_t fetch_correlation
    cdef int64_t fetch_deadline
    cdef int64_t fetch_not_before
    cdef Slab* slab

    cdef ProduceEncoder produce_out
    cdef ProduceDecoder produce_in
    cdef object requests           # deque of Request, oldest first
    cdef int produce_turn
    cdef int32_t produce_correlation
    cdef int64_t produce_not_before
    cdef uint8_t* answer
    cdef Py_ssize_t answer_size

    cdef int fetch(self, int64_t now) except -1
    cdef list choose_hungry(self)
    cdef int fetched(self, int64_t now) except -1
    cdef int produce(self, int64_t now) except -1
    cdef list choose_ready(self, int64_t now)
    cdef int unpin_slabs(self) except -1
    cdef int produced(self, int64_t now) except -1
    cdef int acknowledge(self, PartitionCopy part, Item* item, int16_t error,
                         int64_t base_offset, str message) except -1
    cdef int read_source(self, int64_t now) except -1
    cdef int read_target(self, int64_t now) except -1
    cdef int lose_source(self, str reason) except -1
    cdef int lose_target(self, str reason) except -1
    cdef int settle(self) except -1
    cdef int check_deadlines(self, int64_t now) except -1
    cdef int64_t next_deadline(self, int64_t now)
