from libc.stdint cimport int32_t, int64_t

from copycore.frames cimport FetchDecoder, FetchEncoder
from copycore.lane_state cimport LaneState
from copycore.partition cimport PartitionCopy
from copycore.poll cimport Endpoint, Poll
from copycore.transport cimport Slab, SlabPool


cdef class Pipe(Endpoint):
    cdef LaneState state
    cdef list outlets
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
    cdef int64_t throttled_until   # ms, by the source's quota
    cdef int64_t lingers_until     # ms, so that records gather at the source
    cdef int64_t idle_since        # ms; −1 while it is used
    cdef int64_t retry_at          # ms, when a partition that pauses may be asked for again
    cdef int pausing               # how many pause now
    cdef bint lone_turn            # the last fetch was for a partition alone
    cdef Slab* slab

    cdef int fetch(self, int64_t now) except -1
    cdef Py_ssize_t count_behind(self) noexcept
    cdef Py_ssize_t share(self) noexcept
    cdef Py_ssize_t next_portion(self, PartitionCopy part, Py_ssize_t share) noexcept
    cdef list choose_hungry(self, int64_t now)
    cdef int fetched(self, int64_t now) except -1
    cdef int produce(self, int64_t now) except -1
    cdef int unpin_slabs(self) except -1
    cdef int watch(self, Poll poll) except -1
    cdef int read_source(self, int64_t now) except -1
    cdef int lose_source(self, str reason) except -1
    cdef int settle(self) except -1
    cdef int check_deadlines(self, int64_t now) except -1
    cdef int close_idle(self, int64_t now) except -1
    cdef int64_t silence(self, int64_t now) noexcept
    cdef int64_t next_deadline(self, int64_t now)
