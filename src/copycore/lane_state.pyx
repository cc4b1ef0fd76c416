"""What the pipes of a lane share: its settings, its limits, its events, its counts."""

from libc.stdint cimport int64_t

from copycore.batch cimport HEADER_SIZE
from copycore.branch cimport Branch, Item
from copycore.bucket cimport Bucket


cdef class Waited:
    """Time that something is waited for, on any number of connections; what overlaps counts once.
    """

    cdef int wait(self, int64_t now, int64_t until) except -1:
        """One of them waits from now until then."""
        self.total += max(until - max(now, self.until), 0)
        self.until = max(self.until, until)
        return 0

    cdef int64_t by(self, int64_t now) noexcept:
        """Milliseconds that were waited by now."""
        return self.total - max(self.until - now, 0)


cdef class LaneState:

    def __cinit__(self):
        self.source_quota, self.target_quota = Waited(), Waited()
        self.events = []
        self.latencies = []
        self.limited_since = self.first_ack = -1

    cdef bint pay_or_wait(self, Branch branch, int64_t now) except -1:
        """Pay for the front batch; False where a rate limit does not let it go yet. What is paid
        is not given back if ``take_allowance`` refuses the batch: the run ends then.
        """
        cdef Bucket bucket = branch.owner.bucket
        cdef Item* item = branch.front()
        cdef double delay
        if bucket is None:
            return True
        delay = bucket.admit(now / 1000.0, item.payload_size + HEADER_SIZE, item.count)
        branch.held = delay > 0
        if not branch.held:
            return True
        if self.limited_since < 0:
            self.limited_since = now
            self.limited_for = delay
        self.limited_for = min(self.limited_for, delay)
        return False

    cdef list take_allowance(self, list branches):
        """Take the front batches off what the run may still send; those of ``branches``, from the
        first on, for which there was enough.
        """
        cdef Branch branch
        cdef Py_ssize_t i
        if self.allowance is not None:
            for i in range(len(branches)):
                branch = branches[i]
                if not self.allowance.take(branch.front().count,
                                           branch.front().payload_size + HEADER_SIZE):
                    return branches[:i]
        return branches
