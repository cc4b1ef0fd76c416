"""Batches being built from the records of others: one draft for each branch of a partition.

A lane has one builder, which its partitions use one after the other, each for one fetched slice.
Nothing is kept in it between two slices, so merging makes no record wait for another.
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t

from copycore.batch cimport (
    CODEC_BITS, HEADER_SIZE, SEQUENCE_MASK, BatchView, crc_matches,
)
from copycore.branch cimport Item
from copycore.codec cimport compress, decompress
from copycore.cursor cimport Reader, reader
from copycore.rebatch cimport Rebatcher
from copycore.records cimport RecordWriter, compose_header
from copycore.retrace cimport Retracer
from copycore.split cimport Stride
from copycore.transport cimport SlabPool

from copycore.rebatch import BrokenBatch

cdef enum:
    PACKING = 1024           # bytes by which a codec may make incompressible records larger


cdef class Draft:
    """A batch being built, which goes into the queue of a branch."""

    def __cinit__(self):
        self.records = RecordWriter()


cdef class Builder:
    """Puts records into batches as a ``Rebatcher`` says. Only the lane's thread may call it."""

    def __init__(self, Rebatcher rebatcher not None):
        self.rebatcher = rebatcher
        self.drafts = []
        self.retracer = Retracer()

    cdef int begin_slice(self, const BatchRules* rules, list branches, SlabPool pool,
                         Stride stride, int64_t stride_number) except -1:
        """Build batches for these branches from now on. ``rules`` has to stay where it is until
        the slice ends. ``stride`` counts the batches made from it.
        """
        cdef Draft draft
        cdef Py_ssize_t i
        self.rules = rules
        self.pool = pool
        self.stride, self.stride_number = stride, stride_number
        self.used = len(branches)
        while len(self.drafts) < self.used:
            self.drafts.append(Draft())
        for i in range(self.used):
            draft = self.drafts[i]
            draft.branch = branches[i]
            draft.records.reset()  # a slice that failed may have left some of another partition
            draft.joined = False
        self.retracer.begin()
        return 0

    cdef int end_slice(self) except -1:
        """Queue what is left."""
        self.close_all()
        self.unpacked = self.packed = None
        return 0

    cdef Draft draft(self, Py_ssize_t number):
        """That of the branch with this number."""
        return self.drafts[number]

    cdef Py_ssize_t most(self) noexcept:
        """Bytes of records that the target takes in a batch, whatever a codec makes of them."""
        cdef Py_ssize_t limit = self.rules.batch_limit
        return max(1, limit - HEADER_SIZE - PACKING - limit // 256)

    cdef Py_ssize_t room(self) noexcept:
        """Bytes of records for a batch of ours."""
        return min(self.rebatcher.batch_bytes, self.most())

    cdef bint is_full(self, Draft draft, RecordWriter records, Py_ssize_t more,
                      Py_ssize_t room) noexcept nogil:
        """Whether a draft, which has ``records``, takes no further record of ``more`` bytes."""
        return records.count and (records.size() + more + FRONT > room
                                  or draft.until <= self.rules.single_until)

    cdef int unpack(self, const BatchView* view, Reader* out) except -1:
        """Set ``out`` to the records of a batch v2, decompressed; they stay until the next call.

        Bytes that are encoded anew have no other check than this one, so the CRC is verified
        here, always. Raises ``BrokenBatch``.
        """
        cdef int codec = view.attributes & CODEC_BITS
        cdef const uint8_t* payload = view.data + HEADER_SIZE
        cdef Py_ssize_t size = view.size - HEADER_SIZE
        if not crc_matches(view):
            raise BrokenBatch("corrupt", "the batch does not match its CRC-32C")
        if codec:
            try:
                self.unpacked = decompress(codec, payload, size, self.rebatcher.cap)
            except ValueError as error:
                raise BrokenBatch("malformed", str(error)) from None
            payload = <const uint8_t*> <const char*> <bytes> self.unpacked
            size = len(<bytes> self.unpacked)
        out[0] = reader(payload, size)
        return 0

    cdef int begin_batch(self, int source_codec) except -1:
        """What follows is of the source's next batch, which is compressed like this."""
        cdef Draft draft
        cdef Py_ssize_t i
        cdef int codec = self.rebatcher.choose_codec(source_codec)
        for i in range(self.used):
            draft = self.drafts[i]
            if codec != self.codec or draft.first < self.rules.apart_until:
                self.close(draft)
            draft.joined = draft.records.count > 0
        self.codec = codec
        return 0

    cdef int close_all(self) except -1:
        cdef Py_ssize_t i
        for i in range(self.used):
            self.close(self.drafts[i])
        return 0

    cdef int close(self, Draft draft) except -1:
        """Queue the batch of a draft, if it has records."""
        cdef RecordWriter records = draft.records
        cdef const uint8_t* payload
        cdef Py_ssize_t size
        cdef Item item
        if records.count == 0:
            return 0
        payload = self.pack(records, &size)
        item.count = records.count
        item.counter = draft.branch.counter - records.count
        item.slab = self.pool.keep(payload, size)
        item.payload = item.slab.data
        item.payload_size = <int32_t> size
        item.source_base = draft.first
        item.source_next = item.opens_at = draft.until
        item.joined = draft.joined
        item.stride = self.stride_number
        self.stride.left += 1
        draft.joined = False
        compose_header(
            item.header, <int16_t> self.codec, records.count, records.base_timestamp,
            records.max_timestamp, self.rules.producer_id, self.rules.producer_epoch,
            <int32_t> (item.counter & SEQUENCE_MASK), item.payload, size,
        )
        draft.branch.push(&item)
        self.pool.release(item.slab)
        records.reset()
        self.retracer.begin()
        return 0

    cdef const uint8_t* pack(self, RecordWriter records, Py_ssize_t* size) except NULL:
        """These records compressed, where they are to be; what it returns stays until the next
        call and as long as they.
        """
        if self.retracer.done:
            self.retracer.finish(records.buffer.data, records.size())
            size[0] = self.retracer.out.pos
            return self.retracer.out.data
        if self.codec == 0:
            size[0] = records.size()
            return records.buffer.data
        self.packed = compress(self.codec, records.buffer.data, records.size(),
                               self.rebatcher.level)
        size[0] = len(<bytes> self.packed)
        return <const uint8_t*> <const char*> <bytes> self.packed

    cdef bint can_retrace(self, const BatchView* view) noexcept:
        """Whether the records of a batch may stay in one piece, compressed the way they were."""
        return (self.rebatcher.can_retrace(view)
                and view.base_offset >= self.rules.single_until)

    cdef int retrace(self, const BatchView* view, RecordWriter records) except -1:
        """Compress what was unpacked and is in ``records`` now."""
        return self.retracer.retrace(
            view.data + HEADER_SIZE, view.size - HEADER_SIZE, len(<bytes> self.unpacked),
            records.buffer.data, records.size())
