"""The client of every side that answers HTTP, the same code in the same process for all of them.

Connections are kept alive, requests are made before the clock runs, answers are read when it has stopped.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from typing import cast

import httptools
import orjson

from bench.peers.failures import PeerError

SECONDS = 120.0  # For one answer: a side that takes longer has failed.
SHOWN = 300


@dataclass(frozen=True, slots=True)
class Origin:
    host: str
    port: int

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> bytes:
        """`body` is JSON, or bytes that are sent as they are."""
        content = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        lines = {
            "Host": f"{self.host}:{self.port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content


@dataclass(frozen=True, slots=True)
class Answer:
    request: int
    seconds: float
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Load:
    """What one closed loop saw. `cpu` is this process's own share of a core while it ran."""

    answers: Sequence[Answer]
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return len(self.answers) / self.seconds


class Wire(asyncio.Protocol):
    """One connection with one request under way."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parts: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.connection_lost(error)

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), b"".join(self._parts)))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(PeerError(f"the connection was closed: {exc or 'no reason given'}"))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        if self._transport is None or self._transport.is_closing():
            raise PeerError("the connection was closed between two requests")
        self._parts, self._parser = [], httptools.HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def connect(origin: Origin) -> Wire:
    try:
        _, wire = await asyncio.get_running_loop().create_connection(Wire, origin.host, origin.port)
    except OSError as error:
        raise PeerError(f"no connection to port {origin.port}: {error}") from None
    return wire


async def closed_loop(
    origin: Origin, requests: Sequence[bytes], *, concurrency: int, seconds: float | None = None
) -> Load:
    """Each connection sends its next request when it has the answer to its last: all of them once, or in turn for so long.

    Raises PeerError for an answer that is no success: a figure must not count what failed as served.
    """
    wires = [await connect(origin) for _ in range(concurrency)]
    try:
        begun, cpu = time.perf_counter(), time.process_time()
        turns = _turns(len(requests), until=None if seconds is None else begun + seconds)
        async with asyncio.timeout(SECONDS + (seconds or SECONDS)):
            parts = await asyncio.gather(*(_drive(wire, requests, turns) for wire in wires))
        took, used = time.perf_counter() - begun, time.process_time() - cpu
    except TimeoutError:
        raise PeerError(f"{concurrency} connections were not served in time") from None
    finally:
        for wire in wires:
            wire.close()
    return Load([answer for part in parts for answer in part], took, used / took)


def _turns(size: int, *, until: float | None) -> Iterator[int]:
    """Which request is next; shared by the connections, so that none is sent twice in a turn."""
    for turn in count():
        if turn == size and until is None:
            return
        if until is not None and time.perf_counter() >= until:
            return
        yield turn % size


async def _drive(wire: Wire, requests: Sequence[bytes], turns: Iterator[int]) -> list[Answer]:
    answers = []
    for turn in turns:
        begun = time.perf_counter()
        status, body = await wire.ask(requests[turn])
        answers.append(Answer(turn, time.perf_counter() - begun, status, body))
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise PeerError(f"request {turn} was answered with {status}: {body[:SHOWN].decode(errors='replace')}")
    return answers


async def ask(origin: Origin, request: bytes) -> bytes:
    """One request on a connection of its own."""
    load = await closed_loop(origin, [request], concurrency=1)
    return load.answers[0].body
