"""What keeps the embedded stack from starting, said in one sentence that names the way out."""

import errno
from pathlib import Path

from service.domain.errors import ServiceError

FULL = (errno.ENOSPC, errno.EDQUOT)
NO_SPACE = "No space left on device"


class StackError(ServiceError):
    """The embedded stack cannot start or go on; the message is all that its user reads."""


def disk_full(path: Path) -> StackError:
    return StackError(f"The disk that holds {path} is full: free some space, or name another folder with DATA_DIR.")


def from_os_error(error: OSError, path: Path) -> StackError:
    """The sentence for a system call that failed on, or below, `path`."""
    where = error.filename or path
    if error.errno in FULL:
        return disk_full(Path(str(where)))
    if isinstance(error, FileExistsError | NotADirectoryError):
        return StackError(
            f"{where} cannot be a folder, because a file is in its way: "
            "move the file, or name another folder with DATA_DIR."
        )
    if isinstance(error, PermissionError):
        return StackError(
            f"{where} cannot be read or written by this user: run as its owner, or name another folder with DATA_DIR."
        )
    if error.errno == errno.EROFS:
        return StackError(f"{where} lies on a read-only file system: name another folder with DATA_DIR.")
    return StackError(f"{where} cannot be used: {error.strerror or error}.")
