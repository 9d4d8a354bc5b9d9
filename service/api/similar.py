"""/v1/documents/{id}/similar: what else is like this document."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from service.api.answers import json_response
from service.api.auth import TenantId
from service.api.commit_tokens import told_where
from service.api.deps import EVERY_ROUTE, Tools
from service.api.document import read_document_id
from service.api.filter_parameter import FilterText, read_filter
from service.api.hits import show_hits
from service.api.openapi import told
from service.api.openapi.operations import AFTER, answers, with_headers
from service.api.paths import DocumentId
from service.api.search import Desk
from service.db.documents import find_document
from service.domain.documents import Collection
from service.domain.errors import InProgressError
from service.domain.hits import Hits
from service.search.examples import similar
from service.search.second_look import with_collection

router = APIRouter(prefix="/v1/documents", tags=["search"], dependencies=EVERY_ROUTE)

HitLimit = Annotated[int, Query(ge=1, le=100, description="How many hits at most.")]


@router.get(
    "/{id}/similar",
    operation_id="find_similar",
    responses=answers({200: told.HITS}, 400, 404, 409),
    openapi_extra=with_headers(AFTER),
)
async def get_similar(
    id: DocumentId,  # noqa: A002  the path's word
    *,
    tenant_id: TenantId,
    tools: Tools,
    desk: Desk,
    limit: HitLimit = 10,
    filter: FilterText = None,  # noqa: A002  the contract's word
) -> Response:
    """The documents of its collection that are nearest to this one, without itself; scores are cosines.

    A document lies at the mean of its chunks' embeddings. One that is not indexed yet lies nowhere: 409. One without any text
    has no neighbours.
    """
    clock = desk.tools.telemetry.search_clock()
    document_id = read_document_id(id)
    async with tools.primary.begin(tenant_id) as connection:
        document = await find_document(connection, tenant_id, document_id)
    if document.indexed_version is None:
        raise InProgressError(f"the document is {document.status}: no version of it is indexed yet")

    async def ask(collection: Collection) -> Hits:
        wanted = read_filter(filter, collection)
        return await similar(document_id, collection, limit=limit, filter=wanted, tools=desk.tools, clock=clock)

    hits = await with_collection(document.collection, tenant_id, ask, catalog=desk.catalog, reader=desk.tools.reader)
    seconds = clock.end()
    shown = {"Server-Timing": clock.server_timing(), **told_where(desk.tools.reader)}
    return json_response(show_hits(hits, took_ms=seconds * 1000), headers=shown)
