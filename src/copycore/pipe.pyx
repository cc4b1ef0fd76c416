"""A pipe: the partitions that go from one source broker to one target broker, over one connection
to each.

All that a pipe fetched goes out through one connection, so a stuck target holds back its own pipe
only, and the batches of a partition stay in order. One Fetch is outstanding, received into a slab;
up to five Produce requests are in flight, each with at most one batch of a partition. Nothing is
ever sent twice: whatever goes wrong ends the partition's assignment, once all its requests are
answered or their connection is gone.
"""

from collections import deque

from libc.stdint cimport INT64_MAX, int16_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc, realloc

from copycore.batch cimport CODEC_BITS, HEADER_SIZE
from copycore.cursor cimport read_i32, reader
from copycore.frames cimport (
    FetchDecoder, FetchedPartition, FetchEncoder, ProduceDecoder, ProducedPartition,
    ProduceEncoder,
)
from copycore.partition cimport Item, PartitionCopy
from copycore.segments cimport Segments
from copycore.transport cimport BODY_WANTED, BROKEN, COMPLETE, Channel, SlabPool

cdef int IN_FLIGHT = 5                  # requests a pipe, as an idempotent producer
cdef int32_t LEAST_SHARE = 64 << 10     # bytes asked of one partition in a fetch
cdef int32_t SLAB_MARGIN = 64 << 10     # room for what is no record in a Fetch response
cdef int32_t ANSWER_LIMIT = 16 << 20    # bytes of a Produce response
cdef int32_t FETCH_LIMIT = 160 << 20    # bytes of a Fetch response
cdef int32_t THROTTLE_LIMIT = 60_000    # ms a broker may make us wait at a time


cdef class LaneState:
    """What the pipes of a lane share: its settings, its events, its counts."""

    def __cinit__(self):
        self.events = []
        self.limited_since = self.first_ack = -1

    cdef bint held_back(self, PartitionCopy part, int64_t now) except -1:
        """Whether a rate limit forbids the front batch now; one that may go is paid for."""
        cdef Item* item = part.front()
        cdef double delay
        if part.bucket is None:
            return False
        delay = part.bucket.admit(now / 1000.0, item.payload_size + HEADER_SIZE, item.count)
        part.held = delay > 0
        if not part.held:
            return False
        if self.limited_since < 0:
            self.limited_since = now
            self.limited_for = delay
        self.limited_for = min(self.limited_for, delay)
        return True

    cdef list allowed(self, list parts):
        """Those of ``parts``, from the first on, whose front batch the limits of the run allow."""
        cdef PartitionCopy part
        cdef Py_ssize_t i
        if self.allowance is not None:
            for i in range(len(parts)):
                part = parts[i]
                if not self.allowance.take(part.front().count,
                                           part.front().payload_size + HEADER_SIZE):
                    return parts[:i]
        return parts


cdef class Request:

    def __cinit__(self, int32_t count):
        self.items = <Item*> malloc(max(count, 1) * sizeof(Item))
        if self.items == NULL:
            raise MemoryError
        self.parts = []
        self.index = {}

    def __dealloc__(self):
        free(self.items)

    cdef void release(self, SlabPool pool):
        cdef int32_t i
        for i in range(self.count):
            pool.release(self.items[i].slab)
        self.count = 0


cdef class Pipe:

    def __init__(self, LaneState state not None, object tag, source, int16_t fetch_version, target,
                 int16_t produce_version, Py_ssize_t slab_size, Py_ssize_t memory):
        """Over two connected sockets, which the pipe owns from now on; see ``Lane.add_pipe``."""
        self.state = state
        self.tag = tag
        self.parts = []
        self.fetch_names = {}
        self.requests = deque()
        self.source = Channel(source)
        self.target = Channel(target)
        self.fetch_bytes = slab_size
        self.pool = SlabPool(slab_size + SLAB_MARGIN, memory)
        self.fetch_out = FetchEncoder(fetch_version)
        self.fetch_in = FetchDecoder()
        self.produce_out = ProduceEncoder(produce_version)
        self.produce_in = ProduceDecoder()

    def __dealloc__(self):
        free(self.answer)

    @property
    def open(self):
        """Whether both connections stand, so that partitions can be assigned."""
        return self.source.sock is not None and self.target.sock is not None

    @property
    def partitions(self):
        return list(self.parts)

    @property
    def borrowed_bytes(self):
        return self.pool.in_use

    # --- fetching --------------------------------------------------------------------------

    cdef list choose_hungry(self):
        """Partitions for the next fetch, in rotating order."""
        cdef PartitionCopy part
        cdef int i, n = len(self.parts)
        cdef Py_ssize_t share, asked = 0
        cdef list chosen = []
        cdef bint caught_up
        share = max(self.fetch_bytes // max(n, 1), LEAST_SHARE)
        for i in range(n):
            part = self.parts[(self.turn + i) % n]
            if part.ending is not None or (part.end >= 0 and part.position >= part.end):
                continue
            if part.queued_bytes >= max(share, part.largest):
                continue
            if part.alone:
                self.turn = (self.turn + i + 1) % n
                return [part]
            caught_up = part.position >= part.readable
            if asked >= self.fetch_bytes and not caught_up:
                continue
            chosen.append(part)
            if not caught_up:
                asked += max(share, part.largest)
        return chosen

    cdef int fetch(self, int64_t now) except -1:
        """Send the next Fetch, if there is room for its answer and somebody to ask for."""
        cdef PartitionCopy part
        cdef FetchEncoder out = self.fetch_out
        cdef dict topics
        cdef Py_ssize_t share
        cdef int32_t wait
        if (self.source.sock is None or self.fetch_parts is not None
                or now < self.fetch_not_before or not self.pool.has_room()):
            return 0
        chosen = self.choose_hungry()
        if not chosen:
            return 0
        topics = {}
        self.fetch_names = {}
        for part in chosen:
            topics.setdefault(part.source_name, []).append(part)
        # A long poll may only wait when nobody who has a full queue now could get hungry in it.
        wait = self.state.poll_wait if len(chosen) == len(self.parts) else 5
        share = max(self.fetch_bytes // len(chosen), LEAST_SHARE)
        self.fetch_correlation += 1
        out.begin(self.fetch_correlation, self.state.client_id, wait, 1,
                  <int32_t> self.fetch_bytes, self.state.read_committed, len(topics))
        for name, parts in topics.items():
            part = parts[0]
            out.topic(name, part.source_id, len(parts))
            key = part.source_id if out.version >= 13 else name
            places = self.fetch_names.setdefault(key, {})
            for part in parts:
                out.partition(part.partition, part.leader_epoch, part.position,
                              <int32_t> max(share, 2 * part.largest))
                places[part.partition] = part
                part.asked = True
            out.end_topic()
        out.end()
        self.source.queue(out.out.data, out.out.pos)
        self.fetch_parts = chosen
        self.fetch_deadline = now + wait + self.state.request_timeout
        if self.source.push() == BROKEN:
            self.lose_source(self.source.error)
        return 0

    cdef int fetched(self, int64_t now) except -1:
        """A whole Fetch response is in the slab: cut it up."""
        cdef FetchDecoder decoder = self.fetch_in
        cdef FetchedPartition answer
        cdef PartitionCopy part
        cdef dict places
        cdef list chosen = self.fetch_parts
        cdef Segments segments
        cdef int64_t known
        cdef int served = 0
        head = reader(self.slab.data, self.source.body_size)
        if read_i32(&head) != self.fetch_correlation:
            return self.lose_source("the broker answered another request than the one asked")
        try:
            decoder.open(self.slab.data + 4, self.source.body_size - 4, self.fetch_out.version)
            while True:
                name = decoder.next_topic()
                if name is None:
                    break
                places = self.fetch_names.get(name)
                while decoder.next_partition(&answer):
                    part = None if places is None else places.get(answer.partition)
                    if part is None or not part.asked:
                        raise ValueError(f"partition {answer.partition} of {name!r} was not asked "
                                         "for, or comes twice")
                    part.asked = False
                    if part.ending is not None:
                        continue
                    if answer.error:
                        part.finish("source-error", "source", answer.error, part.position, None,
                                    True)
                        continue
                    known = answer.high_watermark
                    if self.state.read_committed and 0 <= answer.last_stable_offset < known:
                        known = answer.last_stable_offset
                    part.readable = max(part.readable, known)
                    if answer.records_size:
                        served += 1
                        segments = Segments()
                        part.absorb(&answer, decoder, self.slab, self.pool,
                                    self.state.read_committed, self.state.check_crc, segments)
                        if segments.size:
                            self.state.events.append(("segments", part, segments))
                    elif answer.preferred_replica >= 0:
                        # KIP-392: nothing here, because it is to be had there.
                        part.finish("elsewhere", "source", 0, part.position,
                                    "the leader sends readers to broker "
                                    f"{answer.preferred_replica}, and only leaders are read", True)
                    elif decoder.throttle_ms == 0 and part.position < part.end:
                        part.nothing(known, len(chosen) == 1)
            # A throttled answer to a sessionless Fetch carries no partitions.
            if decoder.throttle_ms == 0 and decoder.error == 0:
                for part in chosen:
                    if part.asked:
                        raise ValueError("a Fetch response leaves partitions out")
        except ValueError as error:
            return self.lose_source(str(error))
        if decoder.throttle_ms > 0:
            self.fetch_not_before = now + min(decoder.throttle_ms, THROTTLE_LIMIT)
            self.state.source_quota_ms += min(decoder.throttle_ms, THROTTLE_LIMIT)
        for part in chosen:
            part.asked = False
        self.fetch_parts = None
        self.pool.release(self.slab)
        self.slab = NULL
        if self.parts:
            self.turn = (self.turn + max(served, 1)) % len(self.parts)
        if decoder.error:
            return self.lose_source(f"the broker refused a Fetch with error {decoder.error}")
        return 0

    cdef int read_source(self, int64_t now) except -1:
        cdef int outcome = self.source.pull()
        if outcome == BODY_WANTED:
            if self.fetch_parts is None:
                return self.lose_source("the broker sent a response nobody asked for")
            if self.source.body_size > FETCH_LIMIT:
                return self.lose_source(
                    f"a Fetch response of {self.source.body_size} bytes is beyond any request")
            self.slab = self.pool.borrow(self.source.body_size)
            self.source.expect(self.slab.data)
            outcome = self.source.pull()
        if outcome == BROKEN:
            return self.lose_source(self.source.error)
        if outcome == COMPLETE:
            return self.fetched(now)
        return 0

    # --- producing -------------------------------------------------------------------------

    cdef list choose_ready(self, int64_t now):
        """Partitions whose front batch goes out now, in rotating order."""
        cdef PartitionCopy part
        cdef int i, n = len(self.parts)
        cdef Py_ssize_t size = 0
        cdef list chosen = []
        for i in range(n):
            part = self.parts[(self.produce_turn + i) % n]
            if (part.queued and part.in_flight < IN_FLIGHT and part.gate_is_open()
                    and (part.ending is None or part.drain)):
                if size and size + part.front().payload_size > self.state.request_bytes:
                    break
                if self.state.held_back(part, now):
                    continue
                size += part.front().payload_size + HEADER_SIZE
                chosen.append(part)
        if n:
            self.produce_turn = (self.produce_turn + max(len(chosen), 1)) % n
        return chosen

    cdef int produce(self, int64_t now) except -1:
        """Send Produce requests while there is something to send and somewhere to send it."""
        cdef PartitionCopy part
        cdef ProduceEncoder out = self.produce_out
        cdef Request request
        cdef Item* item
        cdef dict topics
        cdef list cuts
        cdef Py_ssize_t start
        cdef int32_t i
        while (self.target.sock is not None and not self.target.sending()
               and len(self.requests) < IN_FLIGHT and now >= self.produce_not_before):
            chosen = self.choose_ready(now)
            if not chosen:
                return self.unpin_slabs()
            chosen = self.state.allowed(chosen)
            if not chosen:
                return 0
            topics = {}
            for part in chosen:
                topics.setdefault(part.target_name, []).append(part)
            request = Request(len(chosen))
            self.produce_correlation += 1
            request.correlation = self.produce_correlation
            request.deadline = now + self.state.request_timeout
            out.begin(request.correlation, self.state.client_id, self.state.request_timeout,
                      len(topics))
            cuts = []
            for name, parts in topics.items():
                out.topic(name, len(parts))
                for part in parts:
                    item = &request.items[request.count]
                    item[0] = part.front()[0]
                    part.pop()
                    part.in_flight += 1
                    request.index[(name, part.partition)] = request.count
                    request.parts.append(part)
                    request.count += 1
                    request.size += item.payload_size + HEADER_SIZE
                    out.partition(part.partition, item.header, item.payload_size)
                    cuts.append(out.out.pos)
                    out.end_partition()
                out.end_topic()
            out.end()
            start = 0
            for i in range(request.count):
                self.target.queue(out.out.data + start, <Py_ssize_t> cuts[i] - start)
                self.target.queue(request.items[i].payload, request.items[i].payload_size)
                start = cuts[i]
            self.target.queue(out.out.data + start, out.out.pos - start)
            self.requests.append(request)
            if self.target.push() == BROKEN:
                return self.lose_target(self.target.error)
        return 0

    cdef int unpin_slabs(self) except -1:
        """Partitions that a rate limit holds back shall not keep the memory that others need.

        All partitions of a fetch lie in one slab, which the slowest of them would pin; so once
        somebody has nothing to send for want of a slab, what is held back is copied elsewhere.
        """
        cdef PartitionCopy part
        cdef bint starving = False
        if self.pool.has_room():
            return 0
        for part in self.parts:
            if part.ending is None and not part.queued and part.position < part.readable:
                starving = True
        if starving:
            for part in self.parts:
                if part.held:
                    part.move_queue(self.pool)
        return 0

    cdef int acknowledge(self, PartitionCopy part, Item* item, int16_t error,
                         int64_t base_offset, str message) except -1:
        """Book the answer for one batch."""
        if error:
            if part.ending is None and item.joined:
                part.refused_until = item.source_next
            part.finish("target-error", "target", error, item.source_base, message, False)
        elif base_offset != part.base_target + item.counter:
            part.finish("foreign-writer", "target", 0, base_offset,
                        f"{part.base_target + item.counter}", False)
        else:
            part.acked = item.source_next
            part.acked_counter = item.counter + item.count
            part.records += item.count
            part.bytes += item.payload_size + HEADER_SIZE
            part.batches += 1
            if item.header[22] & CODEC_BITS == 0:
                part.plain_bytes += item.payload_size + HEADER_SIZE
        return 0

    cdef int produced(self, int64_t now) except -1:
        """A whole Produce response has come."""
        cdef ProduceDecoder decoder = self.produce_in
        cdef ProducedPartition answer
        cdef Request request
        cdef PartitionCopy part
        cdef int32_t place
        if not self.requests:
            return self.lose_target("the broker sent a response nobody asked for")
        request = self.requests[0]
        if self.target.sending() and len(self.requests) == 1:
            return self.lose_target("the broker answered a request before it had all of it")
        head = reader(self.answer, self.target.body_size)
        if read_i32(&head) != request.correlation:
            return self.lose_target("the broker answered another request than the oldest one")
        answers = {}
        try:
            decoder.open(self.answer + 4, self.target.body_size - 4, self.produce_out.version)
            while True:
                name = decoder.next_topic()
                if name is None:
                    break
                while decoder.next_partition(&answer):
                    key = (name, answer.partition)
                    if key not in request.index or key in answers:
                        raise ValueError(f"partition {answer.partition} of {name!r} was not sent, "
                                         "or is answered twice")
                    text = decoder.message
                    answers[key] = (answer.error, answer.base_offset,
                                    None if text is None else text.decode("utf-8", "replace"))
            decoder.finish()
            if len(answers) != request.count:
                raise ValueError("a Produce response leaves partitions out")
        except ValueError as error:
            return self.lose_target(str(error))
        self.requests.popleft()
        for key, (code, base_offset, message) in answers.items():
            place = request.index[key]
            part = request.parts[place]
            part.in_flight -= 1
            self.acknowledge(part, &request.items[place], code, base_offset, message)
        request.release(self.pool)
        if self.state.first_ack < 0:
            self.state.first_ack = now
        if decoder.throttle_ms > 0:
            self.produce_not_before = now + min(decoder.throttle_ms, THROTTLE_LIMIT)
            self.state.target_quota_ms += min(decoder.throttle_ms, THROTTLE_LIMIT)
        return 0

    cdef int read_target(self, int64_t now) except -1:
        cdef int outcome
        cdef void* grown
        while self.target.sock is not None:
            outcome = self.target.pull()
            if outcome == BODY_WANTED:
                if self.target.body_size > ANSWER_LIMIT:
                    return self.lose_target(
                        f"a Produce response of {self.target.body_size} bytes is beyond any "
                        "request")
                if self.target.body_size > self.answer_size:
                    grown = realloc(self.answer, self.target.body_size)
                    if grown == NULL:
                        raise MemoryError
                    self.answer = <uint8_t*> grown
                    self.answer_size = self.target.body_size
                self.target.expect(self.answer)
            elif outcome == COMPLETE:
                self.produced(now)
            elif outcome == BROKEN:
                return self.lose_target(self.target.error)
            else:
                return 0
        return 0

    # --- endings ---------------------------------------------------------------------------

    cdef int lose_source(self, str reason) except -1:
        """The source connection is gone: what is in flight may finish, the rest is dropped."""
        cdef PartitionCopy part
        self.source.shut(reason)
        self.fetch_parts = None
        if self.slab != NULL:
            self.pool.release(self.slab)
            self.slab = NULL
        for part in self.parts:
            part.asked = False
            part.finish("lost", "source", 0, part.position, reason, False)
        self.state.events.append(("closed", self, "source", reason))
        return 0

    cdef int lose_target(self, str reason) except -1:
        """The target connection is gone: nobody will answer what is in flight."""
        cdef PartitionCopy part
        cdef Request request
        self.target.shut(reason)
        while self.requests:
            request = self.requests.popleft()
            for part in request.parts:
                part.in_flight -= 1
            request.release(self.pool)
        for part in self.parts:
            part.finish("lost", "target", 0, part.acked, reason, False)
        self.state.events.append(("closed", self, "target", reason))
        return 0

    cdef int settle(self) except -1:
        """Report the partitions that have come to their end."""
        cdef PartitionCopy part
        cdef bint over = False
        for part in self.parts:
            if part.ending is not None and not part.drain and part.queued:
                part.drop_queue(self.pool)
            if part.queued or part.in_flight or part.asked:
                continue
            if part.ending is None and part.end >= 0 and part.position >= part.end:
                part.finish("done", "source", 0, part.position, None, True)
                part.acked = part.position
            if part.ending is not None:
                part.ended = over = True
                self.state.events.append(("ended", part))
            else:
                part.acked = part.position
        if over:
            self.parts = [part for part in self.parts if not (<PartitionCopy> part).ended]
        return 0

    cdef int check_deadlines(self, int64_t now) except -1:
        if self.fetch_parts is not None and now > self.fetch_deadline:
            self.lose_source(f"no answer to a Fetch within {self.state.request_timeout} ms")
        if self.requests and now > (<Request> self.requests[0]).deadline:
            self.lose_target(f"no answer to a Produce within {self.state.request_timeout} ms")
        return 0

    cdef int64_t next_deadline(self, int64_t now):
        """When this pipe wants to run again although no socket says so."""
        cdef int64_t first = INT64_MAX
        if self.fetch_parts is not None:
            first = self.fetch_deadline
        elif self.fetch_not_before > now:
            first = self.fetch_not_before
        if self.requests:
            first = min(first, (<Request> self.requests[0]).deadline)
        if self.produce_not_before > now:
            first = min(first, self.produce_not_before)
        return first
