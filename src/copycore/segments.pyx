"""Offset map segments, in arrays and as bytes.

A segment says: from ``counter`` on, record numbers and source offsets advance together, starting
at ``source``, until the next segment begins. Layout of a chunk of n segments, unsigned varints
(LEB128): first source offset, first counter, then for each further segment the run (records in
the segment before it) and the hole (source offsets skipped between the two). A control batch in
the source so costs about two bytes.
"""

from array import array

from libc.stdint cimport INT64_MAX, int64_t, uint8_t
from libc.stdlib cimport free

from copycore.cursor cimport Reader, Writer, left, read_uvarint, reader
from copycore.memory cimport resized


cdef class Segments:
    """Segments, both columns strictly ascending, sources growing at least as fast as counters.

    Made of two equally long columns of int64, or empty. Iterates over (source, counter).
    ``gate``: records from this source offset on wait until the segments are durable, and the
    leader epochs found with them; −1 where none waits.
    """

    def __init__(self, sources=(), counters=()):
        cdef Py_ssize_t i
        if len(sources) != len(counters):
            raise ValueError("a segment has a source offset and a counter")
        self.gate = -1
        self.grow(len(sources))
        for i in range(len(sources)):
            self.add(sources[i], counters[i])

    def __dealloc__(self):
        free(self.source)
        free(self.counter)

    @classmethod
    def of(cls, pairs):
        """From an iterable of (source, counter)."""
        both = list(pairs)
        return cls([source for source, _ in both], [counter for _, counter in both])

    cdef int grow(self, Py_ssize_t capacity) except -1 nogil:
        if capacity > self.capacity:
            self.source = <int64_t*> resized(self.source, capacity, sizeof(int64_t))
            self.counter = <int64_t*> resized(self.counter, capacity, sizeof(int64_t))
            self.capacity = capacity
        return 0

    cdef int add(self, int64_t source, int64_t counter) except -1 nogil:
        if self.size == self.capacity:
            self.grow(max(8, 2 * self.capacity))
        self.source[self.size] = source
        self.counter[self.size] = counter
        self.size += 1
        self.begin_gate(source)
        return 0

    cdef void begin_gate(self, int64_t source) noexcept nogil:
        """Have the records from this source offset on wait."""
        if self.gate < 0:
            self.gate = source

    def __len__(self):
        return self.size

    def __iter__(self):
        return zip(self.sources, self.counters)

    @property
    def first(self):
        """The first counter. Raises ``IndexError`` when there is no segment."""
        if self.size == 0:
            raise IndexError("no segment")
        return self.counter[0]

    @property
    def sources(self):
        """A copy of the column, as ``array('q')``."""
        return _column(self.source, self.size)

    @property
    def counters(self):
        return _column(self.counter, self.size)

    def encode(self):
        """Bytes of a chunk. Raises ``ValueError`` when these are no segments."""
        cdef Py_ssize_t i
        cdef int64_t run, hole
        cdef Writer out = Writer(32 + 4 * self.size)
        if self.size == 0 or self.source[0] < 0 or self.counter[0] < 0:
            raise ValueError("a chunk holds at least one segment of non-negative numbers")
        out.put_uvarint(self.source[0])
        out.put_uvarint(self.counter[0])
        for i in range(1, self.size):
            if self.counter[i] < 0 or self.source[i] < 0:
                raise ValueError(f"segment {i} does not follow the one before it")
            run = self.counter[i] - self.counter[i - 1]
            hole = self.source[i] - self.source[i - 1] - run
            if run <= 0 or hole < 0:
                raise ValueError(f"segment {i} does not follow the one before it")
            out.put_uvarint(run)
            out.put_uvarint(hole)
        return <bytes> out.data[:out.pos]

    @staticmethod
    def decode(const uint8_t[::1] data not None):
        """From the bytes of a chunk. Raises ``ValueError`` when they are malformed."""
        cdef Reader r = reader(&data[0] if data.shape[0] else NULL, data.shape[0])
        cdef int64_t source = <int64_t> read_uvarint(&r)
        cdef int64_t counter = <int64_t> read_uvarint(&r)
        cdef int64_t run, hole
        cdef Segments found = Segments()
        if r.failed or source < 0 or counter < 0:
            raise ValueError("malformed chunk of the offset map")
        found.grow(1 + left(&r) // 2)
        found.add(source, counter)
        while left(&r) > 0:
            run = <int64_t> read_uvarint(&r)
            hole = <int64_t> read_uvarint(&r)
            if (r.failed or run <= 0 or hole < 0 or run > INT64_MAX - counter
                    or run > INT64_MAX - source or hole > INT64_MAX - source - run):
                raise ValueError("malformed chunk of the offset map")
            counter += run
            source += run + hole
            found.add(source, counter)
        return found


cdef object _column(const int64_t* values, Py_ssize_t size):
    column = array("q")
    if size:
        column.frombytes((<const char*> values)[:size * sizeof(int64_t)])
    return column
