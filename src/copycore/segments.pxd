from libc.stdint cimport int64_t


cdef class Segments:
    cdef int64_t* source
    cdef int64_t* counter
    cdef readonly Py_ssize_t size
    cdef Py_ssize_t capacity

    cdef readonly int64_t gate

    cdef void begin_gate(self, int64_t source) noexcept nogil
    cdef int add(self, int64_t source, int64_t counter) except -1 nogil
    cdef int grow(self, Py_ssize_t capacity) except -1 nogil
