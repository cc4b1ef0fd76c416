"""The bounded reader and writer. Nothing else in copystream reads or writes raw bytes.

A Reader knows its end. A read past it, or a malformed value, sets ``failed`` and yields zero;
every later read then yields zero too, so a caller checks ``failed`` once per unit it decodes,
always before acting on what it read. Counts are checked against the bytes that are left, so no
loop runs on a number a broker made up.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef struct Reader:
    const uint8_t* data
    Py_ssize_t pos
    Py_ssize_t end
    bint failed


cdef inline Reader reader(const uint8_t* data, Py_ssize_t size) noexcept nogil:
    cdef Reader r
    r.data = data
    r.pos = 0
    r.end = size
    r.failed = size < 0
    return r


cdef inline const uint8_t* take(Reader* r, Py_ssize_t n) noexcept nogil:
    """The next n bytes, or NULL with ``failed`` set."""
    cdef const uint8_t* start
    if r.failed or n < 0 or n > r.end - r.pos:
        r.failed = True
        return NULL
    start = r.data + r.pos
    r.pos += n
    return start


cdef inline Py_ssize_t left(Reader* r) noexcept nogil:
    return 0 if r.failed else r.end - r.pos


cdef inline int8_t read_i8(Reader* r) noexcept nogil:
    cdef const uint8_t* p = take(r, 1)
    return 0 if p == NULL else <int8_t> p[0]


cdef inline int16_t read_i16(Reader* r) noexcept nogil:
    cdef const uint8_t* p = take(r, 2)
    return 0 if p == NULL else <int16_t> ((p[0] << 8) | p[1])


cdef inline uint32_t read_u32(Reader* r) noexcept nogil:
    cdef const uint8_t* p = take(r, 4)
    if p == NULL:
        return 0
    return (<uint32_t> p[0] << 24) | (<uint32_t> p[1] << 16) | (<uint32_t> p[2] << 8) | p[3]


cdef inline int32_t read_i32(Reader* r) noexcept nogil:
    return <int32_t> read_u32(r)


cdef inline int64_t read_i64(Reader* r) noexcept nogil:
    cdef uint64_t high = read_u32(r)
    return <int64_t> ((high << 32) | read_u32(r))


cdef inline uint64_t read_uvarint(Reader* r) noexcept nogil:
    """Unsigned LEB128 of at most 64 bits: ten bytes, the tenth at most 1."""
    cdef uint64_t value = 0
    cdef int width = 0
    cdef const uint8_t* p
    while width < 70:
        p = take(r, 1)
        if p == NULL:
            return 0
        if width == 63 and p[0] > 1:
            break
        value |= <uint64_t> (p[0] & 0x7F) << width
        if p[0] < 0x80:
            return value
        width += 7
    r.failed = True
    return 0


cdef inline int64_t read_varint(Reader* r) noexcept nogil:
    """Zigzag: records use it for lengths and deltas."""
    cdef uint64_t raw = read_uvarint(r)
    return <int64_t> ((raw >> 1) ^ (~(raw & 1) + 1))


cdef inline int32_t read_varint32(Reader* r) noexcept nogil:
    """Zigzag that must fit an int32 and five bytes, as Java reads the lengths in a record."""
    cdef Py_ssize_t start = r.pos
    cdef uint64_t raw = read_uvarint(r)
    if raw >> 32 or r.pos - start > 5:
        r.failed = True
        return 0
    return <int32_t> (<uint32_t> (raw >> 1) ^ (~(<uint32_t> raw & 1) + 1))


cdef inline int32_t read_uvarint31(Reader* r) noexcept nogil:
    """An unsigned varint that must fit a non-negative int32 and five bytes."""
    cdef Py_ssize_t start = r.pos
    cdef uint64_t value = read_uvarint(r)
    if value > 0x7FFFFFFF or r.pos - start > 5:
        r.failed = True
        return 0
    return <int32_t> value


cdef inline uint32_t read_le(Reader* r, int width) noexcept nogil:
    """A little-endian number of up to four bytes, as lz4 and zstd have them."""
    cdef const uint8_t* p = take(r, width)
    cdef uint32_t value = 0
    cdef int i
    if p != NULL:
        for i in range(width):
            value |= <uint32_t> p[i] << 8 * i
    return value


cdef inline int32_t read_count(Reader* r, bint flexible, Py_ssize_t least) noexcept nogil:
    """An array length; −1 for null. Each element takes at least ``least`` bytes."""
    cdef int32_t count = read_uvarint31(r) - 1 if flexible else read_i32(r)
    if count < -1 or (count > 0 and count > left(r) // least):
        r.failed = True
        return 0
    return 0 if r.failed else count


cdef inline const uint8_t* read_blob(
    Reader* r, bint flexible, bint short_length, int32_t* size
) noexcept nogil:
    """A string (``short_length``: int16 length when plain) or bytes; NULL, size −1 for null."""
    cdef int32_t n
    if flexible:
        n = read_uvarint31(r) - 1
    elif short_length:
        n = read_i16(r)
    else:
        n = read_i32(r)
    if r.failed or n < -1:
        r.failed = True
        size[0] = -1
        return NULL
    size[0] = n
    if n == -1:
        return NULL
    return take(r, n)


cdef inline void skip_tags(Reader* r) noexcept nogil:
    """A tagged-field section (KIP-482): none of them matter to the data path."""
    cdef int32_t count = read_uvarint31(r)
    while count > 0 and not r.failed:
        read_uvarint31(r)
        take(r, read_uvarint31(r))
        count -= 1


cdef class Writer:
    """A growing output buffer. ``data`` moves when it grows: keep positions, not pointers."""
    cdef uint8_t* data
    cdef Py_ssize_t pos
    cdef Py_ssize_t capacity

    cdef int reserve(self, Py_ssize_t n) except -1 nogil
    cdef int put_i8(self, int8_t value) except -1
    cdef int put_i16(self, int16_t value) except -1
    cdef int put_i32(self, int32_t value) except -1
    cdef int put_i64(self, int64_t value) except -1
    cdef int put_uvarint(self, uint64_t value) except -1
    cdef int put_raw(self, const uint8_t* data, Py_ssize_t n) except -1
    cdef int put_string(self, bytes text, bint flexible) except -1
    cdef int put_null_string(self, bint flexible) except -1
    cdef int put_count(self, int32_t count, bint flexible) except -1
    cdef int put_length(self, int32_t length, bint flexible) except -1
    cdef int put_tags(self, bint flexible) except -1
    cdef int begin_frame(self) except -1
    cdef int end_frame(self, Py_ssize_t extra) except -1


cdef inline void clear(Writer w) noexcept nogil:
    """Start over; the memory is kept."""
    w.pos = 0


cdef inline uint64_t zigzag(int64_t value) noexcept nogil:
    """What a signed varint holds: 0, −1, 1, −2 … as 0, 1, 2, 3 …"""
    return (<uint64_t> value << 1) ^ (~(<uint64_t> value >> 63) + 1)


cdef inline int uvarint_size(uint64_t value) noexcept nogil:
    cdef int size = 1
    while value >= 0x80:
        value >>= 7
        size += 1
    return size


cdef inline void append_uvarint(Writer w, uint64_t value) noexcept nogil:
    """``put_uvarint`` into room that was reserved: ten bytes at most."""
    while value >= 0x80:
        w.data[w.pos] = <uint8_t> (value | 0x80)
        w.pos += 1
        value >>= 7
    w.data[w.pos] = <uint8_t> value
    w.pos += 1


cdef inline void append_le(Writer w, uint32_t value, int width) noexcept nogil:
    """A little-endian number of up to four bytes into room that was reserved."""
    cdef int i
    for i in range(width):
        w.data[w.pos + i] = <uint8_t> (value >> 8 * i)
    w.pos += width


cdef inline void append_raw(Writer w, const uint8_t* data, Py_ssize_t n) noexcept nogil:
    """``put_raw`` into room that was reserved."""
    if n > 0:
        memcpy(w.data + w.pos, data, n)
        w.pos += n


cdef inline uint8_t* room(Writer w) noexcept nogil:
    """Where the next bytes go, for who writes more than a few into what was reserved."""
    return w.data + w.pos


cdef inline void claim(Writer w, Py_ssize_t n) noexcept nogil:
    """``n`` bytes were written there."""
    w.pos += n


cdef inline void store_u16(uint8_t* p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t> (v >> 8)
    p[1] = <uint8_t> v


cdef inline void store_u32(uint8_t* p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t> (v >> 24)
    p[1] = <uint8_t> (v >> 16)
    p[2] = <uint8_t> (v >> 8)
    p[3] = <uint8_t> v


cdef inline void store_u64(uint8_t* p, uint64_t v) noexcept nogil:
    store_u32(p, <uint32_t> (v >> 32))
    store_u32(p + 4, <uint32_t> v)
