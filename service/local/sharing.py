"""Whether a file system can give two files the same blocks, found by trying."""

import fcntl
import sys
import tempfile
from pathlib import Path

FICLONE = 0x40049409  # of linux/fs.h


def shares_blocks(folder: Path) -> bool | None:
    """None where there is no telling: no such folder here, or no Linux."""
    if sys.platform != "linux":
        return None
    try:
        with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as other:
            one.write(bytes(4096))
            one.flush()
            try:
                fcntl.ioctl(other.fileno(), FICLONE, one.fileno())
            except OSError:
                return False
            return True
    except OSError:
        return None
