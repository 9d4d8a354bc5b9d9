"""The bucket: whether an object can be put, read and deleted, with the service's own credentials."""

import hashlib
import time

from service.blobs import Blobs
from service.cli.checks.finding import Report, checking
from service.domain.ids import new_id

PROBES = "doctor/"  # No tenant's prefix: that is a UUID.
BODY = b"service doctor was here"
REMEDY = (
    "compare S3_ENDPOINT_URL, S3_BUCKET and the token (Object Read & Write on this bucket) with the provider's console"
)


async def check_bucket(blobs: Blobs, report: Report) -> None:
    with checking("bucket", report, remedy=REMEDY) as found:
        await blobs.check()
        begun = time.perf_counter()
        key, digest = f"{blobs.prefix}{PROBES}{new_id()}", hashlib.sha256(BODY).hexdigest()
        await blobs.put(key, BODY, content_type="text/plain", sha256=digest)
        try:
            read = b"".join([block async for block in await blobs.stream(key, sha256=digest)])
        finally:
            await blobs.delete([key])
        if read != BODY or await blobs.exists(key):
            found.say("error", "an object came back changed, or was there after it was deleted", REMEDY)
        found.ok(f"put, read and deleted an object in {1000 * (time.perf_counter() - begun):.0f} ms")
