"""Waiting for the sockets of a lane: the only place that polls.

Each ``Endpoint`` says what it waits for, by what its channel says; nothing here knows whether a
channel sends bytes as they are. A channel that decrypts may hold bytes which its socket no longer
tells of: then nothing is waited for, and the endpoint goes on at once.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free

from copycore.memory cimport resized
from copycore.transport cimport READ, WRITE

import os

cdef extern from "<poll.h>" nogil:
    int poll(pollfd* fds, unsigned long count, int timeout)
    short POLLIN
    short POLLOUT

cdef int64_t LONGEST_WAIT = 60_000  # ms


cdef class Endpoint:
    """The owner of one channel in a lane. Only the lane's thread may call it."""

    cdef int interest(self) noexcept:
        """For which of ``READ`` and ``WRITE`` to wait now; 0 for nothing."""
        return 0

    cdef int advance(self, int ready, int64_t now) except -1:
        """Go on, as far as ``READ`` and ``WRITE`` in ``ready`` allow."""
        return 0


cdef class Poll:
    """Collects endpoints for one wait, waits, and lets those go on that can. Only the lane's
    thread may call it, except ``wake``.
    """

    def __init__(self):
        self.endpoints = []
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __dealloc__(self):
        free(self.fds)
        if self.wake_fd > 0:
            os.close(self.wake_fd)

    cdef int wake(self) except -1:
        """Make a running ``wait``, or the next one, return at once. Any thread may call it."""
        os.eventfd_write(self.wake_fd, 1)
        return 0

    cdef int begin(self) except -1:
        """Start over without endpoints."""
        self.endpoints = []
        self.buffered = False
        return 0

    cdef int add(self, Endpoint endpoint) except -1:
        """Wait for what this one waits for, if anything."""
        cdef int interest = 0
        cdef Py_ssize_t i
        if endpoint.channel.sock is not None:
            interest = endpoint.interest()
        if not interest:
            return 0
        self.endpoints.append(endpoint)
        i = len(self.endpoints)
        if i + 1 > self.capacity:
            self.fds = <pollfd*> resized(self.fds, 2 * (i + 1), sizeof(pollfd))
            self.capacity = 2 * (i + 1)
        self.fds[i].fd = endpoint.channel.fd
        self.fds[i].events = ((POLLIN if interest & READ else 0)
                              | (POLLOUT if interest & WRITE else 0))
        self.fds[i].revents = 0
        self.buffered = self.buffered or endpoint.channel.buffered()
        return 0

    cdef int wait(self, int64_t timeout) except -1:
        """Wait at most ``timeout`` ms for one of them, or for ``wake``. Raises ``OSError``."""
        cdef int found, limit = 0 if self.buffered else <int> min(timeout, LONGEST_WAIT)
        cdef unsigned long count = len(self.endpoints) + 1
        if not self.capacity:
            self.fds = <pollfd*> resized(NULL, 1, sizeof(pollfd))
            self.capacity = 1
        self.fds[0].fd = self.wake_fd
        self.fds[0].events = POLLIN
        self.fds[0].revents = 0
        with nogil:
            found = poll(self.fds, count, limit)
        if found < 0 and errno != EINTR:
            raise OSError(errno, "poll")
        return 0

    cdef int advance(self, int64_t now) except -1:
        """Let those go on for which the last wait found something."""
        cdef Endpoint endpoint
        cdef Py_ssize_t i = 0
        cdef int ready
        if self.fds[0].revents:
            os.eventfd_read(self.wake_fd)
        for endpoint in self.endpoints:
            i += 1
            # An error or a hang-up is for the reader to find.
            ready = ((READ if self.fds[i].revents & ~POLLOUT else 0)
                     | (WRITE if self.fds[i].revents & POLLOUT else 0))
            if endpoint.channel.sock is None:
                continue
            if endpoint.channel.buffered():
                ready |= READ
            if ready:
                endpoint.advance(ready, now)
        return 0
