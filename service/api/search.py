"""POST /v1/collections/{name}/search."""

import time
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from service.api.answers import json_response
from service.api.auth import TenantId
from service.api.bodies import json_request, read_json
from service.api.deps import EVERY_ROUTE
from service.api.search_schemas import SearchRequest, SearchResponse
from service.domain.errors import InvalidError, NotFoundError
from service.domain.hits import Hits
from service.resources import Resources
from service.search.catalog import Catalog
from service.search.search import CollectionChangedError, Searching, search

router = APIRouter(prefix="/v1/collections", tags=["search"], dependencies=EVERY_ROUTE)


@dataclass(frozen=True, slots=True)
class SearchDesk:
    """What the route needs, built once per process."""

    catalog: Catalog
    tools: Searching


def open_desk(resources: Resources) -> SearchDesk:
    settings = resources.settings
    tools = Searching(
        reader=resources.reader,
        statements=resources.statements,
        embedder=resources.embedder,
        profile=resources.profile,
        exact_chunks=settings.exact_chunks,
        lexical_budget=settings.lexical_budget,
    )
    return SearchDesk(Catalog(resources.primary), tools)


def get_desk(request: Request) -> SearchDesk:
    desk: SearchDesk = request.app.state.search_desk
    return desk


Desk = Annotated[SearchDesk, Depends(get_desk)]


@router.post("/{name}/search", response_model=SearchResponse, openapi_extra=json_request(SearchRequest))
async def search_collection(name: str, request: Request, tenant_id: TenantId, desk: Desk) -> Response:
    """Hybrid, lexical or semantic search with relational filters. Words are OR; see the contract for the rest."""
    started = time.perf_counter()
    body = await read_json(request, SearchRequest)
    try:
        hits = await find(name, body, tenant_id, desk)
    except (NotFoundError, InvalidError, CollectionChangedError):
        # Deleted, made anew or declared anew since its name was looked up: a second look decides.
        if not desk.catalog.forget(tenant_id, name):
            raise
        hits = await find(name, body, tenant_id, desk)
    return json_response(SearchResponse.spelled(hits, took_ms=(time.perf_counter() - started) * 1000))


async def find(name: str, body: SearchRequest, tenant_id: UUID, desk: SearchDesk) -> Hits:
    collection = await desk.catalog.find(tenant_id, name)
    return await search(body.to_query(collection, dimension=desk.tools.profile.dimension), collection, tools=desk.tools)
