"""One partition's way through a lane: fetched slice → batches to produce → acknowledgements.

A batch that can go through unchanged gets a new header and stays where it is in memory; of any
other the records are put into batches of our own. What is left out is the ``sieve``'s business,
what number a record has the ``numbering``'s, and what batches are made of records the
``builder``'s. Here is how far the partition is, what waits for the state at a *gate*, and how it
ends.

Every record gets a number, its *counter*. What has to be durable on the target before a record
(a segment of the map, a stride, a leader epoch) is reported with the source offset from which
records wait. They wait at that gate until the caller says that it is durable.
"""

from collections import namedtuple

from libc.stdint cimport INT64_MAX, int16_t, int32_t, int64_t

from copycore.batch cimport (
    CODEC_BITS, CUT_BATCH, CUT_BROKEN, DENSE, HEADER_SIZE, MALFORMED, OLD_MAGIC,
    TIMESTAMP_TYPE_BIT, UNKNOWN_CODEC, BatchView, cut,
)
from copycore.branch cimport Branch, Item, Sender
from copycore.builder cimport BatchRules, Builder
from copycore.cursor cimport Reader, read_i8, read_i32, reader, take
from copycore.empty_answers cimport (
    ENDS_EARLY, NOTHING_COMES, TRANSACTION_OPEN, EmptyAnswers,
)
from copycore.frames cimport FetchDecoder, FetchedPartition
from copycore.numbering cimport KeptNumbering, SplitNumbering
from copycore.rebatch cimport SliceSizes, is_single_small
from copycore.records cimport RECORD_BROKEN, WALK_OVER, RecordWalk
from copycore.segments cimport Segments
from copycore.sieve cimport DAMAGED, LEFT_OUT, Sieve
from copycore.split cimport Split, Stride
from copycore.transport cimport Slab, SlabPool

from copycore.rebatch import BrokenBatch

cdef enum:
    BATCH_LIMIT = 128 << 20  # bytes; brokers take requests up to 100 MiB by default
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


cdef class PartitionCopy(Sender):
    """What a lane needs to know of one partition, and how far it is.

    ``end`` is exclusive; −1 follows the source. ``start`` is the source offset to fetch from, and
    ``mapped`` the one at which the durable map has record number ``counter``: before ``start``
    where holes were passed since, and then a segment is due. ``known`` are the durable segments
    after ``counter``, as (source, counter): those are not reported again, for a report voids all
    that follow, and records of an earlier session may still be on their way after them.
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
        if split is None:
            self.numbering = KeptNumbering(
                self, target_name, partition, mapped=mapped, counter=counter, base=base_target,
                known=known)
        else:
            self.numbering = SplitNumbering(self, target_name, partition, split)
        self.branches = self.numbering.branches
        self.rules = BatchRules(
            producer_id, producer_epoch, batch_limit, max(apart_until, single_until), single_until)
        self.readable = start
        self.end = end
        self.unpack = unpack
        self.unanswered = []
        self.epoch = epoch
        self.fetched_epoch = fetched_epoch
        self.seen = -1
        self.known_epochs = list(known_epochs)
        self.epochs = list(new_epochs)
        self.epoch_due = len(self.epochs) > 0
        self.empty = EmptyAnswers(end, transaction_limit)
        self.high_watermark = start
        self.gates = []

    @property
    def held_at(self):
        """The source offset at which an open transaction holds the partition; −1 for none."""
        return self.empty.held_at

    @property
    def held_since(self):
        """Since when, in ms of the lane's clock."""
        return self.empty.held_since

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

    cdef int begin_copying(self, Sieve sieve, Builder builder) except -1:
        """Take what the lane has one of."""
        self.sieve = sieve
        self.builder = builder
        return 0

    def confirm(self, int64_t source):
        """Open the gate at this source offset: the segments, the leader epochs or the stride that
        were reported with it are durable. Only the lane's thread may call it.
        """
        if source in self.gates:
            self.gates.remove(source)
            self.gate = min(self.gates) if self.gates else INT64_MAX

    cdef int close_gate(self, int64_t source) except -1:
        """Have records from this source offset on wait until it is confirmed."""
        self.gates.append(source)
        self.gate = min(self.gates)
        return 0

    cdef int finish(self, str ending, str side, int code, int64_t offset, str message,
                    bint drain) except -1:
        """Stop; the first reason counts, and one that may not drain overrules it (INV-7). Only
        this method sets what a partition ends as: one of ``ENDINGS``, else ``ValueError``.
        """
        if ending not in ENDINGS:
            raise ValueError(f"a partition cannot end as {ending}")
        if self.ending is None or (self.sends and not drain):
            self.ending = ending
            self.end_side = side
            self.end_code = code
            self.end_offset = offset
            self.end_message = message
            self.sends = drain
        return 0

    cdef Stride take_slice(self, FetchedPartition* fetched, FetchDecoder decoder, Slab* slab,
                           SlabPool pool, Segments segments):
        """Cut one partition's fetched slice and queue what can be produced.

        Segments that begin in it are added to ``segments``; the result is a new stride, if there
        is one.
        """
        cdef int64_t before = self.position
        cdef Reader r = reader(fetched.records, fetched.records_size)
        cdef Stride stride = Stride(before)
        cdef SliceSizes sizes = SliceSizes(0, 0, 0)
        self.sieve.begin(fetched, decoder)
        self.builder.begin_slice(&self.rules, self.branches, pool, stride,
                                 self.numbering.next_stride())
        if self.builder.rebatcher.weighs:
            sizes = self.builder.rebatcher.measure(r)
        self.merging = (self.position >= self.rules.apart_until
                        and self.builder.rebatcher.pays(&sizes, self.merging))
        self.wants_linger = (
            self.end < 0 and fetched.records_size < self.builder.rebatcher.batch_bytes
            and (self.merging or is_single_small(&sizes) or not self.numbering.passes))
        try:
            self.take_batches(&r, slab, pool, segments)
        except BrokenBatch as error:
            self.finish(error.ending, "source", 2 if error.ending == "corrupt" else 0,
                        self.broken_at, str(error), True)
        self.builder.end_slice()
        if segments.gate >= 0:
            self.close_gate(segments.gate)
        if self.numbering.keep_stride(stride, self.position):
            self.close_gate(before)
        else:
            stride = None
        if self.position > before:
            self.empty.moved()
        elif fetched.records_size and self.ending is None and not over_budget(pool, slab):
            self.partial(&r)
        return stride

    cdef int take_batches(self, Reader* r, Slab* slab, SlabPool pool,
                          Segments segments) except -1:
        """Every whole batch of the slice, up to ``end``; but where what is built takes more memory
        than there is, the rest is fetched again later. Raises ``BrokenBatch``.
        """
        cdef BatchView view
        cdef int outcome
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
                self.take_messages(&view, segments)
                continue
            if self.end >= 0 and view.base_offset >= self.end:
                self.position = self.end
                break
            outcome = self.sieve.sift(&view)
            if outcome == DAMAGED:
                return self.finish("corrupt", "source", 2, view.base_offset,
                                   "the batch does not match its CRC-32C", True)
            if outcome == LEFT_OUT:
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
                self.take_records(&view, segments)
                continue
            self.numbering.pass_batch(&view, slab, self.builder, segments)
            self.passed += 1
            self.position = view.next_offset
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
        """Hold the records that follow back until a new epoch is durable (INV-21)."""
        if self.epoch_due:
            self.numbering.gate_epoch(self.position, segments)
        self.epoch_due = False
        return 0

    cdef bint passes(self, const BatchView* view) noexcept:
        """Whether a batch goes to the target as it is, but for its header."""
        cdef int codec = view.attributes & CODEC_BITS
        if (not self.numbering.passes or view.kind != DENSE or view.size > self.rules.batch_limit
                or view.base_offset < self.position
                or (self.end >= 0 and view.next_offset > self.end)):
            return False
        if self.builder.rebatcher.choose_codec(codec) != codec or (self.unpack and codec):
            return False
        if view.base_offset < self.rules.single_until and view.count > 1:
            return False
        return not self.merging or view.size >= self.builder.rebatcher.batch_bytes // 2

    cdef int take_records(self, const BatchView* view, Segments segments) except -1:
        """Move the records of a batch v2 into batches of our own. Raises ``BrokenBatch``."""
        cdef RecordWalk w
        cdef int outcome
        self.broken_at = w.base = w.least = view.base_offset
        w.i, w.count = 0, view.count
        w.behind = view.next_offset
        w.first, w.end = self.position, self.end
        w.dense = view.count == <int64_t> view.last_offset_delta + 1
        w.append_time = view.attributes & TIMESTAMP_TYPE_BIT
        w.base_timestamp, w.max_timestamp = view.base_timestamp, view.max_timestamp
        self.builder.unpack(view, &w.r)
        outcome = self.numbering.move_records(&w, view, self.builder, segments)
        if outcome == RECORD_BROKEN:
            self.broken_at = w.least
            raise BrokenBatch("malformed", "the batch's records do not come to what it says")
        self.rebatched += 1
        self.position = self.end if outcome == WALK_OVER else view.next_offset
        return 0

    cdef int take_messages(self, const BatchView* view, Segments segments) except -1:
        """The same for an entry of a message set v0 or v1."""
        cdef Reader head = reader(view.data, view.size)
        cdef int64_t offset, timestamp
        cdef bytes body
        self.broken_at = max(self.position, view.base_offset)
        messages = self.builder.rebatcher.messages(view)
        offset = messages[len(messages) - 1][0]
        if offset > view.base_offset:
            raise BrokenBatch("malformed", f"offset {offset} inside the set that ends at "
                              f"{view.base_offset} is out of order")
        take(&head, MAGIC_AT + 1)
        self.builder.begin_batch(read_i8(&head) & CODEC_BITS)
        for offset, timestamp, body in messages:
            if 0 <= self.end <= offset:
                self.position = self.end
                break
            if offset < self.position:
                continue
            self.numbering.move_message(offset, timestamp, body, self.builder, segments)
        else:
            self.position = view.next_offset
        self.numbering.end_messages(self.builder)
        self.rebatched += 1
        return 0

    cdef int arrived(self, const Item* item) except -1:
        """The target has a batch of ours."""
        self.records += item.count
        self.bytes += item.payload_size + HEADER_SIZE
        self.batches += 1
        if item.header[22] & CODEC_BITS == 0:
            self.plain_bytes += item.payload_size + HEADER_SIZE
        self.acked = self.numbering.arrived(item, self.acked)
        return 0

    cdef int partial(self, Reader* r) except -1:
        """Only an incomplete batch came."""
        cdef const unsigned char* skipped = take(r, 8)
        cdef int32_t length = read_i32(r) if skipped != NULL else 0
        if length < 0 or length > BATCH_LIMIT:
            return self.finish("malformed", "source", 0, self.position,
                               f"a batch that claims {length} bytes", True)
        self.largest = max(self.largest, <Py_ssize_t> length + 12)
        if self.empty.ask_alone():
            self.finish("malformed", "source", 0, self.position,
                        "the broker keeps sending an incomplete batch", True)
        return 0

    cdef int nothing(self, int64_t stable, int64_t high, bint was_alone, int64_t now) except -1:
        """An empty answer without error or throttle. ``stable`` is the end of what may be read,
        ``high`` the high watermark.
        """
        cdef int outcome = self.empty.note(self.position, stable, high, was_alone, now)
        if outcome == ENDS_EARLY:
            self.finish("short", "source", 0, self.position,
                        f"the source's log ends at {high} now, not at {self.end}", True)
        elif outcome == NOTHING_COMES:
            self.finish("empty", "source", 0, self.position, None, True)
        elif outcome == TRANSACTION_OPEN:
            self.finish("open-transaction", "source", 0, self.position, None, True)
        return 0
