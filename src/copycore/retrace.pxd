from libc.stdint cimport int32_t, uint8_t

from copycore.cursor cimport Reader, Writer


cdef struct Span:
    # From here on, content has moved by another number of bytes than before.
    Py_ssize_t old
    Py_ssize_t new

cdef struct Grain:
    # Of 64 bytes of a block's old content: where they are now.
    int32_t shift              # from old to new, both counted in the block, at the first of them
    int32_t until              # and up to here
    int32_t span

cdef struct Block:
    # Where its content was, and where it is now.
    Py_ssize_t old
    Py_ssize_t old_end
    Py_ssize_t new
    Py_ssize_t new_end
    const Span* span           # at its begin
    const Span* behind         # and at its end

cdef struct Sequence:
    # Literals, and a match after them.
    const uint8_t* start
    const uint8_t* literals
    Py_ssize_t count           # of literals
    Py_ssize_t readable        # bytes from there on
    Py_ssize_t length          # of the match
    Py_ssize_t distance

cdef struct Path:
    # How far a block is.
    const Span* span           # at or before the present match
    const uint8_t* content
    uint8_t* put               # where the next sequence goes
    Py_ssize_t last            # from here on less than SHORT bytes are left for literals or a match
    Py_ssize_t written         # of the content; what follows is literals until there is a match


cdef class Retracer:
    cdef Writer out            # the frame
    cdef Py_ssize_t done       # bytes of content in it
    cdef Py_ssize_t largest    # of a block's content
    cdef Span* spans           # by position, from the begin on; the last two stand at the end
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef Grain* grains         # of the block at hand
    cdef Py_ssize_t grains_capacity
    cdef dict headers          # of frames, by block id

    cdef void begin(self) noexcept nogil
    cdef int source(self, const uint8_t* content, Py_ssize_t size) except -1
    cdef int keep(self, Py_ssize_t old, Py_ssize_t new) except -1 nogil
    cdef int add(self, Py_ssize_t old, Py_ssize_t new) except -1 nogil
    cdef int retrace(
        self, const uint8_t* frame, Py_ssize_t size, Py_ssize_t old_size,
        const uint8_t* content, Py_ssize_t new_size,
    ) except -1
    cdef int search(self, const uint8_t* content, Py_ssize_t until) except -1
    cdef int finish(self, const uint8_t* content, Py_ssize_t size) except -1
    cdef int lay_grains(self, Block* block) except -1 nogil
    cdef bint write_block(
        self, const Block* block, Reader sequences, const uint8_t* content,
    ) except -1 nogil
    cdef bint follow_still(self, Path* path, const Block* block, Reader sequences) noexcept nogil
    cdef bint follow_moved(self, Path* path, const Block* block, Reader sequences) noexcept nogil
    cdef int follow(
        self, Path* path, Py_ssize_t at, Py_ssize_t distance, Py_ssize_t length,
        const Block* block,
    ) noexcept nogil
