"""CRC-32C: extend, combine and shift, on the fastest implementation this machine has.

The value is the usual one (initial value and final xor of all ones), as in a record batch v2
(``org.apache.kafka.common.utils.Crc32C``). CRCs are linear, which is what lets a header be
rewritten without touching the payload: see ``copycore.batch``.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "crc32c_impl.h" nogil:
    void cs_init()
    uint32_t cs_crc32c(uint32_t crc, const uint8_t* data, size_t n)
    uint32_t cs_extend_table(uint32_t register, const uint8_t* data, size_t n)
    uint32_t cs_shift(uint32_t register, uint64_t n)
    const char* cs_extend_name

cs_init()


cdef uint32_t crc_extend(uint32_t crc, const uint8_t* data, size_t n) noexcept nogil:
    return cs_crc32c(crc, data, n)


cdef uint32_t crc_shift(uint32_t register, uint64_t nbytes) noexcept nogil:
    return cs_shift(register, nbytes)


def crc32c(const uint8_t[::1] data not None, uint32_t crc=0):
    """CRC-32C of ``data`` continuing from ``crc``, the CRC of what stands before it."""
    cdef size_t n = <size_t> data.shape[0]
    cdef const uint8_t* start = &data[0] if n else NULL
    with nogil:
        crc = cs_crc32c(crc, start, n)
    return crc


def table_crc32c(const uint8_t[::1] data not None, uint32_t crc=0):
    """The same by the table, whatever the machine has: the fallback, reachable for tests."""
    cdef size_t n = <size_t> data.shape[0]
    cdef const uint8_t* start = &data[0] if n else NULL
    return ~cs_extend_table(~crc, start, n) & 0xFFFFFFFF


def combine(uint32_t crc1, uint32_t crc2, uint64_t length2):
    """CRC of A + B from the CRCs of A and of B and the length of B in bytes."""
    return cs_shift(crc1, length2) ^ crc2


def shift(uint32_t register, uint64_t nbytes):
    """The bare CRC register after ``nbytes`` zero bytes: multiplication by x^(8·nbytes) mod P."""
    return cs_shift(register, nbytes)


def implementation():
    """``"sse4.2"``, ``"armv8"`` or ``"table"``: what ``crc32c`` runs on here."""
    return cs_extend_name.decode("ascii")
