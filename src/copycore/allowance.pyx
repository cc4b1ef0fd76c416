"""What a run may still send: records and bytes, shared by the lanes of a job.

A batch is taken off before it is sent, whole or not at all, so what is sent never exceeds the
limit. The first batch that does not fit any more ends it for all lanes: a run stays below its
limit by less than that one batch, and which batches it sends does not depend on small ones that
happen to come later. What was sent over a connection that broke stays taken: it may have arrived.
"""

from libc.stdint cimport INT64_MAX, int64_t

from threading import Lock


cdef class Allowance:
    """``records_left`` and ``bytes_left`` go down to 0; without a limit they are 2⁶³ − 1, which
    no run uses up. ``refused`` has the records and bytes of the batch that did not fit, None
    before.
    """

    def __init__(self, records, size):
        """``records`` and ``size`` (bytes) above zero, None for no limit."""
        self.records_left = INT64_MAX if records is None else records
        self.bytes_left = INT64_MAX if size is None else size
        if self.records_left <= 0 or self.bytes_left <= 0:
            raise ValueError("an allowance is above zero")
        self.lock = Lock()

    cpdef bint take(self, int64_t records, int64_t size) except -1:
        """Whether a batch of that many records and bytes may be sent; if so, it counts as sent."""
        with self.lock:
            if self.refused is not None:
                return False
            if records > self.records_left or size > self.bytes_left:
                self.refused = (records, size)
                return False
            self.records_left -= records
            self.bytes_left -= size
            return True
