cdef struct Meter:
    double rate            # a second; 0 is no limit
    double level
    double filled_at       # seconds; −1 before the first look
    bint open


cdef class Bucket:
    cdef readonly Bucket parent
    cdef public double weight
    cdef Meter bytes
    cdef Meter records
    cdef bint governed             # a limit stands here or above
    cdef list children
    # Fairness among siblings, in seconds of the limits above them divided by the weight.
    cdef double served
    cdef double refused_until      # seconds; refused, and expected back by then
    cdef double lingers_until      # seconds; served, and perhaps not satisfied
    cdef double floor              # of the children: the least served of those who want
    cdef double floor_at           # seconds; when it was last worked out

    cdef double admit(self, double now, double size, double count) noexcept
    cdef double ask(self, double now) noexcept
    cdef double charge(self, double now, double size, double count) noexcept
    cdef double closed_for(self, double now) noexcept
    cdef void raise_floor(self, double now, Bucket asker) noexcept
    cdef bint spare(self) noexcept
    cdef void govern(self) noexcept
