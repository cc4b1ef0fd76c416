"""A pipe: the partitions that go from one source broker to one target broker, over one connection
to each; partitions that are split up go to several target brokers.

All that a pipe fetched goes out through the same connections, so a stuck target holds back its own
pipe only, and the batches of a partition stay in order. One Fetch is outstanding, received into a
slab. Nothing is ever sent twice: whatever goes wrong ends the partition's assignment, once all its
requests are answered or their connection is gone.
"""

from libc.stdint cimport INT64_MAX, int16_t, int32_t, int64_t

from copycore.branch cimport Branch
from copycore.cursor cimport read_i32, reader
from copycore.frames cimport FetchDecoder, FetchedPartition, FetchEncoder
from copycore.lane_state cimport THROTTLE_LIMIT, LaneState
from copycore.outlet cimport Outlet
from copycore.partition cimport PartitionCopy
from copycore.poll cimport Endpoint, Poll
from copycore.segments cimport Segments
from copycore.transport cimport BODY_WANTED, BROKEN, COMPLETE, SlabPool, as_channel

cdef Py_ssize_t LEAST_PORTION = 64 << 10  # bytes asked of one partition in a fetch
cdef int MOST_SHARERS = 16              # partitions of a fetch, as long as their batches are small
cdef int PORTION_BATCHES = 8            # of one partition; pieces of less cost the source more CPU
cdef int32_t SHORT_WAIT = 5             # ms a Fetch may wait while others could get hungry
cdef int32_t SLAB_MARGIN = 64 << 10     # room for what is no record in a Fetch response
cdef int32_t FETCH_LIMIT = 160 << 20    # bytes of a Fetch response
cdef int64_t IDLE_LIMIT = 10_000        # ms without a partition until a pipe is closed


cdef inline Py_ssize_t wanted(PartitionCopy part) noexcept:
    """Bytes to ask of it: at least one batch more than the largest one so far, to make headway."""
    return max(part.portion, 2 * part.largest, LEAST_PORTION)


cdef class Pipe(Endpoint):

    def __init__(self, LaneState state not None, source, int16_t fetch_version,
                 targets, Py_ssize_t slab_size, Py_ssize_t memory):
        """Over connections that the pipe owns from now on; see ``Lane.add_pipe``. Its own channel
        is the one to the source.
        """
        self.state = state
        self.parts = []
        self.idle_since = -1
        self.fetch_names = {}
        self.channel = as_channel(source)
        self.fetch_bytes = slab_size
        self.pool = SlabPool(slab_size + SLAB_MARGIN, memory)
        self.fetch_out = FetchEncoder(fetch_version)
        self.fetch_in = FetchDecoder()
        self.outlets = [Outlet(state, self, sock, version, self.pool) for sock, version in targets]

    @property
    def open(self):
        """Whether all connections stand, so that partitions can be assigned."""
        cdef Outlet outlet
        for outlet in self.outlets:
            if outlet.channel.sock is None:
                return False
        return self.channel.sock is not None

    @property
    def partitions(self):
        return list(self.parts)

    @property
    def borrowed_bytes(self):
        return self.pool.in_use

    # --- fetching --------------------------------------------------------------------------

    cdef Py_ssize_t count_behind(self) noexcept:
        """Partitions of which the source has more than was fetched."""
        cdef PartitionCopy part
        cdef Py_ssize_t behind = 0
        for part in self.parts:
            if part.ending is None and part.position < max(part.end, part.readable):
                behind += 1
        return behind

    cdef Py_ssize_t share(self) noexcept:
        """Bytes of a fetch for each partition of small batches.

        It counts all that are behind, also when only some are asked because the others have enough
        queued: one that got more than others would be alone in request after request.
        """
        return max(self.fetch_bytes // max(min(self.count_behind(), MOST_SHARERS), 1),
                   LEAST_PORTION)

    cdef Py_ssize_t next_portion(self, PartitionCopy part, Py_ssize_t share) noexcept:
        """Bytes to ask of this one: twice as many each time, up to its share or some batches; but
        half as many while its limits hold it back, for what waits takes the memory others need.
        """
        cdef Branch branch
        cdef Py_ssize_t most = max(share, min(PORTION_BATCHES * part.largest,
                                              self.fetch_bytes // 2))
        for branch in part.branches:
            if branch.held:
                return max(part.portion // 2, LEAST_PORTION)
        return max(min(part.portion * 2, most), LEAST_PORTION)

    cdef list choose_hungry(self, int64_t now):
        """Partitions for the next fetch, in rotating order. One that has to be asked for alone
        takes every other turn at the most.
        """
        cdef PartitionCopy part
        cdef int i, n = len(self.parts)
        cdef Py_ssize_t asked = 0, share = self.share()
        cdef list chosen = []
        cdef bint caught_up
        cdef PartitionCopy lone = None
        self.retry_at = INT64_MAX
        self.pausing = 0
        for i in range(n):
            part = self.parts[(self.turn + i) % n]
            if part.ending is not None or (part.end >= 0 and part.position >= part.end):
                continue
            if part.queued_bytes >= max(part.portion, part.largest, LEAST_PORTION):
                continue
            if part.empty.not_before > now:
                self.retry_at = min(self.retry_at, part.empty.not_before)
                self.pausing += 1
                continue
            if part.empty.alone:
                if not self.lone_turn:
                    self.turn = (self.turn + i + 1) % n
                    self.lone_turn = True
                    return [part]
                lone = part
                continue
            caught_up = part.position >= part.readable
            if asked >= self.fetch_bytes and not caught_up:
                continue
            chosen.append(part)
            if not caught_up:
                part.portion = self.next_portion(part, share)
                asked += wanted(part)
        if not chosen and lone is not None:
            return [lone]
        self.lone_turn = False
        return chosen

    cdef int fetch(self, int64_t now) except -1:
        """Send the next Fetch, if there is room for its answer and a partition to ask for."""
        cdef PartitionCopy part
        cdef FetchEncoder out = self.fetch_out
        cdef dict topics
        cdef int32_t wait
        if (self.channel.sock is None or self.fetch_parts is not None
                or now < max(self.throttled_until, self.lingers_until)
                or not self.pool.has_room()):
            return 0
        chosen = self.choose_hungry(now)
        if not chosen:
            return 0
        topics = {}
        self.fetch_names = {}
        for part in chosen:
            topics.setdefault(part.source_name, []).append(part)
        # A long poll may only wait when no partition with a full queue could run out during it.
        wait = SHORT_WAIT
        if len(chosen) + self.pausing == len(self.parts):
            wait = <int32_t> max(SHORT_WAIT, min(self.retry_at - now, self.state.poll_wait))
        self.fetch_correlation += 1
        out.begin(self.fetch_correlation, self.state.client_id, wait, 1,
                  <int32_t> self.fetch_bytes, self.state.sieve.read_committed, len(topics))
        for name, parts in topics.items():
            part = parts[0]
            out.topic(name, part.source_id, len(parts))
            key = part.source_id if out.version >= 13 else name
            places = self.fetch_names.setdefault(key, {})
            for part in parts:
                out.partition(part.partition, part.leader_epoch, part.position,
                              part.fetched_epoch, <int32_t> wanted(part))
                places[part.partition] = part
                part.asked = True
            out.end_topic()
        out.end()
        self.channel.queue(out.out.data, out.out.pos)
        self.fetch_parts = chosen
        self.fetch_deadline = now + wait + self.state.request_timeout
        if self.channel.push() == BROKEN:
            self.lose_source(self.channel.error)
        return 0

    cdef int fetched(self, int64_t now) except -1:
        """A whole Fetch response is in the slab: cut it up."""
        cdef FetchDecoder decoder = self.fetch_in
        cdef FetchedPartition answer
        cdef PartitionCopy part
        cdef dict places
        cdef list chosen = self.fetch_parts
        cdef Segments segments
        cdef int64_t known, high
        cdef int served = 0
        cdef bint wants_linger = False
        head = reader(self.slab.data, self.channel.body_size)
        if read_i32(&head) != self.fetch_correlation:
            return self.lose_source("the broker answered another request than the one asked")
        try:
            decoder.open(self.slab.data + 4, self.channel.body_size - 4, self.fetch_out.version)
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
                    part.heard = True
                    if answer.diverged:
                        part.finish("diverged", "source", 0, part.position, None, True)
                        continue
                    known = high = answer.high_watermark
                    if self.state.sieve.read_committed and 0 <= answer.last_stable_offset < known:
                        known = answer.last_stable_offset
                    part.readable = max(part.readable, known)
                    part.high_watermark = max(part.high_watermark, high)
                    if answer.records_size:
                        served += 1
                        segments = Segments()
                        stride = part.take_slice(&answer, decoder, self.slab, self.pool, segments)
                        wants_linger = wants_linger or part.wants_linger
                        if segments.gate >= 0:
                            self.state.events.append(("segments", part, segments))
                        if stride is not None:
                            self.state.events.append(("stride", part, stride))
                    elif answer.preferred_replica >= 0:
                        # KIP-392: nothing here, because it is to be had there (INV-17).
                        part.finish("elsewhere", "source", 0, part.position,
                                    "the leader sends readers to broker "
                                    f"{answer.preferred_replica}, and only leaders are read", True)
                    elif decoder.throttle_ms == 0:
                        part.nothing(known, high, len(chosen) == 1, now)
            # A throttled answer to a sessionless Fetch carries no partitions.
            if decoder.throttle_ms == 0 and decoder.error == 0:
                for part in chosen:
                    if part.asked:
                        raise ValueError("a Fetch response leaves partitions out")
        except ValueError as error:
            return self.lose_source(str(error))
        if decoder.throttle_ms > 0:
            self.throttled_until = now + min(decoder.throttle_ms, THROTTLE_LIMIT)
            self.state.source_quota.wait(now, self.throttled_until)
        elif wants_linger and self.count_behind() == 0:
            self.lingers_until = now + self.state.linger
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

    cdef int watch(self, Poll poll) except -1:
        """Wait at all of its connections."""
        cdef Outlet outlet
        poll.add(self)
        for outlet in self.outlets:
            poll.add(outlet)
        return 0

    cdef int interest(self) noexcept:
        """Nothing without a Fetch outstanding; its answer once all of it is sent."""
        if self.fetch_parts is None:
            return 0
        return self.channel.interest(reading=not self.channel.sending())

    cdef int advance(self, int ready, int64_t now) except -1:
        if not self.channel.sending():
            return self.read_source(now)
        if self.channel.push() == BROKEN:
            return self.lose_source(self.channel.error)
        return 0

    cdef int read_source(self, int64_t now) except -1:
        cdef int outcome = self.channel.pull()
        if outcome == BODY_WANTED:
            if self.fetch_parts is None:
                return self.lose_source("the broker sent a response nobody asked for")
            if self.channel.body_size > FETCH_LIMIT:
                return self.lose_source(
                    f"a Fetch response of {self.channel.body_size} bytes is beyond any request")
            self.slab = self.pool.borrow(self.channel.body_size)
            self.channel.expect(self.slab.data)
            outcome = self.channel.pull()
        if outcome == BROKEN:
            return self.lose_source(self.channel.error)
        if outcome == COMPLETE:
            return self.fetched(now)
        return 0

    # --- producing -------------------------------------------------------------------------

    cdef int produce(self, int64_t now) except -1:
        """Send what there is to send and somewhere to send it."""
        cdef Outlet outlet
        for outlet in self.outlets:
            outlet.produce(now)
        return self.unpin_slabs()

    cdef int unpin_slabs(self) except -1:
        """Partitions that a rate limit or a gate holds back shall not keep the memory that others
        need.

        All partitions of a fetch lie in one slab, which the slowest of them would pin. So once a
        partition has nothing to send for want of a slab, what is held back is copied elsewhere.
        """
        cdef PartitionCopy part
        cdef Branch branch
        cdef bint starving = False
        if self.pool.has_room():
            return 0
        for part in self.parts:
            if (part.ending is None and not part.queued_bytes
                    and (part.end < 0 or part.position < part.end)):
                starving = True
        if starving:
            for part in self.parts:
                for branch in part.branches:
                    if branch.held or (branch.queued and branch.front().opens_at > part.gate):
                        branch.move_queue(self.pool)
        return 0

    # --- endings ---------------------------------------------------------------------------

    cdef int lose_source(self, str reason) except -1:
        """The source connection is gone: what is in flight may finish, the rest is dropped."""
        cdef PartitionCopy part
        self.channel.shut(reason)
        self.fetch_parts = None
        if self.slab != NULL:
            self.pool.release(self.slab)
            self.slab = NULL
        for part in self.parts:
            part.asked = False
            part.finish("lost", "source", 0, part.position, reason, False)
        self.state.events.append(("closed", self, "source", reason))
        return 0

    cdef int settle(self) except -1:
        """Report the partitions that have come to their end."""
        cdef PartitionCopy part
        cdef Branch branch
        cdef Outlet outlet
        cdef bint over = False
        for part in self.parts:
            if not part.sends and part.queued_bytes:
                for branch in part.branches:
                    branch.drop_queue(self.pool)
            if part.pending or part.asked:
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
            for outlet in self.outlets:
                outlet.forget_ended()
        return 0

    cdef int check_deadlines(self, int64_t now) except -1:
        cdef Outlet outlet
        if self.fetch_parts is not None and now > self.fetch_deadline:
            self.lose_source(f"no answer to a Fetch within {self.state.request_timeout} ms")
        for outlet in self.outlets:
            outlet.check_deadline(now)
        return 0

    cdef int close_idle(self, int64_t now) except -1:
        """Close what has not been used for a while: brokers may limit connections."""
        cdef Outlet outlet
        if self.parts or self.fetch_parts is not None:
            self.idle_since = -1
        elif self.idle_since < 0:
            self.idle_since = now
        elif now - self.idle_since > IDLE_LIMIT:
            self.channel.shut("it was not used")
            for outlet in self.outlets:
                if not outlet.requests:
                    outlet.channel.shut("it was not used")
        return 0

    cdef int64_t silence(self, int64_t now) noexcept:
        """For how many ms the source has owed an answer."""
        if self.fetch_parts is None:
            return 0
        return max(now - (self.fetch_deadline - self.state.request_timeout), 0)

    cdef int64_t next_deadline(self, int64_t now):
        """When this pipe wants to run again although no socket says so."""
        cdef Outlet outlet
        cdef int64_t first = INT64_MAX
        if self.fetch_parts is not None:
            first = self.fetch_deadline
        elif max(self.throttled_until, self.lingers_until) > now:
            first = max(self.throttled_until, self.lingers_until)
        elif self.retry_at > now:
            first = self.retry_at
        for outlet in self.outlets:
            first = min(first, outlet.next_deadline(now))
        return first
