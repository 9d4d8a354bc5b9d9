"""The socket that the API listens on: bound before anything else, so that a port that is taken is told at once."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from service.domain.errors import ServiceError


class PortRefusedError(ServiceError):
    """HOST and PORT cannot be listened on; the message says why."""


@contextmanager
def bound(host: str, port: int, *, shared: bool = False) -> Iterator[socket.socket]:
    """Not listening yet. Of sockets that share a port, each gets its part of the connections. Raises PortRefusedError."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortRefusedError(f"PORT: {port} is taken by another program on {host}: choose another") from error
            raise PortRefusedError(f"HOST, PORT: {host}:{port} cannot be listened on: {error.strerror}") from error
        yield listener


@contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """The port, for processes that share it: whoever else shares ports would otherwise be let in beside them.

    Raises PortRefusedError.
    """
    with bound(host, port) as alone:
        port = alone.getsockname()[1]
    with bound(host, port, shared=True):
        yield port
