"""Buffers and framed, non-blocking connections of a lane.

A Kafka frame is an int32 length and that many bytes. A response is received straight into a slab;
a request goes out as a list of pieces (scatter/gather), so a payload is never joined or copied.
The socket calls run without the GIL.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strerror

from copycore.cursor cimport read_i32, reader
from copycore.memory cimport resized

cdef extern from "<sys/socket.h>" nogil:
    cdef struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    ssize_t recv(int fd, void* buffer, size_t length, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL

cdef int PIECES_PER_CALL = 512  # below IOV_MAX, which is 1024


cdef class SlabPool:
    """Receive buffers of one size, reused; ``limit`` bytes are lent out at most.

    A response larger than a slab (one batch above the fetch size) gets a buffer of its own.
    """

    def __cinit__(self, Py_ssize_t slab_size, Py_ssize_t limit):
        self.slab_size = slab_size
        self.limit = max(limit, slab_size)

    def __dealloc__(self):
        cdef Slab* slab
        while self.free_slabs != NULL:
            slab = self.free_slabs
            self.free_slabs = slab.next
            free(slab.data)
            free(slab)

    cdef bint has_room(self) noexcept:
        return self.in_use + self.slab_size <= self.limit

    cdef Slab* borrow(self, Py_ssize_t size) except NULL:
        """A slab of at least ``size`` bytes holding one reference."""
        cdef Slab* slab = self.free_slabs
        cdef Py_ssize_t capacity = max(size, self.slab_size)
        if slab != NULL and size <= slab.capacity:
            self.free_slabs = slab.next
        else:
            slab = <Slab*> calloc(1, sizeof(Slab))
            if slab == NULL:
                raise MemoryError
            slab.data = <uint8_t*> malloc(capacity)
            if slab.data == NULL:
                free(slab)
                raise MemoryError
            slab.capacity = capacity
        slab.references = 1
        slab.next = NULL
        self.in_use += slab.capacity
        return slab

    cdef Slab* keep(self, const void* data, Py_ssize_t size) except NULL:
        """A slab of its own for a copy of these bytes, holding one reference."""
        cdef Slab* slab = <Slab*> calloc(1, sizeof(Slab))
        if slab == NULL:
            raise MemoryError
        slab.data = <uint8_t*> malloc(max(size, 1))
        if slab.data == NULL:
            free(slab)
            raise MemoryError
        memcpy(slab.data, data, size)
        slab.capacity = size
        slab.references = 1
        self.in_use += size
        return slab

    cdef void release(self, Slab* slab) noexcept:
        """Give one reference back."""
        slab.references -= 1
        if slab.references > 0:
            return
        self.in_use -= slab.capacity
        if slab.capacity != self.slab_size:
            free(slab.data)
            free(slab)
        else:
            slab.next = self.free_slabs
            self.free_slabs = slab


cdef class Channel:
    """One connection to one broker: at most one frame going out, one coming in. Only the thread
    of its lane may call it.

    A subclass may carry the same frames otherwise, as over TLS: with a ``push`` and a ``pull`` of
    its own, ``interest`` where one of them waits for the other direction, and ``buffered`` where
    it has read more from the socket than it was asked for.
    """

    def __cinit__(self, sock, *_, **__):  # a subclass may take more
        sock.setblocking(False)
        self.sock = sock
        self.fd = sock.fileno()

    def __dealloc__(self):
        free(self.out)

    cdef bint sending(self) noexcept:
        return self.out_next < self.out_count

    cdef int interest(self, bint reading) noexcept:
        """For which of ``READ`` and ``WRITE`` the socket has to be ready, so that what is queued
        can go out and, if ``reading``, more can come in.
        """
        return (WRITE if self.sending() else 0) | (READ if reading else 0)

    cdef bint buffered(self) noexcept:
        """Whether ``pull`` has something to give although the socket may not be ready."""
        return False

    cdef int queue(self, const void* data, size_t size) except -1:
        """Add a piece to the frame going out; the memory must stay until it is sent."""
        if not self.sending():
            self.out_count = self.out_next = 0
        if self.out_count == self.out_capacity:
            self.out = <iovec*> resized(self.out, max(64, 2 * self.out_capacity), sizeof(iovec))
            self.out_capacity = max(64, 2 * self.out_capacity)
        if size:
            self.out[self.out_count].iov_base = <void*> data
            self.out[self.out_count].iov_len = size
            self.out_count += 1
        return 0

    cdef int push(self) except -2:
        """Send as much as the socket takes."""
        cdef msghdr message
        cdef ssize_t sent
        cdef iovec* piece
        while self.out_next < self.out_count:
            memset(&message, 0, sizeof(message))
            message.msg_iov = self.out + self.out_next
            message.msg_iovlen = min(self.out_count - self.out_next, PIECES_PER_CALL)
            with nogil:
                sent = sendmsg(self.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent < 0:
                if errno == EINTR:
                    continue
                if errno == EAGAIN:
                    return PENDING
                self.shut(strerror(errno).decode())
                return BROKEN
            while sent > 0:
                piece = self.out + self.out_next
                if <size_t> sent >= piece.iov_len:
                    sent -= piece.iov_len
                    self.out_next += 1
                else:
                    piece.iov_base = <uint8_t*> piece.iov_base + sent
                    piece.iov_len -= sent
                    sent = 0
        return COMPLETE

    cdef int expect(self, uint8_t* body) except -1:
        """Where the ``body_size`` bytes of the frame coming in shall go."""
        self.body = body
        self.body_got = 0
        return 0

    cdef int pull(self) except -2:
        """Receive: BODY_WANTED after the length prefix, COMPLETE after the body."""
        cdef ssize_t got
        cdef uint8_t* place
        cdef size_t wanted
        while True:
            if self.prefix_got < 4:
                place = self.prefix + self.prefix_got
                wanted = 4 - self.prefix_got
            else:
                place = self.body + self.body_got
                wanted = self.body_size - self.body_got
            with nogil:
                got = recv(self.fd, place, wanted, MSG_DONTWAIT)
            if got == 0:
                self.shut("the broker closed the connection")
                return BROKEN
            if got < 0:
                if errno == EINTR:
                    continue
                if errno == EAGAIN:
                    return PENDING
                self.shut(strerror(errno).decode())
                return BROKEN
            if self.prefix_got < 4:
                self.prefix_got += <int> got
                if self.prefix_got == 4:
                    head = reader(self.prefix, 4)
                    self.body_size = read_i32(&head)
                    if self.body_size < 4:
                        self.shut(f"the broker sent a frame of length {self.body_size}")
                        return BROKEN
                    return BODY_WANTED
            else:
                self.body_got += <int32_t> got
                if self.body_got == self.body_size:
                    self.prefix_got = 0
                    return COMPLETE

    cdef int shut(self, str reason) except -1:
        """Close, dropping whatever was half sent or half received."""
        if self.sock is not None:
            self.error = reason
            self.sock.close()
            self.sock = None
            self.fd = -1
            self.out_count = self.out_next = 0
        return 0


cdef Channel as_channel(object connection):
    """The channel itself, or a plain one over a connected socket; it owns the socket."""
    return connection if isinstance(connection, Channel) else Channel(connection)
