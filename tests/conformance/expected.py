"""Where S3 stores differ. `r2` is what Cloudflare documents, the others were measured; None: nothing is claimed.

A check that is not listed here must come out the same on every store.
"""

from typing import Any

EXPECTED: dict[str, dict[str, Any]] = {
    # Identity
    "unknown access key": {"r2": 401, "miniflare": 401, "rclone": 403},
    "expired URL": {"r2": 400, "miniflare": 403, "rclone": 400},
    "URL overrides the headers": {"r2": None, "miniflare": False, "rclone": True},
    "preflight without a CORS rule": {"r2": 403, "miniflare": 403, "rclone": 400},
    # Conditions: why rclone is embedded for its one-wheel install, and never trusted with a key twice.
    "put If-None-Match on existing": {"r2": 412, "miniflare": 412, "rclone": 200},
    "put If-Match of another": {"r2": 412, "miniflare": 412, "rclone": 200},
    "winners of a race": {"r2": 1, "miniflare": 1, "rclone": None},
    "presigned put If-None-Match on existing": {"r2": 412, "miniflare": 412, "rclone": 200},
    "multipart If-None-Match on existing": {"r2": 412, "miniflare": 200, "rclone": 200},
    "get If-Match of another": {"r2": 412, "miniflare": 412, "rclone": 200},
    # Bytes
    "range status": {"r2": 206, "miniflare": 206, "rclone": 200},
    "body unlike its signed hash": {"r2": 400, "miniflare": 400, "rclone": 200},
    "a key is missing while it is overwritten": {"r2": False, "miniflare": False, "rclone": True},
    "metadata after a restart": {"r2": True, "miniflare": True, "rclone": False},
    "metadata of 2,000 bytes": {"r2": 200, "miniflare": 200, "rclone": 400},
    # Multipart
    "etag of a multipart object counts its parts": {"r2": True, "miniflare": True, "rclone": False},
    "complete unequal parts": {"r2": 400, "miniflare": 404, "rclone": 200},
    "complete small parts": {"r2": 400, "miniflare": 400, "rclone": 200},
    "list parts": {"r2": 200, "miniflare": 501, "rclone": 200},
    # Names
    "key of 1,024 bytes in one segment": {"r2": 200, "miniflare": 200, "rclone": 500},
    "key of 1,100 bytes": {"r2": 400, "miniflare": 500, "rclone": 400},
    "key that climbs": {"r2": None, "miniflare": 500, "rclone": 400},
    "key with an empty segment": {"r2": 200, "miniflare": 200, "rclone": 400},
    "key with a line feed": {"r2": None, "miniflare": 404, "rclone": 200},
    "another spelling of the key": {"r2": None, "miniflare": 404, "rclone": 200},
    "tagging": {"r2": 501, "miniflare": 501, "rclone": 200},
    "bytes after tagging": {"r2": True, "miniflare": True, "rclone": False},
}
