from copycore.batch cimport BatchView
from copycore.cursor cimport Reader


cdef struct SliceSizes:
    # Of the dense batches in a fetched slice.
    Py_ssize_t count
    Py_ssize_t size            # bytes, all together
    Py_ssize_t small           # bytes below which those in this codec are small


cdef bint is_single_small(const SliceSizes* sizes) noexcept

cdef class Rebatcher:
    cdef readonly int compression          # codec of what is re-encoded; −1 keeps the source's
    cdef readonly int level
    cdef readonly str merge                # "auto", "always" or "never"
    cdef readonly Py_ssize_t batch_bytes   # of records in a batch of ours, before compression
    cdef readonly Py_ssize_t cap           # bytes that one batch may decompress to
    cdef bint weighs                       # merges where it pays, so slices have to be measured

    cdef int choose_codec(self, int source) noexcept
    cdef list messages(self, const BatchView* view)
    cdef bint can_retrace(self, const BatchView* view) noexcept
    cdef SliceSizes measure(self, Reader slice_) noexcept
    cdef bint pays(self, const SliceSizes* sizes, bint merging) noexcept
