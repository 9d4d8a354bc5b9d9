import unicodedata
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.conftest import Probe, status

ODD_NAMES = ["é", "e\u0301", "🦆", "a b+c%2Fd&e=f?g#h", "\"'<>\\", "\x01\x1f\x7f", "dir/", "_" * 120]


def listed(probe: Probe, prefix: str, **more: Any) -> list[str]:
    page = probe.s3.list_objects_v2(Bucket=probe.bucket, Prefix=prefix, **more)
    return [entry["Key"] for entry in page.get("Contents", [])]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_an_odd_name_is_an_ordinary_key(probe: Probe, name: str) -> None:
    key = probe.key(name)

    assert probe.put(key) == 200
    assert probe.read(key) == b"some bytes"
    assert status(lambda: probe.s3.delete_object(Bucket=probe.bucket, Key=key)) == 204
    assert status(lambda: probe.s3.head_object(Bucket=probe.bucket, Key=key)) == 404


def test_a_key_may_have_1024_bytes(probe: Probe) -> None:
    base = probe.key("")
    segments = (base + "/".join(["k" * 100] * 12))[:1023] + "e"

    assert probe.put(segments) == 200
    assert listed(probe, base) == [segments]
    assert probe.put(base + "k" * (1024 - len(base))) == probe.expected("key of 1,024 bytes in one segment")


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("/".join(["k" * 100] * 11), "key of 1,100 bytes"),
        ("../../../../../../../tmp/climbed", "key that climbs"),
        ("a//b", "key with an empty segment"),
        ("a\nb", "key with a line feed"),
    ],
    ids=["long", "climbing", "empty segment", "line feed"],
)
def test_a_name_that_stores_disagree_about(probe: Probe, name: str, check: str) -> None:
    answer = probe.put(probe.key(name))

    if (expected := probe.expected(check)) is not None:
        assert answer == expected


def test_stores_disagree_whether_two_spellings_of_a_letter_are_one_key(probe: Probe) -> None:
    key = probe.key("e\u0301")
    probe.put(key)

    composed = unicodedata.normalize("NFC", key)

    assert composed != key
    answer = status(lambda: probe.s3.get_object(Bucket=probe.bucket, Key=composed))
    if (expected := probe.expected("another spelling of the key")) is not None:
        assert answer == expected


def test_a_list_pages_in_the_order_of_keys(probe: Probe) -> None:
    base = probe.key("")
    keys = [f"{base}{number:02d}/object" for number in range(7)]
    for key in reversed(keys):
        probe.put(key)

    pages = probe.s3.get_paginator("list_objects_v2").paginate(
        Bucket=probe.bucket, Prefix=base, PaginationConfig={"PageSize": 3}
    )

    assert [[entry["Key"] for entry in page["Contents"]] for page in pages] == [keys[:3], keys[3:6], keys[6:]]
    assert listed(probe, base, StartAfter=keys[4]) == keys[5:]
    assert listed(probe, base + "0") == keys


def test_a_delimiter_folds_a_list_into_folders(probe: Probe) -> None:
    base = probe.key("")
    for name in ("a/1", "a/2", "b/1", "top"):
        probe.put(base + name)

    page = probe.s3.list_objects_v2(Bucket=probe.bucket, Prefix=base, Delimiter="/")

    assert [folder["Prefix"] for folder in page["CommonPrefixes"]] == [f"{base}a/", f"{base}b/"]
    assert [entry["Key"] for entry in page["Contents"]] == [f"{base}top"]


def test_deleting_what_is_not_there_is_no_error(probe: Probe) -> None:
    there, missing = probe.key(), probe.key()
    probe.put(there)
    both = {"Objects": [{"Key": there}, {"Key": missing}]}

    assert status(lambda: probe.s3.delete_object(Bucket=probe.bucket, Key=missing)) == 204
    assert "Errors" not in probe.s3.delete_objects(Bucket=probe.bucket, Delete=both)
    assert status(lambda: probe.s3.head_object(Bucket=probe.bucket, Key=there)) == 404


@pytest.mark.parametrize(("bucket", "code"), [(None, "NoSuchKey"), ("no-such-bucket", "NoSuchBucket")])
def test_what_is_missing_is_named(probe: Probe, bucket: str | None, code: str) -> None:
    if bucket and probe.name == "r2":
        pytest.skip("a token for one bucket may not ask about others; add it with: a token for all buckets")

    with pytest.raises(ClientError) as missing:
        probe.s3.get_object(Bucket=bucket or probe.bucket, Key=probe.key())

    assert missing.value.response["Error"]["Code"] == code


def test_tagging_is_not_to_be_used(probe: Probe) -> None:
    key = probe.key()
    probe.put(key)
    tags = {"TagSet": [{"Key": "a", "Value": "b"}]}

    answer = status(lambda: probe.s3.put_object_tagging(Bucket=probe.bucket, Key=key, Tagging=tags))

    assert answer == probe.expected("tagging")
    assert (probe.read(key) == b"some bytes") is probe.expected("bytes after tagging")
