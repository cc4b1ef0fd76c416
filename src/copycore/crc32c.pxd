from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef uint32_t crc_extend(uint32_t crc, const uint8_t* data, size_t n) noexcept nogil
cdef uint32_t crc_shift(uint32_t register, uint64_t nbytes) noexcept nogil
