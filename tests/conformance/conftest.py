import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from service.blobs.client import BlobStoreSettings, make_client
from tests.conformance.expected import EXPECTED
from tests.conformance.servers import LOCAL_STORES, STORES, running_store


@dataclass(frozen=True)
class Probe:
    """One store under test: the client that the service uses, raw, and what is known of this store."""

    name: str
    settings: BlobStoreSettings
    s3: Any
    prefix: str

    @property
    def bucket(self) -> str:
        return self.settings.bucket

    def key(self, name: str = "object") -> str:
        return f"{self.prefix}/{uuid.uuid4()}/{name}"

    def expected(self, check: str) -> Any:
        return EXPECTED[check][self.name]

    def put(self, key: str, body: bytes = b"some bytes", **more: Any) -> int:
        return status(lambda: self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, **more))

    def read(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def etag(self, key: str) -> str:
        return str(self.s3.head_object(Bucket=self.bucket, Key=key)["ETag"])

    def sign(self, operation: str, key: str, *, expires_s: int = 60, **params: Any) -> str:
        params = {"Bucket": self.bucket, "Key": key, **params}
        return str(self.s3.generate_presigned_url(operation, Params=params, ExpiresIn=expires_s))


def status(call: Callable[[], Any]) -> int:
    """The HTTP status that a call of boto3 got, whether it raised or not."""
    try:
        answer = call()
    except ClientError as error:
        answer = error.response
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


@pytest.fixture(scope="session", params=STORES)
def probe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    with running_store(request.param, tmp_path_factory.mktemp("store") / request.param) as settings:
        client = make_client(settings)
        probe = Probe(request.param, settings, client, f"probe/{uuid.uuid4()}")
        yield probe
        if probe.name not in LOCAL_STORES:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=probe.bucket, Prefix=probe.prefix)
            for entry in (entry for page in pages for entry in page.get("Contents", [])):
                client.delete_object(Bucket=probe.bucket, Key=entry["Key"])
        client.close()


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    # No connection twice: a store that refuses a body before it has read it hangs up.
    with httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        yield client
