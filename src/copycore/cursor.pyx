"""The bounded reader and writer of raw bytes; the reader's inline half is in ``cursor.pxd``."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from copycore.memory cimport resized


cdef class Writer:

    def __cinit__(self, Py_ssize_t capacity=4096):
        self.capacity = max(capacity, 64)
        self.data = <uint8_t*> resized(NULL, self.capacity, 1)
        self.pos = 0

    def __dealloc__(self):
        free(self.data)

    cdef int reserve(self, Py_ssize_t n) except -1 nogil:
        """Room for n more bytes; ``data`` may move."""
        cdef Py_ssize_t wanted = self.pos + n
        if wanted > self.capacity:
            wanted = max(wanted, 2 * self.capacity)
            self.data = <uint8_t*> resized(self.data, wanted, 1)
            self.capacity = wanted
        return 0

    cdef int put_i8(self, int8_t value) except -1:
        self.reserve(1)
        self.data[self.pos] = <uint8_t> value
        self.pos += 1
        return 0

    cdef int put_i16(self, int16_t value) except -1:
        self.reserve(2)
        store_u16(self.data + self.pos, <uint32_t> value)
        self.pos += 2
        return 0

    cdef int put_i32(self, int32_t value) except -1:
        self.reserve(4)
        store_u32(self.data + self.pos, <uint32_t> value)
        self.pos += 4
        return 0

    cdef int put_i64(self, int64_t value) except -1:
        self.reserve(8)
        store_u64(self.data + self.pos, <uint64_t> value)
        self.pos += 8
        return 0

    cdef int put_uvarint(self, uint64_t value) except -1:
        self.reserve(10)
        while value >= 0x80:
            self.data[self.pos] = <uint8_t> (value | 0x80)
            self.pos += 1
            value >>= 7
        self.data[self.pos] = <uint8_t> value
        self.pos += 1
        return 0

    cdef int put_raw(self, const uint8_t* data, Py_ssize_t n) except -1:
        self.reserve(n)
        memcpy(self.data + self.pos, data, n)
        self.pos += n
        return 0

    cdef int put_string(self, bytes text, bint flexible) except -1:
        if len(text) > 0x7FFF:
            raise ValueError("a protocol string holds at most 32767 bytes")
        if flexible:
            self.put_uvarint(<uint64_t> len(text) + 1)
        else:
            self.put_i16(<int16_t> len(text))
        return self.put_raw(<const uint8_t*> <const char*> text, len(text))

    cdef int put_null_string(self, bint flexible) except -1:
        return self.put_uvarint(0) if flexible else self.put_i16(-1)

    cdef int put_count(self, int32_t count, bint flexible) except -1:
        """An array length."""
        return self.put_uvarint(<uint64_t> count + 1) if flexible else self.put_i32(count)

    cdef int put_length(self, int32_t length, bint flexible) except -1:
        """The length of a bytes or records field; the content follows from elsewhere."""
        return self.put_uvarint(<uint64_t> length + 1) if flexible else self.put_i32(length)

    cdef int put_tags(self, bint flexible) except -1:
        """An empty tagged-field section, where the version has one."""
        return self.put_uvarint(0) if flexible else 0

    cdef int begin_frame(self) except -1:
        """Start a request over: room for the length prefix."""
        self.pos = 0
        return self.put_i32(0)

    cdef int end_frame(self, Py_ssize_t extra) except -1:
        """Fill in the length prefix; ``extra`` bytes of payload travel beside this buffer."""
        cdef Py_ssize_t size = self.pos - 4 + extra
        if size > 0x7FFFFFFF:
            raise ValueError("a request frame holds at most 2 GiB")
        store_u32(self.data, <unsigned int> size)
        return 0


cdef class Cursor:
    """The same bounded reader for Python callers (rare paths and tests).

    Every method raises ``ValueError`` when the bytes end early or are malformed; after that the
    cursor stays failed.
    """
    cdef Reader r
    cdef const uint8_t[::1] view

    def __init__(self, const uint8_t[::1] data not None):
        self.view = data
        self.r = reader(&data[0] if data.shape[0] else NULL, data.shape[0])

    cdef object checked(self, object value):
        if self.r.failed:
            raise ValueError(f"malformed or truncated bytes before position {self.r.end}")
        return value

    @property
    def position(self):
        return self.r.pos

    @property
    def remaining(self):
        return left(&self.r)

    def i8(self):
        return self.checked(read_i8(&self.r))

    def i16(self):
        return self.checked(read_i16(&self.r))

    def i32(self):
        return self.checked(read_i32(&self.r))

    def i64(self):
        return self.checked(read_i64(&self.r))

    def uvarint(self):
        return self.checked(read_uvarint(&self.r))

    def varint(self):
        return self.checked(read_varint(&self.r))

    def count(self, bint flexible, Py_ssize_t least=1):
        if least < 1:
            raise ValueError("an element takes at least one byte")
        return self.checked(read_count(&self.r, flexible, least))

    def blob(self, bint flexible, bint short_length=False):
        """``bytes``, or None for null."""
        cdef int32_t size
        cdef const uint8_t* start = read_blob(&self.r, flexible, short_length, &size)
        self.checked(None)
        return None if size == -1 else <bytes> start[:size]

    def take(self, size):
        """The next ``size`` bytes, copied; any number may be asked for."""
        cdef Py_ssize_t n = size if 0 <= size <= left(&self.r) else -1
        cdef const uint8_t* start = take(&self.r, n)
        self.checked(None)
        return <bytes> start[:n]

    def tags(self):
        skip_tags(&self.r)
        self.checked(None)
