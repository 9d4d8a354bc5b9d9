"""Loopback ports that are free now and will still be free at the next start."""

import errno
import random
import socket

from service.local.errors import StackError

LOOPBACK = "127.0.0.1"
# Below 32768, where Linux begins to hand out ports to outgoing connections.
LOWEST, HIGHEST = 15_000, 32_767
ATTEMPTS = 200


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now; raises OSError where none ever could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def free_port(preferred: int | None = None) -> int:
    """`preferred` when nobody listens there, else another one."""
    if preferred is not None and is_free(preferred):
        return preferred
    for _ in range(ATTEMPTS):
        port = random.randint(LOWEST, HIGHEST)  # noqa: S311 - not a secret, only unlikely to meet another stack's
        if is_free(port):
            return port
    raise StackError(f"No free port between {LOWEST} and {HIGHEST} on {LOOPBACK}.")
