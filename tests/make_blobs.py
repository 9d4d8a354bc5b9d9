"""Factories for the tests that store blobs."""

import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.blobs import Blobs, BlobStoreSettings, make_blob_key

MB = 1_000_000


@asynccontextmanager
async def opened(settings: BlobStoreSettings) -> AsyncIterator[Blobs]:
    blobs = Blobs(settings)
    try:
        yield blobs
    finally:
        await blobs.close()


def make_key() -> str:
    return make_blob_key(uuid.uuid4(), uuid.uuid4(), 1)


def make_bytes(size: int) -> bytes:
    return bytes(byte % 251 for byte in range(1000)) * (size // 1000) + b"x" * (size % 1000)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def put(blobs: Blobs, body: bytes, *, key: str | None = None, filename: str = "Käse & Brot.txt") -> str:
    key = key or make_key()
    await blobs.put(key, body, content_type="text/plain", sha256=sha256(body), filename=filename)
    return key


async def drain(chunks: AsyncIterator[bytes], *, into: bytearray | None = None) -> bytes:
    received = bytearray() if into is None else into
    async for chunk in chunks:
        received += chunk
    return bytes(received)
