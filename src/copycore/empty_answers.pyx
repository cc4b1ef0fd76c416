"""What the empty answers of a source mean for one partition, and when to ask again.

An empty answer is no proof (INV-2). Where the broker says that there is more, it may lie in remote
storage that did not answer in time, or have found no room in an answer to several partitions; or
its offsets were removed. So the partition is asked for alone, with pauses, and after
``EMPTY_LIMIT`` of nothing but empty answers the caller has to find out why.
"""

from libc.stdint cimport int32_t, int64_t

cdef int32_t ALONE_LIMIT = 2
cdef int64_t EMPTY_LIMIT = 3_000    # ms of empty answers after which the caller is asked
cdef int64_t FIRST_PAUSE = 5        # ms between empty answers, doubled each time
cdef int64_t LONGEST_PAUSE = 200
cdef int32_t EARLY_LIMIT = 20       # answers; a new leader's high watermark may lag for a moment


cdef class EmptyAnswers:
    """``end`` and ``transaction_limit`` as for ``PartitionCopy``. Only the lane's thread may
    call it.
    """

    def __init__(self, int64_t end, int64_t transaction_limit):
        self.end = end
        self.transaction_limit = transaction_limit
        self.since = self.held_since = self.held_at = -1

    cdef int moved(self) except -1:
        """An answer brought the partition on."""
        self.alone = False
        self.alone_in_vain = self.ended_early = 0
        self.since = -1
        return 0

    cdef bint ask_alone(self) except -1:
        """Only part of a batch came; asked for alone, the partition gets all of it. True where
        that was tried too often.
        """
        self.alone_in_vain = self.alone_in_vain + 1 if self.alone else 0
        self.alone = True
        return self.alone_in_vain > ALONE_LIMIT

    cdef int note(self, int64_t position, int64_t stable, int64_t high, bint was_alone,
                  int64_t now) except -1:
        """An empty answer without error or throttle; one of ``Emptiness``. ``stable`` is the end
        of what may be read, ``high`` the high watermark.
        """
        if self.end >= 0 and high < self.end:
            self.alone = False
            self.ended_early += 1
            return ENDS_EARLY if self.ended_early >= EARLY_LIMIT else ASK_AGAIN
        if position >= stable:
            return self.hold(position, now) if position < high else ASK_AGAIN
        if self.since < 0:
            self.since = now
            self.pause = FIRST_PAUSE
        self.alone = True
        self.ended_early = 0
        self.alone_in_vain = self.alone_in_vain + 1 if was_alone else 0
        self.not_before = now + self.pause
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
        if self.alone_in_vain < ALONE_LIMIT or now - self.since < EMPTY_LIMIT:
            return ASK_AGAIN
        if stable < (self.end if self.end >= 0 else high):
            return self.hold(position, now)  # after a hole, more lies after an open transaction
        return NOTHING_COMES if self.end >= 0 else ASK_AGAIN

    cdef int hold(self, int64_t position, int64_t now) except -1:
        """What follows is not stable: an open transaction lies before it."""
        if self.held_at != position:
            self.held_at = position
            self.held_since = now
        if self.end >= 0 and now - self.held_since >= self.transaction_limit:
            return TRANSACTION_OPEN
        return ASK_AGAIN
