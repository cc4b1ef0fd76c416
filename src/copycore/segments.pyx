"""Offset map segments as bytes.

A segment says: from ``counter`` on, record numbers and source offsets advance together, starting
at ``source``, until the next segment begins. Layout of a chunk of n segments, unsigned varints
(LEB128): first source offset, first counter, then for each further segment the run (records in
the segment before it) and the hole (source offsets skipped between the two). A control batch in
the source so costs about two bytes.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t

from copycore.cursor cimport Reader, Writer, left, read_uvarint, reader


def encode_segments(const int64_t[::1] sources, const int64_t[::1] counters):
    """Bytes of a chunk; both arrays strictly ascending, sources growing at least as fast.

    Raises ``ValueError`` when the arrays do not describe segments.
    """
    cdef Py_ssize_t i, n = sources.shape[0]
    cdef int64_t run, hole
    cdef Writer out = Writer(32 + 4 * n)
    if n == 0 or counters.shape[0] != n or sources[0] < 0 or counters[0] < 0:
        raise ValueError("a chunk holds at least one segment of non-negative numbers")
    out.put_uvarint(sources[0])
    out.put_uvarint(counters[0])
    for i in range(1, n):
        run = counters[i] - counters[i - 1]
        hole = sources[i] - sources[i - 1] - run
        if counters[i] < 0 or sources[i] < 0 or run <= 0 or hole < 0:
            raise ValueError(f"segment {i} does not follow the one before it")
        out.put_uvarint(run)
        out.put_uvarint(hole)
    return <bytes> out.data[:out.pos]


def decode_segments(const uint8_t[::1] data not None):
    """``(sources, counters)`` as two lists. Raises ``ValueError`` on malformed bytes."""
    cdef Reader r = reader(&data[0] if data.shape[0] else NULL, data.shape[0])
    cdef int64_t source = <int64_t> read_uvarint(&r)
    cdef int64_t counter = <int64_t> read_uvarint(&r)
    cdef int64_t run, hole
    if r.failed or source < 0 or counter < 0:
        raise ValueError("malformed chunk of the offset map")
    sources, counters = [source], [counter]
    while left(&r) > 0:
        run = <int64_t> read_uvarint(&r)
        hole = <int64_t> read_uvarint(&r)
        if (r.failed or run <= 0 or hole < 0 or run > INT64_MAX - counter
                or run > INT64_MAX - source or hole > INT64_MAX - source - run):
            raise ValueError("malformed chunk of the offset map")
        counter += run
        source += run + hole
        sources.append(source)
        counters.append(counter)
    return sources, counters
