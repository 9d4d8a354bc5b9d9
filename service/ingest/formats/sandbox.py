"""What an extraction child gives up before it sees the first byte of a client's file."""

import ctypes
import os
import resource
import signal
import sys

from service.ingest.formats.limits import Limits

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_OPEN_FILES = 32


def confine(limits: Limits) -> None:
    """Bound memory, files and processes of this process, cut it off from the network, and tie its life to its parent's."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        # Root may make a network namespace, others only inside a user namespace of their own. Where a kernel forbids
        # both, the readers still have no code that connects anywhere.
        if libc.unshare(_CLONE_NEWNET) != 0:
            libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # After unshare: a new user namespace clears it.
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    os.chdir("/")


def allow_cpu(seconds: int) -> None:
    """Give the next file so many seconds of processor time from now on; SIGXCPU ends what takes more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))
