"""/v1/collections/{name}/documents: a collection's documents, by their external_id."""

from typing import Annotated
from urllib.parse import unquote_to_bytes
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from service.api.answers import document_response
from service.api.auth import TenantId
from service.api.bodies import read_json
from service.api.collections import MERGE_PATCH
from service.api.commit_tokens import committed
from service.api.conditions import read_condition
from service.api.deps import EVERY_ROUTE, Tools
from service.api.openapi import examples, told
from service.api.openapi.operations import answers, document_body, json_body, with_headers
from service.api.paths import CollectionName, DocumentKey
from service.api.schemas import DocumentPatch, ExternalId, FileDocument, TextDocument
from service.api.uploads import FileQuery, check_path, file_query, new_file_query, read_submission
from service.db.collections import find_collection
from service.db.documents import find_document
from service.domain.conditions import Condition
from service.domain.documents import Document, Status
from service.domain.errors import InvalidError, NotFoundError
from service.ingest.accept import Accepted
from service.ingest.change import delete_document, patch_document, wait_until_finished
from service.ingest.collections import resolve_external_id
from service.ingest.submit import Submission, submit
from service.resources import Resources

router = APIRouter(prefix="/v1/collections/{name}/documents", tags=["documents"], dependencies=EVERY_ROUTE)

Raw = Annotated[FileQuery, Depends(file_query)]
NewRaw = Annotated[FileQuery, Depends(new_file_query)]
Wait = Annotated[float | None, Query(ge=0, le=60, description="Seconds to wait for the version to be finished.")]
FINISHED: set[Status] = {"indexed", "failed"}
external_ids = TypeAdapter[str](ExternalId)


@router.post(
    "",
    status_code=202,
    operation_id="add_document",
    responses=answers({201: told.CREATED, 202: told.ACCEPTED}, 400, 404, 409, 413, 415),
    openapi_extra=document_body(TextDocument, FileDocument, examples.NEW_DOCUMENT),
)
async def post(
    name: CollectionName, request: Request, *, tenant_id: TenantId, tools: Tools, query: NewRaw, wait: Wait = None
) -> Response:
    """Add a document: JSON, a raw file, or a form with one. 202, or 201 once it is finished in the time of `wait`."""
    await require_collection(name, tenant_id, tools)
    condition = Condition(absent=True)
    async with read_submission(request, query, condition, dimension=tools.profile.dimension) as submission:
        accepted, document = await accept(submission, name, tenant_id, tools)
    document = await waited(document, wait, request, tenant_id, tools)
    response = document_response(document, status_of(accepted, document, wait), with_location=True)
    return await committed(response, tools.primary)


@router.put(
    "/{external_id:path}",
    status_code=202,
    operation_id="put_document",
    responses=answers({200: told.REPLACED, 201: told.CREATED, 202: told.ACCEPTED}, 400, 404, 412, 413, 415),
    openapi_extra=with_headers(
        "If-Match", "If-None-Match", body=document_body(TextDocument, FileDocument, examples.DOCUMENT_BODY)
    ),
)
async def put(
    name: CollectionName,
    external_id: DocumentKey,
    request: Request,
    *,
    tenant_id: TenantId,
    tools: Tools,
    query: Raw,
    wait: Wait = None,
) -> Response:
    """Create the document or add a version to it. The same bytes and fields again change nothing: 200."""
    external_id = new_external_id(request, external_id)
    await require_collection(name, tenant_id, tools)
    condition = read_condition(request)
    async with read_submission(request, query, condition, dimension=tools.profile.dimension) as submission:
        accepted, document = await accept(check_path(submission, external_id), name, tenant_id, tools)
    document = await waited(document, wait, request, tenant_id, tools)
    response = document_response(document, status_of(accepted, document, wait), with_location=True)
    return await committed(response, tools.primary)


@router.get("/{external_id:path}", operation_id="get_document_by_key", responses=answers({200: told.DOCUMENT}, 404))
async def get(
    name: CollectionName, external_id: DocumentKey, request: Request, tenant_id: TenantId, tools: Tools
) -> Response:
    """One document by its external_id."""
    document_id = await resolve(name, external_id, request, tenant_id, tools)
    async with tools.primary.begin(tenant_id) as connection:
        return document_response(await find_document(connection, tenant_id, document_id))


@router.patch(
    "/{external_id:path}",
    operation_id="patch_document_by_key",
    responses=answers({200: told.CHANGED}, 400, 404, 412, 413, 415, 428),
    openapi_extra=with_headers(
        "If-Match-required", body=json_body(DocumentPatch, *MERGE_PATCH, examples=examples.DOCUMENT_PATCH)
    ),
)
async def patch(
    name: CollectionName, external_id: DocumentKey, request: Request, tenant_id: TenantId, tools: Tools
) -> Response:
    """Change fields by RFC 7396: null empties, absent stays. If-Match is required."""
    document_id = await resolve(name, external_id, request, tenant_id, tools)
    return await patched(document_id, request, tenant_id, tools)


@router.delete(
    "/{external_id:path}",
    status_code=204,
    operation_id="delete_document_by_key",
    responses=answers({204: told.GONE}, 404, 412, 428),
    openapi_extra=with_headers("If-Match-required"),
)
async def delete(
    name: CollectionName, external_id: DocumentKey, request: Request, tenant_id: TenantId, tools: Tools
) -> Response:
    """Delete a document: found nowhere from then on. If-Match is required."""
    document_id = await resolve(name, external_id, request, tenant_id, tools)
    return await deleted(document_id, request, tenant_id, tools)


async def accept(submission: Submission, name: str, tenant_id: UUID, tools: Resources) -> tuple[Accepted, Document]:
    return await submit(submission, name, tenant_id=tenant_id, primary=tools.primary, blobs=tools.blobs)


async def patched(document_id: UUID, request: Request, tenant_id: UUID, tools: Resources) -> Response:
    wanted = await read_json(request, DocumentPatch, types=MERGE_PATCH)
    document = await patch_document(
        document_id, wanted.changes(), read_condition(request), tenant_id=tenant_id, primary=tools.primary
    )
    return await committed(document_response(document), tools.primary)


async def deleted(document_id: UUID, request: Request, tenant_id: UUID, tools: Resources) -> Response:
    await delete_document(
        document_id,
        read_condition(request),
        tenant_id=tenant_id,
        primary=tools.primary,
        blob_grace_seconds=tools.settings.blob_grace_seconds,
    )
    return await committed(Response(status_code=204), tools.primary)


async def require_collection(name: str, tenant_id: UUID, tools: Resources) -> None:
    """Raises NotFoundError before a body of a hundred megabytes is read."""
    async with tools.primary.begin(tenant_id) as connection:
        await find_collection(connection, tenant_id, name)


async def waited(
    document: Document, wait: float | None, request: Request, tenant_id: UUID, tools: Resources
) -> Document:
    if not wait or document.status in FINISHED:
        return document
    return await wait_until_finished(
        document, wait, tenant_id=tenant_id, primary=tools.primary, is_abandoned=request.is_disconnected
    )


def status_of(accepted: Accepted, document: Document, wait: float | None) -> int:
    if accepted.outcome == "unchanged":
        return 200
    if not wait or (document.version == accepted.number and document.status not in FINISHED):
        return 202
    return 201 if accepted.outcome == "created" else 200


def new_external_id(request: Request, external_id: str) -> str:
    """Raises InvalidError for what no document may be called."""
    try:
        path = unquote_to_bytes(request.scope.get("raw_path") or b"").decode()
        if path.endswith("\n"):
            raise InvalidError("control characters are not allowed", field="external_id")  # The router drops this one.
        return external_ids.validate_python(external_id)
    except UnicodeDecodeError as error:
        raise InvalidError("the path is not UTF-8", field="external_id") from error
    except ValidationError as error:
        raise InvalidError(error.errors()[0]["msg"], field="external_id") from error


async def resolve(name: str, external_id: str, request: Request, tenant_id: UUID, tools: Resources) -> UUID:
    """Raises NotFoundError, also for what no document may be called."""
    try:
        known = new_external_id(request, external_id)
    except InvalidError as error:
        raise NotFoundError("no such document") from error
    return await resolve_external_id(name, known, tenant_id=tenant_id, primary=tools.primary)
