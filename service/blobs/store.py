"""Blobs for the rest of the house: asynchronous, hashed, and bounded in threads."""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import anyio
from anyio import to_thread
from boto3.session import Session
from botocore.response import StreamingBody

from service.blobs.bucket import BLOCK_SIZE, Bucket, attachment, verify
from service.blobs.client import BlobStoreSettings, make_client, translated
from service.domain.branches import WrongPrefixError, owns
from service.domain.errors import BlobNotFoundError, UnavailableError
from service.domain.ids import new_id

BINARY = "application/octet-stream"
LONGEST_TYPE = 255  # Two names of 127 characters at most, says RFC 6838.
KEY_PARTS = 4
DELETE_BATCH = 1000  # The most keys that one DeleteObjects takes.

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """What a listing says of one object: enough for a sweeper to judge its age."""

    key: str
    size: int
    modified_at: datetime


def make_blob_key(tenant_id: UUID, document_id: UUID, version: int, *, prefix: str = "") -> str:
    """Make a key that no other attempt has or will have, so that a sweeper never races a re-upload."""
    return f"{prefix}{tenant_id}/{document_id}/{version}/{new_id()}"


def tenant_of_blob_key(key: str, *, prefix: str = "") -> UUID | None:
    """Whose object it is; None when `make_blob_key` did not make this key, or made it under another prefix."""
    parts = key.removeprefix(prefix).split("/") if key.startswith(prefix) else []
    if len(parts) != KEY_PARTS or not parts[2].isdecimal():
        return None
    try:
        tenant_id, _, _ = (UUID(parts[place]) for place in (0, 1, 3))
    except ValueError:
        return None
    return tenant_id


class Blobs:
    """The objects of one bucket. Every method raises UnavailableError when the store does not answer in time.

    A branch's rows name its parent's objects too, so every object can be read, and only what is under the own prefix (and not
    under that of a branch) is written or deleted. This is the one place that sees to it.
    """

    def __init__(self, settings: BlobStoreSettings) -> None:
        self.prefix = settings.prefix
        session = Session()
        hasty = replace(settings, attempts=1, read_timeout_s=settings.connect_timeout_s)
        public = replace(settings, endpoint_url=settings.public_endpoint_url or settings.endpoint_url)
        self._bucket, self._probe, self._signer = (
            Bucket(make_client(each, session=session), each.bucket) for each in (settings, hasty, public)
        )
        self._threads = anyio.CapacityLimiter(settings.threads)
        self._probe_threads = anyio.CapacityLimiter(1)  # Its own: readiness does not queue behind uploads.

    async def put(
        self, key: str, source: Path | bytes, *, content_type: str, sha256: str, filename: str | None = None
    ) -> None:
        """Store `source` under a fresh key, and return once the store says that it has all of it.

        Raises BlobCorruptError when the bytes do not have this hash, or when the key already holds other bytes, and
        WrongPrefixError for a key of another database.
        """
        if not owns(self.prefix, key):
            raise WrongPrefixError(f"the key {key} is not under this database's S3_PREFIX={self.prefix}")
        headers = {
            "ContentType": content_type if _is_header(content_type) else BINARY,
            "ContentDisposition": attachment(filename),
        }
        await self._call(self._bucket.put, key, source, headers, sha256)

    async def fetch(self, key: str, destination: Path, *, sha256: str) -> None:
        """Download to `destination` and verify the hash; when it raises, no file is left there."""
        await self._call(self._bucket.fetch, key, destination, sha256)

    async def stream(self, key: str, *, sha256: str) -> AsyncIterator[bytes]:
        """Open the object (raising what there is to raise before any byte), and return its blocks.

        The last block is held back until the hash is right: a corrupt download ends short, with BlobCorruptError.
        """
        return self._blocks(await self._call(self._bucket.open, key), sha256)

    async def presigned_url(
        self, key: str, *, filename: str | None = None, content_type: str | None = None, expires_s: int = 300
    ) -> str:
        """Make a URL that downloads this object without credentials; the store is not asked."""
        # A store that forgets or ignores one of the two, what was put and what is asked for here, has the other.
        overrides = {"ResponseContentDisposition": attachment(filename)}
        if content_type:
            overrides["ResponseContentType"] = content_type if _is_header(content_type) else BINARY
        return self._signer.sign_download(key, overrides, expires_s)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete those of them that are this database's; one that is not there is as good as deleted."""
        own = [key for key in keys if owns(self.prefix, key)]
        for start in range(0, len(own), DELETE_BATCH):
            await self._call(self._bucket.delete, own[start : start + DELETE_BATCH])

    async def size(self, key: str) -> int:
        return int((await self._call(self._bucket.head, key))["ContentLength"])

    async def exists(self, key: str) -> bool:
        try:
            await self.size(key)
        except BlobNotFoundError:
            return False
        return True

    async def list_blobs(self, prefix: str = "") -> AsyncIterator[StoredBlob]:
        """Every object whose key starts with `prefix`, in the order of keys, read a page at a time."""
        token: str | None = None
        while True:
            page = await self._call(self._bucket.list_page, prefix, token)
            for entry in page.get("Contents", []):
                yield StoredBlob(entry["Key"], entry["Size"], entry["LastModified"])
            if not page["IsTruncated"]:
                return
            token = page["NextContinuationToken"]

    async def ensure_bucket(self) -> None:
        """Create the bucket unless it is there (R2 is never asked to: its bucket comes with the credentials)."""
        await self._call(self._bucket.ensure)

    async def check(self) -> None:
        """Raise UnavailableError unless the bucket can be reached right now: one attempt, short timeouts."""
        try:
            await self._call(self._probe.reach, limiter=self._probe_threads)
        except BlobNotFoundError as error:
            raise UnavailableError("The object store does not have the bucket") from error

    async def close(self) -> None:
        for bucket in (self._bucket, self._probe, self._signer):
            bucket.close()

    async def _blocks(self, body: StreamingBody, sha256: str) -> AsyncIterator[bytes]:
        digest, held = hashlib.sha256(), b""
        with closing(body):
            while block := await self._call(body.read, BLOCK_SIZE):
                if held:
                    yield held
                digest.update(block)
                held = block
            verify(digest, sha256)
            if held:
                yield held

    async def _call(
        self, function: Callable[..., T], *arguments: object, limiter: anyio.CapacityLimiter | None = None
    ) -> T:
        with translated():
            return await to_thread.run_sync(function, *arguments, limiter=limiter or self._threads)


def _is_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and 0 < len(value.strip()) <= LONGEST_TYPE
