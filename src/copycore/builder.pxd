from libc.stdint cimport int16_t, int64_t, uint8_t

from copycore.batch cimport BatchView
from copycore.branch cimport Branch
from copycore.cursor cimport Reader
from copycore.rebatch cimport Rebatcher
from copycore.records cimport RecordWriter
from copycore.retrace cimport Retracer
from copycore.split cimport Stride
from copycore.transport cimport SlabPool

cdef enum:
    FRONT = 21                 # bytes before a record's body, at most


cdef struct BatchRules:
    # For the batches of one assignment; see PartitionCopy.
    int64_t producer_id
    int16_t producer_epoch
    Py_ssize_t batch_limit     # bytes of a batch that the target takes
    int64_t apart_until        # before it, no batch is joined with another
    int64_t single_until       # before it, every record has a batch of its own


cdef class Draft:
    cdef Branch branch         # into whose queue it goes
    cdef RecordWriter records
    cdef int64_t first         # source offset of the first record in it
    cdef int64_t until         # and the one after the last
    cdef bint joined           # it has records of several of the source's batches


cdef class Builder:
    cdef Rebatcher rebatcher
    cdef Retracer retracer
    cdef list drafts           # all there ever were
    cdef Py_ssize_t used       # so many of them have a branch of the assignment at hand
    cdef int codec             # of the batches being built
    cdef object unpacked       # keeps the bytes alive that are taken apart
    cdef object packed         # the same for what was compressed last
    # Of the slice at hand.
    cdef const BatchRules* rules
    cdef SlabPool pool
    cdef Stride stride
    cdef int64_t stride_number

    cdef int begin_slice(self, const BatchRules* rules, list branches, SlabPool pool,
                         Stride stride, int64_t stride_number) except -1
    cdef int end_slice(self) except -1
    cdef Draft draft(self, Py_ssize_t number)
    cdef Py_ssize_t most(self) noexcept
    cdef Py_ssize_t room(self) noexcept
    cdef bint is_full(self, Draft draft, RecordWriter records, Py_ssize_t more,
                      Py_ssize_t room) noexcept nogil
    cdef int unpack(self, const BatchView* view, Reader* out) except -1
    cdef int begin_batch(self, int source_codec) except -1
    cdef int close(self, Draft draft) except -1
    cdef int close_all(self) except -1
    cdef const uint8_t* pack(self, RecordWriter records, Py_ssize_t* size) except NULL
    cdef bint can_retrace(self, const BatchView* view) noexcept
    cdef int retrace(self, const BatchView* view, RecordWriter records) except -1
