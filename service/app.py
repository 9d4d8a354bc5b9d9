"""The application: routers, problem handlers, lifespan. No logic."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service.api import batch, collections, content, document, documents, health, search
from service.api.auth import KeyCache
from service.api.health import Readiness
from service.api.middleware import RequestEnvelope
from service.api.problems import add_problem_handlers
from service.api.search import open_desk
from service.resources import open_resources
from service.settings import Settings

SEARCH_LIMIT = 16 * 1024 * 1024  # A thousand values of a filter at their longest; the other routes count by themselves.


def create_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(settings) as resources:
            app.state.resources = resources
            app.state.keys = KeyCache(resources.primary)
            app.state.readiness = Readiness(resources)
            app.state.search_desk = open_desk(resources)
            yield

    app = FastAPI(
        title="Hybrid search service",
        version="1",
        summary="Relational, lexical and semantic search over documents, in one Postgres.",
        lifespan=lifespan,
        redirect_slashes=False,  # A path with a slash too many is another path: `a/` is an external_id.
        redoc_url=None,
    )
    app.add_middleware(RequestEnvelope)
    add_problem_handlers(app)
    for room in (collections, batch, documents, document, content, health):
        app.include_router(room.router)
    app.include_router(search.router, max_body_size=SEARCH_LIMIT)
    return app


def app() -> FastAPI:
    """What a server that is given `service.app:app` calls: the application of the environment."""
    return create_app(Settings())  # type: ignore[call-arg]  # pydantic-settings reads the environment
