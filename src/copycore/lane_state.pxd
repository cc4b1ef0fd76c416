from libc.stdint cimport int32_t, int64_t

from copycore.allowance cimport Allowance
from copycore.branch cimport Branch
from copycore.builder cimport Builder
from copycore.sieve cimport Sieve


cdef enum:
    # ms a broker may make us wait at a time. Kafka does not cap what a quota of bytes asks for: a
    # request of 4 MiB under one of 2 kB/s takes over half an hour. More than an hour is no quota.
    THROTTLE_LIMIT = 3_600_000


cdef class Waited:
    cdef int64_t total          # ms
    cdef int64_t until          # ms of the clock

    cdef int wait(self, int64_t now, int64_t until) except -1
    cdef int64_t by(self, int64_t now) noexcept


cdef class LaneState:
    cdef bytes client_id
    cdef int32_t request_bytes
    cdef int32_t request_timeout
    cdef int32_t poll_wait
    cdef int32_t linger
    cdef Sieve sieve
    cdef Builder builder
    cdef Allowance allowance            # None: the run has no limit
    cdef list events
    cdef int64_t first_ack
    cdef int64_t limited_ms             # waited for the rate limits
    cdef int64_t limited_since          # −1 while nothing waits
    cdef double limited_for             # seconds from then until something may go
    cdef Waited source_quota
    cdef Waited target_quota
    cdef int64_t worked                 # ms the lane was busy itself, instead of waiting
    cdef list latencies                 # ms of Produce requests, since they were last taken

    cdef bint pay_or_wait(self, Branch branch, int64_t now) except -1
    cdef list take_allowance(self, list branches)
