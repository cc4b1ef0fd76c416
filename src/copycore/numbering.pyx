"""How the records of a partition are numbered, and into which branch each goes: two strategies.

A partition that keeps its place has one branch. Its records are numbered by what the *map* says:
source offset and counter advance together inside a segment, and a hole in the source (control
batch, aborted or empty batch, missing offsets) starts a new one.

One that is split up has a branch for each partition of the target topic, and a counter in each.
What was fetched at a time is a *stride*; see ``split``.
"""

from collections import deque

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t

from copycore.batch cimport CODEC_BITS, HEADER_SIZE, SEQUENCE_MASK, BatchView, rewrite
from copycore.branch cimport Branch, Item, Sender
from copycore.builder cimport FRONT, Builder, Draft
from copycore.cursor cimport left
from copycore.records cimport RECORD_OK, RecordView, RecordWalk, RecordWriter, walk
from copycore.segments cimport Segments
from copycore.split cimport Routed, Split, Stride
from copycore.transport cimport Slab

cdef enum:
    GROWTH = 2               # by which those of one grow, mostly: its number is larger


cdef class Numbering:
    """What both strategies do. Only the lane's thread may call it."""

    cdef int64_t next_stride(self) noexcept:
        """The number of the stride that is being cut."""
        return 0

    cdef int gate_epoch(self, int64_t position, Segments segments) except -1:
        """Have the records from this source offset on wait until a new leader epoch is durable."""
        return 0

    cdef int pass_batch(self, const BatchView* view, Slab* slab, Builder builder,
                        Segments segments) except -1:
        """Queue a batch as it is, but for its header. Only where ``passes``."""
        raise NotImplementedError

    cdef int move_records(self, RecordWalk* w, const BatchView* view, Builder builder,
                          Segments segments) except -2:
        """Put the records of a batch v2 into batches of our own; how the walk through them ended.
        Raises ``BrokenBatch``.
        """
        raise NotImplementedError

    cdef int move_message(self, int64_t offset, int64_t timestamp, bytes body, Builder builder,
                          Segments segments) except -1:
        """The same for one message of v0 or v1; its body has to stay until ``end_messages``."""
        raise NotImplementedError

    cdef int end_messages(self, Builder builder) except -1:
        """All messages of an entry were moved. Raises ``BrokenBatch``."""
        return 0

    cdef bint keep_stride(self, Stride stride, int64_t end) except -1:
        """Whether a slice up to the source offset ``end`` is to be reported as a stride; if so, it
        is kept until all of it has arrived.
        """
        return False

    cdef int64_t arrived(self, const Item* item, int64_t acked) except -1:
        """The target has a batch: the source offset up to which it has all, ``acked`` before."""
        raise NotImplementedError


cdef class KeptNumbering(Numbering):
    """``mapped`` is the source offset at which the durable map has record number ``counter``, and
    ``known`` the durable segments after it, as (source, counter).
    """

    def __init__(self, Sender owner not None, bytes topic, int32_t partition, *, int64_t mapped,
                 int64_t counter, int64_t base, known):
        self.only = Branch(owner, topic, partition, counter, base, 0)
        self.branches = [self.only]
        self.passes = True
        self.expected_source = mapped
        self.known = deque(known)
        self.next_known = self.known[0][1] if self.known else INT64_MAX
        if self.next_known <= counter:
            raise ValueError("known segments come after the counter")

    cdef int map_records(self, int64_t offset, int32_t count, int64_t counter,
                         Segments segments) except -1:
        """Add a segment unless the durable map has ``count`` records from number ``counter`` on
        come from the source offset ``offset`` on (INV-14).
        """
        if self.next_known == counter:
            self.expected_source = self.known.popleft()[0]
            self.next_known = self.known[0][1] if self.known else INT64_MAX
        if offset != self.expected_source or self.next_known < counter + count:
            self.known.clear()
            self.next_known = INT64_MAX
            segments.add(offset, counter)
        return 0

    cdef int gate_epoch(self, int64_t position, Segments segments) except -1:
        segments.begin_gate(position)
        return 0

    cdef int pass_batch(self, const BatchView* view, Slab* slab, Builder builder,
                        Segments segments) except -1:
        cdef Item item
        builder.close(builder.draft(0))
        self.map_records(view.base_offset, view.count, self.only.counter, segments)
        rewrite(view, item.header, builder.rules.producer_id, builder.rules.producer_epoch,
                <int32_t> (self.only.counter & SEQUENCE_MASK))
        item.slab = slab
        item.payload = view.data + HEADER_SIZE
        item.payload_size = <int32_t> (view.size - HEADER_SIZE)
        item.count = view.count
        item.counter = self.only.counter
        item.source_base = view.base_offset
        item.source_next = item.opens_at = view.next_offset
        item.stride = 0
        item.joined = False
        self.only.push(&item)
        self.only.counter += view.count
        self.expected_source = view.next_offset
        return 0

    cdef int move_records(self, RecordWalk* w, const BatchView* view, Builder builder,
                          Segments segments) except -2:
        cdef RecordView record
        cdef Branch branch = self.only
        cdef Draft draft = builder.draft(0)
        cdef RecordWriter records = draft.records
        cdef int outcome
        cdef int64_t offset = 0, timestamp = 0
        cdef Py_ssize_t room = builder.room(), size
        cdef bint traced = builder.can_retrace(view)
        if traced:  # then it stays in one piece
            size = left(&w.r) + GROWTH * view.count + FRONT
            if records.size() + size > room:
                builder.close(draft)
            room = max(room, min(size, builder.most()))
        builder.begin_batch(view.attributes & CODEC_BITS)
        if traced:
            builder.retracer.source(records.buffer.data, records.size())
        with nogil:
            outcome = walk(w, &record, &offset, &timestamp)
            while outcome == RECORD_OK:
                if builder.is_full(draft, records, record.body_size, room):
                    with gil:
                        builder.close(draft)
                        traced = False
                self.put(branch, draft, records, offset, timestamp, record.body,
                         record.body_size, segments)
                if traced:
                    builder.retracer.keep(record.body - w.r.data,
                                          records.size() - record.body_size)
                outcome = walk(w, &record, &offset, &timestamp)
        if traced:
            builder.retrace(view, records)
        return outcome

    cdef int move_message(self, int64_t offset, int64_t timestamp, bytes body, Builder builder,
                          Segments segments) except -1:
        cdef Draft draft = builder.draft(0)
        if builder.is_full(draft, draft.records, len(body), builder.room()):
            builder.close(draft)
        return self.put(self.only, draft, draft.records, offset, timestamp, body, len(body),
                        segments)

    cdef int put(self, Branch branch, Draft draft, RecordWriter records, int64_t offset,
                 int64_t timestamp, const uint8_t* body, Py_ssize_t body_size,
                 Segments segments) except -1 nogil:
        """Put the record at this source offset into the batch being built."""
        if self.next_known != INT64_MAX:
            with gil:
                self.map_records(offset, 1, branch.counter, segments)
        elif offset != self.expected_source:
            segments.add(offset, branch.counter)
        if records.count == 0:
            draft.first = offset
        records.add(timestamp, body, body_size)
        branch.counter += 1
        draft.until = self.expected_source = offset + 1
        return 0

    cdef int64_t arrived(self, const Item* item, int64_t acked) except -1:
        return item.source_next


cdef class SplitNumbering(Numbering):
    """``split`` says where each branch begins, and where the records go."""

    def __init__(self, Sender owner not None, bytes topic, int32_t source_partition,
                 Split split not None):
        self.source_partition = source_partition
        self.split = split
        self.strides = deque()
        self.branches = [
            Branch(owner, topic, number, counter, -1, have)
            for number, (counter, have) in enumerate(zip(split.counters, split.have))
        ]

    cdef int64_t next_stride(self) noexcept:
        return self.first_stride + <int64_t> len(self.strides)

    cdef int move_records(self, RecordWalk* w, const BatchView* view, Builder builder,
                          Segments segments) except -2:
        cdef int outcome
        builder.begin_batch(view.attributes & CODEC_BITS)
        outcome = self.split.collect(w)
        self.distribute(builder)
        return outcome

    cdef int move_message(self, int64_t offset, int64_t timestamp, bytes body, Builder builder,
                          Segments segments) except -1:
        return self.split.add_body(offset, timestamp, body, len(body))

    cdef int end_messages(self, Builder builder) except -1:
        return self.distribute(builder)

    cdef int distribute(self, Builder builder) except -1:
        """Put the collected records into the batches of the partitions they go to, but for those
        that are there already. Raises ``BrokenBatch`` where the partitioner fails.
        """
        cdef Split split = self.split
        cdef Routed* one
        cdef Branch branch
        cdef Draft draft
        cdef Py_ssize_t i, room = builder.room()
        split.route(self.source_partition)
        for i in range(split.count):
            one = &split.entries[i]
            draft = builder.draft(one.target)
            branch = draft.branch
            branch.counter += 1
            if branch.counter <= branch.have:
                continue
            if builder.is_full(draft, draft.records, one.body_size, room):
                branch.counter -= 1
                builder.close(draft)
                branch.counter += 1
            if draft.records.count == 0:
                draft.first = one.offset
            draft.records.add(one.timestamp, one.body, one.body_size)
            draft.until = one.offset + 1
        split.count = 0
        return 0

    cdef bint keep_stride(self, Stride stride, int64_t end) except -1:
        if not stride.left:
            return False
        stride.end = end
        stride.counters = [(<Branch> branch).counter for branch in self.branches]
        self.strides.append(stride)
        return True

    cdef int64_t arrived(self, const Item* item, int64_t acked) except -1:
        cdef Stride stride = self.strides[item.stride - self.first_stride]
        stride.left -= 1
        while self.strides and (<Stride> self.strides[0]).left == 0:
            acked = (<Stride> self.strides.popleft()).end
            self.first_stride += 1
        return acked
