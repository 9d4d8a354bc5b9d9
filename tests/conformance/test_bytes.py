import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.blobs.client import make_client
from tests.conformance.conftest import Probe, status
from tests.conformance.servers import running_store


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_bytes_come_back_as_they_were_put(probe: Probe, size: int) -> None:
    key, body = probe.key(), bytes(byte % 251 for byte in range(size))

    assert probe.put(key, body) == 200

    assert probe.read(key) == body
    assert probe.etag(key) == f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def test_metadata_comes_back(probe: Probe) -> None:
    key = probe.key()
    probe.put(key, ContentType="application/pdf", Metadata={"sha256": "abc"})

    head = probe.s3.head_object(Bucket=probe.bucket, Key=key)

    assert head["ContentType"] == "application/pdf"
    assert {name.lower(): value for name, value in head["Metadata"].items()} == {"sha256": "abc"}


def test_metadata_has_a_limit(probe: Probe) -> None:
    assert probe.put(probe.key(), Metadata={"long": "x" * 2_000}) == probe.expected("metadata of 2,000 bytes")
    assert probe.put(probe.key(), Metadata={"long": "x" * 9_000}) >= 400  # 431 or 400, as the packets fall.


def test_what_was_stored_survives_a_restart(probe: Probe, tmp_path: Path) -> None:
    for start in ("first", "second"):
        with running_store(probe.name, tmp_path / "store") as settings:
            s3, at = make_client(settings), {"Bucket": settings.bucket, "Key": f"{probe.prefix}/restart"}
            if start == "first":
                s3.put_object(**at, Body=b"durable", ContentType="text/plain", Metadata={"a": "b"})
            head, body = s3.head_object(**at), s3.get_object(**at)["Body"].read()
            s3.close()

    assert body == b"durable"
    kept = head["ContentType"] == "text/plain" and bool(head["Metadata"])
    assert kept is probe.expected("metadata after a restart")


@pytest.mark.parametrize(
    ("span", "part", "content_range"),
    [("0-3", b"some", "0-3/10"), ("5-", b"bytes", "5-9/10"), ("-3", b"tes", "7-9/10")],
)
def test_a_range_is_served_exactly(probe: Probe, span: str, part: bytes, content_range: str) -> None:
    key = probe.key()
    probe.put(key)

    answer = probe.s3.get_object(Bucket=probe.bucket, Key=key, Range=f"bytes={span}")

    assert answer["Body"].read() == part
    assert answer["ContentRange"] == f"bytes {content_range}"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == probe.expected("range status")


def test_a_range_beyond_the_end_is_refused(probe: Probe) -> None:
    key = probe.key()
    probe.put(key)

    assert status(lambda: probe.s3.get_object(Bucket=probe.bucket, Key=key, Range="bytes=50-60")) == 416


def test_bytes_that_do_not_have_their_md5_are_not_stored(probe: Probe) -> None:
    key = probe.key()
    md5_of_others = base64.b64encode(hashlib.md5(b"others", usedforsecurity=False).digest()).decode()

    assert probe.put(key, ContentMD5=md5_of_others) == 400
    assert status(lambda: probe.s3.head_object(Bucket=probe.bucket, Key=key)) == 404


def test_a_body_that_changes_on_its_way_is_refused(probe: Probe) -> None:
    key, s3 = probe.key(), make_client(probe.settings)

    def corrupt(request: Any, **_: Any) -> None:
        request.body = b"SOME BYTES"

    s3.meta.events.register("before-send.s3.PutObject", corrupt)

    unnoticed = status(lambda: s3.put_object(Bucket=probe.bucket, Key=key, Body=b"some bytes"))

    assert unnoticed == probe.expected("body unlike its signed hash")


def test_a_reader_never_sees_half_of_an_overwrite(probe: Probe) -> None:
    key, bodies = probe.key(), (b"a" * 100_000, b"b" * 100_000)
    probe.put(key, bodies[0])

    def read(_: int) -> bytes | None:
        try:
            return probe.read(key)
        except probe.s3.exceptions.NoSuchKey:
            return None

    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(probe.put, key, bodies[turn % 2]) for turn in range(10)]
        seen = set(pool.map(read, range(40)))

    missing = {None} if probe.expected("a key is missing while it is overwritten") else set()
    assert seen <= {*bodies, *missing}
    assert writes[0].result() in {200, 429, 500}  # R2 takes about one write a second per key.
