"""Token buckets over bytes and records, nested, and shared fairly by those who draw from them.

Buckets form a tree, as process > cluster > flow > topic > partition; lanes draw at the leaves.
Each bucket may have a limit on bytes, on records, on both or on none, and a send needs all from
its leaf up to the root. Time is passed in, in seconds of any monotonic clock. Buckets are shared by
threads: no method lets the interpreter switch in its middle.

**Amount.** A send needs a level above zero and then takes its whole size, so a batch of any size
passes and the level may go into debt by one of them. Over any window of t seconds at most
``rate · t + burst`` and one batch pass, where burst is what ``BURST`` seconds bring. A level that
has run out opens again once ``CHUNK`` seconds' worth is saved up, or ``LARGE`` bytes if that is
less: so requests stay large, and those of a high rate spread. A bucket starts empty, as rclone's
does: a restart is no burst.

**Fairness.** Children of a limit are served as by start-time fair queueing (Goyal, Vin, Cheng
1996): what a child has had is counted in seconds of the limits above it, divided by its weight,
and one that is ``QUANTUM`` seconds ahead of the least served one that wants to send has to wait for
it. So two children that always want to send are never further apart than that and one batch each,
whatever their batches' sizes, lanes and connections, and one that comes back has saved up nothing.
One that was refused wants to send until ``GRACE`` seconds after it could, and one that was served
may want to for ``LINGER`` seconds. The latter are not waited for once half the burst is saved up:
something else must be holding them up, and what they leave unused goes to the others.
"""

BURST = 0.25      # seconds; what a lane late by less than that has missed, it can catch up
CHUNK = 0.05
LARGE = 1 << 20   # bytes of a request from which on brokers work as fast as they can
QUANTUM = 0.05
GRACE = 0.1
LINGER = 0.02

cdef double burst_time = BURST
cdef double chunk_time = CHUNK
cdef double large = LARGE
cdef double quantum = QUANTUM
cdef double grace = GRACE
cdef double linger = LINGER
cdef double YIELD = 0.002   # seconds; until one who has to wait for another one looks again


cdef void set_rate(Meter* meter, double now, double rate) noexcept:
    if meter.rate:
        fill(meter, now)
    else:
        meter.level = 0
        meter.filled_at = now
        meter.open = False
    meter.rate = rate
    meter.level = min(meter.level, rate * burst_time)


cdef void fill(Meter* meter, double now) noexcept:
    if now > meter.filled_at:
        meter.level = min(meter.level + (now - meter.filled_at) * meter.rate,
                          meter.rate * burst_time)
        meter.filled_at = now


cdef double wait(Meter* meter, double now) noexcept:
    """Seconds until it lets something through; 0 means now."""
    cdef double chunk = min(meter.rate * chunk_time, large)
    if not meter.rate:
        return 0
    fill(meter, now)
    if not meter.open and meter.level >= chunk * (1 - 1e-9):
        meter.open = True
    return 0 if meter.open else (chunk - meter.level) / meter.rate


cdef double spend(Meter* meter, double amount) noexcept:
    """The seconds that it costs."""
    if not meter.rate:
        return 0
    meter.level -= amount
    if meter.level <= 0:
        meter.open = False
    return amount / meter.rate


cdef class Bucket:

    def __init__(self, Bucket parent=None, double weight=1):
        """Below ``parent``, without a limit of its own. Raises ``ValueError`` for a weight that is
        not above zero.
        """
        if not weight > 0:
            raise ValueError("a bucket's weight is above zero")
        self.parent = parent
        self.weight = weight
        self.children = []
        if parent is not None:
            self.governed = parent.governed
            self.served = parent.floor
            parent.children.append(self)

    def set_rates(self, double now, double bytes, double records):
        """From now on so many bytes and records a second; 0 takes a limit away.

        What was spent stays spent. Lanes that wait do so by the old rates: wake them.
        """
        if not (bytes >= 0 and records >= 0):
            raise ValueError("a bucket's rates are not negative")
        set_rate(&self.bytes, now, bytes)
        set_rate(&self.records, now, records)
        self.govern()

    @property
    def rates(self):
        """Bytes and records a second; 0 is no limit."""
        return self.bytes.rate, self.records.rate

    def take(self, double now, double bytes, double records=0):
        """Spend if sending is allowed now, and return 0; else the seconds until to ask again."""
        return self.admit(now, bytes, records)

    cdef double admit(self, double now, double size, double count) noexcept:
        """See ``take``."""
        cdef double delay = self.ask(now) if self.governed else 0
        if delay == 0 and self.governed:
            self.charge(now, size, count)
        return delay

    cdef double ask(self, double now) noexcept:
        """Seconds until sending may be allowed; a child that is refused is expected back then."""
        cdef double delay = self.closed_for(now)
        # A bucket held back by its own limit does not keep others waiting at those above.
        if delay > 0 or self.parent is None or not self.parent.governed:
            return delay
        delay = self.parent.ask(now)
        self.served = max(self.served, self.parent.floor)
        if self.served > self.parent.floor + quantum:
            self.parent.raise_floor(now, self)
            if self.served > self.parent.floor + quantum:
                delay = max(delay, YIELD)
        if delay > 0:
            self.refused_until = now + delay + grace
        return delay

    cdef double charge(self, double now, double size, double count) noexcept:
        """Book a send from here up; the seconds it costs by the strictest limit on the way."""
        cdef double cost = 0
        cdef Bucket child
        if self.parent is not None:
            cost = self.parent.charge(now, size, count)
            self.served += cost / self.weight
            self.lingers_until = now + linger
            self.refused_until = 0
            for child in self.children:
                self.refused_until = max(self.refused_until, child.refused_until)
        return max(cost, max(spend(&self.bytes, size), spend(&self.records, count)))

    cdef double closed_for(self, double now) noexcept:
        return max(wait(&self.bytes, now), wait(&self.records, now))

    cdef void raise_floor(self, double now, Bucket asker) noexcept:
        """Work out anew which child is the least served; once in an instant is enough."""
        cdef Bucket child
        cdef double least = asker.served
        cdef bint spare = self.spare()
        if now == self.floor_at:
            return
        self.floor_at = now
        for child in self.children:
            if (child.served < least
                    and (child.refused_until >= now or not spare and child.lingers_until >= now)
                    and child.closed_for(now) == 0):
                least = child.served
        self.floor = max(self.floor, least)

    cdef bint spare(self) noexcept:
        """Whether half the burst is saved up in every limit from here up."""
        cdef double half = burst_time / 2
        return (self.bytes.level >= self.bytes.rate * half
                and self.records.level >= self.records.rate * half
                and (self.parent is None or self.parent.spare()))

    cdef void govern(self) noexcept:
        """Tell everyone below whether there is a limit to mind."""
        cdef Bucket child
        self.governed = (self.bytes.rate > 0 or self.records.rate > 0
                         or self.parent is not None and self.parent.governed)
        for child in self.children:
            child.govern()
