"""POST /v1/collections/{name}/recommend."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.answers import json_response
from service.api.auth import TenantId
from service.api.bodies import SEARCH_LIMIT, read_json
from service.api.commit_tokens import told_where
from service.api.deps import EVERY_ROUTE
from service.api.hits import show_hits
from service.api.lane import SearchLane
from service.api.openapi import examples, told
from service.api.openapi.operations import AFTER, answers, json_body, with_headers
from service.api.paths import CollectionName
from service.api.recommend_schemas import RecommendRequest
from service.api.search import Desk
from service.domain.documents import Collection
from service.domain.hits import Hits
from service.search.examples import recommend
from service.search.second_look import with_collection

router = APIRouter(prefix="/v1/collections", tags=["search"], dependencies=EVERY_ROUTE)


@router.post(
    "/{name}/recommend",
    operation_id="recommend",
    responses=answers({200: told.HITS}, 400, 404, 409, 413, 415),
    openapi_extra=with_headers(AFTER, body=json_body(RecommendRequest, examples=examples.RECOMMEND)),
)
async def recommend_documents(
    name: CollectionName, request: Request, *, tenant_id: TenantId, desk: Desk, lane: SearchLane
) -> Response:
    """Documents like the positive examples and unlike the negative ones, none of which is a hit.

    An example that the collection does not have is a 404 that names it, one that is not indexed yet a 409. One without
    any text says nothing.
    """
    clock = desk.tools.telemetry.search_clock()
    body = await read_json(request, RecommendRequest, limit=SEARCH_LIMIT)

    async def ask(collection: Collection) -> Hits:
        wanted = body.to_recommendation(collection)
        return await recommend(wanted, collection, tools=desk.tools, lane=lane, clock=clock)

    hits = await with_collection(name, tenant_id, ask, catalog=desk.catalog, reader=desk.tools.reader)
    seconds = clock.end()
    shown = {"Server-Timing": clock.server_timing(), **told_where(desk.tools.reader)}
    return json_response(show_hits(hits, took_ms=seconds * 1000), headers=shown)
