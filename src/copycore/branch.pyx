"""What one assignment sends to one target partition: its queue of batches, and how far it is.

A partition that keeps its place has one branch; one that is split up has one for every partition
of the target topic. The batches of a branch go out in order, over one connection.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t
from libc.stdlib cimport free

from copycore.batch cimport HEADER_SIZE
from copycore.memory cimport resized
from copycore.transport cimport Slab, SlabPool

cdef int32_t MOST_BATCHES = 5       # in flight, as an idempotent producer
cdef int64_t IDLE_LIMIT = 60_000    # ms without an acknowledgement


cdef class Sender:
    """What the branches of one assignment have in common. They alone change ``pending`` and
    ``queued_bytes``; the rest is set by the assignment itself, which is a ``PartitionCopy``.
    """

    def __cinit__(self):
        self.gate = INT64_MAX
        self.sends = True


cdef class Branch:
    """``counter`` is the number of the next record, ``base`` the target offset of record number 0;
    −1 where several write into the target partition, so that there is no such offset. Records
    before number ``have`` are counted, but not sent. Only the lane's thread may call it.
    """

    def __init__(self, Sender owner not None, bytes topic, int32_t partition, int64_t counter,
                 int64_t base, int64_t have):
        self.owner = owner
        self.have = have
        self.topic = topic
        self.partition = partition
        self.counter = self.acked_counter = counter
        self.base = base
        self.acked_offset = -1

    def __dealloc__(self):
        free(self.ring)

    cdef int push(self, Item* item) except -1:
        """Queue a batch, with a reference of its own on the slab."""
        cdef Item* grown
        cdef int32_t i, size
        if self.queued == self.ring_size:
            size = max(8, 2 * self.ring_size)
            grown = <Item*> resized(NULL, size, sizeof(Item))
            for i in range(self.queued):
                grown[i] = self.ring[(self.ring_head + i) % self.ring_size]
            free(self.ring)
            self.ring = grown
            self.ring_size = size
            self.ring_head = 0
        self.ring[(self.ring_head + self.queued) % self.ring_size] = item[0]
        self.queued += 1
        self.queued_bytes += item.payload_size + HEADER_SIZE
        self.owner.pending += 1
        self.owner.queued_bytes += item.payload_size + HEADER_SIZE
        item.slab.references += 1
        return 0

    cdef Item* front(self) noexcept:
        return &self.ring[self.ring_head]

    cdef bint ready(self, int64_t now) noexcept:
        """Whether the front batch may go, as far as its own assignment goes.

        A broker that does not know the producer id takes any sequence (``ProducerAppendInfo``).
        Were the first batch refused with others in flight, the second would be stored in its
        place. So one batch goes alone until the target has acknowledged one, and again after a
        pause in which the target may have dropped the producer id (producer.id.expiration.ms).
        """
        cdef int32_t most = 1
        if self.proven and now - self.acked_at < IDLE_LIMIT:
            most = MOST_BATCHES
        return (self.queued > 0 and self.in_flight < most and self.owner.sends
                and self.front().opens_at <= self.owner.gate)

    cdef void send_front(self, Item* item) noexcept:
        """Move the front batch to ``item``, with its slab reference; it is in flight now."""
        item[0] = self.front()[0]
        self.drop_front()
        self.in_flight += 1

    cdef void answered(self) noexcept:
        """A batch is not in flight any more, whatever became of it."""
        self.in_flight -= 1
        self.owner.pending -= 1

    cdef void drop_front(self) noexcept:
        self.queued_bytes -= self.front().payload_size + HEADER_SIZE
        self.owner.queued_bytes -= self.front().payload_size + HEADER_SIZE
        self.ring_head = (self.ring_head + 1) % self.ring_size
        self.queued -= 1

    cdef void drop_queue(self, SlabPool pool) noexcept:
        """Give up all that is queued."""
        while self.queued:
            pool.release(self.front().slab)
            self.drop_front()
            self.owner.pending -= 1

    cdef int move_queue(self, SlabPool pool) except -1:
        """Copy what is queued out of the slabs it shares with others, where that gives more back
        than it takes.
        """
        cdef Item* item
        cdef Slab* own
        cdef int32_t i
        for i in range(self.queued):
            item = &self.ring[(self.ring_head + i) % self.ring_size]
            if 2 * item.payload_size < item.slab.capacity:
                own = pool.keep(item.payload, item.payload_size)
                pool.release(item.slab)
                item.slab = own
                item.payload = own.data
        return 0
