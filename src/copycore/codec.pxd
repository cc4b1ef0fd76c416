from libc.stdint cimport uint8_t, uint32_t


cdef enum:
    DEFAULT_LEVEL = -1000      # whatever the codec takes without being told

cdef enum Codec:
    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4

cdef enum Lz4Flag:
    LZ4_INDEPENDENT = 0x20
    LZ4_BLOCK_CHECKSUM = 0x10
    LZ4_CONTENT_SIZE = 0x08
    LZ4_CONTENT_CHECKSUM = 0x04

cdef enum:
    LZ4_STORED = 0x80000000    # in a block's size: it is not compressed

cdef struct Lz4Frame:
    int flags
    int block_id               # 4 to 7
    Py_ssize_t blocks          # where the header ends
    Py_ssize_t end
    Py_ssize_t bound           # of its content

cdef inline Py_ssize_t lz4_block_size(int block_id) noexcept nogil:
    """64 KiB to 4 MiB."""
    return <Py_ssize_t> 1 << 2 * block_id + 8


cdef int walk_lz4(const uint8_t* data, Py_ssize_t size, Lz4Frame* frame) except -1
cdef bytes lz4_header(int flags, int block_id)
cdef bytes decompress(int codec, const uint8_t* data, Py_ssize_t size, Py_ssize_t limit)
cdef bytes compress(int codec, const uint8_t* data, Py_ssize_t size, int level)
