"""lz4 frames for content that is mostly that of other frames, without a search.

Finding repetitions is most of what compression costs. Where records go, after new fronts, into
another batch, their producer has found them already: the frame says of what each of its blocks
consists (lz4_Block_format.md), and all but the fronts is still there, if in another place. So the
new blocks follow the old ones. An old match is but a hint: bytes are compared before one is
written, and what it gets wrong becomes literals. Whatever an old frame says, the new one holds the
new content.

Blocks are independent, as Java's brokers demand. One that grows beyond its size makes the frame
one of the next larger size, which is 256 KiB mostly.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from copycore.codec cimport (
    DEFAULT_LEVEL, LZ4, LZ4_BLOCK_CHECKSUM, LZ4_INDEPENDENT, LZ4_STORED, Lz4Frame, compress,
    lz4_block_size, lz4_header, walk_lz4,
)
from copycore.cursor cimport (
    Reader, Writer, append_le, claim, clear, left, read_i8, read_le, reader, room, take,
)
from copycore.memory cimport resized

cdef extern from "alike_impl.h" nogil:
    enum:
        SHORT "CS_SHORT"
    bint cs_alike(const uint8_t* a, const uint8_t* b, size_t size)

cdef enum:
    LEAST_MATCH = 4
    LAST_LITERALS = 5          # a block ends with as many,
    LAST_MATCH = 12            # and no match begins closer to its end
    FARTHEST = 65535
    RUN = 15                   # a length in four bits that more bytes follow
    MARGIN = 64                # bytes that may be written after the last
    GRAIN_BITS = 6             # 64 bytes of content
    TOLERANCE = 16             # a block may grow by the sixteenth part
    HEADER_SIZE = 7            # bytes before the first block
    END_SIZE = 4               # and after the last
    LEAST_ID = 4               # of a block size; compress() has no other
    LARGEST_BLOCK = 4 << 20

cdef Py_ssize_t BEHIND = <Py_ssize_t> (<size_t> -1 >> 1)   # all positions


cdef inline Py_ssize_t read_length(Reader* r, int bits) noexcept nogil:
    """A length of which the token has four bits."""
    cdef Py_ssize_t length = bits
    cdef uint8_t more = 255 if bits == RUN else 0
    while more == 255:
        more = <uint8_t> read_i8(r)
        length += more
    return length


cdef inline bint next_sequence(Reader* r, Sequence* one) noexcept nogil:
    """False after the last, which are literals only."""
    cdef uint8_t token
    one.start = take(r, 0)
    token = <uint8_t> read_i8(r)
    one.count, one.length = token >> 4, token & RUN
    one.readable = left(r)
    if one.count < RUN and one.length < RUN and one.count + 2 <= one.readable:
        one.literals = take(r, one.count + 2)
        one.distance = one.literals[one.count] | one.literals[one.count + 1] << 8
    else:
        one.count = read_length(r, one.count)
        one.readable = left(r)
        one.literals = take(r, one.count)
        if left(r) == 0:
            return False
        one.distance = read_le(r, 2)
        one.length = read_length(r, one.length)
    one.length += LEAST_MATCH
    return True


cdef inline bint same(const uint8_t* a, const uint8_t* b, Py_ssize_t size) noexcept nogil:
    """Whether ``size`` bytes are the same; SHORT of them can be read in any case."""
    return cs_alike(a, b, size) if size <= SHORT else memcmp(a, b, size) == 0


cdef Py_ssize_t alike(const uint8_t* a, const uint8_t* b, Py_ssize_t most) noexcept nogil:
    """How many of the first ``most`` bytes are the same."""
    cdef Py_ssize_t n = 0
    cdef uint64_t x, y
    while n + 8 <= most:
        memcpy(&x, a + n, 8)
        memcpy(&y, b + n, 8)
        if x != y:
            break
        n += 8
    while n < most and a[n] == b[n]:
        n += 1
    return n


cdef void write_run(Path* path, const uint8_t* run, const uint8_t* end) noexcept nogil:
    """Sequences that are as they were."""
    memcpy(path.put, run, end - run)
    path.put += end - run


cdef inline void write_length(Path* path, Py_ssize_t length) noexcept nogil:
    """What the token's four bits do not hold of it."""
    if length < RUN:
        return
    length -= RUN
    while length >= 255:
        path.put[0] = 255
        path.put += 1
        length -= 255
    path.put[0] = <uint8_t> length
    path.put += 1


cdef void write_literals(Path* path, Py_ssize_t until, Py_ssize_t match_size) noexcept nogil:
    """A token, and the bytes before the next match."""
    cdef Py_ssize_t count = until - path.written
    path.put[0] = <uint8_t> (min(count, RUN) << 4 | min(match_size, RUN))
    path.put += 1
    write_length(path, count)
    memcpy(path.put, path.content + path.written, count)
    path.put += count


cdef void write_match(
    Path* path, Py_ssize_t here, Py_ssize_t there, Py_ssize_t size,
) noexcept nogil:
    """With the literals before it."""
    write_literals(path, here, size - LEAST_MATCH)
    path.put[0] = <uint8_t> (here - there)
    path.put[1] = <uint8_t> ((here - there) >> 8)
    path.put += 2
    write_length(path, size - LEAST_MATCH)
    path.written = here + size


cdef class Retracer:
    """Makes one frame after the other; its memory is kept.

    ``begin`` a frame. For each other frame whose content makes the next part of the new one: name
    it a ``source``, tell which bytes of it stay (``keep``, in their order), and ``retrace`` it.
    What no frame was retraced for is compressed as usual; then the frame is ``finish``ed.
    """

    def __cinit__(self):
        self.out = Writer(1 << 16)
        self.headers = {}

    def __dealloc__(self):
        free(self.spans)
        free(self.grains)

    cdef void begin(self) noexcept nogil:
        clear(self.out)
        claim(self.out, HEADER_SIZE)
        self.done = self.largest = 0

    cdef int source(self, const uint8_t* content, Py_ssize_t size) except -1:
        """The source of what comes after ``size`` bytes of ``content``."""
        self.search(content, size)
        self.count = 0
        return self.add(0, size)

    cdef int keep(self, Py_ssize_t old, Py_ssize_t new) except -1 nogil:
        """What begins at ``old`` in the source begins at ``new`` now; after those kept before."""
        cdef const Span* before = &self.spans[self.count - 1]
        return 0 if new - old == before.new - before.old else self.add(old, new)

    cdef int add(self, Py_ssize_t old, Py_ssize_t new) except -1 nogil:
        cdef Py_ssize_t capacity = max(256, 2 * self.capacity)
        if self.count == self.capacity:
            self.spans = <Span*> resized(self.spans, capacity, sizeof(Span))
            self.capacity = capacity
        self.spans[self.count].old = old
        self.spans[self.count].new = new
        self.count += 1
        return 0

    cdef int retrace(
        self, const uint8_t* frame, Py_ssize_t size, Py_ssize_t old_size,
        const uint8_t* content, Py_ssize_t new_size,
    ) except -1:
        """Go on with ``content``, up to ``new_size``, from a source of ``old_size`` bytes. It ends
        early where the source is of no help: linked blocks, blocks that are not full, or few
        matches that still are some.

        Raises ``CodecError`` where ``frame`` is none, and ``MemoryError``.
        """
        cdef Lz4Frame head
        cdef Reader r
        cdef Block block
        cdef const uint8_t* data
        cdef Py_ssize_t block_size, packed_size
        cdef uint32_t word
        cdef bint good = True
        walk_lz4(frame, size, &head)
        self.add(old_size, new_size)
        self.add(BEHIND, new_size)
        block_size = lz4_block_size(head.block_id)
        block.old_end, block.behind = 0, self.spans
        r = reader(frame, head.end)
        take(&r, head.blocks)
        while good and self.done < new_size:
            word = read_le(&r, 4)
            packed_size = <Py_ssize_t> (word & ~LZ4_STORED)
            data = take(&r, packed_size)
            take(&r, 4 if head.flags & LZ4_BLOCK_CHECKSUM else 0)
            block.old, block.new, block.span = block.old_end, self.done, block.behind
            block.old_end = min(block.old + block_size, old_size)
            if r.failed or block.old_end == block.old:
                break
            self.lay_grains(&block)
            if word & LZ4_STORED:
                self.search(content, block.new_end)
            else:
                with nogil:
                    good = self.write_block(&block, reader(data, packed_size), content)
        return 0

    cdef int search(self, const uint8_t* content, Py_ssize_t until) except -1:
        """Go on without a source, compressed as usual."""
        cdef bytes frame
        cdef Py_ssize_t size
        if self.done < until:
            frame = compress(LZ4, content + self.done, until - self.done, DEFAULT_LEVEL)
            size = len(frame) - HEADER_SIZE - END_SIZE
            self.out.put_raw(<const uint8_t*> <const char*> frame + HEADER_SIZE, size)
            self.done = until
        return 0

    cdef int finish(self, const uint8_t* content, Py_ssize_t size) except -1:
        """Let ``out`` be the frame of all ``size`` bytes of ``content``."""
        cdef int block_id = LEAST_ID
        self.search(content, size)
        while lz4_block_size(block_id) < self.largest:
            block_id += 1
        if block_id not in self.headers:
            self.headers[block_id] = lz4_header(LZ4_INDEPENDENT, block_id)
        memcpy(self.out.data, <const char*> <bytes> self.headers[block_id], HEADER_SIZE)
        self.out.reserve(END_SIZE)
        append_le(self.out, 0, END_SIZE)
        return 0

    cdef int lay_grains(self, Block* block) except -1 nogil:
        """Find where a block's content is now, and make places in it easy to find."""
        cdef const Span* span = block.span
        cdef Py_ssize_t i, count = ((block.old_end - block.old) >> GRAIN_BITS) + 1
        if count > self.grains_capacity:
            self.grains = <Grain*> resized(self.grains, count, sizeof(Grain))
            self.grains_capacity = count
        for i in range(count):
            while span[1].old <= block.old + (i << GRAIN_BITS):
                span += 1
            self.grains[i].span = <int32_t> (span - self.spans)
            self.grains[i].shift = <int32_t> (span.new - block.new - (span.old - block.old))
            self.grains[i].until = <int32_t> (min(span[1].old, block.old_end) - block.old)
        while span[1].old <= block.old_end:
            span += 1
        block.behind = span
        # What lies between two spans has no place of its own, and stays between them.
        block.new_end = min(block.old_end + span.new - span.old, span[1].new)
        return 0

    cdef bint write_block(
        self, const Block* block, Reader sequences, const uint8_t* content,
    ) except -1 nogil:
        """Go on with one block. False where that does not work out, and nothing is written."""
        cdef Py_ssize_t size = block.new_end - block.new
        cdef Py_ssize_t packed_size = sequences.end
        cdef uint8_t* start
        cdef bint good
        cdef Path path
        if not 0 < size <= LARGEST_BLOCK:
            return False
        self.out.reserve(4 + size + size // 255 + MARGIN)
        start = room(self.out) + 4
        path.span, path.content, path.put, path.written = block.span, content, start, block.new
        path.last = block.new_end - LAST_MATCH - SHORT
        if block.span[1].old >= block.old_end:
            good = self.follow_still(&path, block, sequences)
        else:
            good = self.follow_moved(&path, block, sequences)
        if not good:
            return False
        write_literals(&path, block.new_end, 0)
        if path.put - start > min(packed_size + packed_size // TOLERANCE, size - 1):
            return False
        append_le(self.out, <uint32_t> (path.put - start), 4)
        claim(self.out, path.put - start)
        self.done = block.new_end
        self.largest = max(self.largest, size)
        return True

    # What is used for every match is kept in local variables: any byte that is written might change
    # what a pointer leads to, as far as the compiler knows.

    cdef bint follow_still(self, Path* path, const Block* block, Reader sequences) noexcept nogil:
        """Where everything is as far from everything else as it was, sequences stay as they are
        but for those in which a byte is another.
        """
        cdef const uint8_t* content = path.content
        cdef const uint8_t* run = sequences.data
        cdef Py_ssize_t old = block.old, old_end = block.old_end, new = block.new
        cdef Py_ssize_t last = path.last, last_end = block.new_end - LAST_LITERALS
        cdef Py_ssize_t at = old, written = path.written, here
        cdef Sequence one
        while next_sequence(&sequences, &one):
            at += one.count
            if sequences.failed or one.distance > at - old or one.length > old_end - at:
                return False
            here = written + one.count
            if (one.readable >= SHORT and here <= last and one.length <= last_end - here
                    and 0 < one.distance <= here - new
                    and same(one.literals, content + written, one.count)
                    and same(content + here, content + here - one.distance, one.length)):
                written = here + one.length
            else:
                path.written = written
                write_run(path, run, one.start)
                self.follow(path, at, one.distance, one.length, block)
                written = path.written
                run = take(&sequences, 0)
            at += one.length
        if sequences.failed or at + one.count != old_end:
            return False
        path.written = written
        write_run(path, run, one.start)
        return True

    cdef bint follow_moved(self, Path* path, const Block* block, Reader sequences) noexcept nogil:
        """Where bytes have moved, every sequence is written anew."""
        cdef const uint8_t* content = path.content
        cdef uint8_t* put = path.put
        cdef const Span* span = path.span
        cdef const Grain* grains = self.grains
        cdef const Grain* grain
        cdef Py_ssize_t old = block.old, old_end = block.old_end, new = block.new
        cdef Py_ssize_t at = old, written = path.written, last = path.last
        cdef Py_ssize_t source, here, there, literals
        cdef size_t size = <size_t> (old_end - old)
        cdef Sequence one
        while next_sequence(&sequences, &one):
            at += one.count
            source = at - old - one.distance
            if <size_t> source >= size:
                return False
            while span[1].old <= at:
                span += 1
            grain = &grains[source >> GRAIN_BITS]
            here = at + span.new - span.old
            there = new + source + grain.shift
            literals = here - written
            if (source < grain.until and one.length <= SHORT and <size_t> literals < RUN
                    and here <= last and <size_t> (here - there - 1) < FARTHEST
                    and same(content + here, content + there, one.length)):
                put[0] = <uint8_t> (literals << 4 | (one.length - LEAST_MATCH))
                memcpy(put + 1, content + written, SHORT)
                put += 1 + literals
                put[0] = <uint8_t> (here - there)
                put[1] = <uint8_t> ((here - there) >> 8)
                put += 2
                written = here + one.length
            else:
                path.span, path.put, path.written = span, put, written
                self.follow(path, at, one.distance, one.length, block)
                put, written = path.put, path.written
            at += one.length
        path.put, path.written = put, written
        return not sequences.failed and at + one.count == old_end

    cdef int follow(
        self, Path* path, Py_ssize_t at, Py_ssize_t distance, Py_ssize_t length,
        const Block* block,
    ) noexcept nogil:
        """Write what is left of the match at ``at``, and the literals before it. It may reach
        across spans, and from one into another.
        """
        cdef Py_ssize_t end = at + length, here, there, size, found
        cdef const Span* source = &self.spans[
            self.grains[(at - distance - block.old) >> GRAIN_BITS].span]
        while True:
            while path.span[1].old <= at:
                path.span += 1
            while source[1].old <= at - distance:
                source += 1
            here = at + path.span.new - path.span.old
            there = at - distance + source.new - source.old
            size = min(end - at, block.new_end - LAST_LITERALS - here)
            if size < LEAST_MATCH or here > block.new_end - LAST_MATCH:
                return 0
            if here < path.written:
                at += path.written - here
                continue
            found = 0
            if block.new <= there < here <= there + FARTHEST:
                found = alike(path.content + here, path.content + there, size)
                if found >= LEAST_MATCH:
                    write_match(path, here, there, found)
                    if found == size:
                        return 0
            at = min(at + found + 1, min(path.span[1].old, source[1].old + distance))


def retraced(const uint8_t[::1] content not None, sources):
    """``content`` as an lz4 frame: for tests, benchmarks and the fuzz target.

    ``sources`` are a frame each, the size of its content, where what comes from it begins in
    ``content`` and where it ends, and pairs of an old and a new position at which both have bytes
    in common. Raises ``CodecError`` where there is no frame, and ``ValueError`` for positions out
    of order.
    """
    cdef Retracer retracer = Retracer()
    cdef const uint8_t* data = &content[0] if content.shape[0] else NULL
    cdef const uint8_t[::1] source
    cdef Py_ssize_t old_size, start, end, old, new, old_before, new_before = 0
    retracer.begin()
    for frame, old_size, start, end, places in sources:
        source = frame
        if not new_before <= start <= end <= content.shape[0] or old_size < 0:
            raise ValueError("sources are out of order")
        retracer.source(data, start)
        old_before, new_before = 0, start
        for old, new in places:
            if not old_before <= old <= old_size or not new_before <= new <= end:
                raise ValueError("positions are out of order")
            retracer.keep(old, new)
            old_before, new_before = old, new
        retracer.retrace(&source[0] if source.shape[0] else NULL, source.shape[0], old_size, data,
                         end)
        new_before = end
    retracer.finish(data, content.shape[0])
    return <bytes> retracer.out.data[:retracer.out.pos]
