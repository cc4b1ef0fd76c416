"""Runs a command that is killed when the process that asked for it dies.

``python -I -S launcher.py PARENT_PID COMMAND [ARGUMENT…]``. The kernel forgets the request at
fork and keeps it at exec, so it is made here, between the two, in a fresh interpreter: no code
of the (possibly threaded) caller runs after its fork. It is tied to the *thread* that forked;
``process`` forks from one thread that lives as long as the caller.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent = int(sys.argv[1])
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        sys.exit("launcher: the kernel refuses PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        sys.exit("launcher: the caller is already gone")
    os.execvp(sys.argv[2], sys.argv[2:])


main()
