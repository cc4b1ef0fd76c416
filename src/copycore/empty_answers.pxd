from libc.stdint cimport int32_t, int64_t


cdef enum Emptiness:
    ASK_AGAIN = 0
    ENDS_EARLY = 1             # the source's log ends before ours has to
    NOTHING_COMES = 2          # although the source says that there is more
    TRANSACTION_OPEN = 3       # for longer than it is waited for


cdef class EmptyAnswers:
    cdef int64_t end                # of the copy, exclusive source offset; −1 follows
    cdef int64_t transaction_limit  # ms to wait for an open transaction
    cdef bint alone                 # ask for this partition in a fetch of its own
    cdef int64_t not_before         # ms, no question earlier
    cdef int64_t held_at            # source offset at which an open transaction holds it; −1
    cdef int64_t held_since         # ms, since when
    cdef int32_t alone_in_vain      # fetches of its own that brought nothing, one after another
    cdef int32_t ended_early        # empty answers with an end before ours
    cdef int64_t since              # ms, since when answers are empty; −1 they are not
    cdef int64_t pause              # ms until the next question after an empty answer

    cdef int moved(self) except -1
    cdef bint ask_alone(self) except -1
    cdef int note(self, int64_t position, int64_t stable, int64_t high, bint was_alone,
                  int64_t now) except -1
    cdef int hold(self, int64_t position, int64_t now) except -1
