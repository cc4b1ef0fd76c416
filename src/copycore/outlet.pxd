from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t

from copycore.branch cimport Branch, Item
from copycore.frames cimport ProduceDecoder, ProduceEncoder
from copycore.lane_state cimport LaneState
from copycore.poll cimport Endpoint
from copycore.transport cimport SlabPool


cdef class Request:
    cdef int32_t correlation
    cdef int64_t deadline          # ms
    cdef int64_t sent              # ms, without those the lane had worked until then
    cdef list branches
    cdef dict index                # (topic, partition) -> place in branches and items
    cdef Item* items
    cdef int32_t count

    cdef void release(self, SlabPool pool)


cdef class Outlet(Endpoint):
    cdef LaneState state
    cdef object pipe
    cdef SlabPool pool
    cdef list branches
    cdef int turn                  # where the next request starts in branches
    cdef ProduceEncoder encoder
    cdef ProduceDecoder decoder
    cdef object requests           # deque of Request, oldest first
    cdef int32_t correlation
    cdef int64_t not_before
    cdef bint throttled            # by the last answer
    cdef uint8_t* answer
    cdef Py_ssize_t answer_size

    cdef int produce(self, int64_t now) except -1
    cdef list choose_ready(self, int64_t now)
    cdef int produced(self, int64_t now) except -1
    cdef int acknowledge(self, Branch branch, Item* item, int16_t error, int64_t base_offset,
                         str message, int64_t now) except -1
    cdef int doubt(self, Branch branch, const Item* item) except -1
    cdef int read(self, int64_t now) except -1
    cdef int lose(self, str reason) except -1
    cdef int forget_ended(self) except -1
    cdef int check_deadline(self, int64_t now) except -1
    cdef int64_t silence(self, int64_t now) noexcept
    cdef int64_t next_deadline(self, int64_t now)
