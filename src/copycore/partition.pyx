"""One partition's way through a lane: fetched slice → batches with new headers → acknowledgements.

Every record gets a number, its *counter*. Source offset and counter advance together inside a
segment; a hole in the source (control batch, aborted or empty batch, missing offsets) starts a new
segment. Batches behind a segment start wait at the *gate* until the caller says that the segment
is durable on the target.
"""

from collections import deque

from libc.stdint cimport INT64_MAX, int16_t, int32_t, int64_t
from libc.stdlib cimport free, realloc

from copycore.batch cimport (
    CODEC_BITS, CONTROL, CUT_BATCH, CUT_BROKEN, DENSE, EMPTY, HEADER_SIZE, MALFORMED, OLD_MAGIC,
    SEQUENCE_MASK, TRANSACTIONAL_BIT, BatchView, control_type, crc_matches, cut, rewrite,
)
from copycore.cursor cimport Reader, read_i32, reader, take
from copycore.frames cimport FetchDecoder, FetchedPartition
from copycore.segments cimport Segments
from copycore.transport cimport Slab, SlabPool

from copycore.batch import KINDS

cdef int32_t BARREN_LIMIT = 2
cdef int32_t SHORT_LIMIT = 20  # answers; a new leader's high watermark may lag for a moment
cdef int32_t BATCH_LIMIT = 128 << 20  # bytes; brokers take requests up to 100 MiB by default


cdef class PartitionCopy:
    """What a lane needs to know of one partition, and how far it is.

    ``end`` is exclusive, −1 follows for ever. ``start`` is the source offset to fetch from, and
    ``mapped`` the one at which the durable map has record number ``counter``: before ``start``
    where holes were passed since, and then a segment is due. ``known`` are the durable segments
    behind ``counter``, as (source, counter): those are not reported again, for a report voids all
    that follow, and records of an earlier session may still be on their way behind them.
    ``base_target`` is the target offset of record number 0. One object serves one assignment to a
    lane and is not used again.
    """

    def __init__(self, str topic, int32_t partition, *, bytes source_name, bytes source_id,
                 bytes target_name, int32_t leader_epoch, int64_t start, int64_t end,
                 int64_t mapped, int64_t counter, int64_t base_target, int64_t producer_id,
                 int16_t producer_epoch, known=()):
        if not 0 <= mapped <= start:
            raise ValueError("the map cannot be ahead of the copy")
        if start < 0 or counter < 0 or base_target < 0 or producer_id < 0:
            raise ValueError("offsets, counters and producer ids are not negative")
        if len(source_id) != 16:
            raise ValueError("a topic id has 16 bytes")
        self.topic = topic
        self.partition = partition
        self.source_name = source_name
        self.source_id = source_id
        self.target_name = target_name
        self.leader_epoch = leader_epoch
        self.position = self.acked = start
        self.expected_source = mapped
        self.known = deque(known)
        self.next_known = self.known[0][1] if self.known else INT64_MAX
        if self.next_known <= counter:
            raise ValueError("known segments lie behind the counter")
        self.readable = start
        self.end = end
        self.counter = self.acked_counter = counter
        self.base_target = base_target
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.gate = INT64_MAX
        self.gates = []

    def __dealloc__(self):
        free(self.ring)

    cdef bint follows(self, int64_t offset, int32_t count) except -1:
        """Whether the durable map has the next ``count`` records come from ``offset`` on."""
        if self.next_known == self.counter:
            self.expected_source = self.known.popleft()[0]
            self.next_known = self.known[0][1] if self.known else INT64_MAX
        if (offset == self.expected_source and self.next_known >= self.counter + count):
            return True
        self.known.clear()
        self.next_known = INT64_MAX
        return False

    def confirm(self, int64_t counter):
        """The map chunk whose first segment starts at ``counter`` is durable."""
        if counter in self.gates:
            self.gates.remove(counter)
            self.gate = min(self.gates) if self.gates else INT64_MAX

    cdef int push(self, Item* item) except -1:
        cdef Item* grown
        cdef int32_t i, size
        if self.queued == self.ring_size:
            size = max(8, 2 * self.ring_size)
            grown = <Item*> realloc(NULL, size * sizeof(Item))
            if grown == NULL:
                raise MemoryError
            for i in range(self.queued):
                grown[i] = self.ring[(self.ring_head + i) % self.ring_size]
            free(self.ring)
            self.ring = grown
            self.ring_size = size
            self.ring_head = 0
        self.ring[(self.ring_head + self.queued) % self.ring_size] = item[0]
        self.queued += 1
        self.queued_bytes += item.payload_size + HEADER_SIZE
        item.slab.references += 1
        return 0

    cdef Item* front(self) noexcept:
        return &self.ring[self.ring_head]

    cdef bint gate_is_open(self) noexcept:
        """Whether the segments of all records of the front batch are durable."""
        return self.front().counter + self.front().count <= self.gate

    cdef void pop(self) noexcept:
        """Take the front item out; its slab reference goes with it."""
        self.queued_bytes -= self.front().payload_size + HEADER_SIZE
        self.ring_head = (self.ring_head + 1) % self.ring_size
        self.queued -= 1

    cdef void drop_queue(self, SlabPool pool) noexcept:
        while self.queued:
            pool.release(self.front().slab)
            self.pop()

    cdef int finish(self, str ending, str side, int code, int64_t offset, str message,
                    bint drain) except -1:
        """Stop; the first reason counts, and one that may not drain overrules one that may."""
        if self.ending is None or (self.drain and not drain):
            self.ending = ending
            self.end_side = side
            self.end_code = code
            self.end_offset = offset
            self.end_message = message
            self.drain = drain
        return 0

    cdef int absorb(self, FetchedPartition* fetched, FetchDecoder decoder, Slab* slab,
                    bint read_committed, bint check_crc, Segments segments) except -1:
        """Cut one partition's fetched slice and queue what can be produced.

        Segment starts found on the way are added to ``segments``.
        """
        cdef Reader r = reader(fetched.records, fetched.records_size)
        cdef BatchView view
        cdef Item item
        cdef int outcome
        cdef int32_t next_abort = 0
        cdef bint good
        cdef int64_t before = self.position
        cdef set aborted = None
        while self.end < 0 or self.position < self.end:
            outcome = cut(&r, &view)
            if outcome != CUT_BATCH:
                if outcome == CUT_BROKEN:
                    return self.finish("malformed", "source", 0, self.position,
                                       "a batch of an impossible length", True)
                break
            if view.kind == MALFORMED:
                return self.finish("malformed", "source", 0, max(self.position, view.base_offset),
                                   "a batch whose header fields contradict each other", True)
            if view.kind == OLD_MAGIC:
                return self.finish("not-passable", "source", 0, self.position,
                                   KINDS[view.kind], True)
            if view.next_offset <= self.position:
                continue  # the broker may start with batches before the asked offset
            if self.end >= 0 and view.base_offset >= self.end:
                self.position = self.end
                break
            if check_crc:
                with nogil:
                    good = crc_matches(&view)
                if not good:
                    return self.finish("corrupt", "source", 2, view.base_offset,
                                       "the batch does not match its CRC-32C", True)
            while (read_committed and next_abort < fetched.aborted_count
                    and decoder.aborted[next_abort].first_offset < view.next_offset):
                if aborted is None:
                    aborted = set()
                aborted.add(decoder.aborted[next_abort].producer_id)
                next_abort += 1
            if view.kind == CONTROL or view.kind == EMPTY:
                if view.kind == CONTROL and aborted is not None and control_type(&view) == 0:
                    aborted.discard(view.producer_id)
                self.skipped += 1
                self.position = view.next_offset
                continue
            if (aborted is not None and view.attributes & TRANSACTIONAL_BIT
                    and view.producer_id in aborted):
                self.skipped += 1
                self.position = view.next_offset
                continue
            if view.kind != DENSE:
                return self.finish("not-passable", "source", 0, view.base_offset,
                                   KINDS[view.kind], True)
            if view.base_offset < self.position:
                return self.finish("not-passable", "source", 0, self.position,
                                   f"starts-inside:{view.base_offset}", True)
            if not self.follows(view.base_offset, view.count):
                segments.add(view.base_offset, self.counter)
            rewrite(&view, item.header, self.producer_id, self.producer_epoch,
                    <int32_t> (self.counter & SEQUENCE_MASK))
            item.slab = slab
            item.payload = view.data + HEADER_SIZE
            item.payload_size = <int32_t> (view.size - HEADER_SIZE)
            item.count = view.count
            item.counter = self.counter
            item.source_base = view.base_offset
            item.source_next = view.next_offset
            self.push(&item)
            if self.wants_sample and view.attributes & CODEC_BITS:
                self.sample = <bytes> view.data[:view.size]
                self.wants_sample = False
            self.counter += view.count
            self.position = self.expected_source = view.next_offset
            self.largest = max(self.largest, view.size)
        if segments.size:
            self.gates.append(segments.first)
            self.gate = min(self.gates)
        if self.position > before:
            self.alone = False
            self.barren = self.short = 0
        elif fetched.records_size:
            self.partial(&r)
        return 0

    cdef int partial(self, Reader* r) except -1:
        """Only an incomplete batch came: ask for this partition alone, then it comes whole."""
        cdef const unsigned char* skipped = take(r, 8)
        cdef int32_t length = read_i32(r) if skipped != NULL else 0
        if length < 0 or length > BATCH_LIMIT:
            return self.finish("malformed", "source", 0, self.position,
                               f"a batch that claims {length} bytes", True)
        self.largest = max(self.largest, <Py_ssize_t> length + 12)
        self.barren = self.barren + 1 if self.alone else 0
        self.alone = True
        if self.barren > BARREN_LIMIT:
            self.finish("malformed", "source", 0, self.position,
                        "the broker keeps sending an incomplete batch", True)
        return 0

    cdef int nothing(self, int64_t known, bint was_alone) except -1:
        """An empty answer without error or throttle, although ``end`` is not reached.

        With ``known``, the end the broker sees, behind ``end``: a tail hole (compaction, or
        offsets of removed batches) answers empty for ever. It counts as reached once a fetch for
        this partition alone, which no size limit can cut short, has been answered so repeatedly.
        With ``known`` before ``end``, the log has become shorter than it was at the start.
        """
        if known < self.end:
            self.alone = False
            self.short += 1
            if self.short >= SHORT_LIMIT:
                self.finish("short", "source", 0, self.position,
                            f"the source's log ends at {known} now, not at {self.end}", True)
        elif not was_alone:
            self.alone = True
            self.barren = self.short = 0
        else:
            self.barren += 1
            if self.barren >= BARREN_LIMIT:
                self.position = self.end
        return 0
