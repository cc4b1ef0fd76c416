"""Which of a target topic's partitions a record goes to.

========== ======================================================= ==============================
kind       partition of a record with a key                        as
========== ======================================================= ==============================
keep       that of the source
murmur2    (murmur2(key) & 0x7fffffff) mod n                       Java's producer, librdkafka's
                                                                   murmur2 and murmur2_random
consistent crc32(key) mod n                                        librdkafka's consistent and
                                                                   consistent_random, its default
fnv1a      abs(int32(fnv1a(key))) mod n                            librdkafka's fnv1a and
                                                                   fnv1a_random; Sarama's default
modulo     that of the source mod n
========== ======================================================= ==============================

An empty key is a key. (librdkafka's consistent_random alone spreads it as if there were none.)

Producers send a record without a key anywhere, and stay with a partition for a while so that
batches grow. Here nothing but the record's place in the source decides, so that a copy that was
interrupted decides alike when it goes on: ``KEYLESS_RUN`` consecutive record numbers go to one
partition and the next run to the next, beginning at another partition for every source partition.
Numbers may have holes; an offset will do.
"""

from array import array

from cpython cimport array as arrays
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

KINDS = ("keep", "murmur2", "consistent", "fnv1a", "modulo")

# 100 KiB of 100-byte records, 1 MiB of 1 KiB ones: large batches, and yet spread soon.
cdef uint64_t KEYLESS_RUN = 1024

cdef uint32_t[256] CRC_TABLE


cdef void make_crc_table() noexcept nogil:
    """CRC-32 as zlib has it: the polynomial 0x04C11DB7, bits reversed."""
    cdef uint32_t value
    cdef int byte
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0xEDB88320u if value & 1 else 0)
        CRC_TABLE[byte] = value

make_crc_table()


cdef uint32_t murmur2(const uint8_t* key, Py_ssize_t size) noexcept nogil:
    """``org.apache.kafka.common.utils.Utils.murmur2``, seed included."""
    cdef uint32_t m = 0x5BD1E995u
    cdef uint32_t h = 0x9747B28Cu ^ <uint32_t> size
    cdef uint32_t k
    cdef Py_ssize_t i, whole = size & ~<Py_ssize_t> 3
    for i in range(0, whole, 4):
        k = key[i] | <uint32_t> key[i + 1] << 8 | <uint32_t> key[i + 2] << 16
        k = (k | <uint32_t> key[i + 3] << 24) * m
        h = (h * m) ^ ((k ^ (k >> 24)) * m)
    if size > whole:
        for i in range(whole, size):
            h ^= <uint32_t> key[i] << 8 * (i - whole)
        h *= m
    h = (h ^ (h >> 13)) * m
    return h ^ (h >> 15)


cdef uint32_t crc32(const uint8_t* key, Py_ssize_t size) noexcept nogil:
    cdef uint32_t crc = 0xFFFFFFFFu
    cdef Py_ssize_t i
    for i in range(size):
        crc = CRC_TABLE[(crc ^ key[i]) & 0xFF] ^ (crc >> 8)
    return ~crc


cdef uint32_t fnv1a(const uint8_t* key, Py_ssize_t size) noexcept nogil:
    """``rd_fnv1a``: FNV-1a of 32 bits, then the absolute value of what it is as an int32. That of
    −2^31 is 2^31, as in Sarama, where the sign is taken off the remainder."""
    cdef uint32_t h = 0x811C9DC5u
    cdef Py_ssize_t i
    for i in range(size):
        h = (h ^ key[i]) * 0x01000193u
    return ~h + 1 if h >> 31 else h


cdef int32_t choose(
    int kind, const uint8_t* key, Py_ssize_t key_size, int32_t source_partition,
    uint64_t record_number, int32_t partitions
) noexcept nogil:
    """A partition of ``partitions``, which is above 0; ``source_partition`` is no less than 0.

    ``key_size`` is −1 for a null key, and only its ``key`` may be NULL. ``keep`` gives the source
    partition, whether the target has it or not.
    """
    cdef uint32_t n = <uint32_t> partitions
    if kind == KEEP:
        return source_partition
    if kind == MODULO:
        return source_partition % partitions
    if key_size < 0:
        return <int32_t> ((<uint64_t> source_partition + record_number // KEYLESS_RUN) % n)
    if kind == MURMUR2:
        return <int32_t> ((murmur2(key, key_size) & 0x7FFFFFFFu) % n)
    if kind == CONSISTENT:
        return <int32_t> (crc32(key, key_size) % n)
    return <int32_t> (fnv1a(key, key_size) % n)


def choose_all(int kind, keys, const uint64_t[::1] numbers not None, int32_t source_partition,
               int32_t partitions):
    """The partition of every record of a batch, as ``array('i')``.

    ``kind`` is an index into ``KINDS``; ``keys`` are ``bytes`` or None; ``numbers`` the records'
    numbers in their source partition, a buffer of uint64. Raises ``ValueError`` on a kind not
    known, on another count of numbers than of keys, and on partitions that cannot be.
    """
    cdef Py_ssize_t i, size
    cdef bytes key
    cdef const uint8_t* data
    cdef arrays.array chosen = arrays.clone(array("i"), len(keys), zero=False)
    if not 0 <= kind < len(KINDS):
        raise ValueError(f"partitioner {kind} is not known")
    if numbers.shape[0] != len(keys):
        raise ValueError("as many record numbers as keys are needed")
    if source_partition < 0 or partitions < 1:
        raise ValueError("a source partition of no less than 0, a target of 1 or more")
    for i in range(numbers.shape[0]):
        key = keys[i]
        data, size = NULL, -1
        if key is not None:
            data, size = <const uint8_t*> <const char*> key, len(key)
        chosen.data.as_ints[i] = choose(
            kind, data, size, source_partition, numbers[i], partitions
        )
    return chosen


def hash_key(int kind, const uint8_t[::1] key not None):
    """What ``choose`` takes the remainder of, but for murmur2's sign bit, which it drops.

    Raises ``ValueError`` on a kind that does not hash.
    """
    cdef Py_ssize_t size = key.shape[0]
    cdef const uint8_t* data = &key[0] if size else NULL
    if kind == MURMUR2:
        return murmur2(data, size)
    if kind == CONSISTENT:
        return crc32(data, size)
    if kind == FNV1A:
        return fnv1a(data, size)
    raise ValueError(f"partitioner {kind} does not hash keys")
