"""/v1/documents/{id}/content: the bytes of the newest version."""

import base64
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from service.api.auth import TenantId
from service.api.deps import EVERY_ROUTE, Tools
from service.api.document import read_document_id
from service.api.middleware import HEAD_ONLY
from service.api.openapi import told
from service.api.openapi.operations import answers
from service.api.paths import DocumentId
from service.db.documents import StoredBody, find_body
from service.ingest.submit import TEXT_TYPE

router = APIRouter(prefix="/v1/documents", tags=["documents"], dependencies=EVERY_ROUTE)

LINK_SECONDS = 300


def inert(body: StoredBody, fallback_name: str) -> dict[str, str]:
    """Headers under which no browser runs what a client once uploaded."""
    name = quote(body.filename or fallback_name, safe="!#$&+^`|")
    return {
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "same-origin",
        "ETag": f'"{body.sha256.hex()}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(body.sha256).decode()}:",
    }


@router.get(
    "/{id}/content",
    response_class=Response,
    operation_id="get_content",
    responses=answers({200: told.CONTENT, 302: told.LINK}, 404),
)
async def get_content(
    id: DocumentId,  # noqa: A002  the path's word
    request: Request,
    *,
    tenant_id: TenantId,
    tools: Tools,
    stream: Annotated[bool, Query(description="The bytes through the service, not a link to the store.")] = False,
) -> Response:
    """The file or text that was uploaded last."""
    document_id = read_document_id(id)
    async with tools.primary.begin(tenant_id) as connection:
        body = await find_body(connection, tenant_id, document_id)
    if body.blob_key is None:
        headers = inert(body, f"{document_id}.txt")
        return Response((body.text or "").encode(), headers=headers | {"Content-Type": TEXT_TYPE})
    if not stream:
        link = await tools.blobs.presigned_url(
            body.blob_key, filename=body.filename, content_type=body.content_type, expires_s=LINK_SECONDS
        )
        return RedirectResponse(link, 302, {"Referrer-Policy": "no-referrer"})
    headers = inert(body, str(document_id)) | {"Content-Type": body.content_type, "Content-Length": str(body.size)}
    if request.scope.get(HEAD_ONLY):
        return Response(headers=headers)
    return StreamingResponse(await tools.blobs.stream(body.blob_key, sha256=body.sha256.hex()), headers=headers)
