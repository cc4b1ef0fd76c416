from copycore.pipe cimport LaneState


cdef class Lane:
    cdef LaneState state
    cdef list pipes
    cdef int wake_fd

    cdef int drop_broken_pipes(self) except -1
