from libc.stdint cimport int32_t, int64_t

from copycore.lane_state cimport LaneState
from copycore.poll cimport Poll


cdef class Lane:
    cdef LaneState state
    cdef list pipes
    cdef Poll poll
    cdef int32_t pause_limit       # ms
    cdef int64_t stepped_at        # ms; −1 before the first step

    cdef bint notice_pause(self, int64_t now, int64_t waited) except -1
    cdef int drop_broken_pipes(self) except -1
