from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx

from tests.conformance.conftest import Probe, status

RACERS = 32
ANOTHER = '"00000000000000000000000000000000"'


def test_a_write_once_put_never_overwrites(probe: Probe) -> None:
    key = probe.key()
    probe.put(key, b"first", IfNoneMatch="*")

    second = probe.put(key, b"second", IfNoneMatch="*")

    assert second == probe.expected("put If-None-Match on existing")
    assert probe.read(key) == (b"second" if second == 200 else b"first")


def test_of_racing_write_once_puts_one_wins_and_its_bytes_stay(probe: Probe) -> None:
    key, start = probe.key(), Barrier(RACERS)

    def race(racer: int) -> int:
        start.wait()
        return probe.put(key, b"%04d" % racer * 1000, IfNoneMatch="*")

    with ThreadPoolExecutor(RACERS) as racers:
        statuses = list(racers.map(race, range(RACERS)))

    left = probe.read(key)
    winners = [racer for racer, code in enumerate(statuses) if code == 200]
    if probe.expected("winners of a race") == 1:
        assert len(winners) == 1
        assert statuses.count(412) == RACERS - 1
        assert left == b"%04d" % winners[0] * 1000
    else:
        assert winners
        assert left == left[:4] * 1000  # Some racer's bytes, not a mixture.


def test_a_put_on_a_version_that_is_gone_is_refused(probe: Probe) -> None:
    key = probe.key()
    probe.put(key)

    assert probe.put(key, IfMatch=ANOTHER) == probe.expected("put If-Match of another")
    assert probe.put(key, IfMatch=probe.etag(key)) == 200


def test_a_presigned_put_can_be_write_once(probe: Probe, http: httpx.Client) -> None:
    key = probe.key()
    probe.put(key)
    url = probe.sign("put_object", key, IfNoneMatch="*")

    assert http.put(url, content=b"other").status_code == 403
    refused = http.put(url, content=b"other", headers={"If-None-Match": "*"}).status_code
    assert refused == probe.expected("presigned put If-None-Match on existing")


def test_a_get_of_what_one_already_has_costs_no_bytes(probe: Probe) -> None:
    key = probe.key()
    probe.put(key)
    etag = probe.etag(key)

    assert status(lambda: probe.s3.get_object(Bucket=probe.bucket, Key=key, IfNoneMatch=etag)) == 304


def test_a_get_of_a_version_that_is_gone_is_refused(probe: Probe) -> None:
    key = probe.key()
    probe.put(key)

    refused = status(lambda: probe.s3.get_object(Bucket=probe.bucket, Key=key, IfMatch=ANOTHER))

    assert refused == probe.expected("get If-Match of another")
