"""The copy loop of one lane.

A lane is one thread with its own connections and a fixed set of partitions, sorted into pipes.
Time is passed in, in milliseconds of any monotonic clock.

Everything runs in the lane's thread, which releases the GIL around socket calls and inner loops.
From any thread: ``wake``, ``silence``, ``take_latencies``, and to read a count or an offset of a
``Lane`` or a ``PartitionCopy``, except ``counters`` before the partition has ended. Each of these
runs with the GIL from begin to end, and the lane's thread changes what they read only while it
holds the GIL. What is read in two steps may be of two moments: ``records`` and ``bytes`` need not
fit each other. An interpreter without a GIL would need locks here.
"""

from libc.stdint cimport int16_t, int32_t, int64_t

from copycore.allowance cimport Allowance
from copycore.branch cimport Branch
from copycore.builder cimport Builder
from copycore.lane_state cimport LaneState
from copycore.outlet cimport Outlet
from copycore.partition cimport PartitionCopy
from copycore.pipe cimport Pipe
from copycore.poll cimport Poll
from copycore.rebatch cimport Rebatcher
from copycore.sieve cimport Sieve


cdef class Lane:
    """See the module's text. ``allowance`` None means no limit on what is sent in all.
    ``rebatcher`` serves this lane only.

    ``request_bytes``: payload of a Produce request above which no further partition joins it.
    ``request_timeout``: ms until an unanswered request counts as lost. ``poll_wait``: ms a Fetch
    may wait at the source for new data. ``linger``: ms until the next one, where what came is to be
    joined with more and the copy follows. ``pause_limit``: ms the process may stand still
    (SIGSTOP, a suspended machine) before its connections are dropped without another byte; 0 sets
    no limit.
    """

    def __init__(self, bytes client_id, *, bint read_committed, bint check_crc,
                 Allowance allowance=None, Rebatcher rebatcher=None, int32_t request_bytes=4 << 20,
                 int32_t request_timeout=30_000, int32_t poll_wait=250, int32_t linger=0,
                 int32_t pause_limit=0):
        self.state = LaneState()
        self.state.client_id = client_id
        self.state.sieve = Sieve(read_committed=read_committed, check_crc=check_crc)
        self.state.builder = Builder(Rebatcher() if rebatcher is None else rebatcher)
        self.state.allowance = allowance
        self.state.request_bytes = request_bytes
        self.state.request_timeout = request_timeout
        self.state.poll_wait = poll_wait
        self.state.linger = linger
        self.pause_limit = pause_limit
        self.stepped_at = -1
        self.pipes = []
        self.poll = Poll()

    def add_pipe(self, source, int16_t fetch_version, targets, Py_ssize_t slab_size,
                 Py_ssize_t memory):
        """A pipe over connected sockets or channels, which it owns from now on.

        ``targets`` are one or more of them, each with its version of Produce. ``slab_size``
        bytes a Fetch may bring, ``memory`` bytes of slabs the pipe may hold.
        """
        cdef Pipe pipe = Pipe(self.state, source, fetch_version, targets, slab_size, memory)
        self.pipes.append(pipe)
        return pipe

    def assign(self, Pipe pipe, PartitionCopy part, outlets=(0,)):
        """Copy this partition through that pipe. ``outlets`` says for each of its branches to
        which of the pipe's targets it goes. Raises ``ValueError`` on a closed pipe.
        """
        cdef Branch branch
        if not pipe.open:
            raise ValueError("the pipe is closed")
        if part.ending is not None:
            raise ValueError("an assignment serves once")
        if len(outlets) != len(part.branches):
            raise ValueError("every branch has one outlet")
        part.begin_copying(self.state.sieve, self.state.builder)
        pipe.parts.append(part)
        for branch, number in zip(part.branches, outlets):
            (<Outlet> pipe.outlets[number]).branches.append(branch)

    def stop(self, PartitionCopy part):
        """Fetch no more of it; what is in flight finishes, then it ends as "stopped"."""
        if not part.ended:
            part.finish("stopped", "target", 0, part.acked, None, False)

    def lose(self, PartitionCopy part, str reason):
        """End an assignment for the caller's reason: ask the log, try again."""
        if not part.ended:
            part.finish("lost", "target", 0, part.acked, reason, False)

    def stop_all(self):
        cdef Pipe pipe
        for pipe in self.pipes:
            for part in pipe.parts:
                self.stop(part)

    def abandon(self, str reason):
        """Drop every connection without another byte (after a long pause of the process)."""
        cdef Pipe pipe
        cdef Outlet outlet
        for pipe in self.pipes:
            if pipe.channel.sock is not None:
                pipe.lose_source(reason)
            for outlet in pipe.outlets:
                if outlet.channel.sock is not None:
                    outlet.lose(reason)

    def silence(self, int64_t now):
        """For how many ms the broker that is silent longest has owed an answer, beyond what a quota
        of its own makes us wait. Any thread may call it.
        """
        cdef Pipe pipe
        cdef Outlet outlet
        cdef int64_t longest = 0
        for pipe in self.pipes:
            longest = max(longest, pipe.silence(now))
            for outlet in pipe.outlets:
                longest = max(longest, outlet.silence(now))
        return longest

    def drop_silent(self, Pipe pipe, int64_t now, int64_t silence, str reason):
        """Close those connections of a pipe whose brokers have owed an answer for that many ms."""
        cdef Outlet outlet
        if pipe.silence(now) > silence:
            pipe.lose_source(reason)
        for outlet in pipe.outlets:
            if outlet.silence(now) > silence:
                outlet.lose(reason)

    def wake(self):
        """Make a running or the next ``step`` return at once; from any thread."""
        self.poll.wake()

    def step(self, int64_t now, int64_t timeout, clock):
        """Do what can be done, wait at most ``timeout`` ms for a socket, do what that allows.

        ``clock()`` gives the time after the wait. Returns events: ``("segments", partition,
        Segments)`` and ``("stride", partition, Stride)`` to be made durable and then confirmed,
        ``("ended", partition)``, ``("closed", pipe, side, reason)``.
        """
        cdef Pipe pipe
        cdef int64_t until
        cdef LaneState state = self.state
        if self.stepped_at >= 0:
            state.worked += max(now - self.stepped_at, 0)
        self.notice_pause(now, 0)
        if state.limited_since >= 0:
            state.limited_ms += now - state.limited_since
            state.limited_since = -1
        for pipe in self.pipes:
            pipe.fetch(now)
            pipe.produce(now)
            pipe.settle()
            until = pipe.next_deadline(now) - now
            timeout = min(timeout, max(until, 0))
        if state.events:
            timeout = 0
        if state.limited_since >= 0:
            timeout = min(timeout, <int64_t> (state.limited_for * 1000) + 1)
        self.poll.begin()
        for pipe in self.pipes:
            pipe.watch(self.poll)
        self.poll.wait(timeout)
        now = clock()
        if not self.notice_pause(now, timeout):
            self.poll.advance(now)
        for pipe in self.pipes:
            pipe.check_deadlines(now)
        for pipe in self.pipes:
            pipe.produce(now)
            pipe.settle()
            pipe.close_idle(now)
        self.drop_broken_pipes()
        events, state.events = state.events, []
        return events

    @property
    def first_ack(self):
        """When the first batch was acknowledged, in ms of the caller's clock; −1 before."""
        return self.state.first_ack

    @property
    def limited_ms(self):
        """Milliseconds waited for the rate limits."""
        return self.state.limited_ms

    @property
    def source_quota_ms(self):
        """Milliseconds the source brokers' quotas made us wait."""
        return self.state.source_quota.by(self.stepped_at)

    @property
    def target_quota_ms(self):
        return self.state.target_quota.by(self.stepped_at)

    def take_latencies(self):
        """Of the Produce requests answered since the last call, the ms between sending and answer
        in which the lane waited; from any thread. What it was busy with itself in between (opening
        batches, other sockets) is nothing that the target does.
        """
        cdef list taken = self.state.latencies
        self.state.latencies = []
        return taken

    cdef bint notice_pause(self, int64_t now, int64_t waited) except -1:
        """After a pause another copystream may have taken over: send nothing more."""
        cdef int64_t before = self.stepped_at
        self.stepped_at = now
        if not self.pause_limit or before < 0 or now - before <= waited + self.pause_limit:
            return False
        self.abandon(f"the process stood still for {(now - before) / 1000:.1f} s")
        return True

    cdef int drop_broken_pipes(self) except -1:
        """A pipe whose source is gone lives on until its answers are in."""
        cdef Pipe pipe
        cdef Outlet outlet
        cdef list kept = []
        for pipe in self.pipes:
            if pipe.open or pipe.parts or any((<Outlet> one).requests for one in pipe.outlets):
                kept.append(pipe)
            else:
                pipe.channel.shut("the other side of the pipe is gone")
                for outlet in pipe.outlets:
                    outlet.channel.shut("the other side of the pipe is gone")
        self.pipes = kept
        return 0

    @property
    def idle(self):
        """Whether no partition is assigned."""
        cdef Pipe pipe
        for pipe in self.pipes:
            if pipe.parts:
                return False
        return True

    def close(self):
        """Close every connection, and give back what was on its way."""
        cdef Pipe pipe
        self.abandon("closed")
        for pipe in self.pipes:
            pipe.settle()
        self.drop_broken_pipes()
