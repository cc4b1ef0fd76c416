from libc.stdint cimport int64_t

from copycore.transport cimport Channel

cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents


cdef class Endpoint:
    cdef Channel channel

    cdef int interest(self) noexcept
    cdef int advance(self, int ready, int64_t now) except -1


cdef class Poll:
    cdef int wake_fd
    cdef list endpoints            # each has one of fds, from the second on
    cdef pollfd* fds
    cdef Py_ssize_t capacity
    cdef bint buffered             # one of them has bytes that no socket will tell of

    cdef int wake(self) except -1
    cdef int begin(self) except -1
    cdef int add(self, Endpoint endpoint) except -1
    cdef int wait(self, int64_t timeout) except -1
    cdef int advance(self, int64_t now) except -1
