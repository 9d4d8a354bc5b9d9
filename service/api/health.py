"""/livez and /readyz"""

import asyncio
import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api import openapi
from service.api.answers import json_response
from service.db.documents import ping
from service.resources import Resources

FRESH_SECONDS = 2.0  # However many probes ask, the parts are asked twice in this time at most.

router = APIRouter(tags=["health"])


class Readiness:
    """Whether the parts answer; the embedder is loaded before the first request, so it is not asked."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._lock = asyncio.Lock()
        self._good_until = 0.0

    async def check(self) -> None:
        """Raises UnavailableError."""
        async with self._lock:
            if time.monotonic() < self._good_until:
                return
            async with self._resources.primary.begin() as connection:
                await ping(connection)
            await self._resources.blobs.check()
            self._good_until = time.monotonic() + FRESH_SECONDS


@router.get("/livez")
async def livez() -> Response:
    """The process answers."""
    return json_response({"status": "ok"})


@router.get("/readyz", responses=openapi.answers({}))
async def readyz(request: Request) -> Response:
    """The database and the bucket answer, and the embedder is loaded."""
    readiness: Readiness = request.app.state.readiness
    await readiness.check()
    return json_response({"status": "ready"})
