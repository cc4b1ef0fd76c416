"""Compression of a batch's records, by library: gzip, snappy, lz4 and zstd.

What is read is what Kafka's Java classes read (``org.apache.kafka.common.compress``), and what is
written they read too. Where they pass over damage in silence (a second member or frame that is cut
or damaged, a content size that is wrong) it is refused here. Bytes after the end of the data:

====== ============================================= ==================================
codec  read                                          trailing bytes
====== ============================================= ==================================
gzip   members one after another (GZIPInputStream)   ignored, unless they begin a member
snappy xerial framing of snappy-java, streams of it  one to three are ignored; more are
       one after another; else one raw block         a chunk
lz4    one frame; linked blocks too, which Java      ignored
       refuses
zstd   frames one after another, skippable ones;     refused
       windows up to 128 MiB, libzstd's own limit
====== ============================================= ==================================

Whatever ends early is refused, and so is no data at all.

Nothing in a batch bounds what it decompresses to, so every caller sets a limit, and no more than
it and about a chunk is ever held: declared sizes are checked before memory is taken for them, and
what declares none is decompressed by pieces. lz4 and zstd frames are walked from block to block
first, which finds their end and bounds their content. Only a zstd window comes on top, which is
filled no further than there is output.

Contexts are kept for each thread; libraries release the GIL while they work.
"""

import zlib
from io import BytesIO
from threading import local

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from copycore.batch import CODECS
from copycore.cursor cimport (
    Reader, Writer, left, read_i8, read_i32, read_le, read_uvarint31, reader, take,
)

cdef Py_ssize_t CHUNK = 1 << 20          # output asked of a library at once, where unknown
cdef Py_ssize_t SLICE = 1 << 16          # gzip input at once: what is left of it gets copied
cdef int GZIP_FORMAT = 31                # zlib's window bits for a gzip header and trailer

# snappy-java's SnappyCodec: magic, version and oldest compatible version, both 1.
cdef bytes XERIAL = b"\x82SNAPPY\0"
cdef bytes XERIAL_HEADER = XERIAL + b"\0\0\0\1\0\0\0\1"
cdef int32_t XERIAL_HEAD = <int32_t> 0x82534E41u   # the magic where a chunk's length is expected
cdef Py_ssize_t XERIAL_BLOCK = 32 << 10  # uncompressed bytes in a chunk (SnappyOutputStream)

cdef uint32_t LZ4_MAGIC = 0x184D2204u

cdef uint32_t ZSTD_SKIPPABLE = 0x184D2A50u         # and the fifteen that follow
cdef Py_ssize_t ZSTD_BLOCK = 128 << 10
cdef uint64_t ZSTD_KEPT_WINDOW = 8 << 20           # a context with a larger one is not kept

# Kafka's ranges (KIP-390) but for lz4, whose 0 is the fast mode that Kafka's default stands for.
# Below 0 both lz4 and zstd become faster and what they make larger; that ends before -64.
LEVELS = {GZIP: (1, 9), LZ4: (-64, 12), ZSTD: (-64, 22)}
DEFAULTS = {GZIP: -1, LZ4: 0, ZSTD: 3}

KEPT = local()


class CodecError(ValueError):
    """A codec's data that is damaged, or larger than it may be."""

    codec = ""      # its name
    limit = None    # the bytes that it may decompress to, where it is larger

    def __init__(self, codec, reason, limit=None):
        super().__init__(f"{codec} data {reason}")
        self.codec = codec
        self.limit = limit


# The libraries, each imported on its first use: together they take a tenth of a second.
cdef object cramjam = None
cdef object lz4 = None
cdef object zstandard = None
cdef tuple FAILURES = (zlib.error,)


cdef int load(int codec) except -1:
    global cramjam, lz4, zstandard, FAILURES
    if codec == SNAPPY and cramjam is None:
        import cramjam as library
        cramjam = library
        FAILURES += (cramjam.DecompressionError,)
    elif codec == LZ4 and lz4 is None:
        import lz4.frame as library
        lz4 = library
    elif codec == ZSTD and zstandard is None:
        import zstandard as library
        zstandard = library
        FAILURES += (zstandard.ZstdError,)
    return 0


cdef object damaged(int codec, object why):
    return CodecError(CODECS[codec], f"is damaged: {why}")


cdef object truncated(int codec):
    return CodecError(CODECS[codec], "ends early")


cdef object too_large(int codec, Py_ssize_t limit):
    return CodecError(CODECS[codec], f"decompresses to more than {limit} bytes", limit)


cdef object view(const uint8_t* data, Py_ssize_t size):
    """The bytes as libraries take them; valid as long as ``data`` is."""
    return PyMemoryView_FromMemory(<char*> data, size, PyBUF_READ) if size else b""


cdef class Output:
    """What was decompressed so far. The pieces of a large one are gathered without a second copy
    of the whole."""
    cdef int codec
    cdef Py_ssize_t limit
    cdef Py_ssize_t size
    cdef bytes first
    cdef object gathered

    def __cinit__(self, int codec, Py_ssize_t limit):
        self.codec = codec
        self.limit = limit

    cdef Py_ssize_t room(self):
        """Bytes to ask for next. One more than is allowed shows that there are more."""
        return min(CHUNK, self.limit - self.size + 1)

    cdef int add(self, bytes piece) except -1:
        self.size += len(piece)
        if self.size > self.limit:
            raise too_large(self.codec, self.limit)
        if self.first is None:
            self.first = piece
        elif piece:
            if self.gathered is None:
                self.gathered = BytesIO()
                self.gathered.write(self.first)
                self.first = b""
            self.gathered.write(piece)
        return 0

    cdef bytes whole(self):
        if self.gathered is not None:
            return self.gathered.getvalue()
        return self.first if self.first is not None else b""


cdef bytes gunzip(const uint8_t* data, Py_ssize_t size, Py_ssize_t limit):
    cdef object whole = view(data, size)
    cdef object member, piece, slice_
    cdef Py_ssize_t at = 0
    cdef Output out = Output(GZIP, limit)
    while True:
        member = zlib.decompressobj(GZIP_FORMAT)
        while not member.eof:
            slice_ = whole[at:at + SLICE]
            piece = member.decompress(slice_, out.room())
            # At the end of a member, after a piece that was cut, zlib tells the same rest in both.
            at += len(slice_) - len(member.unused_data if member.eof else member.unconsumed_tail)
            if not slice_ and not piece:
                raise truncated(GZIP)
            out.add(piece)
        if whole[at:at + 3] != b"\x1f\x8b\x08":
            return out.whole()


cdef int another_header(Reader* r) except -1:
    """A stream after a stream. Java looks at the version here, though not in the first header."""
    cdef const uint8_t* magic = take(r, len(XERIAL))
    cdef int32_t version = read_i32(r)
    read_i32(r)
    if r.failed:
        raise truncated(SNAPPY)
    if magic[:len(XERIAL)] != XERIAL or version < 1:
        raise damaged(SNAPPY, "another header inside of it")
    return 0


cdef int32_t next_chunk(Reader* r, const uint8_t** chunk, int32_t* size) except? -1:
    """The next compressed chunk of a xerial stream and the size it declares; −1 at the end."""
    cdef Reader block
    cdef Reader ahead
    cdef int32_t plain
    while left(r) >= 4:
        ahead = r[0]
        if read_i32(&ahead) == XERIAL_HEAD:
            another_header(r)
            continue
        size[0] = read_i32(r)
        chunk[0] = take(r, size[0])
        if chunk[0] == NULL:
            raise truncated(SNAPPY)
        block = reader(chunk[0], size[0])
        plain = read_uvarint31(&block)
        if block.failed:
            raise damaged(SNAPPY, "a block without its size")
        return plain
    return -1


cdef int unsnap(const uint8_t* data, Py_ssize_t size, char* out, Py_ssize_t plain) except -1:
    """One raw block, into exactly the bytes that it declares."""
    cdef object room = PyMemoryView_FromMemory(out, plain, PyBUF_WRITE) if plain else bytearray()
    if cramjam.snappy.decompress_raw_into(view(data, size), room) != plain:
        raise damaged(SNAPPY, "a block of another size than it declares")
    return 0


cdef bytes unsnappy(const uint8_t* data, Py_ssize_t size, Py_ssize_t limit):
    cdef Reader r = reader(data, size)
    cdef Reader again
    cdef const uint8_t* chunk
    cdef int32_t chunk_size, plain
    cdef Py_ssize_t total = 0
    cdef bytes out
    if size < len(XERIAL_HEADER) or data[:len(XERIAL)] != XERIAL:
        total = read_uvarint31(&r)
        if r.failed:
            raise damaged(SNAPPY, "a block without its size")
        if total > limit:
            raise too_large(SNAPPY, limit)
        out = PyBytes_FromStringAndSize(NULL, total)
        unsnap(data, size, PyBytes_AS_STRING(out), total)
        return out

    take(&r, len(XERIAL_HEADER))
    again = r
    while (plain := next_chunk(&r, &chunk, &chunk_size)) >= 0:
        total += plain
        if total > limit:
            raise too_large(SNAPPY, limit)
    out = PyBytes_FromStringAndSize(NULL, total)
    total = 0
    while (plain := next_chunk(&again, &chunk, &chunk_size)) >= 0:
        unsnap(chunk, chunk_size, PyBytes_AS_STRING(out) + total, plain)
        total += plain
    return out


cdef int walk_lz4(const uint8_t* data, Py_ssize_t size, Lz4Frame* frame) except -1:
    """Find the end and the bound of a frame (lz4_Frame_format.md). Leaves checksums unread."""
    cdef Reader r = reader(data, size)
    cdef uint32_t magic = read_le(&r, 4)
    cdef int flags = <uint8_t> read_i8(&r)
    cdef int descriptor = <uint8_t> read_i8(&r)
    cdef Py_ssize_t most, block
    cdef uint32_t word
    if r.failed:
        raise truncated(LZ4)
    if magic != LZ4_MAGIC:
        raise damaged(LZ4, "no frame")
    if flags >> 6 != 1 or flags & 3 or descriptor & 0x8F or descriptor >> 4 < 4:
        raise damaged(LZ4, "a frame header of a kind not known")
    frame.flags = flags
    frame.block_id = descriptor >> 4
    most = lz4_block_size(frame.block_id)
    take(&r, 9 if flags & LZ4_CONTENT_SIZE else 1)
    frame.blocks = r.pos
    frame.bound = 0
    while (word := read_le(&r, 4)) != 0:
        block = <Py_ssize_t> (word & ~LZ4_STORED)
        take(&r, block + (4 if flags & LZ4_BLOCK_CHECKSUM else 0))
        # A byte lengthens a match by 255 at most.
        frame.bound += min(most, block if word & LZ4_STORED else 255 * block)
    if flags & LZ4_CONTENT_CHECKSUM:
        take(&r, 4)
    if r.failed:
        raise truncated(LZ4)
    frame.end = r.pos
    return 0


cdef bytes unlz4(object whole, Py_ssize_t bound, Py_ssize_t limit):
    """A frame that was walked."""
    cdef Py_ssize_t at = 0
    cdef Output out = Output(LZ4, limit)
    cdef object context = getattr(KEPT, "lz4", None) or lz4.create_decompression_context()
    # Kept again only when this frame is done: a context left in the middle would go on with it.
    KEPT.lz4 = None
    bound = max(bound, 1)
    while True:
        try:
            piece, used, done = lz4.decompress_chunk(
                context, whole[at:], max_length=min(bound, out.room())
            )
        except RuntimeError as error:
            raise damaged(LZ4, error) from error
        out.add(piece)
        if done:
            break
        if not piece and not used:
            raise damaged(LZ4, "a frame without an end")
        at += used
    KEPT.lz4 = context
    return out.whole()


cdef bytes lz4_header(int flags, int block_id):
    """That of a frame without a content size."""
    load(LZ4)
    return lz4.compress_begin(
        lz4.create_compression_context(),
        block_size=block_id,
        block_linked=not flags & LZ4_INDEPENDENT,
        block_checksum=bool(flags & LZ4_BLOCK_CHECKSUM),
        content_checksum=bool(flags & LZ4_CONTENT_CHECKSUM),
    )


def decompress_lz4_v0(const uint8_t[::1] data not None, Py_ssize_t limit):
    """``decompress_bytes`` for an lz4 wrapper of magic 0.

    Its producers hashed the frame's magic along with the header (KAFKA-3160), so the checksum in
    there is wrong for all other readers. Java ignores it; here the library writes the header anew.
    """
    cdef Lz4Frame frame
    if limit < 0:
        raise ValueError("a limit is no less than 0")
    walk_lz4(&data[0] if data.shape[0] else NULL, data.shape[0], &frame)
    header = lz4_header(frame.flags, frame.block_id)
    return unlz4(header + bytes(data[frame.blocks:frame.end]), frame.bound, limit)


cdef Py_ssize_t walk_zstd(Reader* r, Py_ssize_t block_most, bint checksum) except -1:
    """Go to the end of a frame, from its first block on (RFC 8878, 3.1.1); a bound of its
    content."""
    cdef Py_ssize_t bound = 0, block
    cdef uint32_t head
    cdef int kind
    while not r.failed:
        head = read_le(r, 3)
        kind = head >> 1 & 3           # 0 stored, 1 one byte repeated, 2 compressed
        block = head >> 3
        if kind == 3:
            raise damaged(ZSTD, "a block of a kind not known")
        take(r, 1 if kind == 1 else block)
        bound += block_most if kind == 2 else min(block, block_most)
        if head & 1:
            break
    if checksum:
        take(r, 4)
    if r.failed:
        raise truncated(ZSTD)
    return bound


cdef object zstd_context(uint64_t window):
    if window > ZSTD_KEPT_WINDOW:
        return zstandard.ZstdDecompressor()
    context = getattr(KEPT, "zstd", None)
    if context is None:
        context = KEPT.zstd = zstandard.ZstdDecompressor()
    return context


cdef bytes unzstd(const uint8_t* data, Py_ssize_t size, Py_ssize_t limit):
    cdef Reader r = reader(data, size)
    cdef Reader ahead
    cdef Py_ssize_t start, bound
    cdef uint64_t window, declared
    cdef object whole = view(data, size)
    cdef Output out = Output(ZSTD, limit)
    while left(&r):
        start = r.pos
        ahead = r
        if read_le(&ahead, 4) & 0xFFFFFFF0u == ZSTD_SKIPPABLE:
            take(&r, 4)
            take(&r, read_le(&r, 4))
            if r.failed:
                raise truncated(ZSTD)
            continue
        parameters = zstandard.get_frame_parameters(whole[start:])
        take(&r, zstandard.frame_header_size(whole[start:]))
        window = parameters.window_size
        bound = walk_zstd(&r, min(window, <uint64_t> ZSTD_BLOCK), parameters.has_checksum)
        declared = parameters.content_size
        if declared != zstandard.CONTENTSIZE_UNKNOWN:
            if declared > <uint64_t> bound:
                raise damaged(ZSTD, "a frame that declares more than its blocks hold")
            bound = declared
        if declared == <uint64_t> bound and bound > limit - out.size:
            raise too_large(ZSTD, limit)
        # One byte more than can come: the library then looks at all there is, checksum included.
        content = zstd_context(window).stream_reader(whole[start:r.pos])
        out.add(content.read(min(bound, limit - out.size) + 1))
    return out.whole()


cdef bytes decompress(int codec, const uint8_t* data, Py_ssize_t size, Py_ssize_t limit):
    """What ``data`` holds, as ``bytes`` of at most ``limit``.

    ``codec`` is that of a batch's attributes. Raises ``CodecError``.
    """
    cdef Lz4Frame frame
    if limit < 0:
        raise ValueError("a limit is no less than 0")
    if codec == NONE:
        if size > limit:
            raise too_large(NONE, limit)
        return data[:size]
    if codec < 0 or codec > ZSTD:
        raise CodecError(f"codec {codec}", "is of a codec not known")
    if size == 0:
        raise truncated(codec)
    load(codec)
    try:
        if codec == GZIP:
            return gunzip(data, size, limit)
        if codec == SNAPPY:
            return unsnappy(data, size, limit)
        if codec == LZ4:
            walk_lz4(data, size, &frame)
            return unlz4(view(data, frame.end), frame.bound, limit)
        return unzstd(data, size, limit)
    except FAILURES as error:
        raise damaged(codec, error) from error


cdef bytes snap(const uint8_t* data, Py_ssize_t size):
    """As SnappyOutputStream: chunks, each after its length. Java and librdkafka also read a raw
    block, but one by one Java holds chunks, not a batch."""
    cdef list parts = [XERIAL_HEADER]
    cdef Py_ssize_t at = 0, part
    cdef Writer length
    while at < size:
        part = min(XERIAL_BLOCK, size - at)
        block = cramjam.snappy.compress_raw(view(data + at, part))
        length = Writer(4)
        length.put_i32(<int32_t> len(block))
        parts += (<bytes> length.data[:4], block)
        at += part
    return b"".join(parts)


cdef bytes compress(int codec, const uint8_t* data, Py_ssize_t size, int level):
    """``data`` in the form that Java's producer writes it.

    ``level`` is DEFAULT_LEVEL or one in ``level_range``. Raises ``ValueError`` for another one and
    for a codec not known.
    """
    cdef object plain = view(data, size)
    cdef dict compressors
    if codec < 0 or codec > ZSTD:
        raise ValueError(f"codec {codec} is not known")
    if level == DEFAULT_LEVEL:
        level = DEFAULTS.get(codec, level)
    else:
        low, high = LEVELS.get(codec, (0, -1))
        if not low <= level <= high:
            raise ValueError(f"{CODECS[codec]} has no level {level}")
    if codec == NONE:
        return bytes(plain)
    load(codec)
    if codec == GZIP:
        return zlib.compress(plain, level, GZIP_FORMAT)
    if codec == SNAPPY:
        return snap(data, size)
    if codec == LZ4:
        # Java's brokers refuse linked blocks, and old ones a content checksum.
        return lz4.compress(
            plain,
            compression_level=level,
            block_size=lz4.BLOCKSIZE_MAX64KB,
            block_linked=False,
            store_size=False,
        )
    compressors = getattr(KEPT, "compressors", None)
    if compressors is None:
        compressors = KEPT.compressors = {}
    if level not in compressors:
        compressors[level] = zstandard.ZstdCompressor(level=level)
    return compressors[level].compress(plain)


def decompress_bytes(int codec, const uint8_t[::1] data not None, Py_ssize_t limit):
    """What ``data`` holds, at most ``limit`` bytes; ``codec`` is that of a batch's attributes.

    Raises ``CodecError`` on damaged data and on more than ``limit``.
    """
    return decompress(codec, &data[0] if data.shape[0] else NULL, data.shape[0], limit)


def compress_bytes(int codec, const uint8_t[::1] data not None, int level=DEFAULT_LEVEL):
    """``data`` compressed at a level of ``level_range`` or, at −1000, at the codec's default.

    Raises ``ValueError`` for a codec or level not known.
    """
    return compress(codec, &data[0] if data.shape[0] else NULL, data.shape[0], level)


def level_range(int codec):
    """The lowest and highest level of a codec; None where it has none."""
    return LEVELS.get(codec)
