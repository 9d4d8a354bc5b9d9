"""Over a real socket, because a limit that is checked after the body was read is no limit."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import psutil
import pytest
import uvicorn
from fastapi import FastAPI

from service.domain.errors import UnavailableError
from service.ingest.submit import TEXT_LIMIT
from service.ingest.upload import FILE_LIMIT, room_needed
from tests.api_calls import Api, code

Send = Callable[..., Awaitable["Connection"]]


class Connection:
    """One HTTP/1.1 request, written by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def status(self) -> int:
        line = await asyncio.wait_for(self.reader.readline(), 60)
        return int(line.split()[1])


@pytest.fixture(scope="module")
async def port(app: FastAPI) -> AsyncIterator[int]:
    config = uvicorn.Config(app, port=0, lifespan="off", http="httptools", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # pytest keeps its own
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


@pytest.fixture
async def send(port: int, api: Api) -> AsyncIterator[Callable[..., Awaitable[Connection]]]:
    connections: list[Connection] = []

    async def send(path: str, headers: dict[str, str], body: bytes = b"") -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connections.append(Connection(reader, writer))
        head = {"Host": "x", "Authorization": api.client.headers["Authorization"]} | headers
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()
        return connections[-1]

    yield send
    for connection in connections:
        connection.writer.close()


@pytest.mark.parametrize(
    ("path", "content_type", "limit"),
    [
        ("documents", "application/pdf", FILE_LIMIT),
        ("documents", "application/json", 64 * 1024 * 1024),
        ("documents", "multipart/form-data; boundary=b", FILE_LIMIT + 2 * 1024 * 1024),
        ("documents:batch", "application/x-ndjson", 32 * 1024 * 1024),
        ("search", "application/json", 16 * 1024 * 1024),
    ],
)
async def test_an_announced_body_that_is_too_large_is_refused_unread(
    api: Api, send: Send, path: str, content_type: str, limit: int
) -> None:
    collection = await api.make_collection()
    headers = {"Content-Type": content_type, "Content-Length": str(limit + 1)}

    connection = await send(f"/v1/collections/{collection}/{path}", headers)

    assert await connection.status() == 413


async def test_a_body_of_unknown_length_is_refused_at_the_limit(api: Api, send: Send) -> None:
    collection = await api.make_collection()
    headers = {"Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"}
    connection = await send(f"/v1/collections/{collection}/documents:batch", headers)
    block = b"%x\r\n" % (1 << 20) + b" " * (1 << 20) + b"\r\n"

    for _ in range(33):  # and never the last chunk
        connection.writer.write(block)
        await connection.writer.drain()

    assert await connection.status() == 413


async def test_a_client_that_reads_only_after_writing_still_learns_of_the_limit(api: Api, port: int) -> None:

    collection = await api.make_collection()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=api.client.headers) as client:
        url = f"/v1/collections/{collection}/documents"
        answer = await client.post(url, content=b"x" * (FILE_LIMIT + 1), headers={"Content-Type": "text/plain"})
        assert code(answer) == (413, "too_large")

        assert (await client.get(f"/v1/collections/{collection}")).status_code == 200


async def test_a_file_of_the_largest_size_is_taken(api: Api, collection: str) -> None:
    url = f"/v1/collections/{collection}/documents"
    answer = await api.client.post(url, content=bytes(FILE_LIMIT), headers={"Content-Type": "application/x-binary"})

    assert (answer.status_code, answer.json()["size"]) == (202, FILE_LIMIT)
    await api.delete(answer.json())


async def test_a_file_in_a_form_has_the_same_limit(api: Api, collection: str) -> None:
    url = f"/v1/collections/{collection}/documents"
    answer = await api.client.post(url, files={"file": ("a", bytes(FILE_LIMIT + 1))})

    assert code(answer) == (413, "too_large")


async def test_a_text_has_at_most_ten_megabytes_of_utf8(api: Api, collection: str) -> None:
    assert (await api.post(collection, {"text": "é" * (TEXT_LIMIT // 2)})).status_code == 202
    assert code(await api.post(collection, {"text": "é" * (TEXT_LIMIT // 2) + "a"})) == (413, "too_large")


async def test_a_small_body_has_a_small_limit(api: Api, collection: str) -> None:
    document = await api.make_document(collection)
    huge = {"title": "x", "attributes": {"a": "x" * (1 << 20)}}

    assert code(await api.patch(document, huge)) == (413, "too_large")
    assert code(await api.client.post("/v1/collections", json=huge)) == (413, "too_large")


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(
    api: Api,
    send: Send,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count_blobs: Callable[[], Awaitable[int]],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    collection, before = await api.make_collection(), await count_blobs()
    headers = {"Content-Type": "text/plain", "Content-Length": str(8 << 20)}
    connection = await send(f"/v1/collections/{collection}/documents", headers, b"x" * (4 << 20))
    await until(lambda: bool(names_in(tmp_path)))

    connection.writer.transport.abort()

    await until(lambda: not names_in(tmp_path))
    assert await count_blobs() == before
    assert (await api.client.get(f"/v1/collections/{collection}/documents")).json()["documents"] == []


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  a thread, or the disk, changes it
            await asyncio.sleep(0.01)


def test_a_full_disk_is_trouble_that_passes() -> None:
    with pytest.raises(UnavailableError), room_needed(), Path("/dev/full").open("wb", buffering=0) as disk:
        disk.write(b"x")


async def test_an_upload_is_never_whole_in_memory(api: Api, port: int) -> None:

    process, size = psutil.Process(), 96 << 20
    collection = await api.make_collection()
    start = process.memory_info().rss
    peak = start

    async def body() -> AsyncIterator[bytes]:
        nonlocal peak
        for _ in range(size >> 18):
            yield bytes(1 << 18)
            peak = max(peak, process.memory_info().rss)

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=api.client.headers) as client:
        url = f"/v1/collections/{collection}/documents"
        posted = asyncio.create_task(
            client.post(url, content=body(), headers={"Content-Type": "text/plain"}, timeout=60)
        )
        while not posted.done():
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.01)

    assert json.loads((await posted).content)["size"] == size
    assert peak - start < size * 0.7  # Sixteen megabytes of it are one part on its way to the store.
