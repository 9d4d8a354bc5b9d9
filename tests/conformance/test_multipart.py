from typing import Any

from tests.conformance.conftest import Probe, status

MIB = 1024 * 1024


def begin(probe: Probe, key: str) -> dict[str, Any]:
    at = {"Bucket": probe.bucket, "Key": key}
    return at | {"UploadId": probe.s3.create_multipart_upload(**at)["UploadId"]}


def upload(probe: Probe, key: str, sizes: list[int], **conditions: Any) -> int:
    """Upload parts of these sizes, part n made of bytes n, and give the status of their completion."""
    at = begin(probe, key)
    etags = [
        probe.s3.upload_part(**at, PartNumber=number, Body=bytes([number]) * size)["ETag"]
        for number, size in enumerate(sizes, 1)
    ]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    return status(lambda: probe.s3.complete_multipart_upload(**at, MultipartUpload={"Parts": parts}, **conditions))


def test_parts_become_one_object(probe: Probe) -> None:
    key = probe.key()

    assert upload(probe, key, [5 * MIB, 5 * MIB, 3]) == 200

    assert probe.read(key) == b"\1" * 5 * MIB + b"\2" * 5 * MIB + b"\3" * 3
    assert probe.etag(key).endswith('-3"') is probe.expected("etag of a multipart object counts its parts")


def test_unequal_parts_are_refused(probe: Probe) -> None:
    assert upload(probe, probe.key(), [5 * MIB, 6 * MIB, 3]) == probe.expected("complete unequal parts")


def test_small_parts_are_refused(probe: Probe) -> None:
    assert upload(probe, probe.key(), [100, 100, 3]) == probe.expected("complete small parts")


def test_a_multipart_upload_can_be_write_once(probe: Probe) -> None:
    key = probe.key()
    probe.put(key)

    assert upload(probe, key, [4], IfNoneMatch="*") == probe.expected("multipart If-None-Match on existing")


def test_an_aborted_upload_takes_no_more_parts_and_leaves_nothing(probe: Probe) -> None:
    key = probe.key()
    at = begin(probe, key)

    assert status(lambda: probe.s3.abort_multipart_upload(**at)) == 204

    assert status(lambda: probe.s3.upload_part(**at, PartNumber=1, Body=b"late")) == 404
    assert status(lambda: probe.s3.head_object(Bucket=probe.bucket, Key=key)) == 404


def test_a_part_that_does_not_have_its_md5_is_refused(probe: Probe) -> None:
    at = begin(probe, probe.key())

    refused = status(lambda: probe.s3.upload_part(**at, PartNumber=1, Body=b"x", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg=="))

    assert refused == 400


def test_parts_in_flight_can_be_listed(probe: Probe) -> None:
    at = begin(probe, probe.key())

    assert status(lambda: probe.s3.list_parts(**at)) == probe.expected("list parts")
