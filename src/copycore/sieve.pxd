from libc.stdint cimport int32_t

from copycore.batch cimport BatchView
from copycore.frames cimport AbortedTransaction, FetchDecoder, FetchedPartition


cdef enum Sifted:
    GOES_ON = 0
    LEFT_OUT = 1
    DAMAGED = -1               # it does not match its CRC, where that is looked at


cdef class Sieve:
    cdef bint read_committed
    cdef bint check_crc
    # Of the slice at hand.
    cdef const AbortedTransaction* transactions    # by first offset; those of the decoder
    cdef int32_t count
    cdef int32_t next
    cdef set aborted           # ids of producers whose present transaction was aborted; or None

    cdef int begin(self, const FetchedPartition* fetched, FetchDecoder decoder) except -1
    cdef int sift(self, const BatchView* view) except -2
