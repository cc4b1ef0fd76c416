"""Splitting a partition up: which partition of the target topic each of its records goes to.

Every pair of a source and a target partition has a counter of its own, and every source partition
a producer id, so that the target enforces the order of each pair by itself. Which records a pair
has had follows from what the source held; what was fetched at a time is therefore told to the
caller as a *stride*: from one source offset to another, and the counters at its end. Its records
wait until that is durable. After a crash the target's log says how far each pair has come, the
strides say in which of them that is, and the source is split anew from there: what is on the
target already is counted but not sent, and what the source has lost meanwhile shows in the counts.
"""

from array import array

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free

from copycore.cursor cimport Reader, read_varint32, reader, take
from copycore.memory cimport resized
from copycore.partitioner cimport choose
from copycore.records cimport RECORD_OK, RecordView, RecordWalk, walk

from copycore.partitioner import KINDS
from copycore.rebatch import BrokenBatch

cdef Py_ssize_t LEAST_RECORD = 7  # bytes


cdef class Stride:
    """A part of the source and the counters of all branches at its end."""

    def __init__(self, int64_t start):
        self.start = self.end = start
        self.counters = []


cdef class Split:
    """``partitioner`` is one of ``copycore.partitioner.KINDS``, or a function.

    It is called for the records of a batch as ``function(keys, offsets, source_partition, count)``
    with a list of ``bytes`` or None, an ``array('q')`` of source offsets, and the number of target
    partitions; it gives a sequence of as many partitions. It has to decide alike in every run.

    ``counters`` has a number for each target partition, that of its next record at the start of
    the copy; records before number ``have`` of it are on the target already.
    """

    def __init__(self, partitioner, counters, have):
        self.function = None
        self.kind = -1
        if callable(partitioner):
            self.function = partitioner
        elif partitioner in KINDS and partitioner != "keep":
            self.kind = KINDS.index(partitioner)
        else:
            raise ValueError(f"partitioner {partitioner} is not known, or splits nothing")
        self.counters = list(counters)
        self.have = list(have)
        if not self.counters or len(self.counters) != len(self.have):
            raise ValueError("as many counters as target partitions are needed")
        if min(self.counters) < 0 or any(h < c for h, c in zip(self.have, self.counters)):
            raise ValueError("the target has what came before the counters")

    def __dealloc__(self):
        free(self.entries)

    cdef int reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t wanted = self.count + more
        if wanted > self.capacity:
            self.entries = <Routed*> resized(self.entries, 2 * wanted, sizeof(Routed))
            self.capacity = 2 * wanted
        return 0

    cdef int collect(self, RecordWalk* w) except -2:
        """All records of a batch; the outcome of the walk through them."""
        cdef RecordView record
        cdef Routed* one
        cdef int outcome
        # No more than its bytes can hold, whatever the batch says.
        self.reserve(min(<Py_ssize_t> w.count, (w.r.end - w.r.pos) // LEAST_RECORD) + 1)
        with nogil:
            while True:
                one = &self.entries[self.count]
                outcome = walk(w, &record, &one.offset, &one.timestamp)
                if outcome != RECORD_OK:
                    break
                one.body = record.body
                one.body_size = record.body_size
                one.key = record.key
                one.key_size = record.key_size
                self.count += 1
        return outcome

    cdef int add_body(self, int64_t offset, int64_t timestamp, const uint8_t* body,
                      Py_ssize_t size) except -1:
        """One record by its body, which begins with its key; it has to stay where it is."""
        cdef Reader r = reader(body, size)
        cdef Routed* one
        self.reserve(1)
        one = &self.entries[self.count]
        one.offset = offset
        one.timestamp = timestamp
        one.body = body
        one.body_size = size
        one.key_size = read_varint32(&r)
        one.key = NULL
        if one.key_size >= 0:
            one.key = take(&r, one.key_size)
        self.count += 1
        return 0

    cdef int route(self, int32_t source_partition) except -1:
        """Decide for all that was collected. Raises ``BrokenBatch``."""
        cdef int32_t n = <int32_t> len(self.counters)
        cdef Routed* one
        cdef Py_ssize_t i
        if self.function is None:
            with nogil:
                for i in range(self.count):
                    one = &self.entries[i]
                    one.target = choose(self.kind, one.key, one.key_size, source_partition,
                                        <uint64_t> one.offset, n)
            return 0
        keys = []
        offsets = array("q")
        for i in range(self.count):
            one = &self.entries[i]
            keys.append(None if one.key_size < 0 else <bytes> one.key[:one.key_size])
            offsets.append(one.offset)
        try:
            chosen = list(self.function(keys, offsets, source_partition, n))
            if len(chosen) != len(keys):
                raise ValueError(f"{len(chosen)} partitions for {len(keys)} records")
            for i in range(self.count):
                self.entries[i].target = chosen[i]
                if not 0 <= self.entries[i].target < n:
                    raise ValueError(f"partition {chosen[i]} of {n}")
        except Exception as error:
            self.count = 0
            raise BrokenBatch(
                "partitioner", f"the partitioner failed: {type(error).__name__}: {error}"
            ) from error
        return 0
