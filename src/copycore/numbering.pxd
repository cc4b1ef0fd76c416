from libc.stdint cimport int32_t, int64_t, uint8_t

from copycore.batch cimport BatchView
from copycore.branch cimport Branch, Item
from copycore.builder cimport Builder, Draft
from copycore.records cimport RecordWalk, RecordWriter
from copycore.segments cimport Segments
from copycore.split cimport Split, Stride
from copycore.transport cimport Slab


cdef class Numbering:
    cdef list branches
    cdef bint passes           # batches may go on as they are

    cdef int64_t next_stride(self) noexcept
    cdef int gate_epoch(self, int64_t position, Segments segments) except -1
    cdef int pass_batch(self, const BatchView* view, Slab* slab, Builder builder,
                        Segments segments) except -1
    cdef int move_records(self, RecordWalk* w, const BatchView* view, Builder builder,
                          Segments segments) except -2
    cdef int move_message(self, int64_t offset, int64_t timestamp, bytes body, Builder builder,
                          Segments segments) except -1
    cdef int end_messages(self, Builder builder) except -1
    cdef bint keep_stride(self, Stride stride, int64_t end) except -1
    cdef int64_t arrived(self, const Item* item, int64_t acked) except -1


cdef class KeptNumbering(Numbering):
    cdef Branch only
    cdef int64_t expected_source    # source offset at which the present segment goes on
    cdef object known               # deque of the durable segments ahead, as (source, counter)
    cdef int64_t next_known         # the counter at which the first of them begins

    cdef int map_records(self, int64_t offset, int32_t count, int64_t counter,
                         Segments segments) except -1
    cdef int put(self, Branch branch, Draft draft, RecordWriter records, int64_t offset,
                 int64_t timestamp, const uint8_t* body, Py_ssize_t body_size,
                 Segments segments) except -1 nogil


cdef class SplitNumbering(Numbering):
    cdef int32_t source_partition
    cdef Split split
    cdef object strides             # deque of the strides that are not all on the target
    cdef int64_t first_stride       # number of the first of them

    cdef int distribute(self, Builder builder) except -1
