"""The objects of one bucket, synchronously: what each S3 call is given, and what is verified about its answer."""

import base64
import hashlib
from collections.abc import Sequence
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote

from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError
from botocore.response import StreamingBody

from service.blobs.client import status_of
from service.domain.errors import BlobCorruptError, UnavailableError

PART_SIZE = 16 * 1024 * 1024  # R2 wants equal parts. 10,000 of these are 160 GB; one is in memory per thread.
BLOCK_SIZE = 256 * 1024
HTTP_NOT_FOUND = 404
LONGEST_NAME, LONGEST_ENDING = 255, 16  # bytes


class Bucket:
    """One bucket through one client. Vendor errors pass through; hashes that differ raise BlobCorruptError."""

    def __init__(self, client: BaseClient, name: str) -> None:
        self._client = client
        self._name = name

    def put(self, key: str, source: Path | bytes, headers: dict[str, object], sha256: str) -> None:
        target = {"Bucket": self._name, "Key": key}
        headers = headers | {"Metadata": {"sha256": sha256}}
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        try:
            with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
                if size <= PART_SIZE:
                    self._put_whole(file, target, headers, sha256)
                else:
                    self._put_parts(file, target, headers, sha256)
        except ClientError as error:
            # These two may answer our own retry, the first answer being lost: the HEAD tells.
            if error.response["Error"]["Code"] not in {"PreconditionFailed", "NoSuchUpload"}:
                raise
        try:
            stored = self.head(key)
        except ClientError as error:
            if status_of(error) != HTTP_NOT_FOUND:
                raise
            raise UnavailableError("The object store did not keep the blob") from error
        if stored["ContentLength"] != size or stored["Metadata"].get("sha256", sha256) != sha256:
            raise BlobCorruptError("The object store holds other bytes under this key")

    def _put_whole(self, file: IO[bytes], target: dict[str, str], headers: dict[str, object], sha256: str) -> None:
        body = file.read()
        verify(hashlib.sha256(body), sha256)
        self._client.put_object(**target, Body=body, ContentMD5=_md5(body), IfNoneMatch="*", **headers)

    def _put_parts(self, file: IO[bytes], target: dict[str, str], headers: dict[str, object], sha256: str) -> None:
        # Not s3transfer's: it has no If-None-Match, no MD5 per part, and its own threads outside our bound.
        upload = target | {"UploadId": self._client.create_multipart_upload(**target, **headers)["UploadId"]}
        parts: list[dict[str, object]] = []
        digest = hashlib.sha256()
        try:
            while body := file.read(PART_SIZE):
                digest.update(body)
                number = len(parts) + 1
                part = self._client.upload_part(**upload, PartNumber=number, Body=body, ContentMD5=_md5(body))
                parts.append({"PartNumber": number, "ETag": part["ETag"]})
            verify(digest, sha256)
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
        except BaseException:
            with suppress(BotoCoreError, ClientError):  # What stays, R2 aborts by itself after seven days.
                self._client.abort_multipart_upload(**upload)
            raise

    def head(self, key: str) -> dict[str, Any]:
        return cast("dict[str, Any]", self._client.head_object(Bucket=self._name, Key=key))

    def open(self, key: str) -> StreamingBody:
        return self._client.get_object(Bucket=self._name, Key=key)["Body"]

    def fetch(self, key: str, destination: Path, sha256: str) -> None:
        digest = hashlib.sha256()
        try:
            with closing(self.open(key)) as body, destination.open("wb") as file:
                while block := body.read(BLOCK_SIZE):
                    digest.update(block)
                    file.write(block)
            verify(digest, sha256)
        except BaseException:
            destination.unlink(missing_ok=True)
            raise

    def list_page(self, prefix: str, token: str | None) -> dict[str, Any]:
        more = {"ContinuationToken": token} if token else {}
        return cast("dict[str, Any]", self._client.list_objects_v2(Bucket=self._name, Prefix=prefix, **more))

    def delete(self, keys: Sequence[str]) -> None:
        left = list(keys)
        if len(left) > 1:
            request = {"Objects": [{"Key": key} for key in left], "Quiet": True}
            with suppress(ClientError):  # R2 may refuse the CRC32 that botocore always sends here.
                answer = self._client.delete_objects(Bucket=self._name, Delete=request)
                left = [failed["Key"] for failed in answer.get("Errors", [])]
        for key in left:
            with suppress(self._client.exceptions.NoSuchKey):
                self._client.delete_object(Bucket=self._name, Key=key)

    def ensure(self) -> None:
        try:
            self._client.head_bucket(Bucket=self._name)
        except ClientError as error:
            if status_of(error) != HTTP_NOT_FOUND:
                raise
            errors = self._client.exceptions
            with suppress(errors.BucketAlreadyOwnedByYou, errors.BucketAlreadyExists):  # Another process was faster.
                self._client.create_bucket(Bucket=self._name)

    def reach(self) -> None:
        self._client.head_bucket(Bucket=self._name)

    def sign_download(self, key: str, overrides: dict[str, str], expires_s: int) -> str:
        params = {"Bucket": self._name, "Key": key} | overrides
        return str(self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=expires_s))

    def close(self) -> None:
        self._client.close()


def attachment(filename: str | None) -> str:
    """Spell Content-Disposition: always a download, never a page; RFC 6266 with the name as RFC 8187 writes it."""
    name = quote(shortened(filename or ""), safe="!#$&+^`|")
    return f"attachment; filename*=UTF-8''{name}" if name else "attachment"


def shortened(filename: str) -> str:
    """At most 255 bytes, what file systems take, and what stays a header that stores take; the ending is kept."""
    stem, dot, ending = filename.rpartition(".")
    if not dot or len(ending.encode()) > LONGEST_ENDING:
        stem, dot, ending = filename, "", ""
    room = LONGEST_NAME - len((dot + ending).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + ending


def verify(digest: "hashlib._Hash", sha256: str) -> None:
    if digest.hexdigest() != sha256:
        raise BlobCorruptError("The bytes do not have the sha256 that was recorded for them")


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
