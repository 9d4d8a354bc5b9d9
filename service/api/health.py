"""/livez and /readyz"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.answers import json_response
from service.api.openapi import told
from service.api.openapi.operations import answers
from service.api.problems import Trouble, problem_response
from service.db.documents import ping
from service.db.read_pool import PING
from service.db.read_replica import following
from service.domain.errors import OverloadedError, UnavailableError
from service.resources import Resources

FRESH_SECONDS = 2.0  # However many probes ask, parts that answered are not asked again for so long.
PATIENCE_SECONDS = 3.0  # for a part to answer; less than a probe waits

router = APIRouter(tags=["health"])


class Readiness:
    """Whether the parts answer; the embedder is loaded before the first request, so it is not asked."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._lock = asyncio.Lock()
        self._good_until = 0.0

    async def missing(self) -> dict[str, str]:
        """The parts that do not answer, and why."""
        async with self._lock:
            if time.monotonic() < self._good_until:
                return {}
            parts = {"database": self._database, "search_database": self._search, "bucket": self._resources.blobs.check}
            reasons = await asyncio.gather(*map(trouble_with, parts.values()))
            missing = {part: reason for part, reason in zip(parts, reasons, strict=True) if reason is not None}
            if not missing:
                self._good_until = time.monotonic() + FRESH_SECONDS
            return missing

    async def _database(self) -> None:
        async with self._resources.primary.begin() as connection:
            await ping(connection)

    async def _search(self) -> None:
        # As a search does: without its replica the service is slower, and ready.
        await following(self._resources.reader, None).fetch(PING, {}, settings={"app.tenant_id": ""})


async def trouble_with(ask: Callable[[], Awaitable[None]]) -> str | None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ask()
    except TimeoutError:
        return f"no answer within {PATIENCE_SECONDS:g} seconds"
    except OverloadedError:
        return None  # It is there and busy: sending clients elsewhere is not for a probe to decide.
    except UnavailableError as error:
        return str(error)
    return None


@router.get("/livez", operation_id="livez", responses=answers({200: told.ALIVE}, keyed=False))
async def livez() -> Response:
    """The process answers."""
    return json_response({"status": "ok"})


@router.get("/readyz", operation_id="readyz", responses=answers({200: told.READY}, 503, keyed=False))
async def readyz(request: Request) -> Response:
    """Both doors of the database and the bucket answer, and the embedder is loaded; else `errors` names what does not."""
    readiness: Readiness = request.app.state.readiness
    missing = await readiness.missing()
    if missing:
        detail = "; ".join(f"{part}: {reason}" for part, reason in missing.items())
        return problem_response(request, Trouble(503, "unavailable", f"not ready: {detail}", tuple(missing.items())))
    return json_response({"status": "ready"})
