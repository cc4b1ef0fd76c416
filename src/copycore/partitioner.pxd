from libc.stdint cimport int32_t, uint8_t, uint64_t


cdef enum PartitionerKind:
    KEEP = 0
    MURMUR2 = 1
    CONSISTENT = 2
    FNV1A = 3
    MODULO = 4


cdef int32_t choose(
    int kind, const uint8_t* key, Py_ssize_t key_size, int32_t source_partition,
    uint64_t record_number, int32_t partitions
) noexcept nogil
