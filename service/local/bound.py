"""Turns into another program whose life is bound to its parent's. A script, so that no Python runs between fork and exec.

python -I -S bound.py PARENT SIGNAL UID GID PROGRAM ARGUMENT...
On Linux the kernel sends SIGNAL when the parent is gone, even by `kill -9`. UID and GID are `-` for no change. It is started
with SIGINT blocked, which the program gets, if it came, in place of Python.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: str, signal_number: str, uid: str, gid: str, *argv: str) -> None:
    prctl = None
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - ten milliseconds that other systems need not pay

        prctl = ctypes.CDLL(None).prctl  # Now: the other account may not be able to read the library.
    try:
        if uid != "-":
            os.setgroups([])
            os.setgid(int(gid))
            os.setuid(int(uid))
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, int(signal_number))  # After setuid, which clears it.
        if os.getppid() != int(parent):  # It died before the kernel was told.
            sys.exit(1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.execv(argv[0], argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.exit(f"FATAL: cannot run {argv[0]} as user {uid}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
