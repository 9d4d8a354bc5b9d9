"""/v1/documents/{id}: one document by its id."""

import re
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.answers import document_response, json_response, show_chunk
from service.api.auth import TenantId
from service.api.collections import MERGE_PATCH
from service.api.commit_tokens import committed
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, fingerprint, make_cursor, read_ordinal
from service.api.deps import EVERY_ROUTE, Tools
from service.api.documents import deleted, patched
from service.api.openapi import examples, told
from service.api.openapi.operations import answers, json_body, with_headers
from service.api.paths import DocumentId
from service.api.schemas import DocumentPatch
from service.db.documents import find_document, list_chunks
from service.domain.errors import NotFoundError
from service.ingest.change import retry_document

router = APIRouter(prefix="/v1/documents", tags=["documents"], dependencies=EVERY_ROUTE)

ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def read_document_id(text: str) -> UUID:
    """Raises NotFoundError: an ill-formed id names nothing."""
    if not ID.fullmatch(text):
        raise NotFoundError("no such document")
    return UUID(text)


@router.get("/{id}", operation_id="get_document", responses=answers({200: told.DOCUMENT}, 404))
async def get(id: DocumentId, tenant_id: TenantId, tools: Tools) -> Response:  # noqa: A002  the path's word
    """One document: the newest version's fields and status."""
    async with tools.primary.begin(tenant_id) as connection:
        return document_response(await find_document(connection, tenant_id, read_document_id(id)))


@router.patch(
    "/{id}",
    operation_id="patch_document",
    responses=answers({200: told.CHANGED}, 400, 404, 412, 413, 415, 428),
    openapi_extra=with_headers(
        "If-Match-required", body=json_body(DocumentPatch, *MERGE_PATCH, examples=examples.DOCUMENT_PATCH)
    ),
)
async def patch(id: DocumentId, request: Request, tenant_id: TenantId, tools: Tools) -> Response:  # noqa: A002
    """Change fields by RFC 7396: null empties, absent stays. If-Match is required."""
    return await patched(read_document_id(id), request, tenant_id, tools)


@router.delete(
    "/{id}",
    status_code=204,
    operation_id="delete_document",
    responses=answers({204: told.GONE}, 404, 412, 428),
    openapi_extra=with_headers("If-Match-required"),
)
async def delete(id: DocumentId, request: Request, tenant_id: TenantId, tools: Tools) -> Response:  # noqa: A002
    """Delete a document: found nowhere from then on. If-Match is required."""
    return await deleted(read_document_id(id), request, tenant_id, tools)


@router.post(
    "/{id}:retry",
    status_code=202,
    operation_id="retry_document",
    responses=answers({202: told.ACCEPTED}, 404, 409),
)
async def retry(id: DocumentId, tenant_id: TenantId, tools: Tools) -> Response:  # noqa: A002
    """Index a failed version once more."""
    document = await retry_document(read_document_id(id), tenant_id=tenant_id, primary=tools.primary)
    return await committed(document_response(document, 202, with_location=True), tools.primary)


@router.get("/{id}/chunks", operation_id="list_chunks", responses=answers({200: told.CHUNKS}, 400, 404))
async def get_chunks(
    id: DocumentId,  # noqa: A002
    tenant_id: TenantId,
    tools: Tools,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """The chunks that search knows, in order. A cursor ends with the version that it pages through."""
    async with tools.primary.begin(tenant_id) as connection:
        document = await find_document(connection, tenant_id, read_document_id(id))
        this_list = fingerprint("chunks", document.id, document.indexed_version)
        after = read_ordinal(cursor, this_list)
        found = await list_chunks(connection, document, limit=limit + 1, after=after)
    page = found[:limit]
    more = make_cursor(page[-1].ordinal, this_list) if len(found) > limit else None
    return json_response({"chunks": [show_chunk(each) for each in page], "next_cursor": more})
