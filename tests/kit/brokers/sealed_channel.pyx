"""A channel that sends other bytes than it is given, as one over TLS does; for a test of the seam.

Every byte is XORed. As in a handshake, nothing goes out before the other side has sent one byte.
Whatever the socket has is read at once, but ``pull`` gives no more than one record of it at a time.
"""

from libc.stdint cimport uint8_t

from copycore.transport cimport BODY_WANTED, BROKEN, COMPLETE, PENDING, READ, WRITE, Channel

KEY = 0x5A
RECORD = 1000  # bytes


cdef bytes sealed(bytes data):
    return bytes(byte ^ KEY for byte in data)


cdef class SealedChannel(Channel):
    cdef readonly bint greeted
    cdef bytes unsent
    cdef bytes ahead
    cdef bint deaf         # says nothing of what it has buffered: the test's way to break it

    def __init__(self, sock, *, bint deaf=False):
        self.unsent = self.ahead = b""
        self.deaf = deaf

    cdef bint sending(self) noexcept:
        return self.out_next < self.out_count or len(self.unsent) > 0

    cdef int interest(self, bint reading) noexcept:
        if self.sending() and not self.greeted:
            return READ
        return (WRITE if self.sending() else 0) | (READ if reading else 0)

    cdef bint buffered(self) noexcept:
        return len(self.ahead) > 0 and not self.deaf

    cdef int push(self) except -2:
        cdef int i
        for i in range(self.out_next, self.out_count):
            self.unsent += sealed((<uint8_t*> self.out[i].iov_base)[:self.out[i].iov_len])
        self.out_next = self.out_count
        try:
            if not self.greeted:
                self.greeted = self.sock.recv(1) == b"\n"
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent):]
        except BlockingIOError:
            return PENDING
        except OSError as error:
            self.shut(str(error))
            return BROKEN
        return COMPLETE

    cdef int pull(self) except -2:
        cdef bytes record
        cdef Py_ssize_t i, taken = 0
        try:
            if not self.greeted:
                self.greeted = self.sock.recv(1) == b"\n"
            while True:
                got = self.sock.recv(1 << 16)
                if not got:
                    self.shut("closed")
                    return BROKEN
                self.ahead += sealed(got)
        except BlockingIOError:
            pass
        record = self.ahead[:RECORD]
        for i in range(len(record)):
            if self.prefix_got < 4:
                self.prefix[self.prefix_got] = record[i]
                self.prefix_got += 1
                if self.prefix_got == 4:
                    self.body_size = int.from_bytes(self.prefix[:4], "big", signed=True)
                    self.ahead = self.ahead[i + 1:]
                    return BODY_WANTED
            else:
                self.body[self.body_got] = record[i]
                self.body_got += 1
                if self.body_got == self.body_size:
                    self.prefix_got = 0
                    self.ahead = self.ahead[i + 1:]
                    return COMPLETE
        self.ahead = self.ahead[len(record):]
        return PENDING
