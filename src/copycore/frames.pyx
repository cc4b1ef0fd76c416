"""Fetch and Produce, requests and responses: the versions the data path speaks.

Fetch 11 (plain), 12 (flexible, KIP-482) and 13 (topic ids, KIP-516: a recreated topic is refused
by the broker instead of read by its old name); Produce 7, 8 (record errors) and 9 (flexible).
Field order follows Kafka's ``FetchRequest.json``, ``FetchResponse.json``, ``ProduceRequest.json``
and ``ProduceResponse.json``. Sessionless fetches only (session id 0, epoch −1, KIP-227).

Decoders raise ``ValueError`` on anything truncated or contradictory; a response is checked as it
is walked, so nothing after a malformed field is ever acted on.
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, qsort

from copycore.batch cimport HEADER_SIZE
from copycore.cursor cimport (
    Reader, Writer, read_blob, read_count, read_i16, read_i32, read_i64, read_uvarint31, reader,
    skip_tags, take,
)
from copycore.memory cimport resized

# Kafka's API keys, and the versions spoken here.
FETCH_KEY = FETCH
FETCH_VERSIONS = (11, 13)
PRODUCE_KEY = PRODUCE
PRODUCE_VERSIONS = (7, 9)

cdef int32_t DIVERGING_EPOCH = 0  # tag of FetchResponse.json


cdef int request_header(
    Writer out, int16_t api, int16_t version, int32_t correlation_id, bytes client_id,
    bint flexible,
) except -1:
    """Request header v1, or v2 (flexible); the client id is a plain string in both."""
    out.begin_frame()
    out.put_i16(api)
    out.put_i16(version)
    out.put_i32(correlation_id)
    out.put_string(client_id, False)
    return out.put_tags(flexible)


cdef int check_version(int16_t version, tuple window, str what) except -1:
    if not window[0] <= version <= window[1]:
        raise ValueError(f"{what} version {version} is outside {window[0]}–{window[1]}")
    return 0


cdef bytes topic_key(Reader* r, bint flexible, bint by_id):
    """The next topic's name (or 16-byte id) as bytes."""
    cdef int32_t size = 16
    cdef const uint8_t* start
    if by_id:
        start = take(r, 16)
    else:
        start = read_blob(r, flexible, True, &size)
    if r.failed or start == NULL:
        raise ValueError("malformed topic in a response")
    return <bytes> start[:size]


cdef class FetchEncoder:

    def __cinit__(self, int16_t version):
        check_version(version, FETCH_VERSIONS, "Fetch")
        self.version = version
        self.flexible = version >= 12
        self.out = Writer()

    cdef int begin(self, int32_t correlation_id, bytes client_id, int32_t max_wait_ms,
                   int32_t min_bytes, int32_t max_bytes, bint read_committed,
                   int32_t topics) except -1:
        cdef Writer out = self.out
        request_header(out, FETCH, self.version, correlation_id, client_id, self.flexible)
        out.put_i32(-1)  # replica id: a consumer
        out.put_i32(max_wait_ms)
        out.put_i32(min_bytes)
        out.put_i32(max_bytes)
        out.put_i8(1 if read_committed else 0)
        out.put_i32(0)   # session id
        out.put_i32(-1)  # session epoch: sessionless
        return out.put_count(topics, self.flexible)

    cdef int topic(self, bytes name, bytes topic_id, int32_t partitions) except -1:
        if self.version >= 13:
            if len(topic_id) != 16:
                raise ValueError("a topic id has 16 bytes")
            self.out.put_raw(<const uint8_t*> <const char*> topic_id, 16)
        else:
            self.out.put_string(name, self.flexible)
        return self.out.put_count(partitions, self.flexible)

    cdef int partition(self, int32_t partition, int32_t leader_epoch, int64_t offset,
                       int32_t fetched_epoch, int32_t max_bytes) except -1:
        """``fetched_epoch`` is that of the batch before ``offset``; −1 unknown."""
        cdef Writer out = self.out
        out.put_i32(partition)
        out.put_i32(leader_epoch)
        out.put_i64(offset)
        if self.version >= 12:
            out.put_i32(fetched_epoch)
        out.put_i64(-1)      # log start offset: followers only
        out.put_i32(max_bytes)
        return out.put_tags(self.flexible)

    cdef int end_topic(self) except -1:
        return self.out.put_tags(self.flexible)

    cdef int end(self) except -1:
        self.out.put_count(0, self.flexible)  # forgotten topics
        self.out.put_string(b"", self.flexible)  # rack
        self.out.put_tags(self.flexible)
        return self.out.end_frame(0)


cdef bint has_tag(Reader* r, int32_t tag) noexcept:
    """Read a tagged-field section (KIP-482); whether the field is there."""
    cdef bint found = False
    cdef int32_t count = read_uvarint31(r)
    while count > 0 and not r.failed:
        found |= read_uvarint31(r) == tag
        take(r, read_uvarint31(r))
        count -= 1
    return found


cdef int by_first_offset(const void* a, const void* b) noexcept nogil:
    cdef int64_t x = (<const AbortedTransaction*> a).first_offset
    cdef int64_t y = (<const AbortedTransaction*> b).first_offset
    return (x > y) - (x < y)


cdef class FetchDecoder:

    def __dealloc__(self):
        free(self.aborted)

    cdef int open(self, const uint8_t* data, Py_ssize_t size, int16_t version) except -1:
        """``data`` starts after the correlation id."""
        self.version = version
        self.flexible = version >= 12
        self.r = reader(data, size)
        if self.flexible:
            skip_tags(&self.r)  # response header v1
        self.throttle_ms = read_i32(&self.r)
        self.error = read_i16(&self.r)
        read_i32(&self.r)  # session id
        self.topics_left = read_count(&self.r, self.flexible, 6 if not self.flexible else 3)
        self.partitions_left = 0
        if self.r.failed or self.topics_left < 0:
            raise ValueError("malformed Fetch response header")
        return 0

    cdef bytes next_topic(self):
        """The next topic's name or id; None at the end. All its partitions must be walked."""
        if self.topics_left == 0:
            return None
        self.topics_left -= 1
        key = topic_key(&self.r, self.flexible, self.version >= 13)
        self.partitions_left = read_count(&self.r, self.flexible, 35)
        if self.partitions_left == 0 and self.flexible:
            skip_tags(&self.r)
        if self.r.failed or self.partitions_left < 0:
            raise ValueError("malformed partition list in a Fetch response")
        return key

    cdef bint next_partition(self, FetchedPartition* out) except -1:
        """Fill ``out`` (and ``aborted``, sorted by first offset); False after the last one."""
        cdef int32_t i
        if self.partitions_left == 0:
            return False
        out.partition = read_i32(&self.r)
        out.error = read_i16(&self.r)
        out.high_watermark = read_i64(&self.r)
        out.last_stable_offset = read_i64(&self.r)
        out.log_start_offset = read_i64(&self.r)
        out.aborted_count = max(read_count(&self.r, self.flexible, 16), 0)
        if out.aborted_count > self.aborted_capacity:
            self.aborted = <AbortedTransaction*> resized(
                self.aborted, out.aborted_count, sizeof(AbortedTransaction))
            self.aborted_capacity = out.aborted_count
        for i in range(out.aborted_count):
            self.aborted[i].producer_id = read_i64(&self.r)
            self.aborted[i].first_offset = read_i64(&self.r)
            if self.flexible:
                skip_tags(&self.r)
        # Brokers may send the list unsorted (franz-go b9b50cce).
        if out.aborted_count > 1 and not self.r.failed:
            qsort(self.aborted, out.aborted_count, sizeof(AbortedTransaction), by_first_offset)
        out.preferred_replica = read_i32(&self.r)
        out.records = read_blob(&self.r, self.flexible, False, &out.records_size)
        if out.records_size < 0:
            out.records_size = 0
        out.diverged = self.flexible and has_tag(&self.r, DIVERGING_EPOCH)
        self.partitions_left -= 1
        if self.partitions_left == 0 and self.flexible:
            skip_tags(&self.r)
        if self.r.failed:
            raise ValueError("malformed or truncated Fetch response")
        return True


cdef class ProduceEncoder:

    def __cinit__(self, int16_t version):
        check_version(version, PRODUCE_VERSIONS, "Produce")
        self.version = version
        self.flexible = version >= 9
        self.out = Writer()
        self.seen = set()

    cdef int begin(self, int32_t correlation_id, bytes client_id, int32_t timeout_ms,
                   int32_t topics) except -1:
        cdef Writer out = self.out
        request_header(out, PRODUCE, self.version, correlation_id, client_id, self.flexible)
        out.put_null_string(self.flexible)  # transactional id
        out.put_i16(-1)  # acks: all in-sync replicas
        out.put_i32(timeout_ms)
        self.seen.clear()
        self.payload_bytes = 0
        return out.put_count(topics, self.flexible)

    cdef int topic(self, bytes name, int32_t partitions) except -1:
        self.current_topic = name
        self.out.put_string(name, self.flexible)
        return self.out.put_count(partitions, self.flexible)

    cdef int partition(self, int32_t partition, const uint8_t* header,
                       Py_ssize_t payload) except -1:
        """The batch header; ``payload`` bytes from elsewhere belong directly after it."""
        # INV-1: a partition named twice in a request loses its first batch silently: KafkaApis
        # collects the entries into a map.
        key = (self.current_topic, partition)
        if key in self.seen:
            raise ValueError(f"{self.current_topic!r} partition {partition} twice in one Produce")
        self.seen.add(key)
        self.out.put_i32(partition)
        self.out.put_length(<int32_t> (HEADER_SIZE + payload), self.flexible)
        self.payload_bytes += payload
        return self.out.put_raw(header, HEADER_SIZE)

    cdef int end_partition(self) except -1:
        return self.out.put_tags(self.flexible)

    cdef int end_topic(self) except -1:
        return self.out.put_tags(self.flexible)

    cdef int end(self) except -1:
        self.out.put_tags(self.flexible)
        return self.out.end_frame(self.payload_bytes)


cdef class ProduceDecoder:

    cdef int open(self, const uint8_t* data, Py_ssize_t size, int16_t version) except -1:
        """``data`` starts after the correlation id."""
        self.version = version
        self.flexible = version >= 9
        self.r = reader(data, size)
        if self.flexible:
            skip_tags(&self.r)
        self.topics_left = read_count(&self.r, self.flexible, 6 if not self.flexible else 3)
        self.partitions_left = 0
        self.throttle_ms = 0
        if self.r.failed or self.topics_left < 0:
            raise ValueError("malformed Produce response header")
        return 0

    cdef bytes next_topic(self):
        if self.topics_left == 0:
            return None
        self.topics_left -= 1
        key = topic_key(&self.r, self.flexible, False)
        self.partitions_left = read_count(&self.r, self.flexible, 30)
        if self.partitions_left == 0 and self.flexible:
            skip_tags(&self.r)
        if self.r.failed or self.partitions_left < 0:
            raise ValueError("malformed partition list in a Produce response")
        return key

    cdef bint next_partition(self, ProducedPartition* out) except -1:
        """Fill ``out`` and ``message`` (the broker's words, or None); False after the last."""
        cdef int32_t errors, size
        cdef const uint8_t* text
        if self.partitions_left == 0:
            return False
        out.partition = read_i32(&self.r)
        out.error = read_i16(&self.r)
        out.base_offset = read_i64(&self.r)
        read_i64(&self.r)  # log append time
        out.log_start_offset = read_i64(&self.r)
        self.message = None
        if self.version >= 8:
            errors = read_count(&self.r, self.flexible, 5)
            while errors > 0 and not self.r.failed:
                read_i32(&self.r)  # batch index
                text = read_blob(&self.r, self.flexible, True, &size)
                if text != NULL and self.message is None:
                    self.message = <bytes> text[:size]
                if self.flexible:
                    skip_tags(&self.r)
                errors -= 1
            text = read_blob(&self.r, self.flexible, True, &size)
            if text != NULL and self.message is None:
                self.message = <bytes> text[:size]
        if self.flexible:
            skip_tags(&self.r)
        self.partitions_left -= 1
        if self.partitions_left == 0 and self.flexible:
            skip_tags(&self.r)
        if self.r.failed:
            raise ValueError("malformed or truncated Produce response")
        return True

    cdef int finish(self) except -1:
        """Read what follows the topics: the throttle time."""
        self.throttle_ms = read_i32(&self.r)
        if self.r.failed:
            raise ValueError("truncated Produce response")
        return 0


# --- the same from Python: tests, the fuzz target and rare single requests -------------------

def encode_fetch(version, correlation_id, client_id, topics, *, max_wait_ms=500, min_bytes=1,
                 max_bytes=1 << 20, read_committed=True):
    """A whole Fetch frame, length prefix included.

    ``topics``: ``[(name, topic_id, [(partition, leader_epoch, offset, max_bytes), …]), …]`` with
    name and topic id as bytes.
    """
    cdef FetchEncoder encoder = FetchEncoder(version)
    encoder.begin(correlation_id, client_id, max_wait_ms, min_bytes, max_bytes, read_committed,
                  len(topics))
    for name, topic_id, partitions in topics:
        encoder.topic(name, topic_id, len(partitions))
        for partition, leader_epoch, offset, partition_bytes in partitions:
            encoder.partition(partition, leader_epoch, offset, -1, partition_bytes)
        encoder.end_topic()
    encoder.end()
    return <bytes> encoder.out.data[:encoder.out.pos]


def decode_fetch(version, const uint8_t[::1] data not None):
    """A Fetch response after its correlation id, as plain dictionaries; records as bytes."""
    cdef FetchDecoder decoder = FetchDecoder()
    cdef FetchedPartition p
    cdef int32_t i
    check_version(version, FETCH_VERSIONS, "Fetch")
    decoder.open(&data[0] if data.shape[0] else NULL, data.shape[0], version)
    topics = []
    while True:
        name = decoder.next_topic()
        if name is None:
            break
        partitions = []
        while decoder.next_partition(&p):
            partitions.append({
                "partition": p.partition,
                "error": p.error,
                "high_watermark": p.high_watermark,
                "last_stable_offset": p.last_stable_offset,
                "log_start_offset": p.log_start_offset,
                "aborted": [
                    (decoder.aborted[i].producer_id, decoder.aborted[i].first_offset)
                    for i in range(p.aborted_count)
                ],
                "preferred_replica": p.preferred_replica,
                "records": <bytes> p.records[:p.records_size] if p.records_size else b"",
            })
        topics.append((name, partitions))
    return {"throttle_ms": decoder.throttle_ms, "error": decoder.error, "topics": topics}


def encode_produce(version, correlation_id, client_id, topics, *, timeout_ms=30_000):
    """A whole Produce frame with its payloads joined in.

    ``topics``: ``[(name, [(partition, batch), …]), …]``, each batch whole, header first. Raises
    ``ValueError`` when a partition is named twice.
    """
    cdef ProduceEncoder encoder = ProduceEncoder(version)
    cdef const uint8_t[::1] batch
    pieces = []
    start = 0
    encoder.begin(correlation_id, client_id, timeout_ms, len(topics))
    for name, partitions in topics:
        encoder.topic(name, len(partitions))
        for partition, whole in partitions:
            batch = whole
            if batch.shape[0] < HEADER_SIZE:
                raise ValueError("a batch has at least 61 bytes")
            encoder.partition(partition, &batch[0], batch.shape[0] - HEADER_SIZE)
            pieces.append((encoder.out.pos, bytes(batch[HEADER_SIZE:])))
            encoder.end_partition()
        encoder.end_topic()
    encoder.end()
    frame = []
    for position, payload in pieces:
        frame.append(<bytes> encoder.out.data[start:position])
        frame.append(payload)
        start = position
    frame.append(<bytes> encoder.out.data[start:encoder.out.pos])
    return b"".join(frame)


def decode_produce(version, const uint8_t[::1] data not None):
    """A Produce response after its correlation id, as plain dictionaries."""
    cdef ProduceDecoder decoder = ProduceDecoder()
    cdef ProducedPartition p
    check_version(version, PRODUCE_VERSIONS, "Produce")
    decoder.open(&data[0] if data.shape[0] else NULL, data.shape[0], version)
    topics = []
    while True:
        name = decoder.next_topic()
        if name is None:
            break
        partitions = []
        while decoder.next_partition(&p):
            partitions.append({
                "partition": p.partition,
                "error": p.error,
                "base_offset": p.base_offset,
                "log_start_offset": p.log_start_offset,
                "message": decoder.message,
            })
        topics.append((name, partitions))
    decoder.finish()
    return {"throttle_ms": decoder.throttle_ms, "topics": topics}
