from libc.stdint cimport int32_t, int64_t, uint8_t

from copycore.records cimport RecordWalk


cdef struct Routed:
    # One record on its way from a source batch to a branch; the pointers are the batch's.
    int64_t offset         # of the source
    int64_t timestamp      # ms
    const uint8_t* body
    Py_ssize_t body_size
    const uint8_t* key
    Py_ssize_t key_size    # −1 for null
    int32_t target


cdef class Stride:
    cdef readonly int64_t start        # source offsets
    cdef readonly int64_t end
    cdef readonly list counters        # of all branches, at its end
    cdef int64_t left                  # batches that are not on the target yet


cdef class Split:
    cdef readonly list counters
    cdef readonly list have
    cdef int kind                      # of copycore.partitioner; −1 for a function
    cdef object function
    cdef Routed* entries
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity

    cdef int reserve(self, Py_ssize_t more) except -1
    cdef int collect(self, RecordWalk* w) except -2
    cdef int add_body(self, int64_t offset, int64_t timestamp, const uint8_t* body,
                      Py_ssize_t size) except -1
    cdef int route(self, int32_t source_partition) except -1
