"""Searches through HTTP with a client that takes almost nothing for itself: it is not what is timed.

The standard library's takes .3 ms a request to build headers and to parse them, httpx 3 ms.
"""

import re
import socket
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import orjson

from service.cli.address import Address
from service.cli.client import Json
from service.cli.failures import CommandError

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
END = b"\r\n\r\n"


@dataclass
class PlainClient:
    """One kept connection, plain http; blocks."""

    place: Address
    collection: str
    seconds: list[float] = field(default_factory=list)

    def __enter__(self) -> Self:
        url = urlsplit(self.place.url)
        if url.scheme != "http":
            raise CommandError("This is measured over plain http: name the service itself in SERVICE_URL.")
        self._socket = socket.create_connection((str(url.hostname), url.port or 80), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = (
            f"POST /v1/collections/{self.collection}/search HTTP/1.1\r\nHost: {url.netloc}\r\n"
            f"Authorization: Bearer {self.place.api_key}\r\nContent-Type: application/json\r\nContent-Length: "
        ).encode()
        return self

    def search(self, request: Json) -> bytes:
        """The answer's body; its time is kept. Raises CommandError for any other answer than 200."""
        body = orjson.dumps(request)
        message = b"".join((self._head, str(len(body)).encode(), END, body))
        begun = time.perf_counter()
        self._socket.sendall(message)
        head, answer = self._read()
        self.seconds.append(time.perf_counter() - begun)
        status = int(head.split(b" ", 2)[1])
        if status != HTTPStatus.OK:
            raise CommandError(f"A search was answered with {status}: {answer.decode(errors='replace')[:200]}")
        return answer

    def _read(self) -> tuple[bytes, bytes]:
        got = b""
        while END not in got:
            got += self._more()
        head, _, answer = got.partition(END)
        length = LENGTH.search(head)
        if length is None:
            raise CommandError("An answer came without its length.")
        while len(answer) < int(length[1]):
            answer += self._more()
        return head, answer

    def _more(self) -> bytes:
        part = self._socket.recv(65_536)
        if not part:
            raise CommandError("The service closed the connection.")
        return part

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
