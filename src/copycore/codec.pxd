from libc.stdint cimport uint8_t


cdef enum:
    DEFAULT_LEVEL = -1000      # whatever the codec takes without being told


cdef bytes decompress(int codec, const uint8_t* data, Py_ssize_t size, Py_ssize_t limit)
cdef bytes compress(int codec, const uint8_t* data, Py_ssize_t size, int level)
