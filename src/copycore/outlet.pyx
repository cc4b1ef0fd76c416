"""An outlet: one connection to a target broker, and the branches that go out through it.

Up to five Produce requests are in flight, each with at most one batch of a target partition: of
two the broker would store the second only, without an error. Nothing is ever sent twice.
"""

from collections import deque

from libc.stdint cimport INT64_MAX, int16_t, int32_t, int64_t, uint8_t
from libc.stdlib cimport free

from copycore.batch cimport CODEC_BITS, HEADER_SIZE
from copycore.branch cimport Branch, Item
from copycore.cursor cimport read_i32, reader
from copycore.frames cimport ProduceDecoder, ProducedPartition, ProduceEncoder
from copycore.lane_state cimport THROTTLE_LIMIT, LaneState
from copycore.memory cimport resized
from copycore.partition cimport PartitionCopy
from copycore.poll cimport Endpoint
from copycore.transport cimport BODY_WANTED, BROKEN, COMPLETE, READ, SlabPool, as_channel

from copycore.partition import Refusal, Unanswered

cdef int MOST_REQUESTS = 5              # in flight
cdef int32_t ANSWER_LIMIT = 16 << 20    # bytes of a Produce response
cdef Py_ssize_t LATENCIES = 4096        # kept until they are taken


cdef class Request:

    def __cinit__(self, int32_t count):
        self.items = <Item*> resized(NULL, count, sizeof(Item))
        self.branches = []
        self.index = {}

    def __dealloc__(self):
        free(self.items)

    cdef void release(self, SlabPool pool):
        cdef int32_t i
        for i in range(self.count):
            pool.release(self.items[i].slab)
        self.count = 0


cdef class Outlet(Endpoint):

    def __init__(self, LaneState state not None, pipe, connection, int16_t version, SlabPool pool):
        """Over a connection, which the outlet owns from now on. ``pipe`` is whose events
        it reports, ``pool`` whose slabs its batches lie in.
        """
        self.state = state
        self.pipe = pipe
        self.pool = pool
        self.branches = []
        self.requests = deque()
        self.channel = as_channel(connection)
        self.encoder = ProduceEncoder(version)
        self.decoder = ProduceDecoder()

    def __dealloc__(self):
        free(self.answer)

    cdef list choose_ready(self, int64_t now):
        """Branches whose front batch goes out now, in rotating order."""
        cdef Branch branch
        cdef int i, n = len(self.branches)
        cdef Py_ssize_t size = 0
        cdef list chosen = []
        cdef set places = set()
        for i in range(n):
            branch = self.branches[(self.turn + i) % n]
            if branch.ready(now):
                if size and size + branch.front().payload_size > self.state.request_bytes:
                    break
                place = (branch.topic, branch.partition)
                if place in places or not self.state.pay_or_wait(branch, now):
                    continue
                places.add(place)
                size += branch.front().payload_size + HEADER_SIZE
                chosen.append(branch)
        if n:
            self.turn = (self.turn + max(len(chosen), 1)) % n
        return chosen

    cdef int produce(self, int64_t now) except -1:
        """Send Produce requests while there is something to send and somewhere to send it."""
        cdef Branch branch
        cdef ProduceEncoder out = self.encoder
        cdef Request request
        cdef Item* item
        cdef dict topics
        cdef list cuts
        cdef Py_ssize_t start
        cdef int32_t i
        while (self.channel.sock is not None and not self.channel.sending()
               and len(self.requests) < (1 if self.throttled else MOST_REQUESTS)
               and now >= self.not_before):
            chosen = self.state.take_allowance(self.choose_ready(now))
            if not chosen:
                return 0
            topics = {}
            for branch in chosen:
                topics.setdefault(branch.topic, []).append(branch)
            request = Request(len(chosen))
            self.correlation += 1
            request.correlation = self.correlation
            request.deadline = now + self.state.request_timeout
            request.sent = now - self.state.worked
            out.begin(request.correlation, self.state.client_id, self.state.request_timeout,
                      len(topics))
            cuts = []
            for name, branches in topics.items():
                out.topic(name, len(branches))
                for branch in branches:
                    item = &request.items[request.count]
                    branch.send_front(item)
                    request.index[(name, branch.partition)] = request.count
                    request.branches.append(branch)
                    request.count += 1
                    out.partition(branch.partition, item.header, item.payload_size)
                    cuts.append(out.out.pos)
                    out.end_partition()
                out.end_topic()
            out.end()
            start = 0
            for i in range(request.count):
                self.channel.queue(out.out.data + start, <Py_ssize_t> cuts[i] - start)
                self.channel.queue(request.items[i].payload, request.items[i].payload_size)
                start = cuts[i]
            self.channel.queue(out.out.data + start, out.out.pos - start)
            self.requests.append(request)
            if self.channel.push() == BROKEN:
                return self.lose(self.channel.error)
        return 0

    cdef int acknowledge(self, Branch branch, Item* item, int16_t error, int64_t base_offset,
                         str message, int64_t now) except -1:
        """Book the answer for one batch."""
        cdef PartitionCopy part = <PartitionCopy> branch.owner
        if error:
            if part.sends:
                part.refused = Refusal(item.count, item.payload_size + HEADER_SIZE,
                                       item.header[22] & CODEC_BITS != 0, item.joined,
                                       item.source_next)
            self.doubt(branch, item)
            part.finish("target-error", "target", error, item.source_base, message, False)
        elif branch.base >= 0 and base_offset != branch.base + item.counter:
            part.finish("foreign-writer", "target", 0, base_offset,
                        f"{branch.base + item.counter}", False)
        else:
            branch.acked_counter = item.counter + item.count
            branch.acked_offset = base_offset + item.count
            branch.proven = True
            branch.acked_at = now
            part.arrived(item)
        return 0

    cdef int doubt(self, Branch branch, const Item* item) except -1:
        """Note a batch that the target may have although no answer says so: a connection that was
        lost, or an error after the append (REQUEST_TIMED_OUT).
        """
        (<PartitionCopy> branch.owner).unanswered.append(Unanswered(
            branch.partition, item.counter + item.count, item.count,
            item.payload_size + HEADER_SIZE, item.header[22] & CODEC_BITS != 0))
        return 0

    cdef int produced(self, int64_t now) except -1:
        """A whole Produce response has come."""
        cdef ProduceDecoder decoder = self.decoder
        cdef ProducedPartition answer
        cdef Request request
        cdef Branch branch
        cdef int32_t place
        if not self.requests:
            return self.lose("the broker sent a response nobody asked for")
        request = self.requests[0]
        if self.channel.sending() and len(self.requests) == 1:
            # INV-11: the slabs of an answered request go back.
            return self.lose("the broker answered a request before it had all of it")
        head = reader(self.answer, self.channel.body_size)
        if read_i32(&head) != request.correlation:
            return self.lose("the broker answered another request than the oldest one")
        answers = {}
        try:
            decoder.open(self.answer + 4, self.channel.body_size - 4, self.encoder.version)
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
            return self.lose(str(error))
        self.requests.popleft()
        for key, (code, base_offset, message) in answers.items():
            place = request.index[key]
            branch = request.branches[place]
            branch.answered()
            self.acknowledge(branch, &request.items[place], code, base_offset, message, now)
        request.release(self.pool)
        if len(self.state.latencies) < LATENCIES:
            self.state.latencies.append(now - self.state.worked - request.sent)
        if self.state.first_ack < 0:
            self.state.first_ack = now
        # Behind a throttled answer the broker reads nothing more for so long (KIP-219): what is in
        # flight is answered later, and more in flight would only wait there instead of here.
        self.throttled = decoder.throttle_ms > 0
        if self.throttled:
            self.not_before = now + min(decoder.throttle_ms, THROTTLE_LIMIT)
            self.state.target_quota.wait(now, self.not_before)
            for request in self.requests:
                request.deadline = self.not_before + self.state.request_timeout
        return 0

    cdef int interest(self) noexcept:
        """Always an answer, so that a connection which the broker closes is noticed."""
        return self.channel.interest(reading=True)

    cdef int advance(self, int ready, int64_t now) except -1:
        if self.channel.sending():
            if self.channel.push() == BROKEN:
                return self.lose(self.channel.error)
            if not ready & READ:
                return 0
        return self.read(now)

    cdef int read(self, int64_t now) except -1:
        cdef int outcome
        while self.channel.sock is not None:
            outcome = self.channel.pull()
            if outcome == BODY_WANTED:
                if self.channel.body_size > ANSWER_LIMIT:
                    return self.lose(
                        f"a Produce response of {self.channel.body_size} bytes is beyond any "
                        "request")
                if self.channel.body_size > self.answer_size:
                    self.answer = <uint8_t*> resized(self.answer, self.channel.body_size, 1)
                    self.answer_size = self.channel.body_size
                self.channel.expect(self.answer)
            elif outcome == COMPLETE:
                self.produced(now)
            elif outcome == BROKEN:
                return self.lose(self.channel.error)
            else:
                return 0
        return 0

    cdef int lose(self, str reason) except -1:
        """The connection is gone: what is in flight gets no answer."""
        cdef Branch branch
        cdef PartitionCopy part
        cdef Request request
        cdef int32_t i
        self.channel.shut(reason)
        while self.requests:
            request = self.requests.popleft()
            for i in range(request.count):
                branch = request.branches[i]
                branch.answered()
                self.doubt(branch, &request.items[i])
            request.release(self.pool)
        for branch in self.branches:
            part = <PartitionCopy> branch.owner
            part.finish("lost", "target", 0, part.acked, reason, False)
        self.state.events.append(("closed", self.pipe, "target", reason))
        return 0

    cdef int forget_ended(self) except -1:
        """Leave the branches of assignments that have been reported as ended."""
        self.branches = [branch for branch in self.branches
                         if not (<PartitionCopy> (<Branch> branch).owner).ended]
        return 0

    cdef int check_deadline(self, int64_t now) except -1:
        if self.requests and now > (<Request> self.requests[0]).deadline:
            self.lose(f"no answer to a Produce within {self.state.request_timeout} ms")
        return 0

    cdef int64_t silence(self, int64_t now) noexcept:
        """For how many ms the broker has owed an answer."""
        if not self.requests:
            return 0
        return max(now - ((<Request> self.requests[0]).deadline - self.state.request_timeout), 0)

    cdef int64_t next_deadline(self, int64_t now):
        """When this outlet wants to run again although its socket does not say so."""
        cdef int64_t first = INT64_MAX
        if self.requests:
            first = (<Request> self.requests[0]).deadline
        if self.not_before > now:
            first = min(first, self.not_before)
        return first
