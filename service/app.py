"""The application: routers, problem handlers, lifespan. No logic."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import get_args

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.api import (
    batch,
    bulk,
    collections,
    content,
    document,
    document_list,
    documents,
    health,
    metrics,
    recommend,
    search,
    search_batch,
    similar,
)
from service.api.auth import KeyCache
from service.api.direct import ShortWay
from service.api.health import Readiness
from service.api.metrics import QueueWatch
from service.api.middleware import QUIET, RequestEnvelope
from service.api.openapi.document import DescribedApp
from service.api.problems import add_problem_handlers
from service.api.search import open_desk
from service.db.instances import announced
from service.db.read_replica import Turn
from service.resources import open_resources
from service.search.lane import Lane
from service.settings import Settings
from service.telemetry.metrics import Metrics, QueueMetrics
from service.telemetry.siblings import Seat, among_siblings
from service.telemetry.telemetry import Telemetry
from service.telemetry.traces import open_tracing


def create_app(settings: Settings, seat: Seat | None = None) -> FastAPI:
    """`seat` is that of one process among several. Raises ExporterMissingError where traces are asked for and cannot be sent."""
    tracing = open_tracing(settings.collector, service="hybrid-search-api")
    telemetry = Telemetry(Metrics(), tracing.tracer)
    queue = QueueMetrics(CollectorRegistry())  # Of the database: what each process would say, one says.

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, tracing.close)
            opening = open_resources(settings, telemetry=telemetry, processes=settings.serve_workers)
            resources = await stack.enter_async_context(opening)
            await stack.enter_async_context(announced(resources.primary, "api"))
            app.state.resources = resources
            app.state.queue_watch = QueueWatch(resources.primary, queue)
            registry = telemetry.metrics.registry
            for outcome in get_args(Turn):  # From nought, so that a rate sees the first of each.
                telemetry.metrics.replica_reads.labels(outcome)
            app.state.siblings = seat and await stack.enter_async_context(among_siblings(seat, registry))
            app.state.keys = KeyCache(resources.primary)
            app.state.readiness = Readiness(resources)
            app.state.search_desk = desk = open_desk(resources)
            app.state.search_lane = Lane(desk.tools, pool_size=settings.search_pool_size)
            stack.push_async_callback(desk.close)
            yield

    app = DescribedApp(
        title="Hybrid search service",
        version="1",
        summary="Relational, lexical and semantic search over documents, in one Postgres.",
        lifespan=lifespan,
        redirect_slashes=False,  # A path with a slash too many is another path: `a/` is an external_id.
        redoc_url=None,
        # The framework makes the request's span; the rest of its telemetry would say again what logs and metrics say.
        telemetry={
            "tracing": tracing.is_on,
            "tracer_provider": tracing.provider,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
            "exclude": lambda scope: scope["path"] in QUIET,
        },
    )
    if not tracing.is_on:  # A span's name comes from the framework's routing.
        app.add_middleware(ShortWay, routes=search.router.routes)
    app.add_middleware(RequestEnvelope, requests=telemetry.metrics.http_requests)
    add_problem_handlers(app)
    # Searches first: every router before theirs would be asked in vain, for each of them.
    rooms = (search, search_batch, collections, bulk, batch, document_list, documents, document, content, similar)
    for room in (*rooms, recommend, health, metrics):
        app.include_router(room.router)
    return app


def app() -> FastAPI:
    """What a server that is given `service.app:app` calls: the application of the environment."""
    return create_app(Settings())  # type: ignore[call-arg]  # pydantic-settings reads the environment
