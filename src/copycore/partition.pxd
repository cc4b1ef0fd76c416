from libc.stdint cimport int32_t, int64_t

from copycore.batch cimport BatchView
from copycore.branch cimport Item, Sender
from copycore.builder cimport BatchRules, Builder
from copycore.cursor cimport Reader
from copycore.empty_answers cimport EmptyAnswers
from copycore.frames cimport FetchDecoder, FetchedPartition
from copycore.numbering cimport Numbering
from copycore.segments cimport Segments
from copycore.sieve cimport Sieve
from copycore.split cimport Stride
from copycore.transport cimport Slab, SlabPool


cdef class PartitionCopy(Sender):
    cdef readonly str topic
    cdef readonly int32_t partition
    cdef readonly bytes source_name
    cdef readonly bytes source_id       # 16 bytes
    cdef readonly bytes target_name
    cdef readonly list branches         # those of its numbering
    cdef Numbering numbering
    cdef BatchRules rules
    cdef readonly int32_t leader_epoch  # of the source, for fencing
    cdef readonly int64_t end           # exclusive source offset; −1 follows
    cdef readonly int64_t position      # next source offset to fetch
    cdef readonly int64_t acked         # source offset up to which the target has all
    cdef readonly int64_t records
    cdef readonly int64_t bytes
    cdef readonly int64_t plain_bytes   # those of uncompressed batches among them
    cdef readonly int64_t batches
    cdef readonly int64_t skipped
    cdef readonly int64_t passed        # source batches that went through unchanged
    cdef readonly int64_t rebatched     # and those whose records were put into new ones
    cdef readonly int64_t readable      # end the source last showed us (LSO or high watermark)
    cdef readonly bint heard            # the source has answered for it, without an error
    cdef public bint wants_sample       # keep a copy of the next compressed batch
    cdef readonly object sample
    cdef readonly str ending            # why it stops; None while it runs
    cdef readonly str end_side
    cdef readonly int end_code
    cdef readonly int64_t end_offset
    cdef readonly str end_message
    cdef readonly object refused        # the Refusal that it ended with, or None
    cdef readonly list unanswered       # of lost or doubtful answers, each an Unanswered

    cdef EmptyAnswers empty
    cdef Sieve sieve                    # the lane's
    cdef Builder builder                # the lane's
    cdef bint merging                   # small batches into larger ones
    cdef bint wants_linger              # more records would have made the last batch larger
    cdef bint unpack                    # no compressed batch passes
    cdef readonly int64_t seen          # source offset after the last batch fetched; −1 none
    cdef readonly list epochs           # new ones: (source offset of the first batch, leader epoch)
    cdef list known_epochs              # those that are durable already
    cdef int32_t epoch                  # the highest of a batch so far; −1 unknown
    cdef int32_t fetched_epoch          # of the last batch fetched
    cdef bint epoch_due                 # a new one is to be made durable with the next record
    cdef readonly int64_t high_watermark  # of the source, when it was last told
    cdef int64_t broken_at              # source offset of what is being taken apart
    cdef list gates                     # all that are closed, as source offsets
    cdef Py_ssize_t largest             # largest batch seen, bytes
    cdef Py_ssize_t portion             # bytes asked last, unless caught up then
    cdef bint asked
    cdef bint ended                     # reported

    cdef int begin_copying(self, Sieve sieve, Builder builder) except -1
    cdef int close_gate(self, int64_t source) except -1
    cdef Stride take_slice(self, FetchedPartition* fetched, FetchDecoder decoder, Slab* slab,
                           SlabPool pool, Segments segments)
    cdef int take_batches(self, Reader* r, Slab* slab, SlabPool pool,
                          Segments segments) except -1
    cdef int note_epoch(self, const BatchView* view) except -1
    cdef int gate_epoch(self, Segments segments) except -1
    cdef bint passes(self, const BatchView* view) noexcept
    cdef int take_records(self, const BatchView* view, Segments segments) except -1
    cdef int take_messages(self, const BatchView* view, Segments segments) except -1
    cdef int arrived(self, const Item* item) except -1
    cdef int partial(self, Reader* r) except -1
    cdef int nothing(self, int64_t stable, int64_t high, bint was_alone, int64_t now) except -1
    cdef int finish(self, str ending, str side, int code, int64_t offset, str message,
                    bint drain) except -1
