"""A body becomes a temporary file: hashed on the way, stopped at the limit, gone when the request ends."""

import errno
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from anyio import to_thread

from service.domain.errors import TooLargeError, UnavailableError
from service.ingest.formats.sniff import HEAD_BYTES, sniff

FILE_LIMIT = 100 * 1024 * 1024
BLOCK = 1024 * 1024  # Written in a thread, so a block is worth the hop.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes on this machine's disk, and what they are."""

    path: Path
    size: int
    sha256: bytes
    filename: str | None
    content_type: str


@asynccontextmanager
async def receive_file(
    stream: AsyncIterator[bytes], *, filename: str | None, declared: str | None, limit: int = FILE_LIMIT
) -> AsyncIterator[Upload]:
    """Spools a stream to a file that lives inside the `with`. `declared` is the client's Content-Type, which only helps.

    Raises TooLargeError as soon as the limit is passed, UnavailableError when the disk is full.
    """
    with room_needed(), tempfile.NamedTemporaryFile(prefix="upload-") as file:
        size, sha256, head = await spool(stream, file, limit)
        kind = sniff(head, declared=declared, filename=filename)
        yield Upload(Path(file.name), size, sha256, filename, with_charset(kind, declared))


@contextmanager
def room_needed() -> Iterator[None]:
    """A full disk is this machine's trouble and passes; raises UnavailableError for it."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise UnavailableError("no room for the upload on this machine") from error
        raise


async def spool(stream: AsyncIterator[bytes], file: IO[bytes], limit: int) -> tuple[int, bytes, bytes]:
    """Returns the size in bytes, the sha256 and the first bytes of the stream."""
    digest, size, head, block = hashlib.sha256(), 0, b"", bytearray()

    def write(part: bytes) -> None:
        digest.update(part)
        file.write(part)

    async for part in stream:
        size += len(part)
        if size > limit:
            raise TooLargeError(f"a file has at most {limit} bytes")
        block += part
        if len(block) >= BLOCK:
            head = head or bytes(block[:HEAD_BYTES])
            await to_thread.run_sync(write, bytes(block))
            block.clear()
    head = head or bytes(block[:HEAD_BYTES])
    write(bytes(block))
    await to_thread.run_sync(file.flush)
    return size, digest.digest(), head


def with_charset(kind: str, declared: str | None) -> str:
    """The type read from the bytes, with the client's word on the encoding: no one else can know it."""
    if not kind.startswith(("text/", "application/xhtml")):
        return kind
    for parameter in (declared or "").split(";")[1:]:
        name, _, value = parameter.partition("=")
        charset = value.strip().strip("\"'")
        if (
            name.strip().lower() == "charset"
            and charset.isascii()
            and charset.replace("-", "").replace("_", "").isalnum()
        ):
            return f"{kind}; charset={charset.lower()[:40]}"
    return kind
