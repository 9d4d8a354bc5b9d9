"""What the service sees of an object store that is down, silent, busy or cut off."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.blobs import Blobs, BlobStoreSettings
from service.domain.errors import UnavailableError
from tests.conformance.servers import free_port
from tests.make_blobs import MB, drain, make_bytes, opened, put, sha256

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
Use = Callable[[Blobs], Any]
USES: dict[str, Use] = {
    "put": lambda blobs: put(blobs, b"x"),
    "put in parts": lambda blobs: put(blobs, make_bytes(20 * MB)),
    "fetch": lambda blobs: blobs.fetch("a/b", Path("never-written"), sha256=""),
    "stream": lambda blobs: blobs.stream("a/b", sha256=""),
    "delete": lambda blobs: blobs.delete(["a/b", "a/c"]),
    "size": lambda blobs: blobs.size("a/b"),
    "list": lambda blobs: anext(blobs.list_blobs()),
    "ensure": lambda blobs: blobs.ensure_bucket(),
    "check": lambda blobs: blobs.check(),
}


def make_lost_settings(port: int, *, attempts: int = 1, timeout_s: float = 0.3) -> BlobStoreSettings:
    return BlobStoreSettings(
        endpoint_url=f"http://127.0.0.1:{port}",
        bucket="docs",
        access_key_id="key",
        secret_access_key="secret",
        connect_timeout_s=timeout_s,
        read_timeout_s=timeout_s,
        attempts=attempts,
    )


@asynccontextmanager
async def stub(answer: bytes | None, *, attempts: int = 1) -> AsyncIterator[tuple[BlobStoreSettings, list[bytes]]]:
    """A store that gives every request this answer and hangs up, or (None) never answers."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readline())
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port := free_port())
    try:
        yield make_lost_settings(port, attempts=attempts, timeout_s=5 if answer else 0.3), requests
    finally:
        server.close()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_a_store_that_is_down_is_unavailable(use: Use) -> None:
    port = free_port()

    async with opened(make_lost_settings(port)) as blobs:
        with pytest.raises(UnavailableError) as unavailable:
            await use(blobs)

    assert str(unavailable.value) == "The object store does not answer"


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_a_store_that_never_answers_is_given_up_in_time(use: Use) -> None:
    async with stub(None) as (settings, requests), opened(settings) as blobs:
        start = time.monotonic()
        with pytest.raises(UnavailableError):
            await use(blobs)

    assert time.monotonic() - start < 5  # The timeout is .3 s; the rest is for a busy machine.
    assert len(requests) == 1


async def test_a_store_in_trouble_is_asked_a_bounded_number_of_times() -> None:
    busy = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    async with stub(busy, attempts=3) as (settings, requests), opened(settings) as blobs:
        with pytest.raises(UnavailableError):
            await blobs.size("a/b")

    assert len(requests) == 3


async def test_a_download_that_breaks_off_is_unavailable_and_leaves_no_file(tmp_path: Path) -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nhalf of it"

    async with stub(half) as (settings, _), opened(settings) as blobs:
        with pytest.raises(UnavailableError):
            await blobs.fetch("a/b", tmp_path / "copy", sha256=sha256(b""))
        with pytest.raises(UnavailableError):
            await drain(await blobs.stream("a/b", sha256=sha256(b"")))

    assert not (tmp_path / "copy").exists()


async def test_a_check_does_not_queue_behind_uploads() -> None:
    async with stub(EMPTY) as (settings, _), opened(replace(settings, threads=1)) as blobs, blobs._threads:
        await asyncio.wait_for(blobs.check(), timeout=30)


async def test_a_proxy_is_not_asked_for_a_store_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    async with stub(EMPTY) as (settings, requests), opened(settings) as blobs:
        await blobs.check()

    assert requests == [b"HEAD /docs HTTP/1.1\r\n"]


async def test_a_check_is_one_attempt() -> None:
    async with stub(None, attempts=3) as (settings, requests), opened(settings) as blobs:
        with pytest.raises(UnavailableError):
            await blobs.check()

    assert len(requests) == 1
