"""Re-batching: when batches are taken apart, and how the records are put into new ones.

A batch has to be taken apart when a broker would refuse it as it is (gaps after compaction, old
message sets, above the target's max.message.bytes), when its header would tell other times than
its consumers saw (LogAppendTime), when a copy begins or ends inside it, and when it is worth it:
a broker takes one batch of a partition a request and spends about 20 µs on each, whatever its
size, so that many small ones cost the target more than merging them costs here.

A ``Rebatcher`` is settings and the decisions that follow from them; a ``builder.Builder`` does what
it says.
"""

from copycore.batch cimport CODEC_BITS, CUT_BATCH, DENSE, BatchView, cut
from copycore.codec cimport DEFAULT_LEVEL, LZ4
from copycore.cursor cimport Reader

from copycore.codec import level_range
from copycore.legacy import unwrap

# Below this average size (bytes) the batches of a slice are merged; above twice that no more. What
# a batch costs its broker is weighed against taking its records apart and compressing them anew:
# bench/merge.py measures it.
cdef Py_ssize_t[5] SMALL = [32 << 10, 256, 4 << 10, 4 << 10, 3 << 10]

# From this size (bytes) on a batch in lz4 is compressed the way it was. What is smaller shrinks
# more along with its neighbours.
cdef Py_ssize_t LARGE = 8 << 10


class BrokenBatch(ValueError):
    """A batch that cannot be taken apart. ``ending`` as ``PartitionCopy.ending``."""

    ending = "malformed"

    def __init__(self, str ending, str message):
        super().__init__(message)
        self.ending = ending


cdef class Rebatcher:
    """How records are put into new batches.

    ``compression`` is the id of a codec, −1 for that of the batch a record comes from; ``level``
    goes with it, None for the codec's own. ``batch_bytes`` of records make a batch, before
    compression. ``merge`` says whether small batches are merged: "auto" where it pays, "always",
    or "never". A batch that decompresses to more than ``cap`` bytes is broken.
    """

    def __init__(self, *, int compression=-1, level=None, str merge="auto",
                 Py_ssize_t batch_bytes=512 << 10, Py_ssize_t cap=256 << 20):
        if not -1 <= compression <= 4 or batch_bytes < 1 or cap < 1:
            raise ValueError("no such codec, or a size that is not above zero")
        if merge not in ("auto", "always", "never"):
            raise ValueError("merge is auto, always or never")
        levels = level_range(compression)
        if level is not None and (levels is None or not levels[0] <= level <= levels[1]):
            raise ValueError(f"level {level} is none of the codec asked for")
        self.compression = compression
        self.level = DEFAULT_LEVEL if level is None else level
        self.merge = merge
        self.weighs = merge == "auto"
        self.batch_bytes = batch_bytes
        self.cap = cap

    cdef int choose_codec(self, int source) noexcept:
        return source if self.compression < 0 else self.compression

    cdef list messages(self, const BatchView* view):
        """The messages of a v0/v1 entry as (offset, time, body). Raises ``BrokenBatch``."""
        try:
            return unwrap(<bytes> view.data[:view.size], self.cap)
        except ValueError as error:
            raise BrokenBatch("malformed", str(error)) from None

    cdef bint can_retrace(self, const BatchView* view) noexcept:
        """Whether the records of a batch may be compressed the way they were."""
        cdef int codec = view.attributes & CODEC_BITS
        return (codec == LZ4 == self.choose_codec(codec) and self.level == DEFAULT_LEVEL
                and view.size >= LARGE)

    cdef SliceSizes measure(self, Reader slice_) noexcept:
        """What the headers of a fetched slice tell of its dense batches."""
        cdef BatchView view
        cdef SliceSizes found = SliceSizes(0, 0, 0)
        while cut(&slice_, &view) == CUT_BATCH:
            if view.kind == DENSE:
                if found.count == 0:
                    found.small = SMALL[view.attributes & CODEC_BITS]
                found.count += 1
                found.size += view.size
        return found

    cdef bint pays(self, const SliceSizes* sizes, bint merging) noexcept:
        """Whether the batches of a slice are to be merged; ``merging`` if those before were. What
        was chosen stays in between two sizes.
        """
        if not self.weighs:
            return self.merge == "always"
        if sizes.count < 2:
            return False if sizes.count else merging
        return sizes.size < sizes.count * (2 * sizes.small if merging else sizes.small)


cdef bint is_single_small(const SliceSizes* sizes) noexcept:
    """Whether a slice has one small batch and no other."""
    return sizes.count == 1 and sizes.size < sizes.small
