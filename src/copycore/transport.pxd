from libc.stdint cimport int32_t, uint8_t

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void* iov_base
        size_t iov_len


cdef enum Progress:
    PENDING = 0     # the socket would block
    COMPLETE = 1    # everything sent, or a whole frame received
    BODY_WANTED = 2  # a length prefix arrived: call expect() with room for the body
    BROKEN = -1     # closed or failed; see Channel.error


cdef enum Readiness:
    READ = 1
    WRITE = 2


cdef struct Slab:
    # A receive buffer, shared by the batches of one response; back to its pool at zero.
    uint8_t* data
    Py_ssize_t capacity
    int32_t references
    Slab* next


cdef class SlabPool:
    cdef Slab* free_slabs
    cdef readonly Py_ssize_t slab_size
    cdef readonly Py_ssize_t in_use        # bytes handed out
    cdef readonly Py_ssize_t limit         # bytes

    cdef bint has_room(self) noexcept
    cdef Slab* borrow(self, Py_ssize_t size) except NULL
    cdef Slab* keep(self, const void* data, Py_ssize_t size) except NULL
    cdef void release(self, Slab* slab) noexcept


cdef class Channel:
    cdef object sock
    cdef readonly int fd
    cdef readonly str error
    cdef iovec* out
    cdef int out_capacity
    cdef int out_count
    cdef int out_next
    cdef uint8_t[4] prefix
    cdef int prefix_got
    cdef int32_t body_size
    cdef int32_t body_got
    cdef uint8_t* body

    cdef bint sending(self) noexcept
    cdef int interest(self, bint reading) noexcept
    cdef bint buffered(self) noexcept
    cdef int queue(self, const void* data, size_t size) except -1
    cdef int push(self) except -2
    cdef int expect(self, uint8_t* body) except -1
    cdef int pull(self) except -2
    cdef int shut(self, str reason) except -1


cdef Channel as_channel(object connection)
