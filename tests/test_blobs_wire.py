"""What boto3 would send to R2. On http it behaves otherwise, so no local server can see what these tests see."""

import hashlib
import re
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from service.blobs.bucket import PART_SIZE, Bucket, attachment
from service.blobs.client import BlobStoreSettings, make_client

SETTINGS = BlobStoreSettings(
    endpoint_url="https://account.r2.example",
    bucket="docs",
    access_key_id="WIREACCESSKEY001",
    secret_access_key="wiresecretkey0123456789",
)
UPLOAD_ID = b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>"
HEADERS: dict[str, object] = {"ContentType": "text/plain", "ContentDisposition": attachment("Käse.txt")}


class Raw(BytesIO):
    """The part of a urllib3 response that botocore reads."""

    def stream(self, *_: object, **__: object) -> list[bytes]:
        return [self.read()]


@dataclass
class Wire:
    """Stands where the network begins: keeps each request and answers as R2 would."""

    stored: bytes
    sent: list[AWSPreparedRequest] = field(default_factory=list)

    def __call__(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        self.sent.append(request)
        headers = {"Content-Length": str(len(self.stored)), "ETag": '"etag"'}
        body = self.stored if request.method == "GET" else UPLOAD_ID if request.method == "POST" else b""
        return AWSResponse(request.url, 200, headers, Raw(body))

    def named(self, method: str) -> list[AWSPreparedRequest]:
        return [request for request in self.sent if request.method == method]


def make_wire(stored: bytes) -> tuple[Bucket, Wire]:
    client, wire = make_client(SETTINGS), Wire(stored)
    client.meta.events.register("before-send.s3", wire)
    return Bucket(client, "docs"), wire


def header(request: AWSPreparedRequest, name: str) -> str:
    value: Any = request.headers.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)


def assert_r2_safe(request: AWSPreparedRequest) -> None:
    names = {name.lower() for name in request.headers}
    assert not {"expect", "transfer-encoding", "x-amz-trailer", "content-encoding"} & names
    assert not [name for name in names if name.startswith("x-amz-checksum") or name == "x-amz-sdk-checksum-algorithm"]
    assert re.fullmatch("[0-9a-f]{64}", header(request, "X-Amz-Content-SHA256"))
    if request.method in {"PUT", "POST"}:
        assert header(request, "Content-Length").isdigit()


def put(bucket: Bucket, source: bytes | Path, body: bytes) -> None:
    bucket.put("a/b", source, HEADERS, hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_a_put_sends_a_signed_body_of_known_length_and_no_trailer(size: int) -> None:
    body = b"x" * size
    bucket, wire = make_wire(body)

    put(bucket, body, body)

    (request,) = wire.named("PUT")
    assert_r2_safe(request)
    assert header(request, "X-Amz-Content-SHA256") == hashlib.sha256(body).hexdigest()
    assert header(request, "Content-Length") == str(size)
    assert header(request, "If-None-Match") == "*"
    assert header(request, "Content-MD5")


def test_a_put_says_how_the_object_is_to_be_served() -> None:
    bucket, wire = make_wire(b"x")

    put(bucket, b"x", b"x")

    (request,) = wire.named("PUT")
    assert header(request, "Content-Type") == "text/plain"
    assert header(request, "Content-Disposition") == "attachment; filename*=UTF-8''K%C3%A4se.txt"
    assert header(request, "x-amz-meta-sha256") == hashlib.sha256(b"x").hexdigest()


def test_a_multipart_upload_sends_equal_signed_parts_and_no_trailer(tmp_path: Path) -> None:
    body = bytes(2 * PART_SIZE + 5)
    file = tmp_path / "large"
    file.write_bytes(body)
    bucket, wire = make_wire(body)

    put(bucket, file, body)

    for request in wire.sent:
        assert_r2_safe(request)
    assert [header(part, "Content-Length") for part in wire.named("PUT")] == [str(PART_SIZE), str(PART_SIZE), "5"]
    assert all(header(part, "Content-MD5") for part in wire.named("PUT"))
    start, completion = wire.named("POST")
    assert "uploads" in parse_qs(urlsplit(start.url).query, keep_blank_values=True)
    assert header(start, "Content-Disposition") == attachment("Käse.txt")
    assert header(completion, "If-None-Match") == "*"


def test_a_get_asks_for_no_checksum(tmp_path: Path) -> None:
    bucket, wire = make_wire(b"bytes")

    bucket.fetch("a/b", tmp_path / "copy", hashlib.sha256(b"bytes").hexdigest())

    (request,) = wire.sent
    assert_r2_safe(request)
    assert not header(request, "x-amz-checksum-mode")


def test_bytes_that_do_not_have_their_hash_are_never_sent() -> None:
    bucket, wire = make_wire(b"x")

    with pytest.raises(Exception, match="sha256"):
        put(bucket, b"x", b"y")

    assert wire.sent == []


def test_the_secret_is_not_in_the_repr_of_the_settings() -> None:
    assert SETTINGS.secret_access_key not in repr(SETTINGS)
