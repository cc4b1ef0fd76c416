from libc.stdint cimport int64_t


cdef class Allowance:
    cdef readonly int64_t records_left
    cdef readonly int64_t bytes_left
    cdef readonly tuple refused
    cdef object lock

    cpdef bint take(self, int64_t records, int64_t size) except -1
