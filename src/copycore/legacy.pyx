"""Messages of magic 0 and 1, unwrapped into records of magic 2.

Layout of an entry (KIP-31, KIP-32, ``org.apache.kafka.common.record.LegacyRecord``), big-endian:

====== ==== ==================== =================================================
offset size field
====== ==== ==================== =================================================
0      8    offset
8      4    length               bytes after this field
12     4    CRC-32               IEEE, over 16 … end
16     1    magic                0 or 1
17     1    attributes           bits 0–2 codec, 3 LogAppendTime
18     8    timestamp            ms; magic 1 only
…      4+k  key                  int32 length, −1 for null
…      4+v  value                int32 length, −1 for null
====== ==== ==================== =================================================

With a codec the entry is a *wrapper*: its value is a compressed run of entries, none of which is
compressed itself. The rules are those by which Java's consumer reads one
(``AbstractLegacyRecordBatch.DeepRecordsIterator``):

- A wrapper of magic 1 has the offset of its last inner message, whose own offsets are relative to
  each other, so that a broker need not recompress to set them. Offset 0 is taken as it is:
  certain versions of librdkafka wrote it. Inner offsets of magic 0 are absolute.
- A wrapper of magic 1 with LogAppendTime gives its time to every inner message of magic 1.
- Messages of magic 0 have no time. A wrapper may hold messages of the other magic.

Where Java passes over damage this module does not: lengths that do not fill their message or are
below −1, a set that ends within a message, inner messages of another magic, and inner offsets
that do not ascend.
"""

import zlib

from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t

from copycore.batch import CODECS
from copycore.batch cimport CODEC_BITS, LEGACY_SIZE, LOG_OVERHEAD, TIMESTAMP_TYPE_BIT
from copycore.codec import decompress_bytes, decompress_lz4_v0
from copycore.cursor cimport (
    Reader, Writer, left, read_blob, read_i8, read_i32, read_i64, read_u32, reader, take, zigzag,
)

cdef enum:
    LZ4 = 3                    # of the codecs that a wrapper may have, the last one


cdef struct Message:
    int64_t offset
    int8_t magic
    int8_t attributes
    int64_t timestamp          # −1 for magic 0
    const uint8_t* key
    int32_t key_size           # −1 for null
    const uint8_t* value
    int32_t value_size         # −1 for null


class LegacyError(ValueError):
    """A message of magic 0 or 1 that is damaged or breaks the rules of its format."""


cdef Message next_message(Reader* r, str name) except *:
    """The next entry, whole and with its CRC checked; ``name`` is for the error."""
    cdef Message m
    cdef Reader rest
    cdef int32_t size
    cdef uint32_t crc
    cdef const uint8_t* start
    m.offset = read_i64(r)
    size = read_i32(r)
    start = take(r, size)
    if start == NULL:
        raise LegacyError(f"{name} ends early or has an impossible length")
    if size < LEGACY_SIZE - LOG_OVERHEAD:
        raise LegacyError(f"{name} has an impossible length of {size} bytes")
    rest = reader(start, size)
    crc = read_u32(&rest)
    if crc != zlib.crc32(PyMemoryView_FromMemory(<char*> start + 4, size - 4, PyBUF_READ)):
        raise LegacyError(f"{name} does not match its CRC")
    m.magic = read_i8(&rest)
    m.attributes = read_i8(&rest)
    if m.magic != 0 and m.magic != 1:
        raise LegacyError(f"{name} has magic {m.magic}")
    m.timestamp = read_i64(&rest) if m.magic == 1 else -1
    m.key = read_blob(&rest, False, False, &m.key_size)
    m.value = read_blob(&rest, False, False, &m.value_size)
    if rest.failed or left(&rest):
        raise LegacyError(f"{name} has a key and a value that do not fill it")
    return m


cdef bytes body(const Message* m):
    """What ``copycore.records`` calls a body: key and value in magic 2's form, no headers."""
    cdef Writer out = Writer(32 + max(m.key_size, 0) + max(m.value_size, 0))
    out.put_uvarint(zigzag(m.key_size))
    if m.key_size > 0:
        out.put_raw(m.key, m.key_size)
    out.put_uvarint(zigzag(m.value_size))
    if m.value_size > 0:
        out.put_raw(m.value, m.value_size)
    out.put_uvarint(0)
    return <bytes> out.data[:out.pos]


cdef bytes inner_set(const Message* wrapper, int codec, Py_ssize_t limit):
    """The run of entries that a wrapper holds."""
    if codec > LZ4:
        raise LegacyError(f"a wrapper has codec {CODECS[codec] if codec < 5 else codec}")
    if wrapper.value_size < 0:
        raise LegacyError("a wrapper has no value")
    packed = PyMemoryView_FromMemory(<char*> wrapper.value, wrapper.value_size, PyBUF_READ)
    if codec == LZ4 and wrapper.magic == 0:
        return decompress_lz4_v0(packed, limit)
    return decompress_bytes(codec, packed, limit)


cdef object unwrap_set(const Message* wrapper, const uint8_t[::1] data, Py_ssize_t size):
    """The messages of a wrapper, from its decompressed set."""
    cdef Reader r = reader(&data[0] if size else NULL, size)
    cdef Message m
    cdef int64_t last = -1
    cdef int64_t base = 0
    cdef bint relative = wrapper.magic == 1 and wrapper.offset != 0
    cdef bint append_time = wrapper.magic == 1 and wrapper.attributes & TIMESTAMP_TYPE_BIT
    messages = []
    while left(&r):
        name = f"inner message {len(messages)}"
        m = next_message(&r, name)
        if m.attributes & CODEC_BITS:
            raise LegacyError(f"{name} is compressed itself")
        if m.offset <= last:
            raise LegacyError(f"{name} has offset {m.offset} behind {last}")
        last = m.offset
        if append_time and m.magic == 1:
            m.timestamp = wrapper.timestamp
        messages.append((m.offset, m.timestamp, body(&m)))
    if not messages:
        raise LegacyError("a wrapper holds no messages")
    if relative:
        base = wrapper.offset - last
        if base < 0:
            raise LegacyError(f"a wrapper has offset {wrapper.offset}, its last message {last}")
        messages = [(base + offset, timestamp, content) for offset, timestamp, content in messages]
    return messages


def unwrap(const uint8_t[::1] data not None, Py_ssize_t limit):
    """All messages of one entry, plain or a wrapper, as a list of ``(offset, timestamp, body)``.

    Offsets ascend and are not negative; whether they are those expected in this place is for the
    caller to judge. Timestamps are ms, −1 where there is none. A body is that of a v2 record.
    ``limit`` bounds the bytes that a wrapper decompresses to.

    Raises ``LegacyError`` when the entry is damaged, ``copycore.codec.CodecError`` when what a
    wrapper holds is, or is larger than ``limit``.
    """
    cdef Reader r = reader(&data[0] if data.shape[0] else NULL, data.shape[0])
    cdef Message m = next_message(&r, "a message")
    cdef int codec = m.attributes & CODEC_BITS
    if left(&r):
        raise LegacyError(f"{left(&r)} bytes are left behind a message")
    if m.offset < 0:
        raise LegacyError(f"a message has offset {m.offset}")
    if codec == 0:
        return [(m.offset, m.timestamp, body(&m))]
    messages = inner_set(&m, codec, limit)
    return unwrap_set(&m, messages, len(messages))
