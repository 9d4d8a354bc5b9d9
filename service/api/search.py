"""POST /v1/collections/{name}/search."""

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from service.api.answers import json_response
from service.api.auth import TenantId
from service.api.bodies import SEARCH_LIMIT, read_json
from service.api.commit_tokens import After, after_commit, told_where
from service.api.deps import EVERY_ROUTE
from service.api.direct import DirectRoute
from service.api.hits import show_hits
from service.api.openapi import examples, told
from service.api.openapi.operations import AFTER, answers, json_body, with_headers
from service.api.paths import CollectionName
from service.api.search_schemas import SearchRequest
from service.db.read_replica import following
from service.domain.documents import Collection
from service.domain.hits import Hits
from service.resources import Resources
from service.search.catalog import Catalog
from service.search.recall import RecallProbe
from service.search.search import search
from service.search.second_look import with_collection
from service.search.tools import Searching

router = APIRouter(
    prefix="/v1/collections",
    tags=["search"],
    dependencies=EVERY_ROUTE,
    route_class=DirectRoute,
)


@dataclass(frozen=True, slots=True)
class SearchDesk:
    """What the route needs, built once per process."""

    catalog: Catalog
    tools: Searching

    async def close(self) -> None:
        if self.tools.recall is not None:
            await self.tools.recall.close()


def open_desk(resources: Resources) -> SearchDesk:
    settings = resources.settings
    tools = Searching(
        reader=resources.reader,
        statements=resources.statements,
        embedder=resources.embedder,
        profile=resources.profile,
        exact_chunks=settings.exact_chunks,
        lexical_budget=settings.lexical_budget,
        telemetry=resources.telemetry,
        reranker=resources.reranker,
    )
    if settings.recall_sample_share:
        tools = replace(tools, recall=RecallProbe(tools, share=settings.recall_sample_share))
    return SearchDesk(Catalog(resources.primary), tools)


async def get_desk(request: Request, after: After) -> SearchDesk:
    """With a reader of the request's own, where there is a replica to follow."""
    desk: SearchDesk = request.app.state.search_desk
    reader = following(desk.tools.reader, after)
    return desk if reader is desk.tools.reader else replace(desk, tools=replace(desk.tools, reader=reader))


Desk = Annotated[SearchDesk, Depends(get_desk)]


@router.post(
    "/{name}/search",
    operation_id="search",
    responses=answers({200: told.HITS}, 400, 404, 413, 415),
    openapi_extra=with_headers(AFTER, body=json_body(SearchRequest, examples=examples.SEARCH)),
)
async def search_collection(name: CollectionName, request: Request, tenant_id: TenantId) -> Response:
    """Hybrid, lexical or semantic search with relational filters. Words are OR; see the contract for the rest."""
    desk = await get_desk(request, await after_commit(request))
    clock = desk.tools.telemetry.search_clock()
    body = await read_json(request, SearchRequest, limit=SEARCH_LIMIT)

    async def ask(collection: Collection) -> Hits:
        query = body.to_query(collection, dimension=desk.tools.profile.dimension)
        return await search(query, collection, tools=desk.tools, clock=clock)

    hits = await with_collection(name, tenant_id, ask, catalog=desk.catalog, reader=desk.tools.reader)
    seconds = clock.end()
    shown = {"Server-Timing": clock.server_timing(), **told_where(desk.tools.reader)}
    return json_response(show_hits(hits, took_ms=seconds * 1000), headers=shown)
