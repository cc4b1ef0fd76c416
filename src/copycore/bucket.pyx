"""A token bucket over bytes, shared by the lanes of a job. Time is passed in.

A send needs a level above zero and then takes its whole size, so the level may go into debt by
one request: over any window of t seconds at most ``rate · t + burst`` bytes and one request pass.
The bucket starts empty, as rclone's does, so that a restart is no burst.
"""

from threading import Lock


cdef class Bucket:

    def __init__(self, double rate, double burst):
        """``rate`` in bytes a second, above zero; ``burst`` in bytes."""
        if not rate > 0 or not burst > 0:
            raise ValueError("a bucket's rate and burst are above zero")
        self.rate = rate
        self.burst = burst
        self.level = 0
        self.filled_at = -1
        self.lock = Lock()

    cdef double wait(self, double now):
        """Seconds until something may be sent; 0 means now. ``now`` in monotonic seconds."""
        with self.lock:
            if self.filled_at < 0:
                self.filled_at = now
            if now > self.filled_at:
                self.level = min(self.burst, self.level + (now - self.filled_at) * self.rate)
                self.filled_at = now
            return 0.0 if self.level > 0 else (1 - self.level) / self.rate

    cdef int spend(self, double amount) except -1:
        with self.lock:
            self.level -= amount
        return 0

    def take(self, double now, double amount):
        """Spend ``amount`` if sending is allowed now; else return the seconds to wait."""
        cdef double delay = self.wait(now)
        if delay == 0:
            self.spend(amount)
        return delay
