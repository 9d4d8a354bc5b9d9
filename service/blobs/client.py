"""The boto3 client: only what R2 understands on the wire, and no vendor error beyond this room.

Why each setting is what it is: docs/decisions/0003-blobs.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from boto3.session import Session
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_expect_header
from urllib3.exceptions import HTTPError

from service.domain.errors import BlobCorruptError, BlobNotFoundError, UnavailableError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
SPARE_CONNECTIONS = 32  # A download that its client reads slowly holds a connection and no thread.
WRONG_BYTES = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"})


@dataclass(frozen=True, kw_only=True)
class BlobStoreSettings:
    """Where the bucket is. `public_endpoint_url` is the address under which clients see it, when that is another."""

    endpoint_url: str
    bucket: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str = "auto"
    prefix: str = ""
    public_endpoint_url: str | None = None
    threads: int = 16
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 10.0
    attempts: int = 3


def make_client(settings: BlobStoreSettings, *, session: Session | None = None) -> BaseClient:
    """Build a client; it is thread-safe, and opens no connection yet. (A session reads its models once: 80 ms.)"""
    client = (session or Session()).client(
        "s3",
        endpoint_url=settings.endpoint_url,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        region_name=settings.region,
        config=Config(
            signature_version="s3v4",
            # Else botocore leaves a body with a Content-MD5 unsigned on https.
            s3={"addressing_style": "path", "payload_signing_enabled": True},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": settings.attempts},
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
            max_pool_connections=settings.threads + SPARE_CONNECTIONS,
            # A proxy of the environment cannot reach a store on this machine.
            proxies={} if urlsplit(settings.endpoint_url).hostname in LOOPBACK else None,
        ),
    )
    # R2 and its emulator never answer 100 Continue, and botocore would wait a second for it on every PUT.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return client


@contextmanager
def translated() -> Iterator[None]:
    """Turn vendor errors into ours; the driver's own words stay in `__cause__`, for the log."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in {"NoSuchKey", "404"}:
            raise BlobNotFoundError("The object store does not have this blob") from error
        if code in WRONG_BYTES:
            raise BlobCorruptError("The bytes that reached the object store are not those that were sent") from error
        raise UnavailableError("The object store refuses the request") from error
    except (BotoCoreError, HTTPError) as error:
        raise UnavailableError("The object store does not answer") from error


def status_of(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
