# ruff: noqa: INP001 (A script for health checks, not a package.)
"""Ask the API on this machine for a path; exit code 0 is a 2xx: `python infra/probe.py /livez`. No proxy, no libraries."""

import http.client
import os
import sys

if __name__ == "__main__":
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT") or 8000), timeout=3)
    try:
        connection.request("GET", sys.argv[1])
        status = connection.getresponse().status
    except OSError as error:
        sys.exit(f"no answer: {error}")
    sys.exit(0 if 200 <= status < 300 else f"status {status}")  # noqa: PLR2004 (2xx)
