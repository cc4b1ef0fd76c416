from libc.stdint cimport int32_t, int64_t, uint8_t

from copycore.batch cimport HEADER_SIZE
from copycore.bucket cimport Bucket
from copycore.transport cimport Slab, SlabPool


cdef struct Item:
    # One batch between its two sockets; holds one reference on its slab.
    Slab* slab
    const uint8_t* payload
    int32_t payload_size
    int32_t count
    int64_t counter        # number of its first record
    int64_t source_base
    int64_t source_next    # where the source goes on after it
    int64_t opens_at       # goes out once the gate is here or later: source offset (INV-13)
    int64_t stride         # of a split partition: which part of the source it comes from
    bint joined            # it has records of several of the source's batches
    uint8_t[HEADER_SIZE] header


cdef class Sender:
    cdef int64_t gate              # records from this source offset on wait for the state
    cdef bint sends                # what is queued may still go out
    cdef int32_t pending           # batches queued or in flight
    cdef Py_ssize_t queued_bytes
    cdef public Bucket bucket      # what its sends are charged to; None is no limit


cdef class Branch:
    cdef readonly Sender owner          # the PartitionCopy
    cdef readonly bytes topic           # of the target
    cdef readonly int32_t partition
    cdef readonly int64_t counter       # number of the next record cut
    cdef readonly int64_t acked_counter
    cdef readonly int64_t acked_offset  # of the target, after the last batch acknowledged; or −1
    cdef int64_t base                   # target offset of record number 0; −1 unknown
    cdef int64_t have                   # records before this number are on the target already
    cdef int32_t in_flight
    cdef bint proven                    # the target has acknowledged a batch of this assignment
    cdef int64_t acked_at               # ms, when it last did
    cdef int32_t queued
    cdef Py_ssize_t queued_bytes
    cdef bint held                      # a rate limit refused the front batch when last asked
    cdef Item* ring
    cdef int32_t ring_size
    cdef int32_t ring_head

    cdef int push(self, Item* item) except -1
    cdef Item* front(self) noexcept
    cdef bint ready(self, int64_t now) noexcept
    cdef void send_front(self, Item* item) noexcept
    cdef void answered(self) noexcept
    cdef void drop_front(self) noexcept
    cdef void drop_queue(self, SlabPool pool) noexcept
    cdef int move_queue(self, SlabPool pool) except -1
