"""What one assignment sends to one target partition: its queue of batches, and how far it is.

A partition that keeps its place has one branch; one that is split up has one for every partition
of the target topic. The batches of a branch go out in order, over one connection.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free

from copycore.batch cimport HEADER_SIZE
from copycore.memory cimport resized
from copycore.partition cimport PartitionCopy
from copycore.transport cimport Slab, SlabPool

cdef int32_t MOST_BATCHES = 5       # in flight, as an idempotent producer
cdef int64_t IDLE_LIMIT = 60_000    # ms without an acknowledgement


cdef class Branch:
    """``counter`` is the number of the next record, ``base`` the target offset of record number 0;
    −1 where several write into the target partition, so that there is no such offset. Records
    before number ``have`` are counted, but not sent.
    """

    def __init__(self, owner, bytes topic, int32_t partition, int64_t counter, int64_t base,
                 int64_t have):
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
        cdef PartitionCopy part = self.owner
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
        part.pending += 1
        part.queued_bytes += item.payload_size + HEADER_SIZE
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
        cdef PartitionCopy part = self.owner
        cdef int32_t most = 1
        if self.proven and now - self.acked_at < IDLE_LIMIT:
            most = MOST_BATCHES
        return (self.queued > 0 and self.in_flight < most and self.front().opens_at <= part.gate
                and (part.ending is None or part.drain))

    cdef void pop(self) noexcept:
        """Take the front item out; its slab reference goes with it, and it stays pending."""
        cdef PartitionCopy part = self.owner
        self.queued_bytes -= self.front().payload_size + HEADER_SIZE
        part.queued_bytes -= self.front().payload_size + HEADER_SIZE
        self.ring_head = (self.ring_head + 1) % self.ring_size
        self.queued -= 1

    cdef void drop_queue(self, SlabPool pool) noexcept:
        cdef PartitionCopy part = self.owner
        while self.queued:
            pool.release(self.front().slab)
            self.pop()
            part.pending -= 1

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
