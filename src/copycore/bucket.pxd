cdef class Bucket:
    cdef readonly double rate
    cdef readonly double burst
    cdef double level
    cdef double filled_at
    cdef object lock

    cdef double wait(self, double now)
    cdef int spend(self, double amount) except -1
