"""POST /v1/collections/{name}/search:batch: up to a hundred searches, each with an answer of its own."""

from functools import partial
from http import HTTPStatus

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.answers import Json, json_response
from service.api.auth import TenantId
from service.api.bodies import SEARCH_LIMIT, read_json
from service.api.commit_tokens import told_where
from service.api.deps import EVERY_ROUTE
from service.api.hits import show_hits
from service.api.lane import SearchLane
from service.api.openapi import examples, told
from service.api.openapi.operations import AFTER, answers, json_body, with_headers
from service.api.paths import CollectionName
from service.api.problems import trouble_of
from service.api.search import Desk
from service.api.search_batch_schemas import SearchBatchRequest
from service.api.search_schemas import SearchRequest
from service.domain.documents import Collection
from service.domain.errors import NotFoundError, OverloadedError, UnavailableError
from service.domain.hits import Hits
from service.search.search import search
from service.search.second_look import with_collection
from service.search.tools import Searching

router = APIRouter(prefix="/v1/collections", tags=["search"], dependencies=EVERY_ROUTE)

FATAL = (
    NotFoundError,
    OverloadedError,
    UnavailableError,
)  # Of all searches of a batch: about the batch, not about one.

log = structlog.get_logger(__name__)


@router.post(
    "/{name}/search:batch",
    operation_id="search_batch",
    responses=answers({200: told.SEARCHES}, 400, 404, 413, 415),
    openapi_extra=with_headers(AFTER, body=json_body(SearchBatchRequest, examples=examples.SEARCH_BATCH)),
)
async def search_many(
    name: CollectionName, request: Request, *, tenant_id: TenantId, desk: Desk, lane: SearchLane
) -> Response:
    """Up to 100 searches at once, answered in their order; each `status` is what the search alone would have had.

    They run side by side on a part of the connections, so that other searches need not wait for them.
    """
    body = await read_json(request, SearchBatchRequest, limit=SEARCH_LIMIT)
    await desk.catalog.find(tenant_id, name)

    async def reply(raw: object, tools: Searching) -> Json | Exception:
        clock = tools.telemetry.search_clock()

        async def ask(collection: Collection) -> Hits:
            query = wanted.to_query(collection, dimension=tools.profile.dimension)
            return await search(query, collection, tools=tools, clock=clock)

        try:
            wanted = SearchRequest.model_validate(raw)
            hits = await with_collection(name, tenant_id, ask, catalog=desk.catalog, reader=desk.tools.reader)
        except Exception as error:  # noqa: BLE001  whatever befalls one, the others run
            return error
        return {"status": HTTPStatus.OK, **show_hits(hits, took_ms=clock.end() * 1000)}

    replies = await lane.run([partial(reply, raw) for raw in body.searches], reader=desk.tools.reader)
    if all(isinstance(each, FATAL) for each in replies):
        raise next(each for each in replies if isinstance(each, Exception))
    return json_response(
        {"results": [show(each, request) for each in replies]}, headers=dict(told_where(desk.tools.reader))
    )


def show(reply: Json | Exception, request: Request) -> Json:
    if not isinstance(reply, Exception):
        return reply
    trouble = trouble_of(reply)
    if trouble.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("search_failed", code=trouble.code, exc_info=reply)
    return {"status": trouble.status, "problem": trouble.to_problem(request.state.request_id)}
