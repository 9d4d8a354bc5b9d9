"""GET /metrics, for Prometheus."""

import asyncio
import time
from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.openapi.operations import Answer, answers
from service.db.primary import Primary
from service.db.queue_load import QueueLoad, queue_load
from service.domain.errors import ServiceError
from service.resources import Resources
from service.telemetry.metrics import QueueMetrics, exposed
from service.telemetry.siblings import Siblings

FRESH_SECONDS = 5.0  # However many scrape, and however long the queue, it is counted once in this time.
PATIENCE_SECONDS = 2.0  # A scrape must not fail because the database does.

router = APIRouter(tags=["health"])

EXPOSED = Answer(
    "Prometheus' text, or OpenMetrics where `Accept` asks for it", {"type": "string"}, media_type="text/plain"
)


class QueueWatch:
    """Brings the metrics of the queue up to date; everything else is counted where it happens."""

    def __init__(self, primary: Primary, metrics: QueueMetrics) -> None:
        self._primary = primary
        self.metrics = metrics
        self._lock = asyncio.Lock()
        self._fresh_until = 0.0

    async def look(self) -> None:
        async with self._lock:
            if time.monotonic() < self._fresh_until:
                return
            try:
                async with asyncio.timeout(PATIENCE_SECONDS), self._primary.look() as connection:
                    found = await queue_load(connection)
            except (ServiceError, TimeoutError):
                self._show([], readable=False)
            else:
                self._show(found, readable=True)
                self._fresh_until = time.monotonic() + FRESH_SECONDS

    def _show(self, found: Sequence[QueueLoad], *, readable: bool) -> None:
        """What is not in the queue any more has no series."""
        self.metrics.jobs.clear()
        self.metrics.oldest.clear()
        for load in found:
            self.metrics.jobs.labels(load.kind, load.state).set(load.count)
            if load.state == "queued":
                self.metrics.oldest.labels(load.kind).set(load.oldest_seconds)
        self.metrics.readable.set(readable)


@router.get("/metrics", operation_id="metrics", responses=answers({200: EXPOSED}, keyed=False))
async def metrics(request: Request) -> Response:
    """Counts and times of this service and of the queue; the reference page of metrics explains each.

    With several processes whichever is asked tells of all, each series with its `worker`.
    """
    watch: QueueWatch = request.app.state.queue_watch
    await watch.look()
    resources: Resources = request.app.state.resources
    # In a thread: writing some thousand lines takes milliseconds, in which other requests go on.
    siblings: Siblings | None = request.app.state.siblings
    counted = resources.telemetry.metrics.registry if siblings is None else await siblings.collected()
    accept = request.headers.get("accept", "")
    body, content_type = await asyncio.to_thread(exposed, accept, counted, watch.metrics.registry)
    return Response(body, headers={"Content-Type": content_type})
