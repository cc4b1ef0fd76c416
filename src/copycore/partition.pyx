"""One partition's way through a lane: fetched slice → batches to produce → acknowledgements.

A batch that can go through unchanged gets a new header and stays where it is in memory; of any
other the records are put into batches of our own.

Every record gets a number, its *counter*. Source offset and counter advance together inside a
segment; a hole in the source (control batch, aborted or empty batch, missing offsets) starts a new
segment. Records from a segment's start on wait at the *gate*, a source offset, until the caller
says that the segment is durable on the target.
"""

from collections import deque, namedtuple

from libc.stdint cimport INT64_MAX, int16_t, int32_t, int64_t, uint8_t

from copycore.batch cimport (
    CODEC_BITS, CONTROL, CUT_BATCH, CUT_BROKEN, DENSE, EMPTY, HEADER_SIZE, MALFORMED, OLD_MAGIC,
    SEQUENCE_MASK, TIMESTAMP_TYPE_BIT, TRANSACTIONAL_BIT, UNKNOWN_CODEC, BatchView, control_type,
    crc_matches, cut, rewrite,
)
from copycore.branch cimport Branch, Item
from copycore.cursor cimport Reader, left, read_i8, read_i32, reader, take
from copycore.frames cimport FetchDecoder, FetchedPartition
from copycore.rebatch cimport Rebatcher, SliceSizes, is_single_small
from copycore.records cimport (
    RECORD_BROKEN, RECORD_OK, WALK_OVER, RecordView, RecordWalk, RecordWriter, compose_header, walk,
)
from copycore.segments cimport Segments
from copycore.split cimport Routed, Split, Stride
from copycore.transport cimport Slab, SlabPool

from copycore.rebatch import BrokenBatch

cdef int32_t EMPTY_ALONE_LIMIT = 2
cdef int64_t EMPTY_LIMIT = 3_000    # ms of empty answers after which the caller is asked
cdef int64_t FIRST_PAUSE = 5        # ms between empty answers, doubled each time
cdef int64_t LONGEST_PAUSE = 200
cdef int32_t ENDS_EARLY_LIMIT = 20  # answers; a new leader's high watermark may lag for a moment
cdef enum:
    BATCH_LIMIT = 128 << 20  # bytes; brokers take requests up to 100 MiB by default
    PACKING = 1024           # bytes by which a codec may make incompressible records larger
    FRONT = 21               # bytes before a record's body, at most
    GROWTH = 2               # by which those of one grow, mostly: its number is larger
    MAGIC_AT = 16            # in every format; attributes follow it in v0 and v1


# What a partition's assignment can end as; the stub has the same as a type.
ENDINGS = frozenset((
    "done", "stopped", "lost",
    # of the source's batches
    "malformed", "corrupt", "unknown-codec", "partitioner",
    # of the source's log
    "source-error", "short", "empty", "open-transaction", "diverged", "elsewhere",
    # of the target
    "target-error", "foreign-writer",
))

# A batch the target refused: records and bytes of it, whether it was compressed, whether it had
# records of several of the source's batches, and the source offset after its last record.
Refusal = namedtuple("Refusal", "records size compressed joined source_next")

# A batch whose answer is not known: the target partition, the number after its last record, its
# records and bytes, and whether it was compressed.
Unanswered = namedtuple("Unanswered", "partition behind records size compressed")


cdef inline bint over_budget(SlabPool pool, Slab* slab) noexcept:
    """Whether more is lent out than may be, this slab aside: it is fetched data that has become
    larger, and something of it is always on its way to the target.
    """
    return pool.in_use - slab.capacity > pool.limit


cdef class PartitionCopy:
    """What a lane needs to know of one partition, and how far it is.

    ``end`` is exclusive, −1 follows for ever. ``start`` is the source offset to fetch from, and
    ``mapped`` the one at which the durable map has record number ``counter``: before ``start``
    where holes were passed since, and then a segment is due. ``known`` are the durable segments
    behind ``counter``, as (source, counter): those are not reported again, for a report voids all
    that follow, and records of an earlier session may still be on their way behind them.
    ``base_target`` is the target offset of record number 0. One object serves one assignment to a
    lane and is not used again. ``batch_limit`` is the target topic's max.message.bytes.
    Before the source offset ``apart_until`` no batch is joined with another, and before
    ``single_until`` every record has a batch of its own: the target refused a batch of several,
    and the cause may be in one of them only. With ``unpack`` no compressed batch passes: the
    target compresses batches anew and judges what they come to then.
    ``epoch`` is the last leader epoch seen before ``start``, ``fetched_epoch`` that of the batch
    which ends there; −1 unknown. ``known_epochs`` are those that are stored, as (source offset,
    epoch), ``new_epochs`` those up to ``start`` that are not stored yet.
    ``transaction_limit``: ms to wait at the last stable offset for an open transaction.

    With ``split``, records go to any partition of the target topic, each of which has a counter of
    its own: then those of ``split`` count, ``mapped``, ``counter``, ``base_target`` and ``known``
    say nothing, and strides are reported instead of segments.
    """

    def __init__(self, str topic, int32_t partition, *, bytes source_name, bytes source_id,
                 bytes target_name, int32_t leader_epoch, int64_t start, int64_t end,
                 int64_t mapped, int64_t counter, int64_t base_target, int64_t producer_id,
                 int16_t producer_epoch, known=(), Py_ssize_t batch_limit=BATCH_LIMIT,
                 int64_t apart_until=0, int64_t single_until=0, bint unpack=False,
                 int32_t epoch=-1, int32_t fetched_epoch=-1, known_epochs=(), new_epochs=(),
                 int64_t transaction_limit=10_000,
                 Split split=None):
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
        if split is None:
            self.only = Branch(self, target_name, partition, counter, base_target, 0)
            self.branches = [self.only]
        else:
            self.branches = [
                Branch(self, target_name, number, at, -1, have)
                for number, (at, have) in enumerate(zip(split.counters, split.have))
            ]
        self.split = split
        self.strides = deque()
        if self.next_known <= counter:
            raise ValueError("known segments lie behind the counter")
        self.readable = start
        self.end = end
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.batch_limit = batch_limit
        self.apart_until = max(apart_until, single_until)
        self.single_until = single_until
        self.unpack = unpack
        self.unanswered = []
        self.epoch = epoch
        self.fetched_epoch = fetched_epoch
        self.seen = -1
        self.known_epochs = list(known_epochs)
        self.epochs = list(new_epochs)
        self.epoch_due = len(self.epochs) > 0
        self.transaction_limit = transaction_limit
        self.empty_since = self.held_since = self.held_at = -1
        self.high_watermark = start
        self.gate = INT64_MAX
        self.gates = []

    @property
    def acked_counter(self):
        """The number of the next record to be acknowledged."""
        return (<Branch> self.branches[0]).acked_counter

    @property
    def counters(self):
        """For each target partition, the number of the next record cut."""
        return [(<Branch> branch).counter for branch in self.branches]

    @property
    def arrivals(self):
        """For each target partition (offset, number): the log before that offset, −1 for unknown,
        has all our records before that number.
        """
        return [((<Branch> branch).acked_offset, (<Branch> branch).acked_counter)
                for branch in self.branches]

    cdef int begin_copying(self, Rebatcher rebatcher) except -1:
        cdef Branch branch
        self.rebatcher = rebatcher
        for number, branch in enumerate(self.branches):
            branch.records = rebatcher.writer(number)
        return 0

    cdef int map_records(self, int64_t offset, int32_t count, int64_t counter,
                         Segments segments) except -1:
        """Add a segment unless the durable map has ``count`` records from number ``counter`` on
        come from the source offset ``offset`` on.
        """
        if self.next_known == counter:
            self.expected_source = self.known.popleft()[0]
            self.next_known = self.known[0][1] if self.known else INT64_MAX
        if offset != self.expected_source or self.next_known < counter + count:
            self.known.clear()
            self.next_known = INT64_MAX
            segments.add(offset, counter)
        return 0

    def confirm(self, int64_t source):
        """Open the gate at this source offset: the segments, the leader epochs or the stride that
        were reported with it are durable. Only the lane's thread may call it.
        """
        if source in self.gates:
            self.gates.remove(source)
            self.gate = min(self.gates) if self.gates else INT64_MAX

    cdef int finish(self, str ending, str side, int code, int64_t offset, str message,
                    bint drain) except -1:
        """Stop; the first reason counts, and one that may not drain overrules one that may. Only
        this method sets what a partition ends as: one of ``ENDINGS``, else ``ValueError``.
        """
        if ending not in ENDINGS:
            raise ValueError(f"a partition cannot end as {ending}")
        if self.ending is None or (self.drain and not drain):
            self.ending = ending
            self.end_side = side
            self.end_code = code
            self.end_offset = offset
            self.end_message = message
            self.drain = drain
        return 0

    cdef Stride absorb(self, FetchedPartition* fetched, FetchDecoder decoder, Slab* slab,
                       SlabPool pool, bint read_committed, bint check_crc, Segments segments):
        """Cut one partition's fetched slice and queue what can be produced.

        Segment starts found on the way are added to ``segments``; the result is a new stride, if
        there is one.
        """
        cdef int64_t before = self.position
        cdef Reader r = reader(fetched.records, fetched.records_size)
        cdef Stride stride = Stride(before)
        cdef SliceSizes sizes = SliceSizes(0, 0, 0)
        cdef Branch branch
        for branch in self.branches:
            branch.records.reset()  # a slice that failed may have left some of another partition
            branch.joined = False
        self.rebatcher.retracer.begin()
        self.stride = stride
        if self.rebatcher.weighs:
            sizes = self.rebatcher.measure(r)
        self.merging = (self.position >= self.apart_until
                        and self.rebatcher.pays(&sizes, self.merging))
        self.wants_linger = (self.end < 0 and fetched.records_size < self.rebatcher.batch_bytes
                             and (self.merging or is_single_small(&sizes)
                                  or self.split is not None))
        try:
            self.take_batches(&r, fetched, decoder, slab, pool, read_committed, check_crc, segments)
        except BrokenBatch as error:
            self.finish(error.ending, "source", 2 if error.ending == "corrupt" else 0,
                        self.broken_at, str(error), True)
        self.close_batches(pool)
        self.rebatcher.unpacked = self.rebatcher.packed = None
        if segments.gate >= 0:
            self.gates.append(segments.gate)
            self.gate = min(self.gates)
        if stride.left:
            stride.end = self.position
            stride.counters = self.counters
            self.strides.append(stride)
            self.gates.append(before)
            self.gate = min(self.gates)
        if self.position > before:
            self.alone = False
            self.empty_alone = self.ends_early = 0
            self.empty_since = -1
        elif fetched.records_size and self.ending is None and not over_budget(pool, slab):
            self.partial(&r)
        return stride if stride.left else None

    cdef int take_batches(self, Reader* r, FetchedPartition* fetched, FetchDecoder decoder,
                          Slab* slab, SlabPool pool, bint read_committed, bint check_crc,
                          Segments segments) except -1:
        """Every whole batch of the slice, up to ``end``; but where what is built takes more memory
        than there is, the rest is fetched again later. Raises ``BrokenBatch``.
        """
        cdef BatchView view
        cdef Item item
        cdef int outcome
        cdef int32_t next_abort = 0
        cdef bint good, left_out
        cdef set aborted = None
        while (self.end < 0 or self.position < self.end) and not over_budget(pool, slab):
            outcome = cut(r, &view)
            if outcome != CUT_BATCH:
                if outcome == CUT_BROKEN:
                    return self.finish("malformed", "source", 0, self.position,
                                       "a batch of an impossible length", True)
                break
            if view.kind == MALFORMED:
                return self.finish("malformed", "source", 0, max(self.position, view.base_offset),
                                   "a batch whose header fields contradict each other", True)
            if view.next_offset <= self.position:
                continue  # the broker may start with batches before the asked offset
            self.note_epoch(&view)
            if view.kind == OLD_MAGIC:
                self.gate_epoch(segments)
                self.take_messages(&view, pool, segments)
                continue
            if self.end >= 0 and view.base_offset >= self.end:
                self.position = self.end
                break
            while (read_committed and next_abort < fetched.aborted_count
                    and decoder.aborted[next_abort].first_offset < view.next_offset):
                if aborted is None:
                    aborted = set()
                aborted.add(decoder.aborted[next_abort].producer_id)
                next_abort += 1
            left_out = (view.kind == CONTROL or view.kind == EMPTY
                        or (aborted is not None and view.attributes & TRANSACTIONAL_BIT
                            and view.producer_id in aborted))
            # Of what is left out the target sees nothing, so nobody else would find the damage.
            if check_crc or left_out:
                with nogil:
                    good = crc_matches(&view)
                if not good:
                    return self.finish("corrupt", "source", 2, view.base_offset,
                                       "the batch does not match its CRC-32C", True)
            if left_out:
                if view.kind == CONTROL and aborted is not None and control_type(&view) == 0:
                    aborted.discard(view.producer_id)
                self.skipped += 1
                self.position = view.next_offset
                continue
            if view.kind == UNKNOWN_CODEC:
                return self.finish("unknown-codec", "source", 0, view.base_offset,
                                   f"{view.attributes & CODEC_BITS}", True)
            if self.wants_sample and view.attributes & CODEC_BITS:
                self.sample = <bytes> view.data[:view.size]
                self.wants_sample = False
            self.largest = max(self.largest, view.size)
            self.gate_epoch(segments)
            if not self.passes(&view):
                self.take_records(&view, pool, segments)
                continue
            self.close_batch(self.only, pool)
            self.map_records(view.base_offset, view.count, self.only.counter, segments)
            rewrite(&view, item.header, self.producer_id, self.producer_epoch,
                    <int32_t> (self.only.counter & SEQUENCE_MASK))
            item.slab = slab
            item.payload = view.data + HEADER_SIZE
            item.payload_size = <int32_t> (view.size - HEADER_SIZE)
            item.count = view.count
            item.counter = self.only.counter
            item.source_base = view.base_offset
            item.source_next = view.next_offset
            item.opens_at = view.next_offset
            item.joined = False
            self.only.push(&item)
            self.passed += 1
            self.only.counter += view.count
            self.position = self.expected_source = view.next_offset
        return 0

    cdef int note_epoch(self, const BatchView* view) except -1:
        """Keep the leader epoch of a batch: it tells later whether the source's log is still the
        one that was copied (KIP-101, KIP-320). A new one is durable before the records with it
        are sent, or the older one would end before them.
        """
        cdef int64_t source
        cdef int32_t epoch
        if view.kind == OLD_MAGIC:
            self.fetched_epoch = -1
            self.seen = view.next_offset
            return 0
        self.fetched_epoch = view.leader_epoch
        self.seen = view.next_offset
        if view.leader_epoch <= self.epoch:
            return 0
        self.epoch = view.leader_epoch
        for source, epoch in self.known_epochs:
            if epoch == view.leader_epoch and source <= view.base_offset:
                return 0
        self.known_epochs = []  # what is reported replaces those from there on
        # It may have begun at any offset since the batch before, if others were removed.
        self.epochs.append((min(self.position, view.base_offset), view.leader_epoch))
        self.epoch_due = True
        return 0

    cdef int gate_epoch(self, Segments segments) except -1:
        """Hold the records that follow back until a new epoch is durable; strides do so anyway."""
        if self.epoch_due and self.split is None:
            segments.begin_gate(self.position)
        self.epoch_due = False
        return 0

    cdef bint passes(self, const BatchView* view) noexcept:
        """Whether a batch goes to the target as it is, but for its header."""
        cdef int codec = view.attributes & CODEC_BITS
        if (self.split is not None or view.kind != DENSE or view.size > self.batch_limit
                or view.base_offset < self.position
                or (self.end >= 0 and view.next_offset > self.end)):
            return False
        if self.rebatcher.choose_codec(codec) != codec or (self.unpack and codec):
            return False
        if view.base_offset < self.single_until and view.count > 1:
            return False
        return not self.merging or view.size >= self.rebatcher.batch_bytes // 2

    cdef Py_ssize_t fits(self) noexcept:
        """Bytes of records that the target takes in a batch, whatever a codec makes of them."""
        return max(1, self.batch_limit - HEADER_SIZE - PACKING - self.batch_limit // 256)

    cdef Py_ssize_t room(self) noexcept:
        """Bytes of records for a batch of ours."""
        return min(self.rebatcher.batch_bytes, self.fits())

    cdef bint is_full(self, Branch branch, RecordWriter records, Py_ssize_t more,
                      Py_ssize_t room) noexcept nogil:
        """Whether the batch being built takes no further record, of ``more`` bytes."""
        return records.count and (records.size() + more + FRONT > room
                                  or branch.built_until <= self.single_until)

    cdef int take_records(self, const BatchView* view, SlabPool pool, Segments segments) except -1:
        """Move the records of a batch v2 into batches of our own. Raises ``BrokenBatch``."""
        cdef RecordWalk w
        cdef RecordView record
        cdef Branch branch
        cdef RecordWriter records
        cdef int outcome
        cdef int64_t offset = 0, timestamp = 0
        cdef Py_ssize_t room = self.room(), size
        cdef bint traced
        self.broken_at = w.base = w.least = view.base_offset
        w.i, w.count = 0, view.count
        w.behind = view.next_offset
        w.first, w.end = self.position, self.end
        w.dense = view.count == <int64_t> view.last_offset_delta + 1
        w.append_time = view.attributes & TIMESTAMP_TYPE_BIT
        w.base_timestamp, w.max_timestamp = view.base_timestamp, view.max_timestamp
        self.rebatcher.unpack(view, &w.r)
        traced = (self.split is None and self.rebatcher.can_retrace(view)
                  and view.base_offset >= self.single_until)
        if traced:  # then it stays in one piece
            size = left(&w.r) + GROWTH * view.count + FRONT
            if self.only.records.size() + size > room:
                self.close_batch(self.only, pool)
            room = max(room, min(size, self.fits()))
        self.begin(self.rebatcher.choose_codec(view.attributes & CODEC_BITS), pool)
        if self.split is not None:
            outcome = self.split.collect(&w)
            self.distribute(pool)
        else:
            branch, records = self.only, self.only.records
            if traced:
                self.rebatcher.retracer.source(records.buffer.data, records.size())
            with nogil:
                outcome = walk(&w, &record, &offset, &timestamp)
                while outcome == RECORD_OK:
                    if self.is_full(branch, records, record.body_size, room):
                        with gil:
                            self.close_batch(branch, pool)
                            traced = False
                    self.put(branch, records, offset, timestamp, record.body, record.body_size,
                             segments)
                    if traced:
                        self.rebatcher.retracer.keep(record.body - w.r.data,
                                                     records.size() - record.body_size)
                    outcome = walk(&w, &record, &offset, &timestamp)
            if traced:
                self.rebatcher.retrace(view, records)
        if outcome == RECORD_BROKEN:
            self.broken_at = w.least
            raise BrokenBatch("malformed", "the batch's records do not come to what it says")
        self.rebatched += 1
        self.position = self.end if outcome == WALK_OVER else view.next_offset
        return 0

    cdef int take_messages(self, const BatchView* view, SlabPool pool, Segments segments) except -1:
        """The same for an entry of a message set v0 or v1."""
        cdef Reader head = reader(view.data, view.size)
        cdef Py_ssize_t room = self.room()
        cdef int64_t offset, timestamp
        cdef bytes body
        cdef Branch branch = self.branches[0]
        cdef RecordWriter records = branch.records
        self.broken_at = max(self.position, view.base_offset)
        messages = self.rebatcher.messages(view)
        offset = messages[len(messages) - 1][0]
        if offset > view.base_offset:
            raise BrokenBatch("malformed", f"offset {offset} inside the set that ends at "
                              f"{view.base_offset} is out of order")
        take(&head, MAGIC_AT + 1)
        self.begin(self.rebatcher.choose_codec(read_i8(&head) & CODEC_BITS), pool)
        for offset, timestamp, body in messages:
            if 0 <= self.end <= offset:
                self.position = self.end
                break
            if offset < self.position:
                continue
            if self.split is not None:
                self.split.add_body(offset, timestamp, body, len(body))
                continue
            if self.is_full(branch, records, len(body), room):
                self.close_batch(branch, pool)
            self.put(branch, records, offset, timestamp, body, len(body), segments)
        else:
            self.position = view.next_offset
        if self.split is not None:
            self.distribute(pool)
        self.rebatched += 1
        return 0

    cdef int put(self, Branch branch, RecordWriter records, int64_t offset, int64_t timestamp,
                 const uint8_t* body, Py_ssize_t body_size, Segments segments) except -1 nogil:
        """Put the record at this source offset into the batch being built."""
        if self.next_known != INT64_MAX:
            with gil:
                self.map_records(offset, 1, branch.counter, segments)
        elif offset != self.expected_source:
            segments.add(offset, branch.counter)
        if records.count == 0:
            branch.built_from = offset
        records.add(timestamp, body, body_size)
        branch.counter += 1
        branch.built_until = self.expected_source = offset + 1
        return 0

    cdef int distribute(self, SlabPool pool) except -1:
        """Put the collected records into the batches of the partitions they go to, but for those
        that are there already. Raises ``BrokenBatch`` where the partitioner fails.
        """
        cdef Split split = self.split
        cdef Routed* one
        cdef Branch branch
        cdef Py_ssize_t i, room = self.room()
        split.route(self.partition)
        for i in range(split.count):
            one = &split.entries[i]
            branch = self.branches[one.target]
            branch.counter += 1
            if branch.counter <= branch.have:
                continue
            if self.is_full(branch, branch.records, one.body_size, room):
                branch.counter -= 1
                self.close_batch(branch, pool)
                branch.counter += 1
            if branch.records.count == 0:
                branch.built_from = one.offset
            branch.records.add(one.timestamp, one.body, one.body_size)
            branch.built_until = one.offset + 1
        split.count = 0
        return 0

    cdef int begin(self, int codec, SlabPool pool) except -1:
        """What follows is of the source's next batch, and is compressed like this."""
        cdef Branch branch
        for branch in self.branches:
            if codec != self.rebatcher.codec or branch.built_from < self.apart_until:
                self.close_batch(branch, pool)
            branch.joined = branch.records.count > 0
        self.rebatcher.codec = codec
        return 0

    cdef int close_batches(self, SlabPool pool) except -1:
        cdef Branch branch
        for branch in self.branches:
            self.close_batch(branch, pool)
        return 0

    cdef int close_batch(self, Branch branch, SlabPool pool) except -1:
        """Queue the batch being built, if there is one."""
        cdef RecordWriter records = branch.records
        cdef const uint8_t* payload
        cdef Py_ssize_t size
        cdef Item item
        if records.count == 0:
            return 0
        payload = self.rebatcher.pack(records, &size)
        item.count = records.count
        item.counter = branch.counter - records.count
        item.slab = pool.keep(payload, size)
        item.payload = item.slab.data
        item.payload_size = <int32_t> size
        item.source_base = branch.built_from
        item.source_next = branch.built_until
        item.opens_at = branch.built_until
        item.joined = branch.joined
        if self.split is not None:
            item.stride = self.first_stride + <int64_t> len(self.strides)
            self.stride.left += 1
        branch.joined = False
        compose_header(
            item.header, <int16_t> self.rebatcher.codec, records.count, records.base_timestamp,
            records.max_timestamp, self.producer_id, self.producer_epoch,
            <int32_t> (item.counter & SEQUENCE_MASK), item.payload, size,
        )
        branch.push(&item)
        pool.release(item.slab)
        records.reset()
        self.rebatcher.retracer.begin()
        return 0

    cdef int arrived(self, const Item* item) except -1:
        """The target has a batch of ours."""
        cdef Stride stride
        self.records += item.count
        self.bytes += item.payload_size + HEADER_SIZE
        self.batches += 1
        if item.header[22] & CODEC_BITS == 0:
            self.plain_bytes += item.payload_size + HEADER_SIZE
        if self.split is None:
            self.acked = item.source_next
            return 0
        stride = self.strides[item.stride - self.first_stride]
        stride.left -= 1
        while self.strides and (<Stride> self.strides[0]).left == 0:
            self.acked = (<Stride> self.strides.popleft()).end
            self.first_stride += 1
        return 0

    cdef int partial(self, Reader* r) except -1:
        """Only an incomplete batch came: ask for this partition alone, then it comes whole."""
        cdef const unsigned char* skipped = take(r, 8)
        cdef int32_t length = read_i32(r) if skipped != NULL else 0
        if length < 0 or length > BATCH_LIMIT:
            return self.finish("malformed", "source", 0, self.position,
                               f"a batch that claims {length} bytes", True)
        self.largest = max(self.largest, <Py_ssize_t> length + 12)
        self.empty_alone = self.empty_alone + 1 if self.alone else 0
        self.alone = True
        if self.empty_alone > EMPTY_ALONE_LIMIT:
            self.finish("malformed", "source", 0, self.position,
                        "the broker keeps sending an incomplete batch", True)
        return 0

    cdef int nothing(self, int64_t stable, int64_t high, bint was_alone, int64_t now) except -1:
        """An empty answer without error or throttle. ``stable`` is the end of what may be read,
        ``high`` the high watermark.

        An empty answer is no proof. Where the broker says that there is more, it may lie in
        remote storage that did not answer in time, or have found no room in an answer to several
        partitions; or its offsets were removed. So this partition is asked for alone, and after
        ``EMPTY_LIMIT`` of nothing but empty answers the caller has to find out why.
        """
        if self.end >= 0 and high < self.end:
            self.alone = False
            self.ends_early += 1
            if self.ends_early >= ENDS_EARLY_LIMIT:
                self.finish("short", "source", 0, self.position,
                            f"the source's log ends at {high} now, not at {self.end}", True)
        elif self.position < stable:
            if self.empty_since < 0:
                self.empty_since = now
                self.pause = FIRST_PAUSE
            self.alone = True
            self.ends_early = 0
            self.empty_alone = self.empty_alone + 1 if was_alone else 0
            self.not_before = now + self.pause
            self.pause = min(2 * self.pause, LONGEST_PAUSE)
            if self.empty_alone >= EMPTY_ALONE_LIMIT and now - self.empty_since >= EMPTY_LIMIT:
                if stable < (self.end if self.end >= 0 else high):
                    self.hold(high, now)  # after a hole, more lies behind an open transaction
                elif self.end >= 0:
                    self.finish("empty", "source", 0, self.position, None, True)
        elif self.position < high:
            self.hold(high, now)
        return 0

    cdef int hold(self, int64_t high, int64_t now) except -1:
        """What follows is not stable: an open transaction lies before it."""
        if self.held_at != self.position:
            self.held_at = self.position
            self.held_since = now
        if self.end >= 0 and now - self.held_since >= self.transaction_limit:
            self.finish("open-transaction", "source", 0, self.position, None, True)
        return 0
