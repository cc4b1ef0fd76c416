"""What of the source is left out: markers, empty batches, and records of aborted transactions.

A lane has one sieve, which its partitions use one after the other, each for one fetched slice.
"""

from copycore.batch cimport (
    CONTROL, EMPTY, TRANSACTIONAL_BIT, BatchView, control_type, crc_matches,
)
from copycore.frames cimport FetchDecoder, FetchedPartition


cdef class Sieve:
    """``read_committed`` leaves out what aborted transactions wrote (KIP-98), by the list that a
    Fetch brings along (INV-3). ``check_crc`` looks at the CRC of every batch. Only the lane's
    thread may call it.
    """

    def __init__(self, *, bint read_committed, bint check_crc):
        self.read_committed = read_committed
        self.check_crc = check_crc

    cdef int begin(self, const FetchedPartition* fetched, FetchDecoder decoder) except -1:
        """A new slice, whose list of aborted transactions the decoder holds until it is cut."""
        self.transactions = decoder.aborted
        self.count = fetched.aborted_count if self.read_committed else 0
        self.next = 0
        self.aborted = None
        return 0

    cdef int sift(self, const BatchView* view) except -2:
        """What becomes of the next batch of the slice, of magic 2: one of ``Sifted``."""
        cdef bint good, left_out
        while self.next < self.count and (
                self.transactions[self.next].first_offset < view.next_offset):
            if self.aborted is None:
                self.aborted = set()
            self.aborted.add(self.transactions[self.next].producer_id)
            self.next += 1
        left_out = (view.kind == CONTROL or view.kind == EMPTY
                    or (self.aborted is not None and view.attributes & TRANSACTIONAL_BIT
                        and view.producer_id in self.aborted))
        # The target never sees what is left out, so only this check finds damage in it (INV-15).
        if self.check_crc or left_out:
            with nogil:
                good = crc_matches(view)
            if not good:
                return DAMAGED
        if not left_out:
            return GOES_ON
        if view.kind == CONTROL and self.aborted is not None and control_type(view) == 0:
            self.aborted.discard(view.producer_id)
        return LEFT_OUT
