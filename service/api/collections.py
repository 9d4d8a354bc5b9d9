"""/v1/collections"""

from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.answers import json_response, show_collection, show_status
from service.api.auth import TenantId
from service.api.bodies import read_json
from service.api.commit_tokens import committed
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, fingerprint, make_cursor, read_id
from service.api.deps import EVERY_ROUTE, Tools
from service.api.openapi import examples, told
from service.api.openapi.operations import answers, json_body
from service.api.paths import CollectionName
from service.api.schemas import CollectionPatch, NewCollection
from service.db.collection_status import find_collection_status
from service.db.collections import find_collection, list_collections
from service.ingest.collections import create_collection, declare_attributes, delete_collection

DEFAULT_LANGUAGE = "english"
MERGE_PATCH = ("application/json", "application/merge-patch+json")

router = APIRouter(prefix="/v1/collections", tags=["collections"], dependencies=EVERY_ROUTE)


@router.post(
    "",
    status_code=201,
    operation_id="create_collection",
    responses=answers({201: told.NEW_COLLECTION}, 400, 409, 413, 415),
    openapi_extra=json_body(NewCollection, examples=examples.NEW_COLLECTION),
)
async def post(request: Request, tenant_id: TenantId, tools: Tools) -> Response:
    """Create a collection. Its language is fixed from then on."""
    wanted = await read_json(request, NewCollection)
    collection = await create_collection(
        wanted.name,
        DEFAULT_LANGUAGE if wanted.language is None else wanted.language,
        tenant_id=tenant_id,
        profile_id=tools.profile.id,
        primary=tools.primary,
    )
    headers = {"Location": f"/v1/collections/{collection.name}"}
    return await committed(json_response(show_collection(collection), 201, headers), tools.primary)


@router.get("", operation_id="list_collections", responses=answers({200: told.COLLECTIONS}, 400))
async def get_all(tenant_id: TenantId, tools: Tools, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Response:
    """The collections, newest first."""
    this_list = fingerprint("collections", tenant_id)
    before: UUID | None = read_id(cursor, this_list)
    async with tools.primary.begin(tenant_id) as connection:
        found = await list_collections(connection, tenant_id, limit=limit + 1, before=before)
    page = found[:limit]
    more = make_cursor(page[-1].id, this_list) if len(found) > limit else None
    return json_response({"collections": [show_collection(each) for each in page], "next_cursor": more})


@router.get("/{name}", operation_id="get_collection", responses=answers({200: told.COLLECTION}, 404))
async def get(name: CollectionName, tenant_id: TenantId, tools: Tools) -> Response:
    """One collection."""
    async with tools.primary.begin(tenant_id) as connection:
        collection = await find_collection(connection, tenant_id, name)
    return json_response(show_collection(collection))


@router.patch(
    "/{name}",
    operation_id="declare_attributes",
    responses=answers({200: told.CHANGED_COLLECTION}, 400, 404, 413, 415),
    openapi_extra=json_body(CollectionPatch, *MERGE_PATCH, examples=examples.COLLECTION_PATCH),
)
async def patch(name: CollectionName, request: Request, tenant_id: TenantId, tools: Tools) -> Response:
    """Declare attributes: name to type, null withdraws. Declared ones are checked on writing and indexed."""
    wanted = await read_json(request, CollectionPatch, types=MERGE_PATCH)
    changes = wanted.attributes or {}
    collection = await declare_attributes(name, changes, tenant_id=tenant_id, primary=tools.primary)
    return await committed(json_response(show_collection(collection)), tools.primary)


@router.delete("/{name}", status_code=204, operation_id="delete_collection", responses=answers({204: told.GONE}, 404))
async def delete(name: CollectionName, tenant_id: TenantId, tools: Tools) -> Response:
    """Delete a collection: out of reach and its name free at once, rows and blobs removed in the background."""
    await delete_collection(name, tenant_id=tenant_id, primary=tools.primary)
    return await committed(Response(status_code=204), tools.primary)


@router.get("/{name}/status", operation_id="get_collection_status", responses=answers({200: told.STATUS}, 404))
async def get_status(name: CollectionName, tenant_id: TenantId, tools: Tools) -> Response:
    """How far the collection is; `settled` once search sees everything that was sent."""
    async with tools.primary.begin(tenant_id) as connection:
        collection = await find_collection(connection, tenant_id, name)
        status = await find_collection_status(connection, collection)
    return json_response(show_status(status))
