import time
from dataclasses import replace

import httpx
import pytest

from service.blobs.client import make_client
from tests.conformance.conftest import Probe, status

TEXT = {"Content-Type": "text/plain"}


def test_a_wrong_secret_is_refused(probe: Probe) -> None:
    key = probe.key()
    probe.put(key)
    stranger = make_client(replace(probe.settings, secret_access_key="x" * 24))

    assert status(lambda: stranger.get_object(Bucket=probe.bucket, Key=key)) == 403


def test_an_unknown_access_key_is_refused(probe: Probe) -> None:
    stranger = make_client(replace(probe.settings, access_key_id="UNKNOWNACCESSKEY"))

    refused = status(lambda: stranger.get_object(Bucket=probe.bucket, Key=probe.key()))

    assert refused == probe.expected("unknown access key")


def test_an_unsigned_request_is_refused(probe: Probe, http: httpx.Client) -> None:
    key = probe.key()
    probe.put(key)

    answer = http.get(f"{probe.settings.endpoint_url}/{probe.bucket}/{key}")

    assert answer.status_code in {400, 401, 403}
    assert b"some bytes" not in answer.content


def test_a_presigned_url_downloads_without_credentials(probe: Probe, http: httpx.Client) -> None:
    key = probe.key()
    probe.put(key)

    answer = http.get(probe.sign("get_object", key))

    assert (answer.status_code, answer.content) == (200, b"some bytes")


@pytest.mark.parametrize(("written", "forged"), [("/object", "/secret"), ("X-Amz-Expires=60", "X-Amz-Expires=61")])
def test_a_presigned_url_is_good_for_what_it_says_only(
    probe: Probe, http: httpx.Client, written: str, forged: str
) -> None:
    key = probe.key()
    probe.put(key)
    probe.put(key.replace("/object", "/secret"))
    url = probe.sign("get_object", key)

    answer = http.get(url.replace(written, forged))

    assert forged not in url
    assert answer.status_code == 403


def test_a_presigned_url_ends(probe: Probe, http: httpx.Client) -> None:
    key = probe.key()
    probe.put(key)

    url = probe.sign("get_object", key, expires_s=1)
    time.sleep(2.1)

    assert http.get(url).status_code == probe.expected("expired URL")


def test_a_presigned_put_takes_the_signed_type_and_length_only(probe: Probe, http: httpx.Client) -> None:
    key = probe.key()
    url = probe.sign("put_object", key, ContentType="text/plain", ContentLength=4)

    assert http.put(url, content=b"four", headers=TEXT).status_code == 200
    assert http.put(url, content=b"longer", headers=TEXT).status_code == 403
    assert http.put(url, content=b"four", headers={"Content-Type": "text/html"}).status_code == 403
    assert http.put(url.replace("/object", "/other"), content=b"four", headers=TEXT).status_code == 403
    assert probe.read(key) == b"four"


def test_presigned_head_and_delete_work(probe: Probe, http: httpx.Client) -> None:
    key = probe.key()
    probe.put(key)

    assert http.head(probe.sign("head_object", key)).status_code == 200
    assert http.delete(probe.sign("delete_object", key)).status_code == 204
    assert http.head(probe.sign("head_object", key)).status_code == 404


def test_a_download_carries_what_was_put_or_what_its_url_asks_for(probe: Probe, http: httpx.Client) -> None:
    key = probe.key()
    probe.put(key, ContentType="text/plain", ContentDisposition="attachment; filename*=UTF-8''put.txt")

    plain = http.get(probe.sign("get_object", key))
    asked = http.get(probe.sign("get_object", key, ResponseContentDisposition="attachment; filename*=UTF-8''url.txt"))

    assert plain.headers["Content-Disposition"] == "attachment; filename*=UTF-8''put.txt"
    assert plain.headers["Content-Type"] == "text/plain"
    if (overridden := probe.expected("URL overrides the headers")) is not None:
        assert ("url.txt" in asked.headers["Content-Disposition"]) is overridden


def test_a_browser_of_another_origin_may_not_write(probe: Probe, http: httpx.Client) -> None:
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "PUT"}

    answer = http.options(f"{probe.settings.endpoint_url}/{probe.bucket}/{probe.key()}", headers=headers)

    assert answer.status_code == probe.expected("preflight without a CORS rule")
